"""Prompt templates: text in, segments out.

A template holds control tokens (`<|passage|>`) and fields (`$passage`). What fills a field
is the user's text, where a control token is just text: `render` keeps the two apart, and
the tokenizer recognises control tokens in template parts only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

_FIELD = re.compile(r"\$([a-z_]+)")


@dataclass(frozen=True)
class Segment:
    """A piece of a prompt; `control` says whether control tokens in it count."""

    text: str
    control: bool


@cache
def template(name: str, folder: Path | None = None) -> str:
    """The text of a template; a file of the same name in `folder` overrides ours.

    Raises FileNotFoundError for a name that neither place has.
    """
    if folder is not None and (folder / f"{name}.txt").is_file():
        text = (folder / f"{name}.txt").read_text(encoding="utf-8")
    else:
        text = (files("samba_cli.prompts") / f"{name}.txt").read_text(encoding="utf-8")
    return text.removesuffix("\n")


def worded(text: str) -> str:
    """A question, or what is written, as our own model has it: with a space before it.

    So its first word is the token that it is inside a text (" Kraus" is one; "Kraus" is "K", "ra",
    "us"), and can be copied.
    """
    return f" {text}"


def render(
    name: str, /, folder: Path | None = None, **fields: str | Sequence[Segment]
) -> list[Segment]:
    """Fill a template. Raises KeyError naming a field that is missing."""
    segments: list[Segment] = []
    text, end = template(name, folder), 0
    for match in _FIELD.finditer(text):
        if match.start() > end:
            segments.append(Segment(text[end : match.start()], control=True))
        value = fields[match.group(1)]
        segments.extend([Segment(value, control=False)] if isinstance(value, str) else value)
        end = match.end()
    if end < len(text):
        segments.append(Segment(text[end:], control=True))
    return segments
