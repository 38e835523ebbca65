"""Products with one vector in Triton.

A program takes a few whole rows and issues its first loads of them before anything else, so that
many short programs keep the memory busy. The norm of the vector is computed in each program: its
weight multiplies the vector, its scale, one number, the sum. Everything is summed in float32.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.dependent_launch import options, wait


@dataclass(frozen=True)
class Tile:
    """What a program takes at a time: rows, and columns of them."""

    rows: int
    columns: int
    num_warps: int


TILE_ELEMENTS = 8192  # of a program, at least: 16 KB in bfloat16
PROGRAMS = 264  # that should not be too few to occupy an H200: two on each of its multiprocessors


def tile(weight: Tensor) -> Tile:
    """For a weight [M, K] of which programs take a few rows."""
    M, K = weight.shape
    columns = min(triton.next_power_of_2(K), 4096)
    rows = max(1, TILE_ELEMENTS // columns)
    while rows > 1 and triton.cdiv(M, rows) < PROGRAMS:
        rows //= 2
    return Tile(rows, columns, 4)


@triton.jit
def times_vector(
    weight, r, in_r, x, norm, eps,
    K: tl.constexpr, COLUMNS: tl.constexpr, NORM: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Rows r [R] of weight [M, K] times norm(x) [K]: [R] float32. Waits before it reads x."""
    k = tl.arange(0, COLUMNS)
    rows = weight + r.to(tl.int64)[:, None] * K + k[None, :]
    total = tl.zeros([r.shape[0], COLUMNS], tl.float32)
    squares = tl.zeros([COLUMNS], tl.float32)
    inside = in_r[:, None]
    if K < COLUMNS:
        inside = inside & (k < K)[None, :]
    w = tl.load(rows, inside, 0.0, eviction_policy="evict_first")
    wait(EARLY)
    for first in tl.static_range(0, K, COLUMNS):
        in_k = first + k < K
        if first > 0:
            inside = in_r[:, None]
            if first + COLUMNS > K:
                inside = inside & in_k[None, :]
            w = tl.load(rows + first, inside, 0.0, eviction_policy="evict_first")
        x_k = tl.load(x + first + k, in_k, 0.0).to(tl.float32)
        if NORM:
            squares += x_k * x_k
            x_k *= tl.load(norm + first + k, in_k, 0.0).to(tl.float32)
        total += w.to(tl.float32) * x_k[None, :]
    y = tl.sum(total, axis=1)
    if NORM:
        y *= 1.0 / tl.sqrt(tl.sum(squares, axis=0) / K + eps)
    return y


@triton.jit
def _linear_kernel(
    x, norm, weight, scale, bias, residual, y, M, eps, multiplier,
    K: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    NORM: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr, ADD: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    in_r = r < M
    out = times_vector(weight, r, in_r, x, norm, eps, K, COLUMNS, NORM, EARLY)
    if SCALE:
        out *= tl.load(scale + r, in_r, 0.0)
    if BIAS:
        out += tl.load(bias + r, in_r, 0.0).to(tl.float32)
    out *= multiplier
    if ADD:
        out += tl.load(residual + r, in_r, 0.0).to(tl.float32)
    tl.store(y + r, out.to(y.dtype.element_ty), in_r)


@triton.jit
def _swiglu_kernel(
    x, norm, weight, scale, y, F, eps,
    K: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    NORM: tl.constexpr, SCALE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """ROWS rows of gate, and as many of up: a row is beside its partner in the last step."""
    i = tl.arange(0, 2 * ROWS)
    f = tl.program_id(0) * ROWS + i // 2
    in_f = f < F
    r = f + (i % 2) * F
    both = times_vector(weight, r, in_f, x, norm, eps, K, COLUMNS, NORM, EARLY)
    if SCALE:
        both *= tl.load(scale + r, in_f, 0.0)
    gate, up = tl.split(tl.reshape(both, [ROWS, 2]))
    f = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    out = gate * tl.sigmoid(gate) * up
    tl.store(y + f, out.to(y.dtype.element_ty), f < F)


def linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    norm: tuple[Tensor, float] | None,
    residual: Tensor | None,
    multiplier: float,
    out_dtype: torch.dtype | None,
    tiled: Tile | None = None,
) -> Tensor:
    """Same contract as `gemv`."""
    M, K = weight.shape
    tiled = tiled or tile(weight)
    out_dtype = torch.float32 if residual is not None else out_dtype or x.dtype
    y = torch.empty((*x.shape[:-1], M), dtype=out_dtype, device=x.device)
    norm_weight, eps = norm or (x, 0.0)
    _linear_kernel[(triton.cdiv(M, tiled.rows),)](
        x.contiguous(), norm_weight, weight.contiguous(), x if scale is None else scale,
        x if bias is None else bias, x if residual is None else residual.contiguous(), y,
        M, eps, multiplier,
        K=K, ROWS=tiled.rows, COLUMNS=tiled.columns, NORM=norm is not None,
        SCALE=scale is not None, BIAS=bias is not None, ADD=residual is not None,
        num_warps=tiled.num_warps, **options(x),
    )  # fmt: skip
    return y


def swiglu(
    x: Tensor,
    gate_up: Tensor,
    scale: Tensor | None,
    norm: tuple[Tensor, float] | None,
    out_dtype: torch.dtype | None,
    tiled: Tile | None = None,
) -> Tensor:
    """Same contract as `gemv_swiglu`."""
    F, K = gate_up.shape[0] // 2, gate_up.shape[1]
    tiled = tiled or tile(gate_up)
    rows = max(1, tiled.rows // 2)
    y = torch.empty((*x.shape[:-1], F), dtype=out_dtype or x.dtype, device=x.device)
    norm_weight, eps = norm or (x, 0.0)
    _swiglu_kernel[(triton.cdiv(F, rows),)](
        x.contiguous(), norm_weight, gate_up.contiguous(), x if scale is None else scale, y,
        F, eps,
        K=K, ROWS=rows, COLUMNS=tiled.columns, NORM=norm is not None, SCALE=scale is not None,
        num_warps=tiled.num_warps, **options(x),
    )  # fmt: skip
    return y
