"""Medians of warmed-up runs, and the distance between two results."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.speed.rows import Setting


def kernel_ms(function: Callable[[], object], how: Setting) -> float:
    """Milliseconds of a short piece of work: on a GPU by events, its cache flushed before each."""
    if how.cuda:
        from triton.testing import do_bench

        return float(do_bench(function, warmup=50, rep=300, return_mode="median"))  # type: ignore[arg-type]
    return seconds(function, how, repeats=3, warmups=1) * 1e3


def seconds(
    function: Callable[[], object], how: Setting, repeats: int = 5, warmups: int = 2
) -> float:
    """Seconds of a long piece of work by the clock, until the device is done."""
    times = []
    for _ in range(warmups + repeats):
        start = time.perf_counter()
        function()
        if how.cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warmups:])


@torch.no_grad()
def distance(actual: Tensor, expected: Tensor) -> float:
    """The norm of the difference over the norm of what was expected."""
    wanted = expected.float()
    return float((actual.float() - wanted).norm() / wanted.norm())


class Wrong(Exception):
    """A result that is not right: its time says nothing."""


def checked(pairs: dict[str, tuple[Tensor, Tensor]], tolerance: float) -> float:
    """The largest distance of (actual, expected). Raises Wrong above the tolerance, and for NaN."""
    errors = {name: distance(*pair) for name, pair in pairs.items()}
    worst = max(errors, key=lambda name: errors[name])
    if not max(errors.values()) <= tolerance:
        raise Wrong(f"{worst} is wrong: relative error {errors[worst]:.1e} above {tolerance:.0e}")
    return errors[worst]


def peak_gb(how: Setting) -> float | None:
    """GB on the GPU at the peak since `reset_peak`; None on a CPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if how.cuda else None


def reset_peak(how: Setting) -> None:
    if how.cuda:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
