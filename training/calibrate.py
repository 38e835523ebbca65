"""How well the marks find, alone and with BM25, and how well they tell what is not there.

    python -m training.calibrate --data EVAL --quality QUALITY --limit 60

For every sampled question its document is cut and indexed as the program does it, the program's
candidates are scored, and the table gives recall@1, @3 and @5 of the gold spans for each weight of
BM25 (`bm25`: BM25 alone). Then: the share of answerable and unanswerable questions above each
threshold of the best mark. Nothing is generated, so it is quick.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from samba_cli.documents import Document, Part
from samba_cli.evidence import EvidenceOptions, Scored, find_evidence, fuse
from samba_cli.index import PassageIndex
from samba_cli.model import Tokenizer, default_model_path, load_for_reading
from samba_cli.passages import cut
from training.evaluate import Record, by_document, samples

WEIGHTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
THRESHOLDS = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
EVIDENCE_SETS = (
    "fairytaleqa",
    "cuad",
    "covid_qa",
    "proposals_sections",
    "medquad",
    "clapnq",
    "noanswer",
)


def indexed(text: str, path: Path, tokenizer: Tokenizer) -> PassageIndex:
    """The document's passages, as `samba read` would index them, without reading them."""
    document = Document("document.txt", "text", lambda: iter([Part(text, line=1)]))
    index = PassageIndex.create(path)
    index.add_document(document)
    for passage in cut(document):
        index.add_passage(1, passage, len(tokenizer.encode(passage.text)), None)
    index.commit()
    return index


def hits(spans: Sequence[Sequence[int]], chosen: Sequence[Scored]) -> float:
    """Share of the gold spans of which one of the passages covers at least half."""
    found = 0
    for start, end in spans:
        for one in chosen:
            passage = one.stored.passage
            if 2 * (min(end, passage.char_end) - max(start, passage.char_start)) >= end - start:
                found += 1
                break
    return found / len(spans)


def recalls(spans: Sequence[Sequence[int]], scored: Sequence[Scored]) -> dict[str, list[float]]:
    """Recall@1, @3, @5 by weight of BM25."""
    marks, bm25 = [s.mark for s in scored], [s.bm25 for s in scored]
    orders = {str(w): fuse(marks, bm25, w) for w in WEIGHTS} | {"bm25": bm25}
    result = {}
    for name, scores in orders.items():
        ranked = [s for _, s in sorted(zip(scores, scored, strict=True), key=lambda x: -x[0])]
        result[name] = [hits(spans, ranked[:k]) for k in (1, 3, 5)]
    return result


def mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [round(100 * sum(column) / len(rows), 1) for column in zip(*rows, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quality", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=default_model_path())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sets", nargs="*", default=list(EVIDENCE_SETS))
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--candidates", type=int)
    args = parser.parse_args()
    model, tokenizer = load_for_reading(args.model, args.device), Tokenizer.load(args.model)
    options = EvidenceOptions(args.candidates)
    best_marks: dict[bool, list[float]] = {True: [], False: []}
    totals: dict[str, list[list[float]]] = {}
    for name, records in samples(args.data, args.quality, args.sets, args.limit).items():
        table: dict[str, list[list[float]]] = {}
        for text, group in by_document(records):
            with tempfile.TemporaryDirectory() as folder:
                index = indexed(text, Path(folder) / "index.sqlite", tokenizer)
                for record in group:
                    scored = find_evidence(record["question"], index, model, tokenizer, options)
                    best_marks[_answerable(record)].append(max(s.mark for s in scored))
                    if record.get("evidence"):
                        for weight, row in recalls(record["evidence"], scored).items():
                            table.setdefault(weight, []).append(row)
                index.close()
        for weight, rows in table.items():
            totals.setdefault(weight, []).append(mean(rows))
        rows = {weight: mean(rows) for weight, rows in table.items()}
        print(json.dumps({"set": name, "n": len(records), "recall": rows}), flush=True)
    average = {w: [round(x / 100, 1) for x in mean(rows)] for w, rows in totals.items()}
    above = {
        str(t): [round(sum(m >= t for m in best_marks[k]) / max(1, len(best_marks[k])), 3)
                 for k in (True, False)]
        for t in THRESHOLDS
    }  # fmt: skip
    print(json.dumps({"average": average, "above_threshold_answerable_unanswerable": above}))


def _answerable(record: Record) -> bool:
    return bool(record.get("answerable", True))


if __name__ == "__main__":
    main()
