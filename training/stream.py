"""Batches of tokens from rows laid end to end in lanes.

`Lanes` gives inputs int64 [batch, length], targets int64 [batch, length] (-1: no loss) and
weights float32 [batch, length]. Lane i of one batch goes on in lane i of the next, so that a
document cut at the end of a batch continues there and the trainer carries the state across.
`<|end|>` stands before every row. Nothing is shifted: targets[b, t] is wanted after inputs[b, t].

The rows are made by worker processes (`python -m training.stream`, numpy only) that each own
some lanes and write them to a pipe: its back-pressure is the queue.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from training.library import Library
from training.mix import Reading, Rows, open_tasks
from training.rows import PRETRAINING_LOSSES, Formats, Losses, Row

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]

_AHEAD = 6  # batches made before they are asked for


@dataclass(frozen=True)
class _Plan:
    """What a worker makes: some of the lanes."""

    corpus: str
    tokenizer: str
    mix: dict[str, float]
    lanes: list[int]  # numbers among the lanes of all ranks
    total: int  # lanes of all ranks
    length: int
    seed: int
    start_step: int
    losses: dict[str, float]
    turn: int  # the step from which on the rows have other shares
    later: dict[str, float]


class Lane:
    """Rows laid end to end, cut into blocks."""

    def __init__(self, rows: Iterator[Row] | Rows, end: int) -> None:
        self._rows, self._end = rows, end
        self._row = Row(np.zeros(0, np.uint16), np.zeros(0, np.int32), np.zeros(0, np.float16))
        self._place = 0

    def fill(
        self,
        tokens: npt.NDArray[np.uint16],
        targets: npt.NDArray[np.int32],
        weights: npt.NDArray[np.float16],
    ) -> None:
        """Write the next len(tokens) positions into the three arrays."""
        at = 0
        while at < len(tokens):
            if self._place == len(self._row.tokens):
                tokens[at], targets[at], weights[at] = self._end, -1, 0.0
                self._row, self._place = next(self._rows), 0
                at += 1
            count = min(len(tokens) - at, len(self._row.tokens) - self._place)
            here, there = slice(self._place, self._place + count), slice(at, at + count)
            tokens[there] = self._row.tokens[here]
            targets[there] = self._row.targets[here]
            weights[there] = self._row.weights[here]
            self._place += count
            at += count


def _rows(plan: _Plan) -> tuple[list[Rows], int]:
    """The rows of each lane of a plan, with a random generator of its own; and `<|end|>`."""
    formats = Formats.load(plan.tokenizer, Losses(**plan.losses))
    library = Library(Path(plan.corpus) / "train")
    tasks = open_tasks(Path(plan.corpus), (plan.mix, plan.later), formats)
    made = []
    for number in plan.lanes:
        rng = np.random.default_rng([plan.seed, plan.start_step, number])
        reading = Reading(library, formats, plan.seed + plan.start_step, number, plan.total)
        made.append(Rows(library, tasks, formats, plan.mix, reading, rng))
    return made, formats.end


def _blocks(plan: _Plan) -> Iterator[tuple[npt.NDArray, npt.NDArray, npt.NDArray]]:
    made, end = _rows(plan)
    lanes, shape = [Lane(rows, end) for rows in made], (len(plan.lanes), plan.length)
    for step in itertools.count(plan.start_step):
        if plan.later and step == max(plan.turn, plan.start_step):
            for rows in made:
                rows.turn(plan.later)
        block = np.empty(shape, np.uint16), np.empty(shape, np.int32), np.empty(shape, np.float16)
        for i, lane in enumerate(lanes):
            lane.fill(block[0][i], block[1][i], block[2][i])
        yield block


class Lanes:
    """Batches without end. Iterate over it; `close` (or leaving the `with`) ends the workers.

    The same arguments give the same batches, whatever the number of workers. `start_step`
    begins another deterministic stream, in which the rows that were given before that step
    do not come again in the same order: for going on after an interruption. From step `turn` on the
    shares of the rows are those of `later`, if it is given.
    workers = 0 makes everything in this process. Raises RuntimeError when a worker dies.
    """

    def __init__(
        self,
        corpus: Path | str,
        mix: Mapping[str, float],
        batch: int,
        length: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        tokenizer: Path | str = Path("model/weights"),
        start_step: int = 0,
        losses: Losses = PRETRAINING_LOSSES,
        turn: int = 0,
        later: Mapping[str, float] | None = None,
    ) -> None:
        self.batch, self.length = batch, length
        files = str(Path(corpus).resolve()), str(Path(tokenizer).resolve())
        total, own = batch * world, range(rank * batch, (rank + 1) * batch)
        count = min(max(workers, 1), batch)
        self._plans = [
            _Plan(
                *files,
                dict(mix),
                list(own[worker::count]),
                total,
                length,
                seed,
                start_step,
                asdict(losses),
                turn,
                dict(later or {}),
            )  # fmt: skip
            for worker in range(count)
        ]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ready: queue.Queue[Batch | Exception] = queue.Queue(_AHEAD)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        if workers:
            self._start()

    def _start(self) -> None:
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        for plan in self._plans:
            command = [sys.executable, "-m", "training.stream", json.dumps(asdict(plan))]
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    env=environment,
                    cwd=Path(__file__).parent.parent,  # `training` is imported from there
                )
            )
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        """Assemble the workers' blocks into batches, some ahead of the trainer."""
        while not self._closing.is_set():
            try:
                batch: Batch | Exception = self._assemble(
                    [_receive(p.stdout, len(plan.lanes), self.length)
                     for p, plan in zip(self._processes, self._plans, strict=True)]
                )  # fmt: skip
            except (EOFError, OSError, ValueError) as error:
                batch = RuntimeError(f"a data worker ended early: {error}")
            while not self._closing.is_set():
                try:
                    self._ready.put(batch, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if isinstance(batch, Exception):
                return

    def _assemble(self, blocks: list[tuple[npt.NDArray, npt.NDArray, npt.NDArray]]) -> Batch:
        shape, count = (self.batch, self.length), len(blocks)
        batch = np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, np.float32)
        for worker, block in enumerate(blocks):
            for whole, part in zip(batch, block, strict=True):
                whole[worker::count] = part
        return batch

    def __iter__(self) -> Iterator[Batch]:
        if not self._processes:
            sources = [_blocks(plan) for plan in self._plans]
            while True:
                yield self._assemble([next(source) for source in sources])
        while True:
            batch = self._ready.get()
            if isinstance(batch, Exception):
                self.close()
                raise batch
            yield batch

    def close(self) -> None:
        """End the workers."""
        self._closing.set()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        if self._thread is not None:
            self._thread.join()
        for process in self._processes:
            assert process.stdout is not None
            process.stdout.close()

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _receive(
    pipe: IO[bytes] | None, lanes: int, length: int
) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    assert pipe is not None
    arrays = []
    for kind in (np.uint16, np.int32, np.float16):
        size = lanes * length * np.dtype(kind).itemsize
        raw = pipe.read(size)
        if len(raw) < size:
            raise EOFError("its message is above")
        arrays.append(np.frombuffer(raw, kind).reshape(lanes, length))
    return arrays[0], arrays[1], arrays[2]


def _work() -> None:
    plan = _Plan(**json.loads(sys.argv[1]))
    try:
        for block in _blocks(plan):
            for array in block:
                sys.stdout.buffer.write(array.tobytes())
            sys.stdout.buffer.flush()
    except BrokenPipeError:  # the trainer is gone
        os._exit(0)


if __name__ == "__main__":
    _work()
