"""What a run will need is told before it starts, from a sample, whatever the size of the input."""

import io
import os
from pathlib import Path

import pytest
from cli import QUESTION, run
from conftest import write_byte_tokenizer
from foreign import write_foreign
from public_checkpoints import transformers_model

from samba_cli import room
from samba_cli.model import State, Tokenizer
from samba_cli.room import estimate
from samba_cli.sources import text
from samba_cli.sources.options import SourceOptions

SENTENCE = "The notice period is thirty days for both parties.\n"


@pytest.fixture
def bytes_are_tokens(tmp_path: Path) -> Tokenizer:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    write_byte_tokenizer(folder / "tokenizer.json")
    return Tokenizer.load(folder)


def grown(path: Path, size: int) -> Path:
    """The file, with a hole behind its text up to so many bytes."""
    try:
        os.truncate(path, size)
    except OSError:
        pytest.skip("no file of that size here")
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.py", "a.log"])
def test_a_file_of_terabytes_is_estimated_from_a_sample(
    tmp_path: Path, bytes_are_tokens: Tokenizer, name: str
) -> None:
    """Reading it whole would take an hour: only a test that samples comes to an end."""
    size = 3 << 40
    (tmp_path / name).write_text(SENTENCE * 3000)
    found = estimate([str(grown(tmp_path / name, size))], SourceOptions(), bytes_are_tokens)
    assert found.complete
    assert 2.7 * size < found.tokens < 3.1 * size  # a NUL is read as U+FFFD: three bytes


def test_a_file_of_terabytes_begins_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SENTENCE * 3000)
    with grown(tmp_path / "a.txt", 3 << 40).open("rb") as stream:
        assert text.find_encoding(stream) == "utf-8"


def test_a_late_fault_of_a_huge_file_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"plain text\n" * 20_000 + "naïve café\n".encode("cp1252") * 3
    assert text.find_encoding(io.BytesIO(data)) == "cp1252"
    monkeypatch.setattr(text, "SCANNED_BYTES", 100_000)
    assert text.find_encoding(io.BytesIO(data)) == "utf-8"
    assert "".join(text.decoded(io.BytesIO(data), "utf-8")).endswith("naïve café\n")


def test_a_single_fault_in_the_last_line_is_mended() -> None:
    data = b"plain text\n" * 20_000 + "naïve café\n".encode("cp1252")
    assert text.find_encoding(io.BytesIO(data)) == "utf-8"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1251"])
def test_the_sample_is_spread_over_the_file(
    tmp_path: Path, bytes_are_tokens: Tokenizer, encoding: str
) -> None:
    """Half of it takes one token a character, half two: its beginning alone would not tell."""
    whole = "plain words here\n" * 30_000 + "простые слова тут\n" * 30_000
    (tmp_path / "a.txt").write_text(whole, encoding=encoding)
    options = SourceOptions(encoding=encoding)
    found = estimate([str(tmp_path / "a.txt")], options, bytes_are_tokens)
    assert found.tokens == pytest.approx(len(whole.encode()), rel=0.05)


def test_small_files_are_counted_together(tmp_path: Path, bytes_are_tokens: Tokenizer) -> None:
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text(SENTENCE * i or "x")
    found = estimate([str(tmp_path)], SourceOptions(include=("*.txt",)), bytes_are_tokens)
    assert (found.tokens, found.complete) == (10 * len(SENTENCE) + 1, True)


def test_what_says_little_by_its_size_is_not_counted(
    tmp_path: Path, bytes_are_tokens: Tokenizer
) -> None:
    (tmp_path / "a.html").write_text(f"<html><p>{SENTENCE}</p></html>")
    (tmp_path / "b.txt").write_text(SENTENCE)
    paths = [str(tmp_path / name) for name in ("a.html", "b.txt")]
    found = estimate(paths, SourceOptions(), bytes_are_tokens)
    assert (found.tokens, found.complete) == (len(SENTENCE), False)
    assert not estimate(["-", paths[1]], SourceOptions(), bytes_are_tokens).complete


def test_where_a_device_is_too_small_the_state_grows_in_host_memory(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are the same and it is said, for a text and for a memory of it."""
    pytest.importorskip("transformers")
    transformers_model("jamba", vocab_size=288).save_pretrained(home / "jamba")
    write_foreign(home / "jamba", "base")
    model = ("--model", home / "jamba", "--max-tokens", "6")
    usual = run("ask", QUESTION, "contract.txt", "--json", *model)
    moved: list[State] = []
    on_host = State.on_host

    def counted(state: State) -> State:
        moved.append(state)
        return on_host(state)

    monkeypatch.setattr(State, "on_host", counted)
    monkeypatch.setattr(room, "free_device_memory", lambda device: 1_000_000_000)
    there = run("ask", QUESTION, "contract.txt", "--json", *model)
    assert there.code == 0, there.stderr
    assert there.json["answers"] == usual.json["answers"]
    assert run("read", "contract.txt", "--as", "kept", *model[:2]).code == 0
    again = run("ask", QUESTION, "--memory", "kept", "--json", *model[2:])
    assert again.json["answers"] == usual.json["answers"]
    for result in (there, again):
        assert [w for w in result.json["warnings"] if "stays in host memory (slower)" in w]
        assert "1.0 GB free: too little for the growing part" in result.stderr
    assert moved
