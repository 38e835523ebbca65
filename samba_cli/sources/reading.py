"""A source of known kind -> a document. The parts of it are read only when asked for."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, cast

from samba_cli.documents import TEXT_KINDS, Document, Part, Skipped
from samba_cli.sources import sniff, text
from samba_cli.sources.git import git_parts
from samba_cli.sources.markdown import markdown_parts
from samba_cli.sources.options import SourceOptions, kind_name
from samba_cli.sources.source import (
    HEAD_BYTES,
    READ_ERRORS,
    Problem,
    Source,
    read_problem,
    slice_of,
    spooled,
)


def open_document(
    source: Source,
    kind: str,
    head: bytes,
    options: SourceOptions,
    report: Callable[[Skipped], None],
) -> Document:
    """The document of a source, read as `kind` (of KINDS).

    Raises Problem where the beginning of the file tells one.
    """
    kind = kind_name(kind)
    if not head:
        raise Problem(source.name, "empty")
    title, sample = None, None
    if kind == "pdf":
        from samba_cli.sources.pdf import pdf_parts, pdf_title

        title = pdf_title(source, options)
        parts = partial(pdf_parts, source, options, report)
    elif kind == "docx":
        from samba_cli.sources.docx import docx_parts, docx_title

        title = docx_title(source)
        parts = partial(docx_parts, source)
    elif kind == "epub":
        from samba_cli.sources.epub import epub_parts, epub_title

        title = epub_title(source)
        parts = partial(epub_parts, source)
    elif kind == "notebook":
        from samba_cli.sources.notebook import notebook_parts

        parts = partial(notebook_parts, source)
    elif kind == "html":
        from samba_cli.sources.html import html_parts, html_title

        title = html_title(head)
        parts = partial(html_parts, source, options.encoding)
    else:
        _check_text(source.name, head, options)
        parts = partial(_text_parts, source, kind, options)
        if source.size is not None and not source.sequential:
            sample = partial(_sample, source, source.size, options)
    return Document(
        name=source.name,
        kind=kind,
        parts=lambda: _guarded(source.name, parts()),
        size=source.size,
        modified_ns=source.modified_ns,
        title=title,
        sample=sample,
    )


def _guarded(name: str, parts: Iterator[Part]) -> Iterator[Part]:
    """Raises Problem where the bytes themselves cannot be read."""
    try:
        yield from parts
    except READ_ERRORS as error:
        raise read_problem(name, error) from None


def stream_document(
    name: str, stream: BinaryIO, options: SourceOptions, report: Callable[[Skipped], None]
) -> Document | Source:
    """A document of a stream that can be read once, such as a pipe.

    Text is read as it comes, its encoding told by the first bytes. Other kinds need random
    access: the stream goes to a temporary file, and comes back as a source. Raises Problem.
    """
    head = _read_head(stream)
    probe = Source(name, lambda: cast(BinaryIO, io.BytesIO(head)))
    if not head:
        raise Problem(name, "empty", "Standard input is empty: there is nothing to read.")
    kind = kind_name(options.kind) if options.kind else "archive"
    if options.kind is None and not head.startswith(b"PK\x03\x04"):
        kind = sniff.kind_of(probe, head)
    if kind in TEXT_KINDS:
        _check_text(name, head, options)
        encoding = options.encoding or text.head_encoding(head) or "cp1252"
        chunks = text.decoded(_Rejoined.of(head, stream), encoding)
        return Document(name, kind, lambda: _parts_of(chunks, kind))
    copy, size = spooled(_Rejoined.of(head, stream))
    return Source(name, lambda: slice_of(copy, 0, size), size)


def _sample(source: Source, size: int, options: SourceOptions, count: int) -> tuple[str, int]:
    """Text of about `count` bytes from all over a source. Raises Problem."""
    try:
        with source.open() as stream:
            return text.sample(stream, size, count, options.encoding)
    except READ_ERRORS as error:
        raise read_problem(source.name, error) from None


def _text_parts(source: Source, kind: str, options: SourceOptions) -> Iterator[Part]:
    encoding = options.encoding
    if encoding is None:
        with source.open() as stream:
            encoding = text.find_encoding(stream) or "cp1252"
    with source.open() as stream:
        chunks = text.decoded(stream, encoding)
        yield from _parts_of(chunks, kind)


def _parts_of(chunks: Iterator[str], kind: str) -> Iterator[Part]:
    if kind == "markdown":
        return markdown_parts(chunks)
    return git_parts(chunks) if kind == "git" else text.line_parts(chunks)


def _check_text(name: str, head: bytes, options: SourceOptions) -> None:
    if options.encoding is not None:
        sample = codecs.getincrementaldecoder(options.encoding)("replace").decode(head)
        if sample.count("\ufffd") * 20 > len(sample):
            raise Problem(name, "decode", f"{name} is not {options.encoding} text: leave out "
                          "--encoding, or give another one.")  # fmt: skip
    elif text.looks_binary(head):
        raise Problem(name, "binary")
    elif text.head_encoding(head) is None:
        raise Problem(name, "decode")


def _read_head(stream: BinaryIO) -> bytes:
    """HEAD_BYTES, or less at the end: one read of a pipe gives what is there."""
    head = b""
    while len(head) < HEAD_BYTES and (chunk := stream.read(HEAD_BYTES - len(head))):
        head += chunk
    return head


class _Rejoined(io.RawIOBase):
    """A stream with its already read head put back in front."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    @classmethod
    def of(cls, head: bytes, rest: BinaryIO) -> BinaryIO:
        return cast(BinaryIO, cls(head, rest))

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head if size < 0 or size >= len(head) else self._cut(head, size)
        return self._rest.read(size)

    def _cut(self, head: bytes, size: int) -> bytes:
        self._head = head[size:]
        return head[:size]
