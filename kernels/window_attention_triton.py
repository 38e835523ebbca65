"""Sliding-window attention in Triton: the forward pass and the decode step.

FlashAttention-2 (Dao 2023), algorithm 1, over the band only: the program of a tile of queries
visits the key blocks that meet its band, and masks only those at the band's two edges. Blocks
that hold sinks (Xiao et al. 2023, arXiv 2309.17453) come first, and the band begins after them.
A tile holds the query heads that share a key head side by side: its band is as much shorter as
it has heads. Keys and values come through tensor descriptors, which Hopper's copy engine reads
on its own (FlashAttention-3, Shah et al. 2024, section 3.1); plain loads stand in for them.
Scores are kept in base 2 (scale times log2 e), the softmax and both accumulators in fp32.
The decode step splits the slots over the whole GPU and joins the stretches in a second launch.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from samba_cli.kernels.dependent_launch import ask_for, begin, options, wait

try:
    from triton.tools.tensor_descriptor import TensorDescriptor
except ImportError:  # before Triton 3.4
    TensorDescriptor = None

LOG2_E = 1.4426950408889634
# A masked score: finite, so that a row that has seen only masked keys stays free of NaN. What
# such a row sums up is multiplied by 0 as soon as it meets a visible key, and each row meets one.
# A power of two: its product with the scale is exact, so fused and rounded products are the same.
MASKED_SCORE = tl.constexpr(-(2.0**100))
# In fp32 the matrix units stand still, and how keys arrive does not matter.
DESCRIBED_DTYPES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Blocks:
    """Tile of a kernel: query rows, keys, and how the compiler spreads them."""

    queries: int
    keys: int
    num_warps: int
    num_stages: int


def forward_blocks(rows: int, head_dim: int, dtype: torch.dtype) -> Blocks:
    """Blocks of the forward kernel for a key head with so many rows: queries times its heads.

    Few distinct answers, so that lengths do not recompile.
    """
    if dtype == torch.float32:  # multiply-adds without tensor cores: registers are the limit
        most = 64 if head_dim <= 64 else 32 if head_dim <= 128 else 16
        return Blocks(16 if rows <= 16 else most, 32, 8, 1)
    if head_dim > 128:  # shared memory and registers are the limit
        if rows <= 16:
            return Blocks(16, 64, 4, 2)
        return Blocks(64, 32, 8, 2) if rows <= 64 else Blocks(128, 32, 8, 3)
    if rows <= 16:
        return Blocks(16, 64, 4, 3)
    return Blocks(64, 64, 4, 3) if rows <= 64 else Blocks(128, 64, 8, 3)


def heads_of_a_tile(group: int) -> int:
    """Query heads that lie side by side in a tile: a power of two that divides their number."""
    return group & -group


@triton.jit
def _key_block(
    source, n, i_b, i_h, stride_b, stride_t, stride_h, S,
    ROWS: tl.constexpr, D: tl.constexpr, DESCRIBED: tl.constexpr,
):  # fmt: skip
    """[ROWS, D] from key n on, zeros past S: of a descriptor, or of a pointer and its strides."""
    if DESCRIBED:
        return source.load([i_b, n, i_h, 0]).reshape(ROWS, D)
    else:
        at = n + tl.arange(0, ROWS)
        base = source + tl.cast(i_b, tl.int64) * stride_b + tl.cast(i_h, tl.int64) * stride_h
        tile = base + at.to(tl.int64)[:, None] * stride_t + tl.arange(0, D)[None, :]
        return tl.load(tile, mask=(at < S)[:, None], other=0.0)


@triton.jit(do_not_specialize=["T", "S", "window", "sinks"])
def _forward_kernel(
    q_ptr, keys, values, o_ptr, lse_ptr,
    T, S, H, window, sinks, scale_log2,
    stride_qb, stride_qt, stride_qh,
    stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh,
    GROUP: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, SINKS: tl.constexpr, DESCRIBED: tl.constexpr,
):  # fmt: skip
    QUERIES: tl.constexpr = BLOCK_M // HEADS
    i_m = tl.num_programs(0) - 1 - tl.program_id(0)  # later queries see more keys: they go first
    i_h = tl.program_id(1) % (H // HEADS) * HEADS  # the first head of the tile
    i_b = tl.program_id(1) // (H // HEADS)
    past = S - T
    first = past + i_m * QUERIES  # key index of the tile's first and last query
    last = past + tl.minimum(i_m * QUERIES + QUERIES, T) - 1

    row = tl.arange(0, BLOCK_M)
    t = i_m * QUERIES + row // HEADS
    h = (i_h + row % HEADS).to(tl.int64)
    d = tl.arange(0, D)
    t64, b64 = t.to(tl.int64), i_b.to(tl.int64)
    inside = (t < T)[:, None]
    q_rows = b64 * stride_qb + t64 * stride_qt + h * stride_qh
    q = tl.load(q_ptr + q_rows[:, None] + d[None, :], mask=inside, other=0.0)
    query_at = past + t

    # Key blocks [lo, full_lo) cut the window's far edge, [full_hi, last] the diagonal; in
    # between every query of the tile sees every key.
    lo = tl.maximum(first - window + 1, 0) // BLOCK_N * BLOCK_N
    full_lo = tl.cdiv(tl.maximum(last - window + 1, 0), BLOCK_N) * BLOCK_N
    sink_blocks = 0
    if SINKS:
        after_sinks = tl.cdiv(sinks, BLOCK_N) * BLOCK_N
        lo = tl.maximum(lo, after_sinks)
        full_lo = tl.maximum(full_lo, after_sinks)
        sink_blocks = tl.cdiv(tl.minimum(after_sinks, last + 1), BLOCK_N)
    full_hi = tl.maximum(full_lo, (first + 1) // BLOCK_N * BLOCK_N)
    blocks = sink_blocks + tl.cdiv(tl.maximum(last + 1 - lo, 0), BLOCK_N)

    acc = tl.zeros([BLOCK_M, D], dtype=tl.float32)
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    peak = tl.full([BLOCK_M], MASKED_SCORE, dtype=tl.float32)
    # One loop for all blocks, so that its loads stay ahead of it from the first to the last; a
    # branch that the whole program takes alike spares the blocks in between the mask.
    for i in range(blocks):
        n = lo + (i - sink_blocks) * BLOCK_N
        if SINKS:
            n = tl.where(i < sink_blocks, i * BLOCK_N, n)
        k = _key_block(
            keys, n, i_b, i_h // GROUP, stride_kb, stride_kt, stride_kh, S, BLOCK_N, D, DESCRIBED
        )
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        if (n < full_lo) | (n >= full_hi):
            key_at = n + tl.arange(0, BLOCK_N)
            distance = query_at[:, None] - key_at[None, :]
            near = distance < window
            if SINKS:
                near = near | (key_at < sinks)[None, :]
            scores = tl.where((distance >= 0) & near, scores, MASKED_SCORE)
        v = _key_block(
            values, n, i_b, i_h // GROUP, stride_vb, stride_vt, stride_vh, S, BLOCK_N, D, DESCRIBED
        )
        new_peak = tl.maximum(peak, tl.max(scores, axis=1) * scale_log2)
        p = tl.exp2(scores * scale_log2 - new_peak[:, None])
        fade = tl.exp2(peak - new_peak)
        total = total * fade + tl.sum(p, axis=1)
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        peak = new_peak

    o_rows = (b64 * T + t64) * H + h
    tl.store(
        o_ptr + o_rows[:, None] * D + d[None, :],
        (acc / total[:, None]).to(o_ptr.dtype.element_ty),
        mask=inside,
    )
    tl.store(lse_ptr + (b64 * H + h) * T + t64, peak + tl.log2(total), mask=t < T)


def unit_last(tensor: torch.Tensor) -> torch.Tensor:
    """The kernels take any strides but in the last dimension, where they load vectors."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def limits(window: int | None, sinks: int, S: int) -> tuple[int, int]:
    """Window and sinks as the kernels take them. Without a far edge there are no sinks to keep."""
    if window is None or window >= S:
        return S, 0
    return window, min(sinks, S)


