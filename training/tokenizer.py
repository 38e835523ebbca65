"""Train the tokenizer of the default model: byte-level BPE, 16,384 tokens.

    python -m training.tokenizer --text TEXT --code DIR \
        --out model/weights/tokenizer.json

Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019): no normaliser and no unknown
token, so that every text decodes to itself. Digits are single tokens, because a copied
number is then copied digit by digit and never through a rare token.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.shards import read_shard, shards

VOCABULARY = 16_384
CONTROL = (
    "<|end|>", "<|document|>", "<|passage|>", "<|question|>", "<|answer|>", "<|summary|>",
    "<|mark|>", "<|yes|>", "<|no|>", "<|none|>", "<|title|>", "<|heading|>", "<|code|>",
    "<|docstring|>", "<|short|>", "<|medium|>", "<|long|>", "<|bullets|>", "<|key|>", "<|value|>",
    *(f"<|reserved_{i}|>" for i in range(20, 32)),
)  # fmt: skip

# In order: English contractions; letters with one leading space; one digit; punctuation with
# one leading space; newlines with the indentation that follows, less the blank that belongs
# to the next word; other blanks.
SPLIT = (
    r"'(?i:s|t|re|ve|m|ll|d)\b"
    r"| ?[\p{L}\p{M}]+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+"
    r"|\s*[\r\n]+(?:[ \t]+(?=[ \t]))?"
    r"|\s+(?!\S)"
    r"|\s+"
)

# Megabytes of the training sample by the kind of text; code comes from --code.
SAMPLE_MB = {
    "encyclopedia": 22.0, "textbook": 10.0, "paper": 10.0, "docs": 13.0, "book": 9.0,
    "report": 3.0, "code": 8.0,
}  # fmt: skip
_PIECE = 100_000  # characters taken from one place of a document, so that no book dominates


def train(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Train on `texts`; the control tokens are ids 0..31, then the 256 bytes, then merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def sample(text: Path, code: Path | None, scale: float = 1.0, seed: int = 0) -> Iterator[str]:
    """A stratified sample: pieces of at most 100,000 characters, by kind up to SAMPLE_MB."""
    rng = random.Random(seed)
    by_kind: dict[str, list[str]] = {}
    for path in shards(text, "text-*"):
        for record in read_shard(path):
            pieces = by_kind.setdefault(record["kind"], [])
            for start in range(0, len(record["text"]), _PIECE):
                pieces.append(record["text"][start : start + _PIECE])
    if code is not None:
        by_kind["code"] = [
            path.read_text(encoding="utf-8", errors="ignore")[:_PIECE]
            for path in sorted(code.rglob("*.py"))
            if path.is_file()
        ]
    for kind, pieces in by_kind.items():
        rng.shuffle(pieces)
        left = SAMPLE_MB.get(kind, 2.0) * 1e6 * scale
        for piece in pieces:
            if left <= 0:
                break
            left -= len(piece)
            yield piece


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tokenizer of the default model.")
    parser.add_argument("--text", type=Path, required=True, help="folder of text-*.jsonl shards")
    parser.add_argument("--code", type=Path, help="folder of Python files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="of the sample of 75 MB")
    arguments = parser.parse_args()
    tokenizer = train(sample(arguments.text, arguments.code, arguments.scale))
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"only {tokenizer.get_vocab_size()} tokens: the sample is too small")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(arguments.out), pretty=False)
    print(f"{arguments.out}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
