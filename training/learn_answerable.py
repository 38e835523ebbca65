"""The weights that decide whether a text answers a question, from questions with and without.

    python -m training.learn_answerable --records chosen.jsonl.xz haystacks.jsonl.xz \
        --features DIR --eval EVAL --quality QUALITY --out samba_cli/answerable.json

Logistic regression of `samba_cli.answerable.features` on what training.features saw of the task
records; every set weighs the same, and those with an answer together as much as those without. The
constant is then set so that the wanted share of the answerable ones is answered. Printed: what that
gives on the task records and, with --eval, on the public evaluation; with --fit-eval its sets are
learnt from too, because people ask otherwise than the records with a passage cut out do.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from samba_cli.answerable import THRESHOLD, features, reordered
from samba_cli.documents import Document, Part
from samba_cli.evidence import BM25_WEIGHT, CANDIDATES_ACCELERATOR, Scored, candidates, fuse
from samba_cli.index import PassageIndex
from samba_cli.passages import cut
from samba_cli.text_match import content_words
from training.features import evaluated, matched
from training.haystacks import SET as HAYSTACK
from training.shards import read_shard

Array = npt.NDArray[np.float64]


# Long texts are what the program is for, and no other set has them.
WEIGHTS = {HAYSTACK: 5}


class Example(NamedTuple):
    set: str
    answerable: bool
    values: list[float]


def indexed(text: str, seen: dict[str, Any]) -> PassageIndex:
    """The index of a document as reading it made it."""
    document = Document("document.txt", "text", lambda: iter([Part(text, line=1)]))
    index = PassageIndex.create("")
    index.add_document(document)
    for passage, (_, _, tokens, salience) in zip(cut(document), seen["passages"], strict=True):
        index.add_passage(1, passage, tokens, salience)
    index.commit()
    return index


def scored(question: str, index: PassageIndex, seen: dict[str, Any]) -> list[Scored]:
    """The candidates for a question, best first, as the program orders them by mark and BM25."""
    ids = seen["ids"] or range(1, len(seen["marks"]) + 1)
    marks = dict(zip(ids, seen["marks"], strict=True))
    found = {
        key: bm25 for key, bm25 in candidates(question, index, CANDIDATES_ACCELERATOR).items()
        if key in marks
    }  # fmt: skip
    asked = frozenset(content_words(question))
    scores = fuse([marks[key] for key in found], list(found.values()), BM25_WEIGHT)
    passages = index.get(list(found))
    some = [
        Scored(one, score, marks[one.id], found[one.id], asked)
        for one, score in zip(passages, scores, strict=True)
    ]
    return sorted(some, key=lambda one: (-one.score, one.stored.id))


def examples(documents: Iterable[dict[str, Any]], paths: list[Path]) -> Iterator[Example]:
    """What was seen of the questions of these documents."""
    for text, seen, records in matched(documents, paths):
        asked = [q for q in seen["questions"] if q.get("nothing") and q["id"] in records]
        if not asked:
            continue
        with indexed(text, seen) as index:
            for one in asked:
                record = records[one["id"]]
                nothing = dict(map(tuple, one["nothing"]))
                tokens = max(one["question_tokens"], 1)
                about = {key: value / tokens for key, value in one["about"]}
                order = reordered(scored(record["question"], index, one), nothing)
                values = features(order, nothing, about, len(seen["passages"]))
                yield Example(seen["set"], bool(record.get("answerable", True)), values)


def logistic(rows: list[Example], strength: float) -> tuple[Array, float]:
    """Weights and constant: Newton's method, every set of each kind weighing the same."""
    x = np.array([one.values for one in rows])
    y = np.array([one.answerable for one in rows], np.float64)
    kinds = Counter((one.set, one.answerable) for one in rows)
    sets = Counter(answerable for _, answerable in kinds)
    share = np.array([
        WEIGHTS.get(one.set, 1) * len(rows) / kinds[one.set, one.answerable] / sets[one.answerable]
        for one in rows
    ])  # fmt: skip
    mean, scale = x.mean(0), x.std(0) + 1e-9
    z = np.concatenate([(x - mean) / scale, np.ones((len(x), 1))], 1)
    weights = np.zeros(z.shape[1])
    penalty = strength * len(rows) * np.diag([*np.ones(len(mean)), 0.0])
    for _ in range(30):
        p = 1 / (1 + np.exp(-z @ weights))
        gradient = z.T @ (share * (p - y)) + penalty @ weights
        curvature = (z * (share * p * (1 - p))[:, None]).T @ z + penalty
        weights -= np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient)
    return weights[:-1] / scale, float(weights[-1] - (weights[:-1] * mean / scale).sum())


def at_share(rows: list[Example], weights: Array, answered: float) -> float:
    """The constant with which this share of the answerable is answered, as a mean over the sets."""
    totals: dict[str, list[float]] = defaultdict(list)
    for one in rows:
        if one.answerable:
            totals[one.set].append(float(weights @ np.array(one.values)))
    values = np.concatenate([np.array(some) for some in totals.values()])
    share = np.concatenate([np.full(len(some), 1 / len(some)) for some in totals.values()])
    order = np.argsort(values)
    below = np.cumsum(share[order]) / share.sum()
    cut_at = values[order][min(int(np.searchsorted(below, 1 - answered)), len(values) - 1)]
    return -float(cut_at) + float(np.log(THRESHOLD / (1 - THRESHOLD)))


def report(rows: list[Example], weights: Array, constant: float) -> dict[str, Any]:
    """The share of questions that are answered, by set: [with an answer, without]."""
    found: dict[str, dict[bool, list[bool]]] = defaultdict(lambda: {True: [], False: []})
    for one in rows:
        answered = float(weights @ np.array(one.values)) + constant >= 0
        for name in (one.set, "all"):
            found[name][one.answerable].append(answered)
    return {
        name: [round(sum(kind[k]) / len(kind[k]), 3) if kind[k] else None for k in (True, False)]
        for name, kind in sorted(found.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--records", type=Path, nargs="+", required=True, help="of training.sampling, haystacks"
    )
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--eval", type=Path)
    parser.add_argument("--quality", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--strength", type=float, default=0.003, help="of the penalty")
    parser.add_argument("--fit-eval", action="store_true", help="learn from --eval too")
    parser.add_argument("--answered", type=float, default=0.87, help="of the answerable, wanted")
    args = parser.parse_args()
    documents = [document for path in args.records for document in read_shard(path)]
    rows = list(examples(documents, sorted(args.features.glob("tasks-*.jsonl*"))))
    checked: list[Example] = []
    if args.eval:
        documents = evaluated(args.eval, args.quality)
        checked = list(examples(documents, sorted(args.features.glob("eval-*.jsonl*"))))
    fitted = rows + [one._replace(set=f"eval {one.set}") for one in checked if args.fit_eval]
    weights, _ = logistic(fitted, args.strength)
    constant = at_share(fitted, weights, args.answered)
    print(json.dumps({"questions": len(rows), "tasks": report(rows, weights, constant)}))
    if checked:
        print(json.dumps({"questions": len(checked), "eval": report(checked, weights, constant)}))
    stored = {"weights": [float(f"{w:.4g}") for w in weights], "constant": round(constant, 4)}
    args.out.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
