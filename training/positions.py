"""Bits per byte by position on long held-out text: is the model worse far from the start?

    python -m training.positions --text TEXT/heldout.jsonl.zst --out positions.json [--device cuda]

Documents of one kind are laid end to end where one is not long enough, and read with the state
carried over all of them. Text is not equally hard everywhere, so every token is predicted a second
time from a state that began at most two windows of 4,096 tokens before: what the curve has beside
this control is what the long state does, and not the text. Several orders of the documents, each
read from the start, lay other text at a position.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
import torch.nn.functional as F
from torch import Tensor

from samba_cli import prompts
from samba_cli.model import Model, Tokenizer, default_model_path, load_for_reading
from training.filler import Filler

SPAN = 4_096  # tokens: the first position measured, and the stretches of the control
LONGEST = 1 << 20
_LANES, _LANES_CPU = 8, 1  # stretches of the control read side by side
_CHUNK, _CHUNK_CPU = 8_192, 512  # tokens read at once
_BUCKETS = 5  # a doubling of the position, in the curve


def token_bytes(folder: Path, vocab_size: int) -> Tensor:
    """Bytes of UTF-8 that each token of a byte-level tokenizer stands for; 0 for control tokens.

    int64 [V]. A character of such a token is a byte, in the alphabet of GPT-2. Raises ValueError
    for a tokenizer of another kind.
    """
    inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    if not isinstance(inner.decoder, tokenizers.decoders.ByteLevel):
        raise ValueError(f"{folder}: bytes are counted for byte-level tokenizers only")
    control = Tokenizer.load(folder).control
    sizes = torch.zeros(vocab_size, dtype=torch.long)
    for text, number in inner.get_vocab().items():
        sizes[number] = 0 if text in control else len(text)
    return sizes


@torch.inference_mode()
def nats(model: Model, tokens: Tensor, chunk: int) -> Tensor:
    """Nats of each token of rows [B, T] but the first, state carried: float32 [B, T - 1]."""
    state, parts = model.initial_state(len(tokens)), []
    for start in range(0, tokens.shape[1] - 1, chunk):
        part = tokens[:, start : min(start + chunk, tokens.shape[1] - 1)]
        wanted = tokens[:, start + 1 : start + 1 + part.shape[1]]
        logits = model(part, state)
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        parts.append(loss.view(wanted.shape))
    return torch.cat(parts, 1)


def control(model: Model, tokens: Tensor, chunk: int, lanes: int) -> Tensor:
    """The same of tokens [T], each from a state that began 4,096 to 8,191 tokens before it.

    Where no more than that was read, it is the carried state itself.
    """
    count = (len(tokens) - 1) // SPAN
    head = nats(model, tokens[None, : min(2 * SPAN, len(tokens) - 1) + 1], chunk)[0]
    rows = [tokens[i * SPAN : (i + 2) * SPAN + 1] for i in range(1, max(count - 1, 1))]
    parts = [head]
    for start in range(0, len(rows), lanes):
        some = nats(model, torch.stack(rows[start : start + lanes]), chunk)
        parts.append(some[:, SPAN:].flatten())
    return torch.cat(parts)


def stretch(filler: Filler, length: int, seed: int) -> Tensor:
    """At most `length` tokens, a multiple of 4,096 and one more: as the reader begins documents."""
    end = filler.tokenizer.control["<|end|>"]
    ids: array[int] = array("q", [end])
    for document in filler.order(seed):
        name = prompts.render("read_document", name=filler.records[document]["title"])
        ids += array("q", [*filler.tokenizer.encode_prompt(name), *filler.ids(document), end])
        if len(ids) > length:
            break
    usable = min(length, (len(ids) - 1) // SPAN * SPAN)
    return torch.tensor(ids[: usable + 1])


def edges(length: int, per_doubling: int = 1) -> list[int]:
    """Positions from 4,096 on, so many a doubling, up to the length."""
    steps = math.floor(per_doubling * math.log2(length / SPAN) + 1e-9)
    return [round(SPAN * 2 ** (i / per_doubling)) for i in range(steps + 1)]


class Curve:
    """Sums of nats and bytes between positions, over several texts."""

    def __init__(self, places: Sequence[int]) -> None:
        self.places = list(places)
        self.nats = {"carried": [0.0] * len(places), "control": [0.0] * len(places)}
        self.bytes, self.tokens = [0] * len(places), [0] * len(places)

    def add(self, carried: Tensor, fresh: Tensor, sizes: Tensor) -> None:
        """Losses of the tokens 1, 2, ... of a text, and their bytes; control tokens left out."""
        text = sizes > 0
        start = 0
        for i, place in enumerate(self.places):
            here = text[start:place]
            if place > len(sizes):
                return
            self.nats["carried"][i] += carried[start:place][here].double().sum().item()
            self.nats["control"][i] += fresh[start:place][here].double().sum().item()
            self.bytes[i] += int(sizes[start:place].sum())
            self.tokens[i] += int(here.sum())
            start = place

    def report(self) -> list[dict[str, Any]]:
        rows = []
        for i, place in enumerate(self.places):
            if self.bytes[i]:
                row: dict[str, Any] = {"to": place, "bytes": self.bytes[i]}
                for name, sums in self.nats.items():
                    row[name] = round(sums[i] / math.log(2) / self.bytes[i], 4)
                row["perplexity"] = round(math.exp(self.nats["carried"][i] / self.tokens[i]), 3)
                rows.append(row)
        return rows


def measure(
    model: Model, filler: Filler, sizes_of: Tensor, length: int, orders: int, seconds: float
) -> dict[str, Any]:
    """Both curves of one kind of text; fewer orders where the time is up."""
    cpu = model.device.type == "cpu"
    chunk, lanes = (_CHUNK_CPU, _LANES_CPU) if cpu else (_CHUNK, _LANES)
    longest = min(length, filler.tokens // SPAN * SPAN)
    doublings, fine = Curve(edges(longest)), Curve(edges(longest, _BUCKETS))
    began, done, slowest = time.monotonic(), 0, 0.0
    for seed in range(orders):
        started = time.monotonic()
        if done and started - began + slowest > seconds:
            break
        tokens = stretch(filler, longest, seed)
        sizes, tokens = sizes_of[tokens[1:]], tokens.to(model.device)
        carried = nats(model, tokens[None], chunk)[0].cpu()
        fresh = control(model, tokens, chunk, lanes).cpu()
        for curve in (doublings, fine):
            curve.add(carried, fresh, sizes)
        done, slowest = done + 1, max(slowest, time.monotonic() - started)
    return {
        "documents": len(filler.records), "tokens": longest, "orders": done,
        "doublings": doublings.report(), "curve": fine.report(),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="held-out records (.jsonl.zst)")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--model", type=Path, default=default_model_path())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--kinds", nargs="+", default=["textbook", "book", "paper", "book,paper,textbook"],
        help="kinds of document; those joined by a comma are laid end to end together",
    )  # fmt: skip
    parser.add_argument("--length", type=int, default=LONGEST, help="tokens, at most")
    parser.add_argument("--orders", type=int, default=3, help="of the documents of a kind")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="in all, about")
    args = parser.parse_args()
    model, tokenizer = load_for_reading(args.model, args.device), Tokenizer.load(args.model)
    sizes = token_bytes(args.model, model.description.vocab_size)
    began = time.monotonic()
    report: dict[str, Any] = {
        "what": "positions", "model_sha256": model.fingerprint,
        "device": torch.cuda.get_device_name(args.device) if "cuda" in args.device else "CPU",
        "kinds": {},
    }  # fmt: skip
    for number, kind in enumerate(args.kinds):
        left = (args.seconds - (time.monotonic() - began)) / (len(args.kinds) - number)
        filler = Filler(args.text, tokenizer, kind.split(","))
        report["kinds"][kind] = measure(model, filler, sizes, args.length, args.orders, left)
        args.out.write_text(json.dumps(report) + "\n", encoding="utf-8")
        last = report["kinds"][kind]["doublings"]
        print(json.dumps({"kind": kind, "doublings": last}), flush=True)


if __name__ == "__main__":
    main()
