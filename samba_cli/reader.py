"""Reading: passages stream through the model chunk by chunk, and only the state stays.

The tokens of the whole input are one stream: a document's name, then its passages, each
ending in a mark. Chunks of a fixed size are cut from that stream without regard to passages,
so the state does not depend on where a read was interrupted, bit for bit.

Three things happen at once: a thread or a process parses and encodes ahead of the model, this
thread launches the model's forwards, and a thread behind it waits for their marks and writes the
index. Nothing here waits for the device but a checkpoint.
"""

from __future__ import annotations

import signal
import sqlite3
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import torch

from samba_cli.apart import Apart
from samba_cli.background import Ahead, Behind
from samba_cli.checkpoint import ReadFolder
from samba_cli.chunk_size import chunk_tokens
from samba_cli.dialect import dialect_of
from samba_cli.documents import Document, Skipped
from samba_cli.errors import SambaError, Unreadable
from samba_cli.index import Row
from samba_cli.model.cuda_graph import read_chunk
from samba_cli.model.network import Model
from samba_cli.model.tokenizer import Tokenizer
from samba_cli.parsing import Changed, End, Parsed, Piece, Position, Tally, parse
from samba_cli.results import Progress, ReadReport
from samba_cli.transfer import Copied, sent

MAX_REPORTED = 1000  # skipped inputs a report names; the index holds all
_AHEAD = 4  # batches of passages parsed and encoded in advance: about as many accelerator chunks
_TURN = 2e-4  # seconds that another thread may keep Python's lock
_BEHIND = 4  # chunks whose passages may wait for the index
_REPORT_EVERY = 0.25  # seconds between calls of `progress`


@dataclass(frozen=True)
class ReadOptions:
    """How to read. None means the default of the device."""

    chunk_tokens: int | None = None
    checkpoint_seconds: float = 20.0  # a read shorter than this writes none
    checkpoint_tokens: int | None = None  # also after so many tokens
    total_bytes: int | None = None  # of the whole input, for the progress bar
    prompts: Path | None = None  # folder of the user's templates


