"""The public evaluation, through the program as a user has it: same reader, prompts and answers.

    python -m training.evaluate --data EVAL --quality QUALITY \
        --out out/eval [--sets qmsum xquad_en] [--limit 30] [--device cuda]

Every document is written to a file and read once; its questions are answered, its summaries written
at the mean length of the set's references. Predictions go to --out, scored by the quality folder's
score.py, whose figures are printed as one table.
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

from samba_cli.answer import AnswerOptions, answer
from samba_cli.checkpoint import open_read_folder
from samba_cli.model import Tokenizer, default_model_path, load_checkpoint
from samba_cli.reader import ReadOptions, read
from samba_cli.results import Evidence
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions
from samba_cli.summarize import SummaryOptions, summarize
from training.shards import read_shard

Record = dict[str, Any]


def samples(data: Path, quality: Path, wanted: list[str], limit: int) -> dict[str, list[Record]]:
    """The sampled records of each set, by the ids of the quality folder."""
    records = {r["id"]: r for path in sorted(data.glob("*.jsonl.zst")) for r in read_shard(path)}
    sets: dict[str, list[Record]] = {}
    for path in sorted((quality / "sample_ids").glob("*.txt")):
        if not wanted or path.stem in wanted:
            ids = [i for i in path.read_text().splitlines() if i in records]
            sets[path.stem] = [records[i] for i in ids[: limit or None]]
    return sets


def by_document(records: list[Record]) -> Iterator[tuple[str, list[Record]]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record["doc"]].append(record)
    yield from groups.items()


def spans(evidence: tuple[Evidence, ...]) -> list[dict[str, int]]:
    return [{"start": e.char_start, "end": e.char_end} for e in evidence]


class Program:
    """The program with its model loaded once."""

    def __init__(self, model: Path, device: str) -> None:
        self.model = load_checkpoint(model, device)
        self.tokenizer = Tokenizer.load(model)
        self.tokens = 0

    def predict(self, document: str, records: list[Record], words: int) -> Iterator[Record]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "document.txt"
            path.write_text(document, encoding="utf-8", newline="")
            with open_read_folder(None, self.model, self.tokenizer, resume=False) as work:
                report = read(
                    lambda: load([str(path)], SourceOptions(), None),
                    self.model,
                    self.tokenizer,
                    work,
                    ReadOptions(),
                    lambda _: None,
                )
                self.tokens += report.tokens
                parts = (work.state, work.index, self.model, self.tokenizer)
                for record in records:
                    if record["task"] == "qa":
                        a = answer(record["question"], *parts, AnswerOptions(passages=5))
                        yield {
                            "id": record["id"],
                            "answer": a.text if a.found else "",
                            "found": a.found,
                            "evidence": spans(a.evidence),
                        }
                    else:
                        focus = record.get("question") or None
                        s = summarize(*parts, SummaryOptions(length=words, focus=focus))
                        yield {"id": record["id"], "answer": s.text}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quality", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=default_model_path())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=0, help="records a set (0: all sampled)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="a set, at most")
    args = parser.parse_args()
    program = Program(args.model, args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, records in samples(args.data, args.quality, args.sets, args.limit).items():
        lengths = [len(r["answer"].split()) for r in records]
        words = round(sum(lengths) / max(1, len(lengths)))
        started, predictions = time.monotonic(), []
        for document, group in by_document(records):
            if time.monotonic() - started > args.seconds:
                break
            predictions += program.predict(document, group, words)
        done = {p["id"] for p in predictions}
        kept = [r for r in records if r["id"] in done]
        paths = [args.out / f"{name}.{kind}.jsonl" for kind in ("references", "predictions")]
        for path, rows in zip(paths, (kept, predictions), strict=True):
            path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        scored = subprocess.run(
            [sys.executable, str(args.quality / "score.py"), *map(str, paths)],
            capture_output=True,
            text=True,
            check=True,
        )
        result = {"set": name, "n": len(kept), **json.loads(scored.stdout)}
        (args.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
