"""Word documents: the body in order, heading styles as "# " lines, tables as rows."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from samba_cli.documents import Part
from samba_cli.sources.archive import check_zip
from samba_cli.sources.markdown import Block, block_parts
from samba_cli.sources.source import READ_ERRORS, Problem, Source
from samba_cli.sources.text import clean

if TYPE_CHECKING:
    from docx.document import Document as Docx
    from lxml.etree import _Element

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_BREAKS = {_W + "tab": "\t", _W + "br": "\n", _W + "cr": "\n", _W + "noBreakHyphen": "-"}


def docx_title(source: Source) -> str | None:
    """The title in the core properties. Raises Problem: corrupt, archive-limit."""
    from xml.etree import ElementTree

    try:
        with source.open_random() as stream, zipfile.ZipFile(stream) as archive:
            check_zip(source.name, archive)
            core = ElementTree.fromstring(archive.read("docProps/core.xml"))
    except KeyError:
        return None
    except (*READ_ERRORS, ElementTree.ParseError):
        raise Problem(source.name, "corrupt") from None
    title = core.findtext("{http://purl.org/dc/elements/1.1/}title") or ""
    title = " ".join(title.split())
    return title if title and title != "Word Document" else None


def docx_parts(source: Source) -> Iterator[Part]:
    """A part for each heading. Raises Problem: corrupt, empty."""
    import docx

    try:
        with source.open_random() as stream:
            document = docx.Document(stream)
    except Exception:  # python-docx lets out whatever a damaged package breaks
        raise Problem(source.name, "corrupt") from None
    found = False
    for part in block_parts(_blocks(document)):
        found = found or bool(part.text.strip())
        yield part
    if not found:
        raise Problem(source.name, "empty")


def _blocks(document: Docx) -> Iterator[Block]:
    levels = _heading_levels(document)
    stack: list[_Element] = list(reversed(document.element.body))
    while stack:
        element = stack.pop()
        if element.tag == _W + "p":
            yield from _paragraph(element, levels)
        elif element.tag == _W + "tbl":
            yield from _table(element)
        elif element.tag == _W + "sdt":  # a content control: cover page, table of contents, form
            for content in element.iterfind(_W + "sdtContent"):
                stack.extend(reversed(content))


def _heading_levels(document: Docx) -> dict[str, int]:
    """Style id -> heading level 1 to 6; the names are English in every language of Word."""
    levels = {}
    for style in document.styles:
        found = re.fullmatch(r"heading ([1-9])", (style.name or "").lower())
        if found:
            levels[style.style_id] = min(6, int(found[1]))
        elif (style.name or "").lower() == "title":
            levels[style.style_id] = 1
    return levels


def _paragraph(element: _Element, levels: dict[str, int]) -> Iterator[Block]:
    text = _text(element).strip()
    if not text:
        return
    style = element.find(f"{_W}pPr/{_W}pStyle")
    level = levels.get(style.get(_W + "val", ""), 0) if style is not None else 0
    if level:
        title = " ".join(text.split())
        yield Block(f"{'#' * level} {title}\n\n", level, title)
    elif element.find(f"{_W}pPr/{_W}numPr") is not None or _is_list(style):
        yield Block(f"- {text}\n")
    else:
        yield Block(f"{text}\n\n")


def _is_list(style: _Element | None) -> bool:
    return style is not None and (style.get(_W + "val") or "").startswith("List")


def _table(table: _Element) -> Iterator[Block]:
    """A row a line. A cell that spans columns stands once; nested tables fold into their cell."""
    for row in table.iterchildren(_W + "tr"):
        cells = [" ".join(_text(cell).split()) for cell in row.iterchildren(_W + "tc")]
        if any(cells):
            yield Block(" | ".join(cells) + "\n")
    yield Block("\n")


def _text(element: _Element) -> str:
    """All text inside an element, links and insertions too; deleted text is not."""
    pieces: list[str] = []
    stack: list[_Element] = [element]
    while stack:
        node = stack.pop()
        if node.tag == _W + "t":
            pieces.append(node.text or "")
        elif node.tag in _BREAKS:
            pieces.append(_BREAKS[node.tag])
        elif node.tag != _FALLBACK and node.tag != _W + "tabs":
            if node.tag == _W + "p" and pieces:
                pieces.append("\n")
            stack.extend(reversed(node))
    return clean("".join(pieces))