Documents = Callable[[], Iterable[Document | Skipped]]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while reading. `resumable`: the same command goes on after `tokens`."""

    def __init__(self, tokens: int, resumable: bool) -> None:
        super().__init__(f"interrupted after {tokens:,} tokens")
        self.tokens = tokens
        self.resumable = resumable


def read(
    source: Documents | Apart,
    model: Model,
    tokenizer: Tokenizer,
    folder: ReadFolder,
    options: ReadOptions = ReadOptions(),
    progress: Callable[[Progress], None] | None = None,
) -> ReadReport:
    """Read all documents into `folder.state`, with their passages in `folder.index`.

    `source` is opened once, and again only when the input turns out to have changed since the
    checkpoint that `folder` resumed from. Raises Unreadable when nothing could be read,
    Interrupted on Ctrl-C, SambaError when the index cannot be written.
    """
    reading = _Reading(model, tokenizer, folder, options, progress)
    try:
        with _Interrupts() as interrupts, _quick_turns():
            try:
                reading.run(source, interrupts)
            except Changed:
                folder.note(
                    "the input changed since the interrupted read; reading it from the start"
                )
                folder.start_over()
                reading = _Reading(model, tokenizer, folder, options, progress)
                reading.run(source, interrupts)
    except sqlite3.Error as error:
        raise SambaError(
            f"The passages cannot be written to {folder.path} ({error}); free some space there."
        ) from error
    return reading.report()


class _Reading:
    def __init__(
        self, model: Model, tokenizer: Tokenizer, folder: ReadFolder, options: ReadOptions,
        progress: Callable[[Progress], None] | None,
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.folder = model, tokenizer, folder
        self.options, self.progress = options, progress
        self.chunk = options.chunk_tokens or chunk_tokens(model)
        self.start = folder.position
        self.passages = self.start.passages
        self.documents = self.start.documents
        self.digest = self.start.digest
        dialect = dialect_of(tokenizer, options.prompts)
        # Encoded, not read yet.
        self.buffer = array("i", [] if folder.state.position else dialect.start)
        self.waiting: deque[tuple[Piece, int]] = deque()  # pieces and their end in `buffer`
        self.recorded = self.documents  # documents in the index; only `_record` counts them
        self.to_skip = self.start.partial  # tokens of the next piece that were read already
        self.tally = Tally()
        self.skipped: list[Skipped] = []
        self.skipped_count = 0
        self.began = self.reported = time.monotonic()
        self.saved = self.began
        self.tokens_before = self.tokens_saved = self.tokens
        self.waited_text = self.waited_index = 0.0

    @property
    def tokens(self) -> int:
        """Read by the model since the base, interrupted runs included."""
        return self.folder.state.position - self.folder.base.tokens

    def run(self, source: Documents | Apart, interrupts: _Interrupts) -> None:
        pieces = self._parse(source)
        tally: Tally | None = None
        with Ahead(pieces, _AHEAD) as ahead, Behind(_BEHIND) as behind:
            while tally is None:
                if interrupts.seen:
                    self._interrupt(behind)
                for piece in self._next(ahead):
                    if isinstance(piece, End):
                        tally = piece.tally
                    elif isinstance(piece, Skipped):
                        self._skip(piece, behind)
                    else:
                        self._take(piece)
                        while len(self.buffer) >= self.chunk and not interrupts.seen:
                            self._forward(self.chunk, behind)
                            self._after_chunk(behind)
            if interrupts.seen:
                self._interrupt(behind)
            if self.buffer:
                self._forward(len(self.buffer), behind)
            behind.wait()
            self.tally = tally
            self.folder.index.commit()
            if self.passages == 0:
                raise Unreadable(self._nothing())
            if self.folder.checkpoints:  # a long read: an interrupted answer need not repeat it
                self.folder.checkpoint(self._position(finished=True))
        self._tell(finished=True)

    def _parse(self, source: Documents | Apart) -> Iterator[Parsed]:
        if isinstance(source, Apart):
            return source.parse(self.start, self.options.prompts)
        return parse(source(), self.tokenizer, self.start, self.options.prompts)

    def _next(self, ahead: Ahead[Parsed]) -> Parsed:
        began = time.monotonic()
        pieces = ahead.next()
        self.waited_text += time.monotonic() - began
        return pieces or []

    def _skip(self, skipped: Skipped, behind: Behind) -> None:
        behind.put(partial(self.folder.index.add_skipped, skipped))
        self.skipped_count += 1
        if len(self.skipped) < MAX_REPORTED:
            self.skipped.append(skipped)

    def _take(self, piece: Piece) -> None:
        self.buffer += piece.tokens[self.to_skip :]
        self.to_skip = 0
        self.waiting.append((piece, len(self.buffer)))

    @torch.inference_mode()
    def _forward(self, count: int, behind: Behind) -> None:
        """Read the first `count` tokens of the buffer; marks only where a passage ends."""
        done: list[Piece] = []
        at: list[int] = []
        while self.waiting and self.waiting[0][1] <= count:
            piece, end = self.waiting.popleft()
            done.append(piece)
            at.append(end - 1)
        device = self.model.device
        tokens = torch.frombuffer(self.buffer[:count], dtype=torch.int32)
        tokens = sent(tokens.long()[None], device)
        places = [place for piece, place in zip(done, at, strict=True) if piece.marked]
        where = sent(torch.tensor(places, dtype=torch.long), device)
        if count == self.chunk:
            logits = read_chunk(self.model, tokens, self.folder.state, where)
        else:  # the ragged end of a text does not come again: no graph is worth making for it
            logits = self.model(tokens, self.folder.state, where)
        if places:
            control = self.tokenizer.control
            marks = logits[0, :, control["<|yes|>"]] - logits[0, :, control["<|no|>"]]
        else:
            marks = torch.empty(0)
        del self.buffer[:count]
        self.waiting = deque((piece, end - count) for piece, end in self.waiting)
        if done:
            last = done[-1]
            self.passages += len(done)
            self.documents, self.digest, self.tally = last.ordinal, last.digest, last.tally
            began = time.monotonic()
            behind.put(partial(self._record, Copied(marks), done))
            self.waited_index += time.monotonic() - began

    def _record(self, marks: Copied, pieces: list[Piece]) -> None:
        """Write the passages of a chunk, with their marks, to the index."""
        index, base = self.folder.index, self.folder.base.documents
        values = iter(marks.values())
        rows: list[Row] = []
        for piece in pieces:
            if piece.ordinal > self.recorded:
                index.add_document(piece.document)
                self.recorded = piece.ordinal
            salience = next(values) if piece.marked else None
            rows.append((base + piece.ordinal, *piece.row, piece.own, salience))
        index.add_passages(rows)

    def _after_chunk(self, behind: Behind) -> None:
        now = time.monotonic()
        every = self.options.checkpoint_tokens
        if now - self.saved >= self.options.checkpoint_seconds or (
            every is not None and self.tokens - self.tokens_saved >= every
        ):
            behind.wait()
            self.folder.checkpoint(self._position())
            self.saved, self.tokens_saved = time.monotonic(), self.tokens
        if now - self.reported >= _REPORT_EVERY:
            self.reported = now
            self._tell()

    def _position(self, finished: bool = False) -> Position:
        """Where the state stands."""
        partial, following = self.to_skip, self.start.next_digest if self.to_skip else ""
        if self.waiting:
            piece, end = self.waiting[0]
            partial = len(piece.tokens) - end
            following = piece.digest if partial else ""
        return Position(self.passages, self.documents, partial, self.digest, following, finished)

    def _interrupt(self, behind: Behind) -> None:
        behind.wait()
        saved = self.tokens > 0 and self.folder.checkpoint(self._position())
        raise Interrupted(self.tokens, saved)

    def _tell(self, finished: bool = False) -> None:
        if self.progress is None:
            return
        tally = self.tally
        self.progress(
            Progress(
                tokens=self.tokens,
                tokens_per_second=self._speed(),
                documents=tally.documents,
                current=self.waiting[0][0].document.name if self.waiting else "",
                bytes_done=tally.bytes if tally.place_known or finished else None,
                bytes_total=self.options.total_bytes,
                finished=finished,
            )
        )

    def _speed(self) -> float:
        return (self.tokens - self.tokens_before) / max(time.monotonic() - self.began, 1e-9)

    def _nothing(self) -> str:
        if self.skipped_count == 1:
            return f"{self.skipped[0].name}: nothing to read ({self.skipped[0].reason})."
        if self.skipped:
            names = ", ".join(f"{one.name} ({one.reason})" for one in self.skipped[:3])
            more = f" and {self.skipped_count - 3} more" if self.skipped_count > 3 else ""
            return f"Nothing here can be read: {names}{more}."
        return "There is nothing to read: no document was found."

    def report(self) -> ReadReport:
        return ReadReport(
            documents=self.documents,
            passages=self.passages,
            tokens=self.tokens,
            characters=self.tally.characters,
            pages=self.tally.pages,
            bytes=self.tally.bytes,
            skipped=tuple(self.skipped),
            skipped_count=self.skipped_count,
            seconds=time.monotonic() - self.began,
            tokens_per_second=self._speed(),
            waited_text=self.waited_text,
            waited_index=self.waited_index,
            resumed_at=self.folder.resumed_at,
            notes=tuple(self.folder.notes),
        )


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Give this thread Python's lock sooner: it lets go of it at every launch of a kernel, and
    the threads beside it would keep it for 5 ms each time.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class _Interrupts:
    """Turns the first Ctrl-C into a flag: in the middle of a forward the state is no state.

    A second Ctrl-C interrupts at once. Outside the main thread signals stay as they are.
    """

    def __init__(self) -> None:
        self.seen = False
        self._before: object = None

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)  # type: ignore[arg-type]
