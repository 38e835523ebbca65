"""Templates to token ids, also for models whose tokenizer has no control tokens of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from samba_cli.model.tokenizer import Tokenizer
from samba_cli.prompts import Segment, render

# What a control token reads as for a model that was not trained on ours.
_PLAIN = {
    "<|document|>": "\n\nDocument: ", "<|passage|>": "\n", "<|question|>": "\nQuestion: ",
    "<|answer|>": "Answer: ", "<|summary|>": "\nSummary", "<|short|>": " in one or two sentences:",
    "<|medium|>": " in one paragraph:", "<|long|>": " in several paragraphs:",
    "<|bullets|>": " as a list:\n-", "<|title|>": "\nTitle: ",
}  # fmt: skip
_CONTROL = re.compile(r"<\|\w+\|>")


def has_marks(tokenizer: Tokenizer) -> bool:
    """Whether the model may be asked for relevance marks: its tokenizer has the tokens."""
    return all(token in tokenizer.control for token in ("<|mark|>", "<|yes|>", "<|no|>"))


def encode(
    tokenizer: Tokenizer,
    name: str,
    folder: Path | None = None,
    /,
    **fields: str | Sequence[Segment],
) -> list[int]:
    """Render a template and encode it. Raises KeyError naming a field that is missing."""
    return tokenizer.encode_prompt(_known(tokenizer, render(name, folder, **fields)))


def encode_many(
    tokenizer: Tokenizer, name: str, folder: Path | None, field: str, texts: Sequence[str]
) -> list[list[int]]:
    """One prompt for each text, as `encode` with `field` set to it, but in parallel.

    Raises KeyError naming a field that is missing.
    """
    place = Segment("", False)
    segments = _known(tokenizer, render(name, folder, **{field: [place]}))
    encoded = tokenizer.encode_batch(texts) if texts else []
    if place not in segments:  # a user's template without the field
        return [tokenizer.encode_prompt(segments) for _ in texts]
    at = segments.index(place)
    before = tokenizer.encode_prompt(segments[:at])
    after = tokenizer.encode_prompt(segments[at + 1 :])
    if place in segments[at + 1 :]:  # or with the field twice
        return [encode(tokenizer, name, folder, **{field: text}) for text in texts]
    return [before + ids + after for ids in encoded]


def passages_segments(texts: Sequence[str], folder: Path | None = None) -> list[Segment]:
    """Replayed passages, for the field $passages of a template."""
    return [segment for text in texts for segment in render("passage", folder, passage=text)]


def _known(tokenizer: Tokenizer, segments: list[Segment]) -> list[Segment]:
    """Segments without the control tokens that this tokenizer does not have."""

    def plain(match: re.Match[str]) -> str:
        token = match.group()
        return token if token in tokenizer.control else _PLAIN.get(token, "")

    return [
        Segment(_CONTROL.sub(plain, segment.text), True) if segment.control else segment
        for segment in segments
    ]
