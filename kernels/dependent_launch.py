"""Programmatic dependent launch: a kernel starts while the ones before it still run.

In a chain of short kernels the start and the end of each leave the memory idle. On NVIDIA GPUs from
Hopper on, a kernel launched with `options(x)` may start as soon as all programs of the one before
it have (CUDA C++ programming guide, "Programmatic Dependent Launch and Synchronization"). It then
loads its weights, which nothing in the chain writes, has more of them fetched to L2 (`ask_for`),
and calls `wait` before it touches anything that an earlier kernel makes. Every kernel of a chain
waits, so when one has waited, all before it are done.
"""

# Triton's types do not know what its language does to a function.
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from samba_cli.kernels.dispatch import interpreted


@triton.jit
def begin(EARLY: tl.constexpr):
    """Let the next kernel of the chain start, where this one was launched EARLY."""
    if EARLY:
        gdc_launch_dependents()


@triton.jit
def wait(EARLY: tl.constexpr):
    """Until all kernels before this one are done."""
    if EARLY:
        gdc_wait()


@triton.jit
def ask_for(ptr, r, first, stride, last, COUNT: tl.constexpr, EARLY: tl.constexpr):
    """Have COUNT elements of each row r of a matrix, from column `first` on, fetched to L2.

    Meanwhile the kernel goes on. Columns past `last` count as that one. What another kernel writes
    there in the meantime is still what a later load sees: L2 is where all of them meet.
    """
    ASK: tl.constexpr = EARLY and COUNT > 0
    if ASK:
        LINE: tl.constexpr = 1024 // ptr.dtype.element_ty.primitive_bitwidth  # 128 bytes
        LINES: tl.constexpr = (COUNT + LINE - 1) // LINE
        column = tl.minimum(first + tl.arange(0, LINES) * LINE, last)
        at = ptr + r.to(tl.int64)[:, None] * stride + column[None, :]
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.b32 $0, 0;", "=r,l", [at.to(tl.int64)],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@cache
def _possible(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (9, 0)


def options(x: torch.Tensor) -> dict[str, Any]:
    """Launch options and the constant EARLY for a kernel of a chain on x's device."""
    early = x.is_cuda and not interpreted() and _possible(x.device)
    return {"EARLY": True, "launch_pdl": True} if early else {"EARLY": False}
