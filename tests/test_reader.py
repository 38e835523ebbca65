"""Reading does not depend on the chunk size, and a killed read goes on as if nothing happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samba_cli.checkpoint import ReadFolder, open_read_folder, read_key, remove_stale_reads
from samba_cli.chunk_size import ACCELERATOR, CPU, LEAST, chunk_tokens, fitting
from samba_cli.documents import Document, Part, Skipped
from samba_cli.errors import ModelError, Unreadable
from samba_cli.model import Model, State, Tokenizer, load_checkpoint
from samba_cli.progress import ReadProgress, total_size
from samba_cli.reader import Interrupted, ReadOptions, read
from samba_cli.results import Progress, ReadReport

Stream = Callable[[], Iterator[Document | Skipped]]
OFTEN = ReadOptions(chunk_tokens=64, checkpoint_tokens=128)


class Stop(Exception):
    """Ends a read at a chosen place, as a crash would."""


@pytest.fixture(scope="module")
def parts(tiny_checkpoint: Path) -> tuple[Model, Tokenizer]:
    torch.set_num_threads(1)  # for so small a model threads cost more than they bring
    return load_checkpoint(tiny_checkpoint), Tokenizer.load(tiny_checkpoint)


def documents(count: int = 3, change: str = "") -> Stream:
    def stream() -> Iterator[Document | Skipped]:
        for number in range(count):
            text = f"# Document {number}\n\n" + f"Sentence {number} says something{change}. " * 40
            yield Document(
                f"{number}.txt", "text", lambda text=text: iter([Part(text, line=1)]), len(text)
            )
            yield Skipped(f"{number}.bin", "binary")

    return stream


def run(
    parts: tuple[Model, Tokenizer],
    stream: Stream,
    options: ReadOptions = OFTEN,
    **arguments: object,
) -> tuple[ReadReport, State, list[tuple]]:
    with open_read_folder(arguments.pop("path", None), *parts, **arguments) as folder:  # type: ignore[arg-type]
        report = read(stream, *parts, folder, options)
        return report, folder.state, rows(folder)


def rows(folder: ReadFolder) -> list[tuple]:
    return [(p.id, p.document_id, p.passage, p.tokens, p.salience) for p in folder.index.iterate()]


def equal(one: State, other: State) -> bool:
    pairs = zip(one.tensors().values(), other.tensors().values(), strict=True)
    return one.position == other.position and all(torch.equal(a, b) for a, b in pairs)


def stop_after(tokens: int) -> Callable[[Progress], None]:
    def progress(now: Progress) -> None:
        if now.tokens >= tokens:
            raise Stop

    return progress


@pytest.fixture
def told_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samba_cli.reader._REPORT_EVERY", 0.0)


def test_the_report_counts_what_was_read(parts: tuple[Model, Tokenizer]) -> None:
    report, state, stored = run(parts, documents())
    assert (report.documents, report.passages, report.skipped_count) == (3, len(stored), 3)
    assert report.tokens == state.position and report.bytes == report.characters
    assert report.skipped[0] == Skipped("0.bin", "binary") and report.pages == 0
    assert {row[1] for row in stored} == {1, 2, 3}
    assert all(isinstance(row[4], float) for row in stored)


def test_the_chunk_size_changes_neither_salience_nor_state(parts: tuple[Model, Tokenizer]) -> None:
    _, whole, expected = run(parts, documents(), ReadOptions(chunk_tokens=100_000))
    for chunk in (37, 512):
        _, state, stored = run(parts, documents(), ReadOptions(chunk_tokens=chunk))
        assert [row[:4] for row in stored] == [row[:4] for row in expected]
        marks, wanted = [row[4] for row in stored], [row[4] for row in expected]
        torch.testing.assert_close(torch.tensor(marks), torch.tensor(wanted), rtol=1e-3, atol=1e-4)
        for one, other in zip(state.tensors().values(), whole.tensors().values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("told_often")
@pytest.mark.parametrize("place", [1, 700, 1900, 2700])
def test_a_stopped_read_resumes_to_the_same_bits(
    parts: tuple[Model, Tokenizer], tmp_path: Path, place: int
) -> None:
    _, expected, stored = run(parts, documents())
    path = tmp_path / "read"
    for stop in (place, place + 400):
        with pytest.raises(Stop), open_read_folder(path, *parts) as folder:
            read(documents(), *parts, folder, OFTEN, stop_after(stop))
    with open_read_folder(path, *parts) as folder:
        assert folder.resumed_at > 0 or place == 1
        report = read(documents(), *parts, folder, OFTEN)
        assert equal(folder.state, expected) and rows(folder) == stored
        assert (report.documents, report.skipped_count) == (3, 3)
        assert len(folder.index.skipped()) == 3
    assert not path.exists()


@pytest.mark.usefixtures("told_often")
def test_changed_input_is_read_from_the_start(
    parts: tuple[Model, Tokenizer], tmp_path: Path
) -> None:
    for changed in (documents(change=" else"), documents(count=1)):
        path = tmp_path / "read"
        with pytest.raises(Stop), open_read_folder(path, *parts) as folder:
            read(documents(), *parts, folder, OFTEN, stop_after(2500))
        report, state, stored = run(parts, changed, path=path)
        _, expected, wanted = run(parts, changed)
        assert equal(state, expected) and stored == wanted
        assert any("changed" in note for note in report.notes)


def test_ctrl_c_writes_a_checkpoint(parts: tuple[Model, Tokenizer], tmp_path: Path) -> None:
    def stream() -> Iterator[Document | Skipped]:
        yield from documents(2)()
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        yield from documents(1)()

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught, open_read_folder(tmp_path / "r", *parts) as folder:
        read(stream, *parts, folder, ReadOptions(chunk_tokens=64))
    assert caught.value.resumable and caught.value.tokens > 0
    assert signal.getsignal(signal.SIGINT) is before
    assert open_read_folder(tmp_path / "r", *parts).resumed_at == caught.value.tokens


KILLED = """
import sys
from pathlib import Path
from samba_cli.checkpoint import open_read_folder
from samba_cli.model import Tokenizer, load_checkpoint
from samba_cli.reader import ReadOptions, read
from tests.test_reader import documents
model, tokenizer = load_checkpoint(sys.argv[1]), Tokenizer.load(sys.argv[1])
with open_read_folder(Path(sys.argv[2]), model, tokenizer) as folder:
    options = ReadOptions(chunk_tokens=64, checkpoint_tokens=64)
    read(documents(400), model, tokenizer, folder, options)
