"""The public evaluation, through the program as a user has it: same reader, prompts and answers.

    python -m training.evaluate --data EVAL --quality QUALITY --out out/eval --device cuda
    python -m training.evaluate ... --shard 0/4 & ... --shard 3/4 &     # processes share the work
    python -m training.evaluate --data EVAL --quality QUALITY --out out/eval --score

Every document is written to a file and read once; its questions are answered, its summaries written
at the mean length of the set's references. Evidence is the passages (at most 1,000 characters) that
the program names, best first. Predictions go to OUT/parts; `--score`, or a run that is no shard,
scores them with the quality folder's score.py and prints a table beside its baselines, which
OUT/table.md keeps. Where EVAL has a `code.jsonl.xz` (training.code_questions) or a
`haystack.jsonl.xz` (training.hidden_paragraphs), its records are a set too, with baselines of their
own: what SQLite's FTS5 finds for the same questions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samba_cli.answer import AnswerOptions, answer_all, together
from samba_cli.checkpoint import open_read_folder
from samba_cli.index import PassageIndex
from samba_cli.model import Tokenizer, default_model_path, load_for_reading
from samba_cli.reader import ReadOptions, read
from samba_cli.results import Evidence
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions
from samba_cli.summarize import SummaryOptions, summarize
from training.baselines import FTS5, fts5, table
from training.shards import read_shard

Record = dict[str, Any]
CODE = "code"  # the set that training.code_questions makes
HAYSTACK = "haystack"  # and the one that training.hidden_paragraphs makes
_MADE = (CODE, HAYSTACK)


def samples(data: Path, quality: Path, wanted: list[str], limit: int) -> dict[str, list[Record]]:
    """The sampled records of each set, by the ids of the quality folder."""
    records = {r["id"]: r for path in sorted(data.glob("*.jsonl.zst")) for r in read_shard(path)}
    sets: dict[str, list[Record]] = {}
    for path in sorted((quality / "sample_ids").glob("*.txt")):
        if not wanted or path.stem in wanted:
            ids = [i for i in path.read_text().splitlines() if i in records]
            sets[path.stem] = [records[i] for i in ids[: limit or None]]
    for made in _MADE:
        for path in data.glob(f"{made}.jsonl*"):
            if not wanted or made in wanted:
                sets[made] = list(read_shard(path))[: limit or None]
    return sets


def by_document(records: list[Record]) -> Iterator[tuple[str, list[Record]]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record["doc"]].append(record)
    yield from groups.items()


def passages(evidence: tuple[Evidence, ...], index: PassageIndex) -> list[dict[str, int]]:
    """The passages that hold the evidence, each once, in its order."""
    ids = dict.fromkeys(one.passage_id for one in evidence)
    found = [one.passage for one in index.get(list(ids))]
    return [{"start": one.char_start, "end": one.char_end} for one in found]


def mean_length(records: list[Record]) -> int:
    """Mean words of the references: the budget that the baselines of summaries have."""
    lengths = [
        sum(len(text.split()) for text in texts) / len(texts)
        for texts in (record.get("answers") or [record["answer"]] for record in records)
    ]
    return round(sum(lengths) / max(len(lengths), 1))


class Program:
    """The program with its model loaded once."""

    def __init__(self, model: Path, device: str, written: bool | None = None) -> None:
        """`written`: whether the model writes summaries; None: as the program decides."""
        self.written = written
        self.model = load_for_reading(model, device)
        self.tokenizer = Tokenizer.load(model)

    def predict(self, document: str, records: list[Record], words: int) -> Iterator[Record]:
        """What the program says to the records of one document, in score.py's format.

        Summaries have `words` words, and are about the record's question where it has one.
        """
        with tempfile.TemporaryDirectory() as folder:
            code = records[0]["source"].startswith("code:")
            path = Path(folder) / ("document.py" if code else "document.txt")
            path.write_text(document, encoding="utf-8", newline="")
            with open_read_folder(None, self.model, self.tokenizer, resume=False) as work:
                read(
                    lambda: load([str(path)], SourceOptions(), None), self.model, self.tokenizer,
                    work, ReadOptions(),
                )  # fmt: skip
                parts = (work.state, work.index, self.model, self.tokenizer)
                asked = [record for record in records if record["task"] == "qa"]
                answers = answer_all(
                    [record["question"] for record in asked], *parts, AnswerOptions(),
                    together(self.model),
                )  # fmt: skip
                for record, a in zip(asked, answers, strict=True):
                    yield {
                        "id": record["id"],
                        "answer": a.text if a.found else "",
                        "found": a.found,
                        "evidence": passages(a.evidence, work.index),
                    }
                for record in records:
                    if record["task"] != "qa":
                        focus = record.get("question") or None
                        options = SummaryOptions(words, focus=focus, written=self.written)
                        s = summarize(*parts, options)
                        located = all(one.evidence or one.counted for one in s.sentences)
                        yield {"id": record["id"], "answer": s.text, "located": located}


def predict_all(
    program: Program, sets: dict[str, list[Record]], out: Path, shard: str, seconds: float
) -> None:
    """Predictions of this shard's documents: OUT/parts/SET-i.jsonl. `seconds` for all sets."""
    first, count = map(int, shard.split("/"))
    parts = out / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    share = seconds / max(len(sets), 1)
    for number, (name, records) in enumerate(sets.items(), 1):
        words = mean_length(records)
        with (parts / f"{name}-{first}.jsonl").open("w", encoding="utf-8") as lines:
            for document, group in list(by_document(records))[first::count]:
                if time.monotonic() - began > share * number:
                    break  # what a set leaves of its time goes to the next
                for prediction in program.predict(document, group, words):
                    lines.write(json.dumps(prediction) + "\n")
                lines.flush()


