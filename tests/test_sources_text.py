"""Text files: encodings, newlines, parts and their line numbers."""

import io
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from samba_cli.documents import Document, Part, Skipped
from samba_cli.errors import Unreadable
from samba_cli.sources.load import load
from samba_cli.sources.markdown import markdown_parts
from samba_cli.sources.options import SourceOptions
from samba_cli.sources.text import PART_CHARS, decoded, find_encoding, line_parts, looks_binary

FRENCH = (
    "Le garçon mangeait une pâtisserie près de la fenêtre, où l'été s'achevait déjà.\n"
    "Ses sœurs étaient parties à la forêt ; il ne s'en inquiétait guère.\n"
)
GERMAN = "Die Größe der Bäume überraschte Müller.\nÄrger über Öl auf der Straße.\n"
JAPANESE = (
    "メロスは激怒した。必ず、かの邪智暴虐の王を除かなければならぬと決意した。\n"
    "メロスには政治がわからぬ。メロスは、村の牧人である。\n"
)
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастлива по-своему.\n"
CHINESE = "这是一个中文文本的例子，用来检测编码。我们今天去学校学习。\n"
KOREAN = "이것은 한국어 텍스트입니다. 인코딩을 감지하는 시험입니다.\n"


def parts_of(path: Path, options: SourceOptions | None = None) -> list[Part]:
    (document,) = load([str(path)], options)
    assert isinstance(document, Document)
    return list(document.parts())