"""


def test_a_read_killed_with_kill_9_resumes(
    parts: tuple[Model, Tokenizer], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "read"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tiny_checkpoint), str(path)])
    while not (path / "state.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.15)
    process.kill()
    process.wait()
    with open_read_folder(path, *parts) as folder:
        assert 0 < folder.resumed_at < 400 * 1500
        read_so_far = folder.position.documents + 1
        count = max(read_so_far, 3)
        read(documents(count), *parts, folder, OFTEN)
        _, expected, stored = run(parts, documents(count))
        assert equal(folder.state, expected) and rows(folder) == stored


def test_a_memory_is_kept_and_continued(parts: tuple[Model, Tokenizer], tmp_path: Path) -> None:
    first, memory = documents(2), tmp_path / "memory"
    with open_read_folder(tmp_path / "one.partial", *parts) as folder:
        read(first, *parts, folder, OFTEN)
        folder.keep(
            memory, {"note": "kept"}, lambda staged: (staged / "memory.json").touch() or None
        )
        state = folder.state
    assert sorted(p.name for p in memory.iterdir()) == [
        "index.sqlite",
        "memory.json",
        "state.safetensors",
    ]
    loaded, metadata = State.load(memory / "state.safetensors", parts[0], parts[1].fingerprint)
    assert equal(loaded, state) and metadata["note"] == "kept"
    with open_read_folder(tmp_path / "two.partial", *parts, base=memory) as folder:
        report = read(documents(1, " new"), *parts, folder, OFTEN)
        assert report.documents == 1 and folder.index.counts().documents == 3
        assert folder.state.position == state.position + report.tokens
        folder.keep(memory)
    assert [p.name for p in tmp_path.iterdir()] == ["memory"]
    (memory / "state.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError):
        open_read_folder(tmp_path / "three.partial", *parts, base=memory)


def test_a_folder_that_cannot_hold_checkpoints_only_warns(
    parts: tuple[Model, Tokenizer], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    notes: list[str] = []
    report, state, _ = run(parts, documents(), path=tmp_path / "file" / "read", note=notes.append)
    assert report.documents == 3 and len(notes) == 1 and "checkpoints" in notes[0]
    with open_read_folder(tmp_path / "held", *parts) as held:
        report, other, _ = run(parts, documents(), path=tmp_path / "held", note=notes.append)
        assert equal(state, other) and "another process" in notes[1]
        held.state = state


def test_a_failing_checkpoint_does_not_stop_the_read(
    parts: tuple[Model, Tokenizer], tmp_path: Path
) -> None:
    def stream() -> Iterator[Document | Skipped]:
        yield from documents(1)()
        shutil.rmtree(tmp_path / "read")  # as a full disk: nothing can be written there any more
        yield from documents(1)()

    report, _, _ = run(parts, stream, path=tmp_path / "read")
    assert report.documents == 2 and "no checkpoint could be written" in report.notes[0]


def test_nothing_readable_is_an_error_and_empty_documents_are_reported(
    parts: tuple[Model, Tokenizer],
) -> None:
    def blank() -> Iterator[Document | Skipped]:
        yield Document("blank.txt", "text", lambda: iter([Part(" \n \n")]))

    with pytest.raises(Unreadable, match="blank.txt.*empty"):
        run(parts, blank)
    with pytest.raises(Unreadable):
        run(parts, lambda: iter([]))

    def broken() -> Iterator[Document | Skipped]:
        def fail() -> Iterator[Part]:
            yield Part("Some text was readable. " * 10)
            raise Unreadable("broken.pdf is damaged")

        yield Document("broken.pdf", "pdf", fail)
        yield from blank()

    report, _, stored = run(parts, broken)
    assert [one.reason for one in report.skipped] == ["unreadable", "empty"] and stored


def test_pages_are_counted(parts: tuple[Model, Tokenizer]) -> None:
    pages = [Part(f"Text of page {n}. " * 5, page=n) for n in (1, 2, 4)]
    report, _, _ = run(parts, lambda: iter([Document("a.pdf", "pdf", lambda: iter(pages), 100)]))
    assert report.pages == 3 and report.bytes == 100


@pytest.mark.usefixtures("told_often")
def test_progress_follows_the_pages_where_bytes_say_nothing(
    parts: tuple[Model, Tokenizer],
) -> None:
    size = 40_000_000  # pictures, mostly
    text = [f"Page {n} says what it says, and no more than that. " * 20 for n in range(10)]
    pages = [Part(page, page=n, share=n / 10) for n, page in enumerate(text, 1)]
    told: list[Progress] = []
    with open_read_folder(None, *parts) as folder:
        stream = iter([Document("scan.pdf", "pdf", lambda: iter(pages), size)])
        read(lambda: stream, *parts, folder, OFTEN, told.append)
    done = [now.bytes_done for now in told]
    known = [bytes_done for bytes_done in done if bytes_done is not None]
    assert known == sorted(known) and known[-1] == size
    assert any(0.2 * size < bytes_done < 0.8 * size for bytes_done in known)


def test_keys_tell_inputs_apart(parts: tuple[Model, Tokenizer], tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    key = read_key([file], *parts, None)
    assert key == read_key([str(file)], *parts, None) != read_key([file], *parts, 1)
    file.write_text("other")
    assert key != read_key([file], *parts, None) and read_key(["-"], *parts, None) is None
    assert total_size([file]) == 5 and total_size([tmp_path]) is None
    assert remove_stale_reads(tmp_path, days=0) == 0


def test_progress_is_lines_only_when_asked(
    parts: tuple[Model, Tokenizer], capsys: pytest.CaptureFixture[str]
) -> None:
    size = sum(item.size or 0 for item in documents()() if isinstance(item, Document))
    for verbose in (False, True):
        with open_read_folder(None, *parts) as folder, ReadProgress(verbose) as bar:
            read(documents(), *parts, folder, ReadOptions(total_bytes=size), bar)
        error = capsys.readouterr().err
        assert ("100%" in error) == verbose and bool(error) == verbose


def test_chunks_fit_the_device(parts):
    description = parts[0].description
    assert chunk_tokens(parts[0]) == CPU
    assert fitting(description, torch.bfloat16, 140 << 30) == ACCELERATOR
    wide = replace(description, d_model=8192)
    sizes = [fitting(wide, torch.bfloat16, memory) for memory in (24 << 30, 8 << 30, 1 << 20)]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == LEAST
