"""PDF text page by page: PDFium, and pypdf for files that PDFium cannot open.

PDFium is not thread-safe, and documents may be parsed beside the model's work, so every use of
it holds one lock, a page at a time.
"""

from __future__ import annotations

import logging
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from samba_cli.documents import Part, Skipped
from samba_cli.sources.options import SourceOptions, parse_pages
from samba_cli.sources.source import Problem, Source
from samba_cli.sources.text import clean

if TYPE_CHECKING:
    from pypdf import PdfReader
    from pypdfium2 import PdfDocument

_LOCK = threading.RLock()
_PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD
_BREAK = "\x02"  # PDFium's mark in place of a hyphen and the line end after it
_BROKEN_WORD = re.compile(rf"(\w*){_BREAK}(\w*)([^\w\s]*)[ \n]?")
# First halves of compounds that keep their hyphen, where nothing else on the page tells.
_COMPOUND = re.compile(r"cross|half|high|long|low|non|one|real|self|short|single|three|two|well")


@dataclass(frozen=True)
class _Page:
    number: int  # 1-based
    text: str | None  # None: damaged
    marked: bool = True  # anything is drawn on it
    heading: str | None = None
    share: float = 1.0  # of the pages wanted that are read when this one is


def pdf_title(source: Source, options: SourceOptions) -> str | None:
    """The title in the metadata. Raises Problem: encrypted, password, corrupt."""
    with _LOCK:
        try:
            with _pdfium(source, options.password) as pdf:
                title = pdf.get_metadata_value("Title")
        except _NotForPdfium:
            title = _pypdf_title(_pypdf(source, options.password))
    return clean(title).strip() or None if title else None


def pdf_parts(
    source: Source, options: SourceOptions, report: Callable[[Skipped], None]
) -> Iterator[Part]:
    """One part a page; `report` receives the pages without a text layer.

    Raises Problem: no page has text, encrypted, corrupt, or no page is among those asked for.
    """
    ranges = parse_pages(options.pages) if options.pages else ()
    count = with_text = 0
    skipped: list[Skipped] = []
    for page in _pages(source, options.password, ranges):
        count += 1
        if page.text is None:
            skipped.append(Skipped(source.name, "corrupt", page.number))
        elif page.text.strip():
            with_text += 1
        elif page.marked:
            skipped.append(Skipped(source.name, "no-text-layer", page.number))
        if not with_text:
            continue  # nothing is reported or given before it is clear that something can be read
        for item in skipped:
            report(item)
        skipped = []
        if page.text is not None and (page.text.strip() or not page.marked):
            text = join_words(page.text)
            yield Part(text, page=page.number, heading=page.heading, share=page.share)
    if not with_text:
        raise _nothing_read(source.name, count, skipped)


def _nothing_read(name: str, count: int, skipped: list[Skipped]) -> Problem:
    if not count:
        return Problem(name, "no-pages")
    scanned = sum(page.reason == "no-text-layer" for page in skipped)
    if scanned:
        have = "page has" if scanned == count == 1 else "pages have"
        return Problem(
            name,
            "no-text-layer",
            f"{name}: {scanned} of {count} {have} no text layer. "
            f"Run: ocrmypdf {shlex.quote(name)} out.pdf",
        )
    return Problem(name, "corrupt" if skipped else "empty")


def join_words(text: str) -> str:
    """A page's text with words that were broken at line ends made whole; other lines are kept.

    A hyphen goes only between lower-case letters, and only where the page does not show the
    word with a hyphen elsewhere. The line then ends after the word.
    """
    text = re.sub(r"(?<=[^\W\d_])[-\u00ad]\n(?=[^\W\d_])", _BREAK, text.replace("\ufffe", _BREAK))

    def join(match: re.Match[str]) -> str:
        left, right, closing = match[1], match[2], match[3]
        hyphen = "-"
        if left.islower() and right.islower() and min(len(left), len(right)) > 1:
            compound = re.search(rf"\b{left}-{right}\b", text) or _COMPOUND.fullmatch(left)
            hyphen = "-" if compound else ""
        return f"{left}{hyphen}{right}{closing}\n"

    text = _BROKEN_WORD.sub(join, text) if _BREAK in text else text
    return text.rstrip() + "\n"


class _NotForPdfium(Exception):
    """PDFium cannot open a file for another reason than its password."""


