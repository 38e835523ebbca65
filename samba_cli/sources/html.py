"""HTML to text: blocks on lines of their own, headings as "# " lines, tables as rows."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from samba_cli.documents import Part
from samba_cli.sources.markdown import Block, block_parts
from samba_cli.sources.source import Source
from samba_cli.sources.text import clean, decode_bytes

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_DROPPED = frozenset(
    ["script", "style", "nav", "head", "noscript", "template", "svg", "iframe"]
    + ["object", "canvas", "select", "button", "input", "textarea", "audio", "video", "map"]
    + ["-comment", "datalist", "dialog", "frameset"]
)
_BLOCKS = frozenset(
    ["address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"]
    + ["div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr"]
    + ["html", "legend", "li", "main", "ol", "p", "pre", "section", "summary", "table", "tbody"]
    + ["tfoot", "thead", "tr", "ul"]
)
_SPACED = frozenset(["p", "pre", "blockquote", "table", "ul", "ol", "dl", "figure"])
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.I)
_TITLE = re.compile(r"<title[^>]*>([^<]{1,500})</title", re.I)


def html_parts(source: Source, encoding: str | None = None) -> Iterator[Part]:
    """A part for each heading, at most PART_CHARS characters each."""
    with source.open() as stream:
        data = stream.read()
    yield from block_parts(html_blocks(decode_html(data, encoding)))


def html_title(head: bytes) -> str | None:
    found = _TITLE.search(decode_html(head))
    return " ".join(html.unescape(found[1]).split()) or None if found else None


def decode_html(data: bytes, encoding: str | None = None) -> str:
    """Markup as text: encoding given, else told by the bytes, else declared in the markup."""
    if encoding is None and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return decode_bytes(data, "utf-8") if data.decode("utf-8") else ""
        except UnicodeDecodeError:
            declared = _CHARSET.search(data[:4096])
            encoding = _known(declared[1].decode("ascii")) if declared else None
    return decode_bytes(data, encoding)


def _known(encoding: str) -> str | None:
    """A declared encoding that is worth trying: UTF-8 is known to be wrong by now."""
    # Browsers read these names as cp1252 too (WHATWG Encoding, "Names and labels").
    if encoding.lower() in ("iso-8859-1", "latin1", "us-ascii", "ascii"):
        return "cp1252"
    try:
        return None if "utf" in encoding.lower() or not b" ".decode(encoding) else encoding
    except (LookupError, UnicodeDecodeError):
        return None


def html_blocks(markup: str) -> Iterator[Block]:
    """The text of a page in document order. Elements may be nested to any depth."""
    from selectolax.lexbor import LexborHTMLParser

    root = LexborHTMLParser(markup).root
    writer = _Writer()
    # A node and, once its children are done, what closes it.
    stack: list[tuple[LexborNode, bool]] = [(root, False)] if root is not None else []
    while stack:
        node, done = stack.pop()
        tag = node.tag or ""
        if done:
            writer.close(tag)
        elif tag == "-text":
            writer.write(node.text_content or "")
        elif tag not in _DROPPED:
            writer.open(tag)
            stack.append((node, True))
            children, child = [], node.first_child
            while child is not None:
                children.append((child, False))
                child = child.next
            stack.extend(reversed(children))
        if writer.blocks:
            yield from writer.blocks
            writer.blocks = []
    writer.end_line()
    yield from writer.blocks


class _Writer:
    """Turns opened and closed elements into lines."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._line: list[str] = []
        self._pre = 0
        self._row: list[str] | None = None  # cells of the table row that is open
        self._tables = 0
        self._items = 0  # list items that are open
        self._blank = True  # the last line written is empty

    def write(self, text: str) -> None:
        if not self._pre:
            text = re.sub(r"[ \t\n\r\f]+", " ", text)
            if text.startswith(" ") and (not self._line or self._line[-1].endswith((" ", "\n"))):
                text = text[1:]
        if text:
            self._line.append(text)

    def open(self, tag: str) -> None:
        if tag in ("td", "th"):
            if self._tables > 1:  # of a table inside a cell: its text folds into that cell
                self.write(" ")
            else:
                self._line = []
            return
        if self._row is not None:
            if tag in _BLOCKS or tag in _HEADINGS or tag == "br":
                self.write(" ")
            self._pre += tag == "pre"
            self._tables += tag == "table"
            return
        if tag == "br":
            self._line.append("\n")
            return
        if tag in _BLOCKS or tag in _HEADINGS:
            self.end_line()
        if tag in _HEADINGS or tag in _SPACED and not self._items:
            self._space()
        if tag == "tr":
            self._row = []
        elif tag == "li":
            self._line = ["- "]
            self._items += 1
        self._pre += tag == "pre"
        self._tables += tag == "table"

    def close(self, tag: str) -> None:
        self._pre -= tag == "pre"
        self._tables -= tag == "table"
        if tag == "li" and self._row is None:
            self._items -= 1
            if self._line == ["- "]:
                self._line = []
        if self._row is not None:
            if tag in ("td", "th") and self._tables <= 1:
                self._row.append(" ".join("".join(self._line).split()))
                self._line = []
            elif tag == "tr" and self._tables <= 1:
                row, self._row = " | ".join(self._row), None
                self._line = [row] if row.strip(" |") else []
                self.end_line()
            elif tag in _BLOCKS or tag in _HEADINGS or tag in ("td", "th"):
                self.write(" ")
        elif tag in _HEADINGS:
            title = " ".join("".join(self._line).split())
            self._line = []
            if title:
                level = _HEADINGS[tag]
                self._put(Block(f"{'#' * level} {title}\n\n", level, title))
                self._blank = True
        elif tag in _BLOCKS:
            self.end_line(keep=tag == "pre")
            if tag in _SPACED and not self._items:
                self._space()

    def end_line(self, keep: bool = False) -> None:
        """Ends the open line. `keep`: its inner spaces are text."""
        text, self._line = "".join(self._line), []
        lines = text.split("\n") if keep else [line.strip() for line in text.split("\n")]
        text = "\n".join(lines).strip("\n")
        if text == "-" and not keep:
            self._line = ["- "]  # the item's text is in a block inside it
        elif text.strip():
            self._put(Block(text + "\n"))

    def _put(self, block: Block) -> None:
        self.blocks.append(Block(clean(block.text), block.level, clean(block.title)))
        self._blank = False

    def _space(self) -> None:
        """An empty line between blocks, never two, and none at the beginning."""
        if not self._blank:
            self._put(Block("\n"))
            self._blank = True