def _described(tensor: torch.Tensor, rows: int) -> Any:
    """[B, S, Hkv, d] as blocks of rows of one head, for the copy engine; None where it cannot.

    It wants addresses and strides of whole 16 bytes.
    """
    if TensorDescriptor is None or tensor.dtype not in DESCRIBED_DTYPES:
        return None
    size, d = tensor.element_size(), tensor.shape[-1]
    # The stride of a dimension of one element is never used, and may be anything.
    strides = [tensor.stride(i) if tensor.shape[i] > 1 else d for i in range(3)]
    if tensor.data_ptr() % 16 or any(not stride or stride * size % 16 for stride in strides):
        return None
    return TensorDescriptor(tensor, list(tensor.shape), [*strides, 1], [1, rows, 1, d])


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None,
    scale: float,
    sinks: int = 0,
    blocks: Blocks | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output [B, T, H, d], and per row the log2 of the sum of 2^score: [B, H, T], fp32."""
    batch, T, H, d = q.shape
    S, H_kv = k.shape[1:3]
    q, k, v = unit_last(q), unit_last(k), unit_last(v)
    heads = heads_of_a_tile(H // H_kv)
    blocks = blocks or forward_blocks(T * heads, d, q.dtype)
    heads = min(heads, blocks.queries)
    o = torch.empty(batch, T, H, d, dtype=q.dtype, device=q.device)
    lse = torch.empty(batch, H, T, dtype=torch.float32, device=q.device)
    window, sinks = limits(window, sinks, S)
    keys, values = _described(k, blocks.keys), _described(v, blocks.keys)
    described = keys is not None and values is not None
    _forward_kernel[(triton.cdiv(T, blocks.queries // heads), batch * H // heads)](
        q, keys if described else k, values if described else v, o, lse,
        T, S, H, window, sinks, scale * LOG2_E,
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3],
        GROUP=H // H_kv, HEADS=heads, D=d, BLOCK_M=blocks.queries, BLOCK_N=blocks.keys,
        SINKS=sinks > 0, DESCRIBED=described,
        num_warps=blocks.num_warps, num_stages=blocks.num_stages,
    )  # fmt: skip
    return o, lse


@triton.jit(do_not_specialize=["count", "n_splits"])
def _decode_kernel(
    q_ptr, k_ptr, v_ptr, count_ptr, o_ptr, partial_ptr, peak_ptr, total_ptr,
    count, n_splits, H_kv, scale_log2,
    stride_qb, stride_qh,
    stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh,
    COUNT_IN_MEMORY: tl.constexpr, SPLIT: tl.constexpr, GROUP: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_N: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """The queries of one key head over one of `n_splits` equal stretches of the slots."""
    begin(EARLY)
    i_s = tl.program_id(0)
    i_k = (tl.program_id(1) % H_kv).to(tl.int64)
    i_b = (tl.program_id(1) // H_kv).to(tl.int64)
    if COUNT_IN_MEMORY:
        count = tl.load(count_ptr).to(tl.int32)
    lo, hi = 0, count
    if SPLIT:  # the stretches follow the count, so that few slots occupy all programs too
        chunk = tl.cdiv(tl.cdiv(count, BLOCK_N), n_splits) * BLOCK_N
        lo = i_s * chunk
        hi = tl.minimum(lo + chunk, count)
    g = tl.arange(0, BLOCK_G)
    d = tl.arange(0, BLOCK_D)
    slots = tl.arange(0, BLOCK_N)
    heads = i_k * GROUP + g
    group = (g < GROUP)[:, None]
    if D < BLOCK_D:
        group = group & (d < D)[None, :]
    k_base = k_ptr + i_b * stride_kb + i_k * stride_kh
    v_base = v_ptr + i_b * stride_vb + i_k * stride_vh
    if EARLY:
        for n in range(lo, hi, BLOCK_N):
            at = tl.minimum(n + slots, count - 1)
            ask_for(k_base, at, 0, stride_kt, D - 1, BLOCK_D, EARLY)
            ask_for(v_base, at, 0, stride_vt, D - 1, BLOCK_D, EARLY)
    wait(EARLY)
    q = tl.load(
        q_ptr + i_b * stride_qb + heads[:, None] * stride_qh + d[None, :], mask=group, other=0.0
    )
    k_tile = k_base + slots.to(tl.int64)[:, None] * stride_kt + d[None, :]
    v_tile = v_base + slots.to(tl.int64)[:, None] * stride_vt + d[None, :]

    acc = tl.zeros([BLOCK_G, BLOCK_D], dtype=tl.float32)
    total = tl.zeros([BLOCK_G], dtype=tl.float32)
    peak = tl.full([BLOCK_G], MASKED_SCORE, dtype=tl.float32)
    for n in range(lo, hi, BLOCK_N):
        at = tl.cast(n, tl.int64)
        valid = n + slots < count
        inside = valid[:, None]
        if D < BLOCK_D:
            inside = inside & (d < D)[None, :]
        k = tl.load(k_tile + at * stride_kt, mask=inside, other=0.0)
        v = tl.load(v_tile + at * stride_vt, mask=inside, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
        scores = tl.where(valid[None, :], scores, MASKED_SCORE)
        new_peak = tl.maximum(peak, tl.max(scores, axis=1))
        p = tl.exp2(scores - new_peak[:, None])
        fade = tl.exp2(peak - new_peak)
        total = total * fade + tl.sum(p, axis=1)
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        peak = new_peak

    rows = i_b * H_kv * GROUP + heads
    if SPLIT:
        part = rows * n_splits + i_s
        tl.store(partial_ptr + part[:, None] * D + d[None, :], acc, mask=group)
        tl.store(peak_ptr + part, peak, mask=g < GROUP)
        tl.store(total_ptr + part, total, mask=g < GROUP)
    else:
        out = (acc / total[:, None]).to(o_ptr.dtype.element_ty)
        tl.store(o_ptr + rows[:, None] * D + d[None, :], out, mask=group)


@triton.jit(do_not_specialize=["n_splits"])
def _combine_kernel(
    partial_ptr, peak_ptr, total_ptr, o_ptr, n_splits,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_S: tl.constexpr, STEP: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """Join the stretches of one query head. Stretches past the count weigh 2^-1e30 = 0."""
    begin(EARLY)
    row = tl.program_id(0).to(tl.int64)
    every = tl.arange(0, BLOCK_S)
    d = tl.arange(0, BLOCK_D)
    wait(EARLY)
    all_peaks = tl.load(
        peak_ptr + row * n_splits + every, mask=every < n_splits, other=MASKED_SCORE
    )
    totals = tl.load(total_ptr + row * n_splits + every, mask=every < n_splits, other=0.0)
    peak = tl.max(all_peaks, axis=0)
    total = tl.sum(tl.exp2(all_peaks - peak) * totals, axis=0)
    out = tl.zeros([BLOCK_D], dtype=tl.float32)
    for first in range(0, n_splits, STEP):
        s = first + tl.arange(0, STEP)
        part = row * n_splits + s
        inside = (s < n_splits)[:, None] & (d < D)[None, :]
        partial = tl.load(partial_ptr + part[:, None] * D + d[None, :], mask=inside, other=0.0)
        peaks = tl.load(peak_ptr + part, mask=s < n_splits, other=MASKED_SCORE)
        out += tl.sum(partial * tl.exp2(peaks - peak)[:, None], axis=0)
    tl.store(o_ptr + row * D + d, (out / total).to(o_ptr.dtype.element_ty), mask=d < D)


DECODE_PROGRAMS = 264  # enough to occupy an H200: two on each of its 132 multiprocessors
ONE_LAUNCH = 256  # slots that one program visits sooner than a second launch would begin


def decode_splits(slots: int, programs: int, block: int) -> int:
    """Stretches that `slots` slots are cut into, where `programs` programs run for each of them."""
    if slots <= ONE_LAUNCH:
        return 1
    return max(1, min(triton.cdiv(slots, block), DECODE_PROGRAMS // programs))


def decode(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    count: int | torch.Tensor,
    scale: float,
    n_splits: int | None = None,
    chained: bool = False,
) -> torch.Tensor:
    """One query over the first `count` slots. A count in memory never decides the grid.

    `chained`: the kernels before and after belong to one chain (see `dependent_launch`), whose
    first kernel comes after the count was written.
    """
    launch = options(q) if chained else {"EARLY": False}
    batch, _, H, d = q.shape
    W, H_kv = keys.shape[1:3]
    q, keys, values = unit_last(q), unit_last(keys), unit_last(values)
    in_memory = isinstance(count, torch.Tensor)
    row_bytes = triton.next_power_of_2(d) * q.element_size()
    block = 64 if row_bytes <= 256 else 32  # so that two programs fit a multiprocessor
    if n_splits is None:
        n_splits = decode_splits(W if in_memory else count, batch * H_kv, block)
    split = n_splits > 1
    o = torch.empty(batch, 1, H, d, dtype=q.dtype, device=q.device)
    partial, peaks, totals = o, o, o
    if split:
        partial = torch.empty(batch * H, n_splits, d, dtype=torch.float32, device=q.device)
        peaks = torch.empty(batch * H, n_splits, dtype=torch.float32, device=q.device)
        totals = torch.empty_like(peaks)
    block_d = max(16, triton.next_power_of_2(d))
    _decode_kernel[(n_splits, batch * H_kv)](
        q, keys, values, count if in_memory else q, o, partial, peaks, totals,
        0 if in_memory else count, n_splits, H_kv, scale * LOG2_E,
        q.stride(0), q.stride(2), *keys.stride()[:3], *values.stride()[:3],
        COUNT_IN_MEMORY=in_memory, SPLIT=split, GROUP=H // H_kv,
        D=d, BLOCK_D=block_d, BLOCK_G=max(16, triton.next_power_of_2(H // H_kv)), BLOCK_N=block,
        num_warps=4, num_stages=3 if row_bytes <= 512 else 2, **launch,
    )  # fmt: skip
    if split:
        _combine_kernel[(batch * H,)](
            partial, peaks, totals, o, n_splits,
            D=d, BLOCK_D=block_d, BLOCK_S=triton.next_power_of_2(n_splits), STEP=16, num_warps=4,
            **launch,
        )  # fmt: skip
    return o