@contextmanager
def _pdfium(source: Source, password: str | None) -> Iterator[PdfDocument]:
    """The open document; the caller holds the lock. Raises Problem, _NotForPdfium."""
    from pypdfium2 import PdfDocument, PdfiumError

    logging.getLogger("pypdfium2").setLevel(logging.CRITICAL)
    stream = source.open_random()
    try:
        pdf = PdfDocument(stream, password=password)
    except PdfiumError as error:
        stream.close()
        if error.err_code == _PASSWORD_ERROR:
            raise Problem(source.name, "password" if password else "encrypted") from None
        raise _NotForPdfium from None
    try:
        if len(pdf) < 1:
            raise _NotForPdfium
        yield pdf
    finally:
        pdf.close()
        stream.close()


def _pages(source: Source, password: str | None, ranges: tuple[range, ...]) -> Iterator[_Page]:
    def chosen(count: int) -> list[int]:
        numbers = range(1, count + 1)
        return [n for n in numbers if not ranges or any(n in pages for pages in ranges)]

    try:
        with _locked(_pdfium(source, password)) as pdf:
            with _LOCK:
                numbers, headings = chosen(len(pdf)), _outline(pdf)
            for done, number in enumerate(numbers, 1):
                with _LOCK:
                    page = _pdfium_page(pdf, number)
                heading = _heading_at(headings, number)
                yield replace(page, heading=heading, share=done / len(numbers))
        return
    except _NotForPdfium:
        pass
    reader = _pypdf(source, password)
    numbers = chosen(len(reader.pages))
    for done, number in enumerate(numbers, 1):
        yield replace(_pypdf_page(reader, number), share=done / len(numbers))


@contextmanager
def _locked(opening: AbstractContextManager[PdfDocument]) -> Iterator[PdfDocument]:
    """The context entered and left under the lock, which is free in between."""
    with _LOCK:
        pdf = opening.__enter__()
    try:
        yield pdf
    finally:
        with _LOCK:
            opening.__exit__(None, None, None)


def _pdfium_page(pdf: PdfDocument, number: int) -> _Page:
    from pypdfium2 import PdfiumError

    try:
        page = pdf.get_page(number - 1)
    except PdfiumError:
        return _Page(number, None)
    try:
        textpage = page.get_textpage()
        try:
            text = textpage.get_text_bounded()
        finally:
            textpage.close()
        marked = next(iter(page.get_objects(max_depth=1)), None) is not None
        return _Page(number, clean(text.replace("\r\n", "\n").replace("\r", "\n")), marked)
    except PdfiumError:
        return _Page(number, None)
    finally:
        page.close()


def _outline(pdf: PdfDocument) -> list[tuple[int, str]]:
    """(1-based page, heading path) of the outline entries, by page."""
    entries: list[tuple[int, str]] = []
    path: list[str] = []
    for bookmark in pdf.get_toc():
        destination = bookmark.get_dest()
        index = destination.get_index() if destination else None
        path = [*path[: bookmark.level], " ".join(clean(bookmark.get_title()).split())]
        if index is not None and index >= 0:
            entries.append((index + 1, " > ".join(filter(None, path))))
    return sorted(entries, key=lambda entry: entry[0])


def _heading_at(entries: list[tuple[int, str]], number: int) -> str | None:
    """The first entry that starts on the page, else the last one that started before it."""
    before = None
    for page, heading in entries:
        if page == number:
            return heading
        if page > number:
            break
        before = heading
    return before


def _pypdf(source: Source, password: str | None) -> PdfReader:
    """Raises Problem: encrypted, password, corrupt."""
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(source.open_random())
        if reader.is_encrypted and not reader.decrypt(password or ""):
            raise Problem(source.name, "password" if password else "encrypted")
        if not len(reader.pages):
            raise Problem(source.name, "corrupt")
    except Problem:
        raise
    except Exception:  # a damaged file can break pypdf in any way
        raise Problem(source.name, "corrupt") from None
    return reader


def _pypdf_title(reader: PdfReader) -> str | None:
    try:
        return reader.metadata.title if reader.metadata else None
    except Exception:  # damaged metadata can break pypdf in any way, and matter little
        return None


def _pypdf_page(reader: PdfReader, number: int) -> _Page:
    try:
        page = reader.pages[number - 1]
        return _Page(number, clean(page.extract_text()), page.get_contents() is not None)
    except Exception:  # a damaged page can break pypdf in any way
        return _Page(number, None)