def scored_by(
    quality: Path, out: Path, name: str, references: list[Record], predictions: list[Record]
) -> dict[str, Any]:
    """The figures of score.py; OUT/NAME.predictions.jsonl keeps the predictions."""
    paths = [out / f"{name}.{kind}.jsonl" for kind in ("references", "predictions")]
    for path, rows in zip(paths, (references, predictions), strict=True):
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    scored = subprocess.run(
        [sys.executable, str(quality / "score.py"), *map(str, paths)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths[0].unlink()  # the documents again
    return json.loads(scored.stdout)


def measured(quality: Path, out: Path, which: str, records: list[Record]) -> dict[str, list[float]]:
    """Recall@1, @3, @5 and characters@1, @3, @5 of each row of FTS5, as in BASELINES.md."""
    figures: dict[str, list[float]] = {}
    for method in FTS5:
        predictions = [
            {"id": r["id"], "evidence": [{"start": a, "end": b} for a, b in spans]}
            for document, group in by_document(records)
            for r, spans in zip(
                group, fts5(document, [r["question"] for r in group], method), strict=True
            )
        ]
        name = f"{which}.{method.replace(' ', '_')}"
        found = scored_by(quality, out, name, records, predictions)["qa"]["evidence"]
        figures[method] = [round(100 * found[f"recall@{k}"], 1) for k in (1, 3, 5)]
        figures[method] += [found[f"chars@{k}"] for k in (1, 3, 5)]
    return figures


def score_all(sets: dict[str, list[Record]], quality: Path, out: Path) -> dict[str, Any]:
    """The figures of score.py for every set with predictions, over the records that have one."""
    results: dict[str, Any] = {}
    for name, records in sets.items():
        done = {
            p["id"]: p for path in sorted((out / "parts").glob(f"{name}-[0-9]*.jsonl"))
            for p in read_shard(path)
        }  # fmt: skip
        kept = [r for r in records if r["id"] in done]
        if not kept:
            continue
        scored = scored_by(quality, out, name, kept, [done[r["id"]] for r in kept])
        results[name] = {"set": name, "n": len(kept), **scored}
        if name in _MADE:
            results[name]["baselines"] = measured(quality, out, name, kept)
        results[name]["located"] = all(p.get("located", True) for p in done.values())
        print(json.dumps(results[name]), flush=True)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quality", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=default_model_path())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=0, help="records a set (0: all sampled)")
    parser.add_argument("--written", action="store_true", help="summaries that the model writes")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all sets")
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n processes")
    parser.add_argument("--score", action="store_true", help="predict nothing, score what there is")
    args = parser.parse_args()
    sets = samples(args.data, args.quality, args.sets, args.limit)
    if not args.score:
        program = Program(args.model, args.device, True if args.written else None)
        predict_all(program, sets, args.out, args.shard, args.seconds)
    if args.score or args.shard == "0/1":
        results = score_all(sets, args.quality, args.out)
        text = table(results, args.quality / "BASELINES.md")
        (args.out / "table.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
