"""The weights by which summaries choose sentences, from summaries that people wrote.

    python -m training.learn_extraction --records chosen.jsonl.xz --features DIR \
        --out samba_cli/extraction.json

The records are those of training.sampling; the features of training.features bring the model's
marks where there are any. Ridge regression of what a unit holds of the reference, for its length;
every set weighs the same, whatever its size.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samba_cli.documents import Document, Part
from samba_cli.extraction import LEAST_WORDS, Unit, Values, features, units
from samba_cli.passages import cut
from samba_cli.text_match import stem, words
from training.observe import text_key
from training.sampling import set_of
from training.shards import Record, read_shard

_PAIR = 2.0  # what a pair of words in the reference counts against a word
_MOST = 300  # units of a document that are learnt from

Seen = dict[str, dict[str, Any]]


def stems(text: str) -> list[str]:
    return [stem(word) for word in words(text)]


def standard(values: Sequence[float | None]) -> list[float]:
    """In standard deviations from the mean; 0 where there is no value."""
    known = np.array([v for v in values if v is not None], np.float64)
    if not len(known):
        return [0.0] * len(values)
    mean, scale = known.mean(), known.std() + 1e-6
    return [0.0 if v is None else float((v - mean) / scale) for v in values]


def units_of(text: str, seen: dict[str, Any] | None, marks: Sequence[float] | None) -> list[Unit]:
    """The units of a document as a summary would find them."""
    passages = list(cut(Document("", "text", lambda: iter([Part(text)]))))
    salience = standard([one[3] for one in seen["passages"]]) if seen else [0.0] * len(passages)
    asked = standard(marks) if marks else [0.0] * len(passages)
    return [
        Unit.of(0, number, one.text[start:end], salience[number], asked[number])
        for number, one in enumerate(passages)
        for start, end in units(one.text)
    ]


def held(unit: Unit, references: Sequence[list[str]]) -> float:
    """Words and pairs of words of the unit that the references have, for its length."""
    own, pairs = Counter(unit.stems), Counter(zip(unit.stems, unit.stems[1:], strict=False))
    total = 0.0
    for reference in references:
        known = Counter(reference)
        known_pairs = Counter(zip(reference, reference[1:], strict=False))
        total += (own & known).total() + _PAIR * (pairs & known_pairs).total()
    return total / len(references) / (len(unit.stems) + 2)


def examples(records: Path, seen: Seen) -> Iterator[tuple[str, Values, Values]]:  # set, [n, F], [n]
    """What there is to learn from each record: features of the units and what they hold."""
    documents = [d for d in read_shard(records) if d["records"][0]["task"] == "summarize"]
    lengths = _lengths(documents)
    for document in documents:
        known = seen.get(text_key(document["text"]))
        for record in document["records"]:
            name = set_of(record)
            question = record.get("question") or ""
            marks = _marks(known, record) if question else None
            found = units_of(document["text"], known, marks)
            long = [i for i, one in enumerate(found) if len(one.text.split()) >= LEAST_WORDS]
            if len(long) < 2:
                continue
            long = long[:: max(1, len(long) // _MOST)]
            references = [stems(r) for r in record.get("answers") or [record["answer"]]]
            wanted = np.array([held(found[i], references) for i in long])
            yield name, features(found, lengths[name], question)[long], wanted


def _lengths(documents: Sequence[dict[str, Any]]) -> dict[str, int]:
    """The mean words of each set's references."""
    counts: dict[str, list[int]] = {}
    for document in documents:
        for record in document["records"]:
            counts.setdefault(set_of(record), []).append(len(record["answer"].split()))
    return {name: round(sum(some) / len(some)) for name, some in counts.items()}


def _marks(seen: dict[str, Any] | None, record: Record) -> Sequence[float] | None:
    for question in (seen or {}).get("questions", ()):
        if question["id"] == record["id"]:
            return question.get("marks")
    return None


def ridge(rows: Sequence[tuple[str, Values, Values]], strength: float) -> dict[str, list[float]]:
    """Weights of standardised features; every set, and every record of one, weighs the same."""
    counts = Counter(name for name, _, _ in rows)
    sample = np.concatenate([x[:: max(1, len(x) // 30)] for _, x, _ in rows])
    mean, scale = sample.mean(0), sample.std(0)
    constant = scale < 1e-6
    mean, scale = np.where(constant, 0.0, mean), np.where(constant, 1.0, scale)
    size = rows[0][1].shape[1]
    left, right = np.zeros((size, size)), np.zeros(size)
    for name, x, y in rows:
        z, share = (x - mean) / scale, 1 / counts[name] / len(x) / len(counts)
        left += share * z.T @ z
        right += share * z.T @ y
    weight = np.linalg.solve(left + strength * np.eye(size), right)
    return {
        key: [float(f"{v:.5g}") for v in values]
        for key, values in (("mean", mean), ("scale", scale), ("weight", weight))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--features", type=Path, help="folder of training.features")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--strength", type=float, default=0.005, help="of the ridge")
    args = parser.parse_args()
    paths = sorted(args.features.glob("tasks-*.jsonl*")) if args.features else []
    seen = {one["text_key"]: one for path in paths for one in read_shard(path)}
    rows = list(examples(args.records, seen))
    learnt = ridge(rows, args.strength)
    args.out.write_text(json.dumps(learnt) + "\n", encoding="utf-8")
    print(json.dumps({"records": len(rows), "features": len(learnt["weight"])}))


if __name__ == "__main__":
    main()
