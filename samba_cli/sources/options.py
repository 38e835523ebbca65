"""What a person may ask of the sources, checked once before anything is read."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from samba_cli.errors import UsageError

KINDS = ("pdf", "text", "markdown", "html", "docx", "epub", "notebook", "code", "git")
_SHORT_KINDS = {
    "md": "markdown",
    "txt": "text",
    "htm": "html",
    "ipynb": "notebook",
    "diff": "git",
    "patch": "git",
}


@dataclass(frozen=True)
class SourceOptions:
    """Which files are read, and how."""

    include: tuple[str, ...] = ()  # gitignore-style globs; in folders and archives only these
    exclude: tuple[str, ...] = ()  # gitignore-style globs, never read
    hidden: bool = False  # read names that start with a dot
    gitignore: bool = True  # leave out what git ignores
    max_file_size: int | None = None  # bytes
    max_files: int | None = None  # documents given, over all paths
    follow_symlinks: bool = False
    encoding: str | None = None  # of text files; None detects it
    pages: str | None = None  # "1-20,45": pages of documents that have pages
    password: str | None = None  # of encrypted PDF files and zip members
    kind: str | None = None  # one of KINDS; None tells it by content, then by name


def check_options(options: SourceOptions) -> None:
    """Raises UsageError where an option has no meaning."""
    if options.kind is not None and kind_name(options.kind) not in KINDS:
        raise UsageError(
            f"There is no document type {options.kind!r}. Use one of {', '.join(KINDS)}."
        )
    if options.encoding is not None:
        try:
            # Codecs such as "rot13" or "zlib" are no text encodings: decoding fails at once.
            b" ".decode(options.encoding, "replace")
            codecs.getincrementaldecoder(options.encoding)
        except LookupError:
            raise UsageError(
                f"There is no text encoding {options.encoding!r}. Use a name such as utf-8, cp1252 "
                "or shift_jis."
            ) from None
    if options.pages is not None:
        parse_pages(options.pages)


def kind_name(kind: str) -> str:
    """The long name of a kind given as a person may write it ("md" -> "markdown")."""
    return _SHORT_KINDS.get(kind.lower(), kind.lower())


def parse_pages(text: str) -> tuple[range, ...]:
    """`"1-20,45,50-"` as ranges of 1-based pages. Raises UsageError."""
    ranges = []
    for item in text.replace(" ", "").split(","):
        first, dash, last = item.partition("-")
        numbers = [number for number in (first, last) if number]
        if not numbers or not all(number.isascii() and number.isdigit() for number in numbers):
            raise UsageError(f"{text!r} is no page selection. Write it as 1-20,45.")
        start = int(first) if first else 1
        stop = int(last) if last else (2**31 if dash else start)
        if start < 1 or stop < start:
            raise UsageError(f"{text!r} is no page selection: pages count from 1, low to high.")
        ranges.append(range(start, stop + 1))
    return tuple(ranges)
