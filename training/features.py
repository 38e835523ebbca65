"""What the model says of documents and questions, saved: reading strategies are learnt from it.

    python -m training.features --records chosen.jsonl.xz --out DIR/tasks --shard 0/4 --device cuda
    python -m training.features --eval EVAL --quality QUALITY --out DIR/eval --shard 0/4

Each document is read once, as the program reads it. DIR/tasks-0.jsonl.xz then has one JSON line a
document, without its text: passages with their salience, and for each question the mark of its
passages, how likely <|none|> is after the best of them alone, how likely the question is after each
of them, and with --answers what is written, beside all that could be: the candidates, each with its
log-probability and tokens, the log-probability of the question after it, and whether it is greedy.
With --seconds the documents beyond it are left out; they come in turns from all sets, so that none
is missing altogether. A document that fails is told and skipped.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
import traceback
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

from samba_cli.model import Tokenizer, default_model_path, load_for_reading
from training.evaluate import samples
from training.observe import MOST_MARKED, SHOWN, Observer, text_key
from training.sampling import grouped
from training.shards import Record, read_shard


def in_turns(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The documents so that every beginning of the list has the same share of every set."""
    sets: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for document in documents:
        sets[document["set"]].append(document)
    placed = [
        ((i + 0.5) / len(some), name, document)
        for name, some in sorted(sets.items())
        for i, document in enumerate(some)
    ]
    return [document for *_, document in sorted(placed, key=lambda one: one[:2])]


def evaluated(data: Path, quality: Path) -> list[dict[str, Any]]:
    """The documents of the public evaluation with its sampled records."""
    return [
        {"set": name, "kept_back": True, **document}
        for name, records in samples(data, quality, [], 0).items()
        for document in grouped(records)
    ]


def part(documents: list[dict[str, Any]], shard: str) -> Iterator[dict[str, Any]]:
    """Every n-th document, from the i-th on, of a shard "i/n"."""
    first, count = map(int, shard.split("/"))
    yield from documents[first::count]


def matched(
    documents: Iterable[dict[str, Any]], paths: Iterable[Path]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Record]]]:
    """What these files saw of the documents: the text, what was seen, and the records by id."""
    known = {(one["set"], text_key(one["text"])): one for one in documents}
    for path in paths:
        for seen in read_shard(path):
            document = known.get((seen["set"], seen["text_key"]))
            if document is not None:
                records = {record["id"]: record for record in document["records"]}
                yield document["text"], seen, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, help="of training.sampling")
    parser.add_argument("--eval", type=Path)
    parser.add_argument("--quality", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="beginning of the file's name")
    parser.add_argument("--model", type=Path, default=default_model_path())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shard", default="0/1", help="i/n: the i-th of n processes")
    parser.add_argument(
        "--answers", type=int, nargs="*", default=[], help="write answers from so many passages"
    )
    parser.add_argument("--marked", type=int, default=MOST_MARKED, help="passages of a question")
    parser.add_argument("--shown", type=int, default=SHOWN, help="of the best, each alone")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--documents", type=int, help="at most so many, of this shard")
    args = parser.parse_args()
    began = time.monotonic()
    observer = Observer(
        load_for_reading(args.model, args.device), Tokenizer.load(args.model), args.answers,
        args.marked, args.shown,
    )  # fmt: skip
    documents = (
        list(read_shard(args.records)) if args.records else evaluated(args.eval, args.quality)
    )
    done = failed = 0
    args.out.parent.mkdir(parents=True, exist_ok=True)
    path = args.out.parent / f"{args.out.name}-{args.shard.split('/')[0]}.jsonl.xz"
    with cast(TextIO, lzma.open(path, "wt", encoding="utf-8", preset=3)) as lines:
        for document in part(in_turns(documents), args.shard):
            if time.monotonic() - began > args.seconds or done == args.documents:
                break
            try:
                seen = observer.document(document["text"], document["records"])
            except Exception:  # one document must not cost the others
                failed += 1
                traceback.print_exc()
                continue
            seen |= {"set": document["set"], "kept_back": document["kept_back"]}
            lines.write(json.dumps(seen, separators=(",", ":")) + "\n")
            done += 1
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"shard": args.shard, "done": done, "failed": failed, "seconds": seconds}))


if __name__ == "__main__":
    main()