def text_of(path: Path, options: SourceOptions | None = None) -> str:
    return "".join(part.text for part in parts_of(path, options))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH, "cp1252"),
        (FRENCH.replace("œ", "oe"), "latin-1"),
        (GERMAN, "latin-1"),
        ("café\n", "latin-1"),
        ("x = 1  # Länge\n" * 50, "latin-1"),
        (JAPANESE, "shift_jis"),
        ("print('x')  # 日本語の注釈を書きます\n", "shift_jis"),
        (JAPANESE, "euc_jp"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        (CHINESE, "gb18030"),
        (KOREAN, "euc_kr"),
        (FRENCH, "utf-8"),
        (JAPANESE, "utf-8-sig"),
        (FRENCH, "utf-16"),
        (JAPANESE, "utf-16"),
        (FRENCH, "utf-16-le"),
        (GERMAN, "utf-16-be"),
        (JAPANESE, "utf-32"),
    ],
)
def test_encodings_are_detected(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    assert text_of(path) == text


def test_an_encoding_that_shows_late_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "late.txt"
    path.write_bytes(b"plain ascii line\n" * 20_000 + GERMAN.encode("latin-1") * 30)
    assert text_of(path).endswith(GERMAN)
    path.write_bytes(b"plain ascii line\n" * 20_000 + JAPANESE.encode("shift_jis") * 10)
    assert text_of(path).endswith(JAPANESE)


def test_one_bad_byte_does_not_spoil_utf8(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes((JAPANESE * 40).encode() + b"caf\xe9\n" + (JAPANESE * 40).encode())
    assert text_of(path) == JAPANESE * 40 + "café\n" + JAPANESE * 40


def test_the_encoding_can_be_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Привет".encode("cp866"))
    assert text_of(path, SourceOptions(encoding="cp866")) == "Привет"
    path.write_bytes("größer äöü".encode("latin-1"))
    with pytest.raises(Unreadable, match="utf-8"):
        list(load([str(path)], SourceOptions(encoding="utf-8")))


@pytest.mark.parametrize("shift", range(4))
def test_a_character_cut_by_the_first_64_kilobytes(tmp_path: Path, shift: int) -> None:
    text = "x" * (65536 - 4 + shift) + "€€€€ end\n"
    path = tmp_path / "edge.txt"
    path.write_text(text)
    assert text_of(path) == text
    (document,) = load(["-"], stdin=io.BytesIO(text.encode()))
    assert isinstance(document, Document)
    assert "".join(part.text for part in document.parts()) == text


def test_binaries_are_told_from_text() -> None:
    assert looks_binary(b"\x7fELF\x02\x01\x01\0\0\0")
    assert looks_binary(bytes(range(1, 32)) * 10)
    assert looks_binary(b"text with a NUL \0 in it, but no UTF-16")
    assert not looks_binary(b"\x1b[31mred\x1b[0m log line\r\n")
    assert not looks_binary("é".encode() * 32768)
    assert not looks_binary(JAPANESE.encode("shift_jis"))


newlines = st.sampled_from(["\n", "\r\n", "\r", " ", "é", "日本", "x" * 50, "😀", "\x0c", "\u2028"])
files = st.lists(newlines, max_size=30).map("".join)


@settings(deadline=None, max_examples=60)
@given(files, st.integers(1, 4000), st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
@example("a\r\nb\rc\n\rd" * 9, 4000, "utf-8")
def test_parts_are_the_decoded_file(piece: str, times: int, encoding: str) -> None:
    text = piece * (1 + times * 40 // (len(piece) + 1))
    data = text.encode(encoding)
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert find_encoding(io.BytesIO(data)) in (encoding, "utf-8")
    parts = list(line_parts(decoded(io.BytesIO(data), encoding)))
    assert "".join(part.text for part in parts) == expected
    check_lines(parts)


def check_lines(parts: list[Part]) -> None:
    line = 1
    for part in parts:
        assert part.line == line
        assert 0 < len(part.text) <= PART_CHARS
        line += part.text.count("\n")


def test_parts_end_at_line_ends_where_lines_are_short() -> None:
    text = "".join(f"line {i}\n" for i in range(40_000))
    parts = list(line_parts([text]))
    assert len(parts) > 3
    assert all(part.text.endswith("\n") for part in parts)


markdown_lines = st.sampled_from(
    [
        "# One",
        "## Two ##",
        "### C#",
        "text",
        "",
        "```python",
        "```",
        "~~~",
        "# in code?",
        "#no",
        "---",
    ]
)


@settings(deadline=None, max_examples=100)
@given(st.lists(markdown_lines, max_size=30), st.booleans())
def test_markdown_parts_are_the_whole_text(lines: list[str], ended: bool) -> None:
    text = "\n".join(lines) + ("\n" if ended else "")
    parts = list(markdown_parts([text]))
    assert "".join(part.text for part in parts) == text
    check_lines(parts)


def test_markdown_headings() -> None:
    text = (
        "---\n# front matter\n---\nintro\n# Guide\na\n```sh\n# comment\n```\n"
        "## Install ##\nb\n#hashtag\n## C#\nc\n# Other\n"
    )
    parts = list(markdown_parts([text]))
    assert [(part.line, part.heading) for part in parts] == [
        (1, None),
        (5, "Guide"),
        (10, "Guide > Install"),
        (13, "Guide > C#"),
        (15, "Other"),
    ]


def test_long_blank_heading_lines_take_linear_time() -> None:
    text = "# " + " " * 60_000 + "x #" + " #" * 2000 + "\n"
    assert "".join(part.text for part in markdown_parts([text])) == text


def test_stdin_text_is_not_held_in_memory() -> None:
    class Endless(io.RawIOBase):
        """Far more text than may ever be read at once."""

        given = 0

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= 1 << 20
            self.given += size
            return (b"0123456\n" * (size // 8 + 1))[:size]

    stream = Endless()
    (document,) = load([], stdin=stream)  # type: ignore[arg-type]
    assert isinstance(document, Document)
    assert (document.name, document.kind, document.size) == ("-", "text", None)
    parts = document.parts()
    first = [next(parts) for _ in range(4)]
    assert all(len(part.text) <= PART_CHARS for part in first)
    assert stream.given < 1 << 20


def test_empty_and_undecodable_files(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "bad.txt").write_bytes(b"\x81\x8d\x8f\x90\x9d" * 200)
    found = list(load([str(tmp_path)]))
    assert found == [
        Skipped(str(tmp_path / "bad.txt"), "decode"),
        Skipped(str(tmp_path / "empty.txt"), "empty"),
    ]
    with pytest.raises(Unreadable, match="empty.txt is empty"):
        list(load([str(tmp_path / "empty.txt")]))
    with pytest.raises(Unreadable, match="Standard input is empty"):
        list(load(["-"], stdin=io.BytesIO()))


def test_no_nul_and_no_lone_surrogate_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * 70_000 + b"\n\0b")
    assert text_of(path).endswith("\n\ufffdb")
