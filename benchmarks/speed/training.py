"""One training step of the default model: with our kernels, and the same model on mamba-ssm's.

Everything else is the same: torch.compile for each layer, window attention, Muon and AdamW. The
peer's kernels are tried in each way in which they can stand in a compiled model.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch

from benchmarks.reading import matrices
from benchmarks.speed import limits, peer_mixer, peers
from benchmarks.speed.models import SAMBA_TINY
from benchmarks.speed.rows import Row, Setting
from benchmarks.speed.timing import Wrong, peak_gb, reset_peak, seconds
from samba_cli.model import SambaConfig
from training.train import Plan, Trainer

CONFIG = SambaConfig(vocab_size=16_384, d_ff=1280)  # the default model's
LANES, LENGTH = 64, 2048
GOAL = 1.2
STEPS = 10
COMPILING = 60  # seconds that a way of the peer's may need


def measure(how: Setting) -> Iterator[Row]:
    config, lanes, length = (SAMBA_TINY, 2, 64) if how.tiny else (CONFIG, LANES, LENGTH)
    ours = _run(how, config, lanes, length, carry=True)
    others, notes, error = {}, ["lanes begin from the empty state at every step"], 0.0
    with peers.tried("mamba-ssm", notes):
        for name, forward in peer_mixer.ways().items():
            if how.left() < COMPILING:
                notes.append(f"{name}: no time was left")
                continue
            with peers.tried(name, notes), peer_mixer.mixing(forward):
                theirs = _run(how, config, lanes, length, carry=False)
                error = max(error, _difference(ours.losses, theirs.losses))
                others[name] = theirs.seconds
    notes.append(f"first losses {', '.join(f'{loss:.3f}' for loss in ours.losses)}")
    tokens = lanes * length
    flops = 6 * sum(out * inner * count for out, inner, count in matrices(config))
    flops += 6 * config.d_model * config.vocab_size
    yield Row(
        "training step, default model", f"{lanes} x {length:,} tokens", ours.seconds * 1e3, "ms",
        {name: time * 1e3 for name, time in others.items()}, None if how.tiny else GOAL,
        {"matrix products": tokens * flops / limits.measured(how).flops / ours.seconds},
        error if others else None, {"tokens_per_s": tokens / ours.seconds, "peak GB": ours.peak},
        "; ".join(notes), headline=True,
    )  # fmt: skip
    assert ours.carried is not None
    yield Row(
        "training step, default model", f"{lanes} x {length:,} tokens, state carried",
        ours.carried * 1e3, "ms", facts={"tokens_per_s": tokens / ours.carried},
        note="as we train; the peer's scan cannot begin from a state",
    )  # fmt: skip


class Run(NamedTuple):
    seconds: float  # of a step from the empty state
    carried: float | None  # of a step that goes on from the one before
    losses: list[float]  # of the first steps
    peak: float | None  # GB


def _run(how: Setting, config: SambaConfig, lanes: int, length: int, carry: bool) -> Run:
    gc.collect()
    reset_peak(how)
    plan = Plan(10_000, lanes, length, 1e-3, 1e-3, 10, 0.0, 0.1, 1, 0)
    trainer = Trainer(config, plan, torch.device(how.device), compiled=how.cuda)
    generator = torch.Generator(how.device).manual_seed(0)
    shape = (lanes, length)
    weights = torch.ones(shape, device=how.device)
    index = 0

    def step() -> torch.Tensor:
        nonlocal index
        tokens = torch.randint(config.vocab_size, shape, device=how.device, generator=generator)
        loss = trainer.step(index, tokens, tokens.roll(-1, 1), weights)
        index += 1
        return loss

    losses = [step().item() for _ in range(3)]
    repeats = STEPS if how.cuda else 2
    time, carried = seconds(step, how, repeats, warmups=1), None
    if carry:
        trainer.plan = replace(plan, restart=10**9)
        carried = seconds(step, how, repeats, warmups=1)
    return Run(time, carried, losses, peak_gb(how))


def _difference(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference of two runs' losses. Raises Wrong above a hundredth."""
    worst = max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))
    if not worst < 1e-2:
        raise Wrong(f"its losses {theirs} are not ours {ours}")
    return worst
