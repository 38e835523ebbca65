"""HTML, DOCX, EPUB and notebooks, and how a kind is told."""

import json
import zipfile
from pathlib import Path

import docx
import pytest
from docx.oxml import parse_xml
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.pdfgen.canvas import Canvas

from samba_cli.documents import Document, Part
from samba_cli.errors import Unreadable
from samba_cli.sources.html import decode_html, html_blocks
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions


def read(path: Path, options: SourceOptions | None = None) -> tuple[Document, list[Part]]:
    (document,) = load([str(path)], options)
    assert isinstance(document, Document)
    return document, list(document.parts())


def text_of(markup: str) -> str:
    return "".join(block.text for block in html_blocks(markup))


def test_html(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        "<!doctype html><html><head><title>A &amp; B</title><style>p{}</style></head><body>"
        "<nav>menu</nav><script>var x;</script><h1>Main <a href='/x'>link</a></h1>"
        "<p>One  two\nthree<br>four <b>bold</b>, end.</p>"
        "<ul><li>a</li><li><p>b</p><ul><li>c</li></ul></li></ul>"
        "<table><tr><th>H</th><th>I</th></tr><tr><td><p>x</p><p>y</p></td>"
        "<td>z<table><tr><td>in</td></tr></table></td></tr></table>"
        "<h2>Sub</h2><pre>\ndef f():\n    pass\n</pre><div>d<div>e</div>f</div>",
        encoding="utf-8",
    )
    document, parts = read(path)
    assert (document.kind, document.title) == ("html", "A & B")
    assert [(part.heading, part.text) for part in parts] == [
        (
            "Main link",
            "# Main link\n\nOne two three\nfour bold, end.\n\n- a\n- b\n- c\n\n"
            "H | I\nx y | z in\n\n",
        ),
        ("Main link > Sub", "## Sub\n\ndef f():\n    pass\n\nd\ne\nf\n"),
    ]


def test_html_of_any_depth() -> None:
    assert text_of("<div>" * 5000 + "deep" + "</div>" * 5000) == "deep\n"
    assert text_of("<table><tr><td>" * 300 + "cell").strip() == "cell"


def test_html_encodings() -> None:
    page = "<html><head><meta charset='{}'></head><body>Größe 日本"
    assert "Größe 日本" in decode_html(page.format("utf-8").encode())
    assert "Größe" in decode_html(page.format("iso-8859-1").encode("latin-1", "ignore"))
    assert "日本語" in decode_html("<meta charset=shift_jis>日本語".encode("shift_jis"))
    assert "Größe" in decode_html("<meta charset=nonsense>Größe der Bäume".encode("latin-1"))


tags = st.sampled_from(
    ["<p>", "</p>", "<td>", "<tr>", "<table>", "</table>", "<li>", "<ul>", "</ul>", "<pre>"]
    + ["</pre>"]
    + ["<h1>", "</h1>", "<br>", "x", " y ", "\n", "&amp;", "<b>", "</b>", "<div>", "</div>"]
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(tags, max_size=25))
def test_no_text_of_a_page_is_lost(pieces: list[str]) -> None:
    markup = "".join(pieces)
    text = text_of(markup)
    for letter in ("x", "y"):
        assert text.count(letter) == markup.count(letter)
    assert text == "" or text.endswith("\n")


def test_docx(tmp_path: Path) -> None:
    document = docx.Document()
    document.core_properties.title = "The Report"
    document.add_paragraph("Before")
    document.add_heading("Chapter", 1)
    document.add_paragraph("Body text")
    document.add_paragraph("item", style="List Bullet")
    document.add_heading("Section", 2)
    table = document.add_table(2, 3)
    for row, cells in enumerate((("a", "b", "c"), ("d", "e", ""))):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    table.cell(1, 1).merge(table.cell(1, 2))
    ns = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    document.element.body.insert(
        0,
        parse_xml(
            f"<w:sdt {ns}><w:sdtContent><w:p><w:r><w:t>In a control</w:t></w:r></w:p>"
            "</w:sdtContent></w:sdt>"
        ),
    )
    last = document.add_paragraph("kept ")
    last._p.append(parse_xml(f"<w:ins {ns}><w:r><w:t>inserted</w:t></w:r></w:ins>"))
    last._p.append(parse_xml(f"<w:del {ns}><w:r><w:delText>deleted</w:delText></w:r></w:del>"))
    path = tmp_path / "report.docx"
    document.save(str(path))
    found, parts = read(path)
    assert (found.kind, found.title) == ("docx", "The Report")
    assert [(part.heading, part.text) for part in parts] == [
        (None, "In a control\n\nBefore\n\n"),
        ("Chapter", "# Chapter\n\nBody text\n\n- item\n"),
        ("Chapter > Section", "## Section\n\na | b | c\nd | e\n\nkept inserted\n\n"),
    ]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(Unreadable, match="damaged"):
        read(path)


