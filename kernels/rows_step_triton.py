"""Products of a few rows in Triton: what decoding a batch of up to 16 texts is made of.

The weights are read once for all rows, by tensor cores, so a step is bound by reading them as it is
for one text. The kernels of a step form a chain (`dependent_launch`): each product asks for its
first weights before it waits for the kernel before it. They are asked for into L2, which costs
neither registers nor shared memory, and which nothing can make stale.

A product whose rows do not fill the device is cut along its columns. Its parts are left in float32
and added up by the kernel that follows: the norm (with the residual), which is here too, the
rotation (`attention_rows_triton`), or the scan (`mamba_rows_triton`).

B rows (texts), M outputs, K inputs of a product, S parts, D width of the residual stream.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.dependent_launch import ask_for, begin, options, wait

BATCH = 16  # rows that a product has room for: the fewest that tensor cores multiply
ROWS = 64  # of a weight, of a program: what one instruction of the tensor cores takes
# What decodes 16 texts with a model of 1.7B fastest on an H100 (benchmarks/RESULTS.md, 2026-11-26).
COLUMNS, STAGES = 256, 3  # of a weight at a time, and how many such blocks are under way
PAIR_COLUMNS, PAIR_STAGES = 128, 3  # the same where a program has two weights
AHEAD = 512  # columns of every row that are asked for before waiting
PROGRAMS = 160  # beyond which a product is not cut further
LEAST_PART = 512  # columns


@triton.jit
def _block(ptr, at, i, k, K: tl.constexpr, EVEN: tl.constexpr):
    if EVEN:
        return tl.load(ptr + at + i)
    return tl.load(ptr + at + i, (k + i < K)[None, :], 0.0)


@triton.jit
def product(
    x, weight, r, first, B,
    K: tl.constexpr, PART: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr,
    BATCH: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Rows r of weight [M, K] times x [B, K]: [ROWS, BATCH], over PART columns from `first` on."""
    k, b = first + tl.arange(0, COLUMNS), tl.minimum(tl.arange(0, BATCH), B - 1)
    w_at = r.to(tl.int64)[:, None] * K + k[None, :]
    x_at = b[:, None] * K + k[None, :]
    acc = tl.zeros([ROWS, BATCH], tl.float32)
    for i in tl.range(0, PART, COLUMNS, num_stages=STAGES):
        w = _block(weight, w_at, i, k, K, EVEN)
        v = _block(x, x_at, i, k, K, EVEN)
        acc = tl.dot(w, tl.trans(v), acc, input_precision="ieee")
    return acc


