"""How answers are best chosen among their candidates: token F1 for a grid of the weights.

    python -m training.learn_choice --records chosen.jsonl.xz --features DIR
    python -m training.learn_choice --eval EVAL --quality QUALITY --features DIR

The candidates are those that training.features --answers saw, the right answers those of the
records. Nothing is stored: the weights are two numbers in samba_cli/choosing.py. Printed, for each
number of passages, in percent, by set and as a mean in which every set weighs the same: what the
greedy answer, the likeliest candidate and the best of them (the oracle) reach; the grid; and, as
"cross", each set with the weights that are best for the mean of all others.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from samba_cli.choosing import Weights, score
from training.features import evaluated, matched
from training.measure_answers import f1
from training.shards import read_shard

EXPLAINED = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)
LENGTH = (0.0, 0.25, 0.5, 0.75, 1.0)
GRID = [Weights(explained, length) for explained, length in product(EXPLAINED, LENGTH)]


class Option(NamedTuple):
    """A candidate, and how right it is."""

    said: float
    tokens: int
    explained: float
    greedy: bool
    f1: float


class Example(NamedTuple):
    """A question and its candidates, likeliest first."""

    set: str
    asked: int  # tokens of the question
    options: list[Option]


Figures = dict[str, float]  # by set


def examples(
    documents: Iterable[dict[str, Any]], paths: Iterable[Path]
) -> Iterator[tuple[int, Example]]:
    """The questions of these documents that have an answer, with the number of passages shown."""
    for _, seen, records in matched(documents, paths):
        for one in seen["questions"]:
            record = records.get(one["id"])
            if record is None or not record.get("answerable", True):
                continue
            wanted = [record["answer"], *(record.get("answers") or [])]
            for count, candidates in one.get("candidates", {}).items():
                options = [
                    Option(*rest, f1=max(f1(text, gold) for gold in wanted))
                    for text, *rest in candidates
                ]
                yield int(count), Example(seen["set"], one["question_tokens"], options)


def chosen(example: Example, weights: Weights) -> float:
    """F1 of the candidate that these weights choose."""

    def value(one: Option) -> float:
        return score(one.said, one.tokens, one.explained, example.asked, weights)

    return max(example.options, key=value).f1 if example.options else 0.0


def greedy(example: Example) -> float:
    return next((one.f1 for one in example.options if one.greedy), 0.0)


def oracle(example: Example) -> float:
    return max((one.f1 for one in example.options), default=0.0)


def by_set(rows: Iterable[Example], figure: Callable[[Example], float]) -> Figures:
    """The mean of a figure in each set."""
    values: dict[str, list[float]] = defaultdict(list)
    for one in rows:
        values[one.set].append(figure(one))
    return {name: sum(some) / len(some) for name, some in sorted(values.items())}


def mean(figures: Figures, without: str | None = None) -> float:
    """Over the sets, each weighing the same; 0 without any."""
    kept = [value for name, value in figures.items() if name != without]
    return sum(kept) / len(kept) if kept else 0.0


def crossed(grid: list[tuple[Weights, Figures]]) -> dict[str, tuple[Weights, float]]:
    """For each set the weights that are best for the others, and its figure with them."""
    result = {}
    for name in grid[0][1]:
        weights, figures = max(grid, key=lambda one: mean(one[1], without=name))
        result[name] = (weights, figures[name])
    return result


def report(rows: list[Example]) -> Iterator[dict[str, Any]]:
    """The lines to print for questions that were answered from as many passages."""
    simple = {"greedy": greedy, "likeliest": lambda one: chosen(one, Weights(0.0)),
              "oracle": oracle}  # fmt: skip
    for name, figure in simple.items():
        yield {"chosen": name} | _shown(by_set(rows, figure))
    grid = [(one, by_set(rows, lambda row, one=one: chosen(row, one))) for one in GRID]
    for weights, figures in grid:
        yield {"explained": weights.explained, "length": weights.length} | _shown(figures)
    cross = crossed(grid)
    used = {name: [weights.explained, weights.length] for name, (weights, _) in cross.items()}
    shown = _shown({name: value for name, (_, value) in cross.items()})
    yield {"chosen": "cross"} | shown | {"weights": used}


def _shown(figures: Figures) -> dict[str, Any]:
    sets = {name: round(100 * value, 1) for name, value in figures.items()}
    return {"mean": round(100 * mean(figures), 2), "sets": sets}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, help="of training.sampling")
    parser.add_argument("--eval", type=Path)
    parser.add_argument("--quality", type=Path)
    parser.add_argument("--features", type=Path, required=True)
    args = parser.parse_args()
    if args.records:
        documents, pattern = list(read_shard(args.records)), "tasks-*.jsonl*"
    elif args.eval and args.quality:
        documents, pattern = evaluated(args.eval, args.quality), "eval-*.jsonl*"
    else:
        parser.error("--records, or --eval with --quality")
    by_count: dict[int, list[Example]] = defaultdict(list)
    for count, example in examples(documents, sorted(args.features.glob(pattern))):
        by_count[count].append(example)
    for count, rows in sorted(by_count.items()):
        print(json.dumps({"passages": count, "questions": len(rows)}))
        for line in report(rows):
            print(json.dumps(line))


if __name__ == "__main__":
    main()
