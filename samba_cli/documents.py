"""What the sources give and the reader takes: documents in parts, and passages with a location.

A document is never held whole. It comes as consecutive parts (a page of a PDF, some
lines of a file); the concatenation of the parts' texts is the document's text, and every
character offset counts into that text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Kinds whose text is (about) the bytes of the file.
TEXT_KINDS = frozenset({"text", "markdown", "code", "git"})


@dataclass(frozen=True)
class Part:
    """A consecutive piece of a document's text."""

    text: str
    page: int | None = None  # 1-based page, where the document has pages
    line: int | None = None  # 1-based line of the first character, where lines mean something
    heading: str | None = None  # the heading this part stands under, where the format tells
    share: float | None = None  # of the document that is read after this part, where known


@dataclass(frozen=True)
class Document:
    """One readable document. `parts()` may be called once per reading and is lazy."""

    name: str  # path as a person can open it; "-" for standard input; "a.zip!inner/b.txt"
    kind: str  # "pdf", "text", "markdown", "html", "docx", "epub", "notebook", "code", "git"
    parts: Callable[[], Iterator[Part]]
    size: int | None = None  # bytes on disk, where known: for the time estimate
    modified_ns: int | None = None  # with name and size, recognises the same input again
    title: str | None = None
    # Text from all over a document and how many bytes it takes there, of about so many: read at
    # once, whatever the size. None where the text is not the bytes, or they come in order only.
    sample: Callable[[int], tuple[str, int]] | None = None


@dataclass(frozen=True)
class Skipped:
    """Something that was not read, and why: the coverage line counts these."""

    name: str
    reason: str  # "binary", "too-large", "no-text-layer", "encrypted", "decode", "ignored", ...
    page: int | None = None  # set where one page of a document was skipped


@dataclass(frozen=True)
class Passage:
    """A stretch of one document, cut at natural boundaries, about 200 to 300 tokens.

    The passages of a document partition its text: offsets are consecutive.
    """

    document: str  # Document.name
    kind: str  # Document.kind
    char_start: int
    char_end: int
    text: str
    page_start: int | None = None
    page_end: int | None = None
    line_start: int | None = None
    line_end: int | None = None
    heading: str | None = None


def location(
    document: str,
    page_start: int | None,
    page_end: int | None,
    line_start: int | None,
    line_end: int | None,
) -> str:
    """Where a person finds it: `report.pdf p. 12`, `report.pdf pp. 12-13`, `src/app.py:40-58`."""
    if page_start is not None:
        if page_end is None or page_end == page_start:
            return f"{document} p. {page_start}"
        return f"{document} pp. {page_start}-{page_end}"
    if line_start is not None:
        if line_end is None or line_end == line_start:
            return f"{document}:{line_start}"
        return f"{document}:{line_start}-{line_end}"
    return document
