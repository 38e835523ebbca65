"""Sliding-window attention in Triton: the forward pass and the decode step.

FlashAttention-2 (Dao 2023), algorithm 1, over the band only: the program of a query block
visits the key blocks that meet its band, and masks only those at the band's two edges. Blocks
that hold sinks (Xiao et al. 2023, arXiv 2309.17453) come first, and the band begins after them.
Scores are kept in base 2 (scale times log2 e), the softmax and both accumulators in fp32.
The decode step splits the slots over the whole GPU and joins the stretches in a second launch.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

LOG2_E = 1.4426950408889634
# A masked score: finite, so that a row that has seen only masked keys stays free of NaN. What
# such a row sums up is multiplied by 0 as soon as it meets a visible key, and each row meets one.
MASKED_SCORE = tl.constexpr(-1.0e30)


@dataclass(frozen=True)
class Blocks:
    """Tile of a kernel: query rows, keys, and how the compiler spreads them."""

    queries: int
    keys: int
    num_warps: int
    num_stages: int


def forward_blocks(T: int, head_dim: int, dtype: torch.dtype) -> Blocks:
    """Blocks of the forward kernel. Few distinct answers, so that lengths do not recompile."""
    if dtype == torch.float32:  # multiply-adds without tensor cores: registers are the limit
        rows = 64 if head_dim <= 64 else 32 if head_dim <= 128 else 16
        return Blocks(16 if T <= 16 else rows, 32, 8, 1)
    if head_dim > 128:  # shared memory and registers are the limit
        if T <= 16:
            return Blocks(16, 64, 4, 2)
        return Blocks(64, 32, 8, 2) if T <= 64 else Blocks(128, 32, 8, 3)
    if T <= 16:
        return Blocks(16, 64, 4, 3)
    if T <= 64:
        return Blocks(64, 64, 4, 3)
    return Blocks(128, 64, 4, 3) if head_dim <= 64 else Blocks(128, 64, 8, 3)


@triton.jit
def _visit(
    acc, total, peak, q, k_tile, v_tile, key_rows, query_at, lo, hi,
    S, stride_kt, stride_vt, scale_log2, window, sinks,
    BLOCK_N: tl.constexpr, MASKED: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    """Online softmax over the key blocks lo, lo + BLOCK_N, ... < hi."""
    for n in range(lo, hi, BLOCK_N):
        at = tl.cast(n, tl.int64)
        if MASKED:
            key_at = n + key_rows
            inside = (key_at < S)[:, None]
            k = tl.load(k_tile + at * stride_kt, mask=inside, other=0.0)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
            distance = query_at[:, None] - key_at[None, :]
            near = distance < window
            if SINKS:
                near = near | (key_at < sinks)[None, :]
            visible = (distance >= 0) & near
            scores = tl.where(visible, scores, MASKED_SCORE)
            new_peak = tl.maximum(peak, tl.max(scores, axis=1))
            p = tl.exp2(scores - new_peak[:, None])
            v = tl.load(v_tile + at * stride_vt, mask=inside, other=0.0)
        else:
            k = tl.load(k_tile + at * stride_kt)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee")
            new_peak = tl.maximum(peak, tl.max(scores, axis=1) * scale_log2)
            p = tl.exp2(scores * scale_log2 - new_peak[:, None])
            v = tl.load(v_tile + at * stride_vt)
        fade = tl.exp2(peak - new_peak)
        total = total * fade + tl.sum(p, axis=1)
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        peak = new_peak
    return acc, total, peak


@triton.jit(do_not_specialize=["T", "S", "window", "sinks"])
def _forward_kernel(
    q_ptr, k_ptr, v_ptr, o_ptr, lse_ptr,
    T, S, H, window, sinks, scale_log2,
    stride_qb, stride_qt, stride_qh,
    stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    SINKS: tl.constexpr,
):  # fmt: skip
    i_m = tl.num_programs(0) - 1 - tl.program_id(0)  # later queries see more keys: they go first
    i_h = (tl.program_id(1) % H).to(tl.int64)
    i_b = (tl.program_id(1) // H).to(tl.int64)
    past = S - T
    first = past + i_m * BLOCK_M  # key index of the block's first and last query
    last = past + tl.minimum(i_m * BLOCK_M + BLOCK_M, T) - 1

    rows = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    key_rows = tl.arange(0, BLOCK_N)
    d = tl.arange(0, D)
    rows64 = rows.to(tl.int64)
    q_tile = q_ptr + i_b * stride_qb + i_h * stride_qh + rows64[:, None] * stride_qt + d[None, :]
    k_base = k_ptr + i_b * stride_kb + (i_h // GROUP) * stride_kh
    v_base = v_ptr + i_b * stride_vb + (i_h // GROUP) * stride_vh
    k_tile = k_base + key_rows.to(tl.int64)[:, None] * stride_kt + d[None, :]
    v_tile = v_base + key_rows.to(tl.int64)[:, None] * stride_vt + d[None, :]
    q = tl.load(q_tile, mask=(rows < T)[:, None], other=0.0)
    query_at = past + rows

    # Key blocks [lo, full_lo) cut the window's far edge, [full_hi, last] the diagonal; in
    # between every query of the block sees every key.
    lo = tl.maximum(first - window + 1, 0) // BLOCK_N * BLOCK_N
    full_lo = tl.cdiv(tl.maximum(last - window + 1, 0), BLOCK_N) * BLOCK_N
    if SINKS:
        after_sinks = tl.cdiv(sinks, BLOCK_N) * BLOCK_N
        lo = tl.maximum(lo, after_sinks)
        full_lo = tl.maximum(full_lo, after_sinks)
    full_hi = tl.maximum(full_lo, (first + 1) // BLOCK_N * BLOCK_N)

    acc = tl.zeros([BLOCK_M, D], dtype=tl.float32)
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    peak = tl.full([BLOCK_M], MASKED_SCORE, dtype=tl.float32)
    if SINKS:
        acc, total, peak = _visit(
            acc, total, peak, q, k_tile, v_tile, key_rows, query_at,
            0, tl.minimum(after_sinks, last + 1),
            S, stride_kt, stride_vt, scale_log2, window, sinks, BLOCK_N, True, True,
        )  # fmt: skip
    acc, total, peak = _visit(
        acc, total, peak, q, k_tile, v_tile, key_rows, query_at, lo, full_lo,
        S, stride_kt, stride_vt, scale_log2, window, sinks, BLOCK_N, True, False,
    )  # fmt: skip
    acc, total, peak = _visit(
        acc, total, peak, q, k_tile, v_tile, key_rows, query_at, full_lo, full_hi,
        S, stride_kt, stride_vt, scale_log2, window, sinks, BLOCK_N, False, False,
    )  # fmt: skip
    acc, total, peak = _visit(
        acc, total, peak, q, k_tile, v_tile, key_rows, query_at, full_hi, last + 1,
        S, stride_kt, stride_vt, scale_log2, window, sinks, BLOCK_N, True, False,
    )  # fmt: skip

    o_rows = (i_b * T + rows64) * H + i_h
    tl.store(
        o_ptr + o_rows[:, None] * D + d[None, :],
        (acc / total[:, None]).to(o_ptr.dtype.element_ty),
        mask=(rows < T)[:, None],
    )
    tl.store(lse_ptr + (i_b * H + i_h) * T + rows64, peak + tl.log2(total), mask=rows < T)


def unit_last(tensor: torch.Tensor) -> torch.Tensor:
    """The kernels take any strides but in the last dimension, where they load vectors."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def limits(window: int | None, sinks: int, S: int) -> tuple[int, int]:
    """Window and sinks as the kernels take them. Without a far edge there are no sinks to keep."""
    if window is None or window >= S:
        return S, 0
    return window, min(sinks, S)


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
    blocks = blocks or forward_blocks(T, d, q.dtype)
    o = torch.empty(batch, T, H, d, dtype=q.dtype, device=q.device)
    lse = torch.empty(batch, H, T, dtype=torch.float32, device=q.device)
    window, sinks = limits(window, sinks, S)
    _forward_kernel[(triton.cdiv(T, blocks.queries), batch * H)](
        q, k, v, o, lse,
        T, S, H, window, sinks, scale * LOG2_E,
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3],
        GROUP=H // H_kv, D=d, BLOCK_M=blocks.queries, BLOCK_N=blocks.keys, SINKS=sinks > 0,
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
):  # fmt: skip
    """The queries of one key head over one of `n_splits` equal stretches of the slots."""
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
    q = tl.load(
        q_ptr + i_b * stride_qb + heads[:, None] * stride_qh + d[None, :], mask=group, other=0.0
    )
    k_base = k_ptr + i_b * stride_kb + i_k * stride_kh
    v_base = v_ptr + i_b * stride_vb + i_k * stride_vh
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
):  # fmt: skip
    """Join the stretches of one query head. Stretches past the count weigh 2^-1e30 = 0."""
    row = tl.program_id(0).to(tl.int64)
    every = tl.arange(0, BLOCK_S)
    d = tl.arange(0, BLOCK_D)
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
) -> torch.Tensor:
    """One query over the first `count` slots. A count in memory never decides the grid."""
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
        num_warps=4, num_stages=3 if row_bytes <= 512 else 2,
    )  # fmt: skip
    if split:
        _combine_kernel[(batch * H,)](
            partial, peaks, totals, o, n_splits,
            D=d, BLOCK_D=block_d, BLOCK_S=triton.next_power_of_2(n_splits), STEP=16, num_warps=4,
        )  # fmt: skip
    return o
