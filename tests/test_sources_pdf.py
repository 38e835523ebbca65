"""PDF: pages, outline, broken words, scans, passwords, damage."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from samba_cli.documents import Document, Part, Skipped
from samba_cli.errors import Unreadable, UsageError
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions, parse_pages
from samba_cli.sources.pdf import join_words


def write_pdf(path: Path, pages: list[str | None], password: str | None = None) -> Path:
    """Pages of lines; None is a page that holds only a picture."""
    encrypt = StandardEncryption(password, strength=128) if password else None
    canvas = Canvas(str(path), encrypt=encrypt)
    canvas.setTitle("A Report")
    for number, text in enumerate(pages, 1):
        if text is None:
            from PIL import Image

            canvas.drawImage(ImageReader(Image.new("RGB", (40, 40), "gray")), 72, 600)
        elif text.startswith("#"):
            canvas.bookmarkPage(str(number))
            title = text.splitlines()[0]
            canvas.addOutlineEntry(title.strip("# "), str(number), title.count("#") - 1)
        for i, line in enumerate((text or "").splitlines()):
            canvas.drawString(72, 720 - 14 * i, line)
        canvas.showPage()
    canvas.save()
    return path


def read(
    path: Path, options: SourceOptions | None = None
) -> tuple[Document, list[Part], list[Skipped]]:
    skipped: list[Skipped] = []
    (document,) = load([str(path)], options, report=skipped.append)
    assert isinstance(document, Document)
    return document, list(document.parts()), skipped


def test_pages_title_and_outline(tmp_path: Path) -> None:
    path = write_pdf(
        tmp_path / "a.pdf", ["cover", "# One\nfirst page", "more", "## Two\nlast “é” page"]
    )
    document, parts, skipped = read(path)
    assert (document.kind, document.title) == ("pdf", "A Report")
    assert document.size == path.stat().st_size
    assert document.modified_ns == path.stat().st_mtime_ns
    assert [part.page for part in parts] == [1, 2, 3, 4]
    assert [part.heading for part in parts] == [None, "One", "One", "One > Two"]
    assert parts[1].text == "# One\nfirst page\n"
    assert "“é”" in parts[3].text
    assert skipped == []


def test_broken_words_are_joined() -> None:
    assert join_words("an exam\x02ple of it, so") == "an example\nof it, so\n"
    assert join_words("an exam-\nple, of it") == "an example,\nof it\n"
    assert join_words("a well\x02known man") == "a well-known\nman\n"
    assert join_words("cost-benefit, a cost\x02benefit study") == (
        "cost-benefit, a cost-benefit\nstudy\n"
    )
    assert join_words("the Anglo\x02Saxon and 1990\x022000") == "the Anglo-Saxon\nand 1990-2000\n"
    assert join_words("a dash -\nand a list:\n- item") == "a dash -\nand a list:\n- item\n"


def test_line_end_hyphens_of_a_real_page(tmp_path: Path) -> None:
    _, parts, _ = read(write_pdf(tmp_path / "a.pdf", ["This is an exam-\nple of text."]))
    assert parts[0].text == "This is an example\nof text.\n"


def test_pages_without_a_text_layer_are_reported(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [None, "text", None, "", "end"])
    _, parts, skipped = read(path)
    assert [(part.page, part.text) for part in parts] == [(2, "text\n"), (4, "\n"), (5, "end\n")]
    assert skipped == [Skipped(str(path), "no-text-layer", page) for page in (1, 3)]


def test_a_scan_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "my scan.pdf", [None, None, None])
    with pytest.raises(Unreadable) as error:
        read(path)
    assert str(error.value) == (
        f"{path}: 3 of 3 pages have no text layer. Run: ocrmypdf '{path}' out.pdf"
    )
    assert getattr(error.value, "reason", None) == "no-text-layer"


def test_passwords(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "locked.pdf", ["secret text"], password="sésame")
    with pytest.raises(Unreadable, match="locked.pdf is encrypted: .* --password-file FILE"):
        read(path)
    with pytest.raises(Unreadable, match="does not open with the password"):
        read(path, SourceOptions(password="wrong"))
    assert list(load([str(tmp_path)])) == [Skipped(str(path), "encrypted")]
    _, parts, _ = read(write_pdf(path, ["secret text"], "plain"), SourceOptions(password="plain"))
    assert parts[0].text == "secret text\n"


def test_page_selection(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [f"page {i}" for i in range(1, 8)])
    _, parts, _ = read(path, SourceOptions(pages="2-3,6-"))
    assert [part.page for part in parts] == [2, 3, 6, 7]
    with pytest.raises(Unreadable, match="none of the pages"):
        read(path, SourceOptions(pages="9"))


@pytest.mark.parametrize("text", ["", "x", "0", "5-2", "1,,2", "-", "1-2-3", "²"])
def test_bad_page_selections(text: str) -> None:
    with pytest.raises(UsageError):
        parse_pages(text)


def test_damaged_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = write_pdf(tmp_path / "a.pdf", ["some text here"] * 5).read_bytes()
    damaged = tmp_path / "b.pdf"
    for data in (b"%PDF-1.4\n", b"%PDF-1.7\n" + b"rubbish \xff\0" * 500, whole[:200]):
        damaged.write_bytes(data)
        with pytest.raises(Unreadable, match="b.pdf is damaged"):
            read(damaged)
    for cut in range(len(whole) // 3, len(whole), 401):
        damaged.write_bytes(whole[:cut])
        try:
            _, parts, _ = read(damaged)
        except Unreadable:
            continue
        assert all("some text here" in part.text for part in parts)
    assert capfd.readouterr() == ("", "")


def test_pypdf_reads_what_pdfium_cannot_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pypdfium2

    def fail(*args: object, **kwargs: object) -> None:
        raise pypdfium2.PdfiumError("cannot open", err_code=3)

    monkeypatch.setattr(pypdfium2, "PdfDocument", fail)
    document, parts, _ = read(write_pdf(tmp_path / "a.pdf", ["one", "two"]))
    assert document.title == "A Report"
    assert [(part.page, part.text.strip()) for part in parts] == [(1, "one"), (2, "two")]


def test_pages_are_read_in_threads_beside_each_other(tmp_path: Path) -> None:
    for i in range(4):
        write_pdf(tmp_path / f"{i}.pdf", [f"file {i} page {page}" for page in range(20)])
    documents = [item for item in load([str(tmp_path)]) if isinstance(item, Document)]
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda document: [p.text for p in document.parts()], documents))
    assert texts == [[f"file {i} page {page}\n" for page in range(20)] for i in range(4)]


def test_a_pdf_on_standard_input(tmp_path: Path) -> None:
    data = write_pdf(tmp_path / "a.pdf", ["from a pipe"]).read_bytes()
    (document,) = load(["-"], stdin=io.BytesIO(data))
    assert isinstance(document, Document)
    assert (document.name, document.kind, document.size) == ("-", "pdf", len(data))
    assert [part.text for part in document.parts()] == ["from a pipe\n"]


def test_importing_the_sources_is_light() -> None:
    code = (
        "import sys, samba_cli.sources.load, samba_cli.sources.pdf, samba_cli.sources.html\n"
        "import samba_cli.sources.docx, samba_cli.sources.epub, samba_cli.sources.archive\n"
        "heavy = {'pypdf', 'pypdfium2', 'docx', 'lxml', 'selectolax', 'charset_normalizer',\n"
        "         'torch', 'pathspec'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
