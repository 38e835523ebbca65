"""Paragraphs of the public evaluation hidden in 100,000 tokens of other text, with their questions.

    python -m training.hidden_paragraphs --data EVAL --quality QUALITY --text HELDOUT \
        --out DIR/haystack.jsonl.xz
    python -m training.evaluate --data DIR --quality QUALITY --sets haystack ...

The sampled questions of a set whose documents are paragraphs are asked again where the paragraph
lies somewhere between those of held-out text. Every text holds a few of them, at places drawn by
a seed; the evidence moves along.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from samba_cli.model import Tokenizer, default_model_path
from training.evaluate import HAYSTACK, by_document, samples
from training.haystacks import straw, straw_texts
from training.shards import Record, write_shard

TOKENS = 100_000  # of other text around the paragraphs
TOGETHER = 20  # paragraphs hidden in one text
_SET = "xquad_en"
_BETWEEN = "\n\n"


def hide(
    groups: Sequence[tuple[str, list[Record]]], pieces: Sequence[str], rng: random.Random
) -> list[Record]:
    """The records of some documents, about one text in which all of them lie."""
    parts = list(pieces)
    for document, _ in groups:
        parts.insert(rng.randrange(len(parts) + 1), document)
    text = _BETWEEN.join(parts)
    found = []
    for document, records in groups:
        place = text.index(document)
        found += [
            record | {
                "doc": text, "source": HAYSTACK, "id": f"{HAYSTACK}:{record['id']}",
                "evidence": [[a + place, b + place] for a, b in record["evidence"]],
            } for record in records
        ]  # fmt: skip
    return found


def build(
    records: list[Record], texts: Sequence[str], characters: int, seed: int = 0
) -> list[Record]:
    """The records about texts of so many characters beside the paragraphs of each."""
    rng = random.Random(seed)
    groups = list(by_document(records))
    rng.shuffle(groups)
    made = []
    for first in range(0, len(groups), TOGETHER):
        made += hide(groups[first : first + TOGETHER], straw(texts, characters, rng), rng)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="Hide paragraphs of the evaluation in long texts.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quality", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="held-out records")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    records = samples(args.data, args.quality, [_SET], 0)[_SET]
    texts = straw_texts(args.text)
    tokenizer = Tokenizer.load(default_model_path())
    whole = "".join(text[:20_000] for text in texts[:50])
    characters = round(TOKENS * len(whole) / len(tokenizer.encode(whole)))
    made = build(records, texts, characters)
    write_shard(args.out, made)
    sizes = [len(tokenizer.encode(text)) for text, _ in by_document(made)]
    print(
        f"{len(made)} questions about {len(sizes)} texts of {min(sizes):,} to {max(sizes):,} tokens"
    )


if __name__ == "__main__":
    main()
