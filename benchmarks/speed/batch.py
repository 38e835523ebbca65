"""Generating 64K tokens with 16 rows at once: a state of constant size against caches that grow.

Not every token is generated: steps are timed at some depths (with caches filled at random, and a
state that has read as much), and the time of all steps is the integral between them (trapezoids).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.speed import llama, models, peers
from benchmarks.speed.decoding import llama_rates, read_state, samba_rate
from benchmarks.speed.rows import Row, Setting
from benchmarks.speed.timing import reset_peak

BATCH = 16
DEPTHS = [1024, 4096, 16_384, 32_768, 65_536]
TINY_DEPTHS = [32, 64, 128]
GOAL = 3.64  # what the paper reports for 64K tokens, on an A100
NOTE = "steps timed at several depths, the time of all of them integrated"


@torch.inference_mode()
def measure(how: Setting) -> Iterator[Row]:
    depths, batch = (TINY_DEPTHS, 2) if how.tiny else (DEPTHS, BATCH)
    model = models.samba(how)
    ours = {}
    for depth in depths:
        ours[depth] = samba_rate(model, read_state(model, depth, how).expand(batch), how)
    held = round(model.initial_state(batch).nbytes / 1e6, 1)
    del model
    reset_peak(how)
    notes: list[str] = []
    theirs: dict[str, dict[int, float]] = {}
    caches: dict[int, float] = {}
    with peers.tried("transformers", notes):
        for compiled in (False, True) if how.cuda else (False,):
            peer = llama.Llama(how, compiled)
            for depth in depths:
                rates = llama_rates(peer, how, batch, depth, graphs=compiled, notes=notes)
                name = "transformers, compiled, CUDA graph" if compiled else "transformers"
                for rate in rates.values():
                    theirs.setdefault(name, {})[depth] = rate
                caches[depth] = llama.Cache(peer, batch, depth).nbytes / 1e6
                reset_peak(how)
    for depth in depths:
        yield Row(
            f"decoding, SAMBA 1.7B, batch {batch}", f"after {depth:,} tokens", ours[depth],
            "tokens/s", {name: rates[depth] for name, rates in theirs.items() if depth in rates},
            facts={"tokens": depth, "state MB": held, "cache MB": caches.get(depth)},
            note="; ".join(notes),
        )  # fmt: skip
    whole = {name: rates for name, rates in theirs.items() if list(rates) == depths}
    yield Row(
        f"generating, SAMBA 1.7B, batch {batch}", f"{depths[-1]:,} tokens a row",
        generating(ours, batch), "tokens/s",
        {name: generating(rates, batch) for name, rates in whole.items()},
        None if how.tiny else GOAL, note=NOTE, headline=True,
    )  # fmt: skip


def generating(rates: dict[int, float], batch: int) -> float:
    """Tokens/s over all depths from 0 to the last; before the first, as at the first."""
    depths = list(rates)
    times = [batch / rates[depth] for depth in depths]  # seconds of a step
    total = times[0] * depths[0]
    for left, right in zip(range(len(depths) - 1), range(1, len(depths)), strict=True):
        total += (times[left] + times[right]) / 2 * (depths[right] - depths[left])
    return batch * depths[-1] / total