def write_epub(path: Path, encryption: str | None = None) -> Path:
    chapter = "<html xmlns='http://www.w3.org/1999/xhtml'><body><h1>{}</h1><p>{}</p></body></html>"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            "<container xmlns='urn:oasis:names:tc:opendocument:xmlns:container'><rootfiles>"
            "<rootfile full-path='OEBPS/content.opf'/></rootfiles></container>",
        )
        book.writestr(
            "OEBPS/content.opf",
            "<package xmlns='http://www.idpf.org/2007/opf'>"
            "<metadata xmlns:dc='http://purl.org/dc/elements/1.1/'><dc:title>My Book</dc:title>"
            "</metadata><manifest>"
            "<item id='b' href='text/two%20b.xhtml' media-type='application/xhtml+xml'/>"
            "<item id='a' href='one.xhtml' media-type='application/xhtml+xml'/>"
            "<item id='n' href='nav.xhtml' properties='nav' media-type='application/xhtml+xml'/>"
            "<item id='x' href='lost.xhtml' media-type='application/xhtml+xml'/>"
            "</manifest><spine><itemref idref='n'/><itemref idref='a'/><itemref idref='x'/>"
            "<itemref idref='b'/></spine></package>",
        )
        book.writestr("OEBPS/nav.xhtml", chapter.format("Contents", "One Two"))
        book.writestr("OEBPS/text/two b.xhtml", chapter.format("Two", "second"))
        book.writestr("OEBPS/one.xhtml", chapter.format("One", "first"))
        if encryption:
            book.writestr(
                "META-INF/encryption.xml",
                "<encryption xmlns:e='http://www.w3.org/2001/04/xmlenc#'><e:EncryptedData>"
                f"<e:EncryptionMethod Algorithm='{encryption}'/></e:EncryptedData></encryption>",
            )
    return path


def test_epub(tmp_path: Path) -> None:
    document, parts = read(write_epub(tmp_path / "book.epub"))
    assert (document.kind, document.title) == ("epub", "My Book")
    assert [(part.heading, part.text) for part in parts] == [
        ("One", "# One\n\nfirst\n\n"),
        ("Two", "# Two\n\nsecond\n\n"),
    ]
    read(write_epub(tmp_path / "fonts.epub", "http://www.idpf.org/2008/embedding"))
    with pytest.raises(Unreadable, match="DRM"):
        read(write_epub(tmp_path / "drm.epub", "http://www.w3.org/2001/04/xmlenc#aes128-cbc"))


def test_notebook(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    cells = [
        {"cell_type": "markdown", "source": ["# Study\n", "words"]},
        {
            "cell_type": "code",
            "source": "print(1)\n# not a heading",
            "outputs": [
                {"output_type": "stream", "text": ["1\n"]},
                {"output_type": "display_data", "data": {"image/png": "abc"}},
                {"output_type": "execute_result", "data": {"text/plain": "y" * 9000}},
                {"output_type": "error", "ename": "ValueError", "evalue": "bad"},
            ],
        },
        {"cell_type": "markdown", "source": "## Result"},
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    document, parts = read(path)
    assert document.kind == "notebook"
    assert [(part.heading, part.line) for part in parts] == [
        ("Study", None),
        ("Study > Result", None),
    ]
    assert parts[0].text.startswith("# Study\nwords\n\n```python\nprint(1)\n# not a heading\n```\n")
    assert "ValueError: bad" in parts[0].text
    assert 2000 < len(parts[0].text) < 2300
    path.write_text('{"cells": [' * 50)
    with pytest.raises(Unreadable, match="damaged"):
        read(path)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["docx", "epub", "ipynb", "pdf", "zip"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damage_never_ends_in_anything_but_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, changes: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"a.{suffix}"
    write_any(path)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path.write_bytes(data)
    try:
        for item in load([str(path)]):
            if isinstance(item, Document):
                for part in item.parts():
                    assert "\0" not in part.text and "\r" not in part.text
    except Unreadable as problem:
        assert str(path) in str(problem)


def write_any(path: Path) -> None:
    """A small file of the kind that the name tells."""
    if path.suffix == ".epub":
        write_epub(path)
    elif path.suffix == ".docx":
        document = docx.Document()
        document.add_heading("Chapter", 1)
        document.save(str(path))
    elif path.suffix == ".pdf":
        canvas = Canvas(str(path))
        canvas.drawString(72, 700, "text")
        canvas.save()
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", "text " * 200)
            archive.writestr("b.html", "<p>text")
    else:
        cell = {"cell_type": "code", "source": ["x"], "outputs": []}
        path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}))


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.py", "x = 1\n", "code"),
        ("Makefile", "all:\n", "code"),
        ("run", "#!/bin/sh\necho\n", "code"),
        ("a.json", "{}", "code"),
        ("page", "<?xml version='1.0'?>\n<!-- c -->\n<!DOCTYPE html><html><p>x", "html"),
        ("page.php", "<html><p>x", "code"),
        ("README.md", "<html>", "markdown"),
        ("notes", "plain\n", "text"),
        ("a.rst", "Title\n=====\n", "text"),
        ("a.csv", "a,b\n", "text"),
    ],
)
def test_kinds(tmp_path: Path, name: str, content: str, kind: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert read(path)[0].kind == kind


def test_content_goes_before_the_name(tmp_path: Path) -> None:
    path = write_epub(tmp_path / "book.txt")
    assert read(path)[0].kind == "epub"
    forced = tmp_path / "a.txt"
    forced.write_text("# Title\n")
    document, parts = read(forced, SourceOptions(kind="md"))
    assert (document.kind, parts[0].heading) == ("markdown", "Title")
