"""Templates to token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samba_cli.model.tokenizer import Tokenizer
from samba_cli.prompts import Segment, render


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
    return encode_segments(tokenizer, render(name, folder, **fields))


def encode_segments(tokenizer: Tokenizer, segments: Sequence[Segment]) -> list[int]:
    """A rendered prompt, segment by segment for our own model, as one text for others."""
    if has_marks(tokenizer):
        return tokenizer.encode_prompt(segments)
    return tokenizer.encode_joined(segments)


def encode_many(
    tokenizer: Tokenizer, name: str, folder: Path | None, field: str, texts: Sequence[str],
    **others: str,
) -> list[list[int]]:  # fmt: skip
    """One prompt for each text, as `encode` with `field` set to it, but in parallel.

    Raises KeyError naming a field that is missing.
    """
    place = Segment("", False)
    segments = render(name, folder, **{field: [place]}, **others)
    at = segments.index(place) if place in segments else -1
    alone = segments == [place] or has_marks(tokenizer)  # nothing joins the text
    if at < 0 or place in segments[at + 1 :] or not alone:  # a user's template
        return [encode(tokenizer, name, folder, **{field: text}, **others) for text in texts]
    before = tokenizer.encode_prompt(segments[:at])
    after = tokenizer.encode_prompt(segments[at + 1 :])
    encoded = tokenizer.encode_batch(texts) if texts else []
    return [before + ids + after for ids in encoded]


def passages_segments(
    texts: Sequence[str], folder: Path | None = None, name: str = "passage"
) -> list[Segment]:
    """Replayed passages, for the field $passages of a template."""
    return [segment for text in texts for segment in render(name, folder, passage=text)]
