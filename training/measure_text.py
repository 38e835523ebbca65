"""Bits per byte on held-out text, each document from a fresh state. By position: `positions`.

python -m training.measure_text --model model/weights --text TEXT/heldout.jsonl.zst
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from samba_cli import prompts
from samba_cli.model import Model, Tokenizer, load_for_reading
from training.shards import read_shard


@torch.inference_mode()
def losses(model: Model, tokens: Sequence[int], chunk: int) -> Iterator[torch.Tensor]:
    """Nats per token in chunks, the state carried: the first token is given, not predicted."""
    ids = torch.tensor([list(tokens)], device=model.device)
    state = model.initial_state()
    for start in range(0, ids.shape[1] - 1, chunk):
        part = ids[:, start : min(start + chunk, ids.shape[1] - 1)]
        logits = model(part, state)
        yield F.cross_entropy(
            logits[0], ids[0, start + 1 : start + 1 + part.shape[1]], reduction="none"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="held-out records (.jsonl.zst)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--chunk", type=int, default=4096)
    parser.add_argument("--documents", type=int, help="only every so many-th of them")
    args = parser.parse_args()
    model = load_for_reading(args.model, args.device)
    tokenizer = Tokenizer.load(args.model)
    end = tokenizer.control["<|end|>"]
    nats: dict[str, float] = defaultdict(float)
    size: dict[str, int] = defaultdict(int)
    for record in list(read_shard(args.text))[:: args.documents or 1]:
        body = tokenizer.encode(record["text"])
        head = tokenizer.encode_prompt(prompts.render("read_document", name=record["title"]))
        total, given = 0.0, len(head)  # the name of the document is not text to predict
        for loss in losses(model, [end, *head, *body], args.chunk):
            total += loss[max(0, given) :].double().sum().item()
            given -= len(loss)
        nats[record["kind"]] += total
        size[record["kind"]] += len(record["text"].encode())
    report = {
        "bits_per_byte": round(sum(nats.values()) / math.log(2) / sum(size.values()), 4),
        "by_kind": {k: round(nats[k] / math.log(2) / size[k], 4) for k in sorted(nats)},
        "bytes": sum(size.values()),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
