"""Parsing in a process of its own gives what parsing here gives, and its end is noticed."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from test_reader import OFTEN, Stop, equal, rows, run, stop_after, told_often  # noqa: F401

from samba_cli import apart
from samba_cli.apart import Apart, worth_a_process
from samba_cli.checkpoint import open_read_folder
from samba_cli.documents import Skipped
from samba_cli.errors import SambaError, Unreadable
from samba_cli.model import Tokenizer, load_checkpoint
from samba_cli.parsing import Changed, End, Piece, Position, parse
from samba_cli.reader import read
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions
from samba_cli.sources.source import Problem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        text = f"# Part {number}\n\n" + f"Sentence {number} says <|mark|> something é. " * 400
        (tmp_path / f"{number}.md").write_text(text)
    (tmp_path / "picture.bin").write_bytes(bytes(range(256)) * 9)
    return tmp_path


def told(items: object) -> list[object]:
    """What a piece says; its document's function to open it aside."""
    return [
        (one.ordinal, one.document.name, one.document.size, one.row, one.tokens, one.own,
         one.marked, one.digest, one.tally) if isinstance(one, Piece) else one
        for batch in items for one in batch  # type: ignore[attr-defined]
    ]  # fmt: skip


def here(folder: Path, checkpoint: Path, position: Position) -> list[object]:
    return told(parse(load([str(folder)]), Tokenizer.load(checkpoint), position))


def elsewhere(folder: Path, checkpoint: Path) -> Apart:
    return Apart((str(folder),), SourceOptions(), checkpoint)


def test_the_pieces_are_the_same(folder: Path, tiny_checkpoint: Path) -> None:
    expected = here(folder, tiny_checkpoint, Position())
    assert any(isinstance(one, Skipped) for one in expected) and isinstance(expected[-1], End)
    source = elsewhere(folder, tiny_checkpoint)
    assert told(source.parse(Position())) == expected
    seventh = [one for one in expected if isinstance(one, tuple)][6]
    position = Position(passages=7, documents=seventh[0], digest=seventh[7])
    assert told(source.parse(position)) == here(folder, tiny_checkpoint, position)


def test_what_is_raised_there_is_raised_here(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    source = elsewhere(folder, tiny_checkpoint)
    with pytest.raises(Changed):
        told(source.parse(Position(passages=3, digest="another text")))
    with pytest.raises(Unreadable, match="no such file"):
        told(elsewhere(tmp_path / "missing", tiny_checkpoint).parse(Position()))
    with pytest.raises(Problem, match="is a binary file") as caught:
        told(elsewhere(folder / "picture.bin", tiny_checkpoint).parse(Position()))
    assert caught.value.reason == "binary"
    with pytest.raises(ValueError, match="tokenizer.json is missing") as fault:
        told(elsewhere(folder, tmp_path).parse(Position()))
    assert "In the process that parses" in fault.value.__notes__[0]


@pytest.mark.usefixtures("told_often")
def test_a_read_stops_and_resumes_to_the_same_bits(
    folder: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parts = load_checkpoint(tiny_checkpoint), Tokenizer.load(tiny_checkpoint)
    place = tmp_path_factory.mktemp("reads") / "read"
    source = elsewhere(folder, tiny_checkpoint)
    _, expected, stored = run(parts, lambda: load([str(folder)]))
    with pytest.raises(Stop), open_read_folder(place, *parts) as held:
        read(source, *parts, held, OFTEN, stop_after(9000))
    with open_read_folder(place, *parts) as held:
        assert held.resumed_at > 0
        report = read(source, *parts, held, OFTEN)
        assert equal(held.state, expected) and rows(held) == stored
        assert (report.documents, report.skipped_count) == (3, 1)


def test_a_process_that_is_killed_ends_the_read(
    folder: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = apart._started
    monkeypatch.setattr(apart, "_started", lambda task: started.append(start(task)) or started[0])
    (folder / "0.md").write_text("Some words of a long text. " * 100_000)
    pieces = elsewhere(folder, tiny_checkpoint).parse(Position())
    next(pieces)
    started[0].kill()
    with pytest.raises(SambaError, match=r"was ended \(exit code -9\)"):
        told(pieces)


def test_leaving_early_ends_the_process(
    folder: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = apart._started
    monkeypatch.setattr(apart, "_started", lambda task: started.append(start(task)) or started[0])
    pieces = elsewhere(folder, tiny_checkpoint).parse(Position())
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert started[0].returncode is not None


def test_it_ends_with_the_one_that_started_it(folder: Path, tiny_checkpoint: Path) -> None:
    os.mkfifo(folder / "pipe")  # opening it waits for a writer that never comes
    writer = subprocess.Popen(["sh", "-c", f"exec sleep 60 > {folder}/pipe"])
    task = apart.Task((str(folder / "pipe"),), SourceOptions(), tiny_checkpoint, None, Position())
    process = apart._started(task)
    time.sleep(1)  # it is at work by now, or will be
    assert process.poll() is None and process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=20) == 0
    writer.kill()
    writer.wait()


def test_small_inputs_and_pipes_are_parsed_here(folder: Path) -> None:
    assert worth_a_process([str(folder)])
    assert not worth_a_process([str(folder / "0.md")]) and not worth_a_process(["-"])
    (folder / "long.txt").write_text("A line of text.\n" * 100_000)
    assert worth_a_process([str(folder / "long.txt")])
    assert not worth_a_process([str(folder / "long.txt"), "-"])
