"""The likeliest token in Triton: the largest of each stretch of the vocabulary, then of those."""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.dependent_launch import begin, options, wait


@triton.jit
def _stretch_kernel(
    logits, forbidden, best, where, V, stretches, stride, BLOCK: tl.constexpr, EARLY: tl.constexpr
):
    begin(EARLY)
    s, b = tl.program_id(0), tl.program_id(1)
    token = s * BLOCK + tl.arange(0, BLOCK)
    inside = token < V
    taken = tl.load(forbidden + token, inside, 1).to(tl.int1)
    wait(EARLY)
    x = tl.load(logits + b.to(tl.int64) * stride + token, inside & ~taken, -float("inf"))
    largest, index = tl.max(x, axis=0, return_indices=True)
    tl.store(best + b * stretches + s, largest)
    tl.store(where + b * stretches + s, s * BLOCK + index)


@triton.jit
def _choose_kernel(best, where, out, stretches, PAD: tl.constexpr, EARLY: tl.constexpr):
    begin(EARLY)
    b = tl.program_id(0)
    s = tl.arange(0, PAD)
    wait(EARLY)
    x = tl.load(best + b * stretches + s, s < stretches, -float("inf"))
    _, index = tl.max(x, axis=0, return_indices=True)
    tl.store(out + b, tl.load(where + b * stretches + index).to(tl.int64))


BLOCK = 1024


def choose(logits: Tensor, forbidden: Tensor, out: Tensor) -> None:
    """Same contract as `likeliest`."""
    B, V = logits.shape
    stretches = triton.cdiv(V, BLOCK)
    best = torch.empty(B, stretches, dtype=torch.float32, device=logits.device)
    where = torch.empty(B, stretches, dtype=torch.int32, device=logits.device)
    _stretch_kernel[(stretches, B)](
        logits, forbidden, best, where, V, stretches, logits.stride(0),
        BLOCK=BLOCK, num_warps=4, **options(logits),
    )  # fmt: skip
    _choose_kernel[(B,)](
        best, where, out, stretches,
        PAD=triton.next_power_of_2(stretches), num_warps=1, **options(logits),
    )  # fmt: skip
