"""EPUB books: the chapters in the order of the spine, through the HTML converter."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote
from xml.etree import ElementTree

from samba_cli.documents import Part
from samba_cli.sources.archive import check_zip
from samba_cli.sources.html import decode_html, html_blocks
from samba_cli.sources.markdown import Block, block_parts
from samba_cli.sources.source import READ_ERRORS, Problem, Source

_CHAPTERS = ("application/xhtml+xml", "text/html")
# Fonts may be obfuscated without the book being protected (EPUB 3.3, section 4.3).
_FONT_METHODS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


def epub_title(source: Source) -> str | None:
    """The title in the package document. Raises Problem: corrupt, drm, archive-limit."""
    with _opened(source) as archive:
        _, package = _package(source, archive)
        title = package.findtext(".//{http://purl.org/dc/elements/1.1/}title") or ""
    return " ".join(title.split()) or None


def epub_parts(source: Source) -> Iterator[Part]:
    """Parts that begin at headings and chapters. Raises Problem: corrupt, empty."""
    found = False
    with _opened(source) as archive:
        for path in _spine(source, archive):
            try:
                markup = decode_html(archive.read(path))
            except KeyError:
                continue  # listed, but not in the book: nothing that readers show either
            for part in block_parts(_chapter(markup)):
                found = True
                yield part
    if not found:
        raise Problem(source.name, "empty")


def _chapter(markup: str) -> Iterator[Block]:
    last = None
    for block in html_blocks(markup):
        if last is not None or block.text.strip():
            yield block
            last = block
    if last is not None and last.text != "\n":
        yield Block("\n")


@contextmanager
def _opened(source: Source) -> Iterator[zipfile.ZipFile]:
    try:
        with source.open_random() as stream, zipfile.ZipFile(stream) as archive:
            check_zip(source.name, archive)
            yield archive
    except (*READ_ERRORS, ElementTree.ParseError):
        raise Problem(source.name, "corrupt") from None
    except RuntimeError:  # zipfile's error for an encrypted member
        raise Problem(source.name, "drm") from None


def _package(source: Source, archive: zipfile.ZipFile) -> tuple[str, ElementTree.Element]:
    """Path and root of the package document (OPF)."""
    try:
        encryption = ElementTree.fromstring(archive.read("META-INF/encryption.xml"))
    except KeyError:
        pass
    else:
        methods = {node.get("Algorithm") for node in _all(encryption, "EncryptionMethod")}
        if methods - set(_FONT_METHODS):
            raise Problem(source.name, "drm")
    try:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        path = next(node.get("full-path", "") for node in _all(container, "rootfile"))
        return path, ElementTree.fromstring(archive.read(path))
    except (KeyError, StopIteration):
        raise Problem(source.name, "corrupt") from None


def _spine(source: Source, archive: zipfile.ZipFile) -> list[str]:
    path, package = _package(source, archive)
    folder = posixpath.dirname(path)
    items = {node.get("id"): node for node in _all(package, "item")}
    chapters = []
    for reference in _all(package, "itemref"):
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in _CHAPTERS:
            continue
        if "nav" in (item.get("properties") or "").split():
            continue  # the table of contents
        chapters.append(posixpath.normpath(posixpath.join(folder, unquote(item.get("href", "")))))
    return chapters


def _all(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return root.findall(f".//{{*}}{name}")
