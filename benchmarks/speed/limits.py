"""What the device allows, measured on it in the same run: products, bytes, exponentials."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from benchmarks.speed.rows import Setting
from benchmarks.speed.timing import kernel_ms


@dataclass(frozen=True)
class Limits:
    flops: float  # of a bfloat16 (on a CPU float32) matrix product, per second
    bytes: float  # read and written by a copy, per second
    exponentials: float  # exp2 per second


@cache
def measured(how: Setting) -> Limits:
    """Of this device. A few seconds on a GPU."""
    size = 8192 if how.cuda else 512
    a, b = (torch.randn(size, size, device=how.device, dtype=how.dtype) for _ in "ab")
    flops = 2 * size**3 / kernel_ms(lambda: a @ b, how) * 1e3
    source = torch.randn((512 if how.cuda else 16) << 20, device=how.device, dtype=how.dtype)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    copied = moved / kernel_ms(lambda: target.copy_(source), how) * 1e3
    return Limits(flops, copied, _exponentials(how))


def _exponentials(how: Setting) -> float:
    if how.cuda:
        from benchmarks.speed.exponentials_triton import ROUNDS, chains

        lanes = 132 * 2048 * 8  # every multiprocessor of an H200 full, eight times over
        x = torch.rand(lanes, device="cuda")
        return lanes * ROUNDS / kernel_ms(lambda: chains(x), how) * 1e3
    x = torch.rand(1 << 20)
    return x.numel() / kernel_ms(lambda: torch.exp2(x), how) * 1e3
