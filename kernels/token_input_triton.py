"""The embedding of one token and the rotation of its position in Triton, a launch each."""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _embed_kernel(
    token, table, scale, out, D, multiplier, SCALE: tl.constexpr, BLOCK: tl.constexpr
):
    d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(token)
    x = tl.load(table + row * D + d, d < D, 0.0).to(tl.float32) * multiplier
    if SCALE:
        x *= tl.load(scale + row)
    tl.store(out + d, x, d < D)


BLOCK = 512  # elements of a program


def embed(token: Tensor, table: Tensor, scale: Tensor | None, multiplier: float) -> Tensor:
    """Same contract as `token_input`."""
    D = table.shape[1]
    out = torch.empty((1, 1, D), dtype=torch.float32, device=table.device)
    _embed_kernel[(triton.cdiv(D, BLOCK),)](
        token, table, table if scale is None else scale, out, D, multiplier,
        SCALE=scale is not None, BLOCK=BLOCK, num_warps=4,
    )  # fmt: skip
    return out


@triton.jit
def _rotation_kernel(position, frequencies, cos, sin, R, R_PAD: tl.constexpr):
    i = tl.arange(0, R_PAD)
    angle = tl.load(position).to(tl.float64) * tl.load(frequencies + i, i < R, 0.0)
    tl.store(cos + i, tl.cos(angle).to(tl.float32), i < R)
    tl.store(sin + i, tl.sin(angle).to(tl.float32), i < R)


def rotation(position: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Same contract as `token_rotation`."""
    R = len(frequencies)
    cos = torch.empty((1, R), dtype=torch.float32, device=position.device)
    sin = torch.empty_like(cos)
    _rotation_kernel[(1,)](
        position, frequencies, cos, sin, R, R_PAD=triton.next_power_of_2(R), num_warps=1
    )  # fmt: skip
    return cos, sin
