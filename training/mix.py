"""Which rows come next: kinds of rows, their shares of the tokens, and the rows themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from training import pretext, tasks_asking
from training.library import Library
from training.pretext_summaries import read
from training.rows import Formats, Row
from training.tasks import Tasks

# Of a document in one row; the rest comes in other rows. Lanes that stay in one book for fifty
# steps make the steps alike, so most rows are shorter than what the state must learn to carry.
READ_TOKENS = (6_000, 12_000, 6_000, 100_000)
_ANOTHER = 0.3  # how often another document is read after one, as the program reads folders

_TASK_SHARES = {
    "task_marks": 0.32, "task_answer": 0.40, "task_asking": 0.05, "task_summary": 0.12,
    "task_session": 0.08, "task_read": 0.03,
}  # fmt: skip


def _scaled(shares: Mapping[str, float], total: float) -> dict[str, float]:
    whole = sum(shares.values())
    return {kind: total * share / whole for kind, share in shares.items()}


def mixed(read: float, pretext_tasks: float, tasks: float) -> dict[str, float]:
    """Shares of the tokens by kind of row, from those of plain reading, made and human tasks."""
    return {
        "read": read, **_scaled(pretext.SHARES, pretext_tasks), **_scaled(_TASK_SHARES, tasks),
    }  # fmt: skip


@cache  # the lanes of a worker share it
def _units(library: Library, most: int) -> list[tuple[int, int, int]]:
    """What one row reads of a document: (document, first passage, one past the last)."""
    units: list[tuple[int, int, int]] = []
    for document in range(len(library.documents)):
        first, last = library.span(document)
        pieces = -(-library.token_count(first, last) // most)
        bounds = np.linspace(first, last, pieces + 1).astype(int).tolist()
        units += [(document, a, b) for a, b in zip(bounds, bounds[1:], strict=False) if b > a]
    return units


class Reading:
    """Documents to read: every lane of all goes through its own share of them, shuffled."""

    def __init__(
        self, library: Library, formats: Formats, seed: int, lane: int, lanes: int
    ) -> None:
        self._library, self._formats = library, formats
        self._seed, self._lane, self._lanes = seed, lane, lanes
        self._units: list[tuple[int, int, int]] = []
        self._epoch, self._order, self._place = -1, np.zeros(0, np.int64), 0

    def row(self, rng: np.random.Generator) -> Row:
        """The next document, or some documents, as the program reads them."""
        parts = [self._next(rng)]
        size = len(parts[0].tokens)
        while rng.random() < _ANOTHER and size < READ_TOKENS[-1] // 4:
            parts.append(self._next(rng))
            size += len(parts[-1].tokens)
        return Row(
            np.concatenate([p.tokens for p in parts]),
            np.concatenate([p.targets for p in parts]),
            np.concatenate([p.weights for p in parts]),
        )

    def _next(self, rng: np.random.Generator) -> Row:
        while self._place >= len(self._order):
            self._epoch += 1
            most = READ_TOKENS[(self._lane + self._epoch) % len(READ_TOKENS)]
            self._units = _units(self._library, most)
            order = np.random.default_rng([self._seed, self._epoch]).permutation(len(self._units))
            # with fewer documents than lanes, the lanes take turns
            start = (self._lane + self._epoch) % self._lanes
            self._order, self._place = order[start :: self._lanes], 0
        document, first, last = self._units[self._order[self._place]]
        self._place += 1
        return read(self._library, self._formats, rng, document, first, last)


class Rows:
    """The rows of one lane without end, kinds in the shares of `mix` counted in tokens."""

    def __init__(
        self,
        library: Library,
        tasks: Tasks | None,
        formats: Formats,
        mix: Mapping[str, float],
        reading: Reading,
        rng: np.random.Generator,
    ) -> None:
        """Raises what `turn` raises."""
        self._library, self._formats, self._reading, self._rng = library, formats, reading, rng
        self._tasks = {} if tasks is None else {
            "task_marks": tasks.marks, "task_answer": tasks.answers, "task_summary": tasks.summary,
            "task_session": tasks.session, "task_read": tasks.read,
            "task_asking": partial(tasks_asking.row, tasks),
        }  # fmt: skip
        self.turn(mix)

    def turn(self, mix: Mapping[str, float]) -> None:
        """From now on the shares are these.

        Raises ValueError for a kind that is not known, or tasks that were not built.
        """
        self._kinds = [kind for kind, share in mix.items() if share > 0]
        for kind in self._kinds:
            if kind != "read" and kind not in pretext.GENERATORS and kind not in self._tasks:
                raise ValueError(f"no rows of the kind {kind}: is it known, are the tasks built?")
        self._shares = np.array([mix[kind] for kind in self._kinds])
        # the lanes start at different places of the round of kinds
        ahead = self._rng.uniform(0, 20_000 / self._shares.max(), len(self._kinds))
        self._given = self._shares * ahead

    def __next__(self) -> Row:
        """The next row: of the kind that is furthest behind its share."""
        behind = self._given / self._shares
        for index in np.argsort(behind, kind="stable"):
            for _ in range(8):
                row = self._make(self._kinds[index])
                if row is not None:
                    self._given[index] += len(row.tokens)
                    return Row(row.tokens, row.targets, row.weights, self._kinds[index])
        raise ValueError("the corpus is too small for rows of any kind")

    def _make(self, kind: str) -> Row | None:
        if kind == "read":
            return self._reading.row(self._rng)
        if kind in self._tasks:
            return self._tasks[kind](self._rng)
        return pretext.GENERATORS[kind](self._library, self._formats, self._rng)


def open_tasks(
    corpus: Path, mixes: Sequence[Mapping[str, float]], formats: Formats
) -> Tasks | None:
    """The human-made tasks, if a mix has any. Raises FileNotFoundError where they are missing."""
    kinds = [kind for mix in mixes for kind, share in mix.items() if share > 0]
    wanted = any(kind.startswith("task_") for kind in kinds)
    return Tasks(corpus / "tasks" / "train", formats) if wanted else None
