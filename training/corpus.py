"""Build the corpus: shards to memory-mapped arrays of tokens, texts and words.

    python -m training.corpus --text DIR --extra code.jsonl.xz --tokenizer model/weights \
        --out DIR --workers N [--eval DIR]

Every passage is cut by the program's own cutter and tokenised once. Held-out shards
(heldout*.jsonl.*) go to OUT/heldout, the others to OUT/train. With --eval, documents of
--extra that share more than 15% of their 13-word shingles with an evaluation document are
dropped (the text shards were cleaned when they were made). --scale 0.01 keeps a sample.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samba_cli.passages import cut_text
from training.encoder import Encoder
from training.shards import Record, read_shard, shards
from training.words import BUCKETS, content_words, hashed

_SHINGLE = 13
_SHARED = 0.15
_PARTS = 4  # of a shard, each a task of its own
_POSTINGS = 400  # a word in more passages than this finds no hard negatives


@dataclass(frozen=True)
class _Job:
    paths: tuple[Path, ...]  # shards
    part: int
    parts: int
    tokenizer: Path
    out: Path  # folder of this part's arrays
    scale: float
    avoid: Path | None  # .npy of evaluation shingles


def _shingles(text: str) -> npt.NDArray[np.int64]:
    words = re.findall(r"\w+", text.lower())
    spans = zip(*(words[i:] for i in range(_SHINGLE)), strict=False)
    return np.array([zlib.crc32(" ".join(span).encode()) for span in spans], np.int64)


def _contaminated(text: str, avoid: npt.NDArray[np.int64]) -> bool:
    found = np.unique(_shingles(text))
    if not len(found):
        return False
    places = np.searchsorted(avoid, found).clip(max=len(avoid) - 1)  # `avoid` is sorted, and large
    return (avoid[places] == found).mean() > _SHARED


def _build_part(job: _Job) -> int:
    """Cut, tokenise and hash every parts-th document of some shards; returns the passages."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    tokenizer = Encoder(job.tokenizer)
    avoid = None if job.avoid is None else np.load(job.avoid)
    job.out.mkdir(parents=True)
    token_lengths: list[int] = []
    text_lengths: list[int] = []
    word_lengths: list[int] = []
    documents: list[Record] = []
    with (
        (job.out / "tokens.u16").open("wb") as tokens,
        (job.out / "texts.bin").open("wb") as texts,
        (job.out / "words.i32").open("wb") as words,
    ):
        rng = np.random.default_rng([job.part, 17])
        records = (record for path in job.paths for record in read_shard(path))
        for i, record in enumerate(records):
            if i % job.parts != job.part or (job.scale < 1 and rng.random() > job.scale):
                continue
            if avoid is not None and _contaminated(record["text"], avoid):
                continue
            # a lone surrogate would not survive the utf-8 blob
            text = record["text"].encode("utf-8", "ignore").decode("utf-8")
            passages = cut_text(text, "code" if record["kind"] == "code" else "text")
            if not passages:
                continue
            for passage, ids in zip(passages, tokenizer.encode_batch(passages), strict=True):
                raw, found = passage.encode(), hashed(content_words(passage))
                tokens.write(np.array(ids, np.uint16).tobytes())
                texts.write(raw)
                words.write(found.tobytes())
                token_lengths.append(len(ids))
                text_lengths.append(len(raw))
                word_lengths.append(len(found))
            del record["text"]
            documents.append(record | {"passages": len(passages)})
    lengths = np.array([token_lengths, text_lengths, word_lengths], np.int32).reshape(3, -1)
    np.save(job.out / "lengths.npy", lengths)
    (job.out / "documents.json").write_text(json.dumps(documents), encoding="utf-8")
    return len(token_lengths)


def _merge(parts: list[Path], out: Path) -> None:
    """Parts laid end to end, with the offsets, the rarity of words and the postings."""
    for name in ("tokens.u16", "texts.bin", "words.i32"):
        with (out / name).open("wb") as target:
            for part in parts:
                with (part / name).open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 24)
    lengths = np.concatenate([np.load(part / "lengths.npy") for part in parts], axis=1)
    documents = [d for part in parts for d in json.loads((part / "documents.json").read_text())]
    (out / "documents.json").write_text(json.dumps(documents), encoding="utf-8")
    for name, counts in (
        ("token_offsets", lengths[0]),
        ("text_offsets", lengths[1]),
        ("word_offsets", lengths[2]),
        ("document_offsets", np.array([d["passages"] for d in documents])),
    ):
        np.save(out / f"{name}.npy", np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))
    for part in parts:
        shutil.rmtree(part)
    _index(out, lengths[2])


def _index(out: Path, word_counts: npt.NDArray[np.int32]) -> None:
    """Inverse document frequencies, and for rare words the passages that have them."""
    words = np.fromfile(out / "words.i32", np.int32)
    frequency = np.bincount(words, minlength=BUCKETS)
    rarity = np.log((1 + len(word_counts)) / (1 + frequency)).astype(np.float32)
    np.save(out / "rarity.npy", rarity)
    rare = (frequency >= 2) & (frequency <= _POSTINGS)
    keep = rare[words]
    passages = np.repeat(np.arange(len(word_counts), dtype=np.int32), word_counts)[keep]
    kept = words[keep]
    np.save(out / "postings.npy", passages[np.argsort(kept, kind="stable")])
    counts = np.where(rare, frequency, 0)
    np.save(out / "posting_offsets.npy", np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))


def build(
    groups: Iterable[tuple[Path, bool]],
    tokenizer: Path,
    out: Path,
    workers: int = 1,
    scale: float = 1.0,
    avoid: Path | None = None,
) -> int:
    """Build the arrays of some shards (each with whether `avoid` applies); the passages."""
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    jobs = [
        _Job((path,), part, _PARTS, tokenizer, out / f"part-{i:03d}-{part}", scale,
             avoid if clean else None)
        for i, (path, clean) in enumerate(groups)
        for part in range(_PARTS)
    ]  # fmt: skip
    if workers == 1:
        count = sum(map(_build_part, jobs))
    else:
        with ProcessPoolExecutor(workers) as pool:
            count = sum(pool.map(_build_part, jobs))
    _merge([job.out for job in jobs], out)
    return count


def _evaluation_shingles(folder: Path, out: Path) -> Path:
    documents = {record["doc"] for path in shards(folder) for record in read_shard(path)}
    np.save(out, np.unique(np.concatenate([_shingles(document) for document in documents])))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the corpus of the default model.")
    parser.add_argument("--text", type=Path, required=True, help="folder of shards")
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="more shards: code")
    parser.add_argument("--tokenizer", type=Path, default=Path("model/weights"))
    parser.add_argument("--eval", type=Path, help="folder of evaluation shards to keep clear of")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    paths = [(path, False) for path in shards(arguments.text)]
    paths += [(path, arguments.eval is not None) for path in arguments.extra]
    arguments.out.mkdir(parents=True, exist_ok=True)
    avoid = None
    if arguments.eval is not None:
        avoid = _evaluation_shingles(arguments.eval, arguments.out / "avoid.npy")
    held_out = [group for group in paths if group[0].name.startswith("heldout")]
    training = [group for group in paths if group not in held_out]
    for name, groups in (("heldout", held_out), ("train", training)):
        start = time.time()
        if groups:
            count = build(groups, arguments.tokenizer, arguments.out / name, arguments.workers,
                          arguments.scale, avoid)  # fmt: skip
            print(f"{name}: {count} passages in {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