@triton.jit(do_not_specialize=["B"])
def _linear_kernel(
    x, weight, y, B, M, multiplier,
    K: tl.constexpr, PART: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr,
    BATCH: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr, AHEAD: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    begin(EARLY)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(1) * PART
    r = tl.minimum(rows, M - 1)
    ask_for(weight, r, first, K, K - 1, AHEAD, EARLY)
    wait(EARLY)
    acc = product(x, weight, r, first, B, K, PART, EVEN, ROWS, BATCH, COLUMNS, STAGES)
    b = tl.arange(0, BATCH)
    at = (tl.program_id(1) * B + b).to(tl.int64)[None, :] * M + rows[:, None]
    inside = (rows < M)[:, None] & (b < B)[None, :]
    tl.store(y + at, (acc * multiplier).to(y.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["B"])
def _swiglu_kernel(
    x, weight, y, B, F,
    K: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr, BATCH: tl.constexpr,
    COLUMNS: tl.constexpr, STAGES: tl.constexpr, AHEAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Rows of gate and the same of up, which lie F rows further down in the weight."""
    begin(EARLY)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    r = tl.minimum(rows, F - 1)
    ask_for(weight, r, 0, K, K - 1, AHEAD, EARLY)
    ask_for(weight, r + F, 0, K, K - 1, AHEAD, EARLY)
    wait(EARLY)
    k, b = tl.arange(0, COLUMNS), tl.arange(0, BATCH)
    w_at = r.to(tl.int64)[:, None] * K + k[None, :]
    x_at = tl.minimum(b, B - 1)[:, None] * K + k[None, :]
    below = weight + F.to(tl.int64) * K
    gate = tl.zeros([ROWS, BATCH], tl.float32)
    up = tl.zeros([ROWS, BATCH], tl.float32)
    for i in tl.range(0, K, COLUMNS, num_stages=STAGES):
        v = tl.trans(_block(x, x_at, i, k, K, EVEN))
        gate = tl.dot(_block(weight, w_at, i, k, K, EVEN), v, gate, input_precision="ieee")
        up = tl.dot(_block(below, w_at, i, k, K, EVEN), v, up, input_precision="ieee")
    out = gate * tl.sigmoid(gate) * up
    inside = (rows < F)[:, None] & (b < B)[None, :]
    tl.store(y + b[None, :] * F + rows[:, None], out.to(y.dtype.element_ty), inside)


@triton.jit(do_not_specialize=["B"])
def _norm_kernel(
    x, parts, weight, total, y, B, D, S, eps, multiplier,
    BLOCK_D: tl.constexpr, S_PAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The residual stream of a row with the parts of a product added, and its norm."""
    begin(EARLY)
    row = tl.program_id(0)
    d = tl.arange(0, BLOCK_D)
    in_d = d < D
    scale = tl.load(weight + d, in_d, 0.0).to(tl.float32)
    wait(EARLY)
    v = tl.load(x + row * D + d, in_d, 0.0).to(tl.float32)
    if S_PAD > 0:
        for s in tl.static_range(S_PAD):
            if s < S:
                part = tl.load(parts + (s * B + row) * D + d, in_d, 0.0)
                v += part * multiplier
        tl.store(total + row * D + d, v, in_d)
    v *= 1.0 / tl.sqrt(tl.sum(v * v, axis=0) / D + eps)
    tl.store(y + row * D + d, (v * scale).to(y.dtype.element_ty), in_d)


def splits(M: int, K: int) -> int:
    """Parts that the columns of a weight [M, K] are cut into, so that its programs fill a GPU."""
    tiles, parts = triton.cdiv(M, ROWS), 1
    while tiles * parts * 2 <= PROGRAMS and K % (parts * 2 * COLUMNS) == 0:
        if K // (parts * 2) < LEAST_PART:
            break
        parts *= 2
    return parts


def ahead(part: int) -> int:
    """Columns to ask for, of `part` that a program multiplies."""
    return min(AHEAD, triton.next_power_of_2(part))


def linear(
    x: Tensor, weight: Tensor, parts: int = 1, multiplier: float = 1.0,
    out_dtype: torch.dtype = torch.float32,
) -> Tensor:  # fmt: skip
    """multiplier * x [B, 1, K] @ weight [M, K]^T in `parts` sums: [parts, B, 1, M]."""
    B, (M, K) = len(x), weight.shape
    assert B <= BATCH
    part = triton.cdiv(K, parts)
    y = torch.empty((parts, B, 1, M), dtype=out_dtype, device=x.device)
    _linear_kernel[(triton.cdiv(M, ROWS), parts)](
        x.contiguous(), weight.contiguous(), y, B, M, multiplier,
        K=K, PART=part, EVEN=part % COLUMNS == 0, ROWS=ROWS, BATCH=BATCH, COLUMNS=COLUMNS,
        STAGES=STAGES, AHEAD=ahead(part), num_warps=4, **options(x),
    )  # fmt: skip
    return y


def cut_linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, 1, K] @ weight [M, K]^T as parts [S, B, 1, M] float32, whose sum it is."""
    return linear(x, weight, splits(*weight.shape))


def swiglu(x: Tensor, gate_up: Tensor) -> Tensor:
    """silu(gate x) * up x for x [B, 1, K], gate_up [2 F, K]: [B, 1, F] in x's dtype."""
    B, F, K = len(x), gate_up.shape[0] // 2, gate_up.shape[1]
    assert B <= BATCH
    y = torch.empty((B, 1, F), dtype=x.dtype, device=x.device)
    _swiglu_kernel[(triton.cdiv(F, ROWS),)](
        x.contiguous(), gate_up.contiguous(), y, B, F,
        K=K, EVEN=K % PAIR_COLUMNS == 0, ROWS=ROWS, BATCH=BATCH, COLUMNS=PAIR_COLUMNS,
        STAGES=PAIR_STAGES, AHEAD=ahead(K) // 2, num_warps=4, **options(x),
    )  # fmt: skip
    return y


def add_norm(
    x: Tensor, parts: Tensor | None, weight: Tensor, eps: float, multiplier: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x [B, 1, D] float32 + multiplier * the sum of parts [S, B, 1, D], and the norm of that."""
    B, D = len(x), x.shape[-1]
    x = x.contiguous()
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    total = x if parts is None else torch.empty_like(x)
    S = 0 if parts is None else len(parts)
    _norm_kernel[(B,)](
        x, x if parts is None else parts, weight, total, y, B, D, S, eps, multiplier,
        BLOCK_D=triton.next_power_of_2(D), S_PAD=triton.next_power_of_2(S) if S else 0,
        num_warps=8, **options(x),
    )  # fmt: skip
    return total, y
