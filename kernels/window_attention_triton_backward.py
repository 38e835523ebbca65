"""Sliding-window attention in Triton: the backward pass.

FlashAttention-2 (Dao 2023), algorithm 2, over the band only and without atomics: one kernel
gives dq (a query block over its keys), one gives dk and dv (a key block over its queries, for
all query heads that share the key head). The first also writes delta = rowsum(do * o). A key
block that holds sinks meets every later query, the others only those of their band.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl

from samba_cli.kernels.window_attention_triton import LOG2_E, Blocks, limits, unit_last


def query_blocks(head_dim: int, dtype: torch.dtype) -> Blocks:
    """Blocks of the dq kernel."""
    if dtype == torch.float32:
        return Blocks(32, 32, 8, 1) if head_dim <= 128 else Blocks(16, 16, 8, 1)
    return Blocks(128, 64, 8, 2) if head_dim <= 128 else Blocks(64, 32, 8, 2)


def key_blocks(head_dim: int, dtype: torch.dtype) -> Blocks:
    """Blocks of the dk and dv kernel."""
    if dtype == torch.float32:
        return Blocks(32, 32, 8, 1) if head_dim <= 128 else Blocks(16, 16, 8, 1)
    return Blocks(32, 128, 8, 2) if head_dim <= 128 else Blocks(32, 64, 8, 2)


@triton.jit
def _visit_keys(
    dq, q, do, lse, delta, k_tile, v_tile, key_rows, query_at, lo, hi,
    S, stride_kt, stride_vt, scale_log2, window, sinks,
    BLOCK_N: tl.constexpr, MASKED: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    for n in range(lo, hi, BLOCK_N):
        at = tl.cast(n, tl.int64)
        key_at = n + key_rows
        if MASKED:
            inside = (key_at < S)[:, None]
            k = tl.load(k_tile + at * stride_kt, mask=inside, other=0.0)
            v = tl.load(v_tile + at * stride_vt, mask=inside, other=0.0)
        else:
            k = tl.load(k_tile + at * stride_kt)
            v = tl.load(v_tile + at * stride_vt)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        p = tl.exp2(scores * scale_log2 - lse[:, None])
        if MASKED:
            distance = query_at[:, None] - key_at[None, :]
            near = distance < window
            if SINKS:
                near = near | (key_at < sinks)[None, :]
            p = tl.where((distance >= 0) & near, p, 0.0)
        dp = tl.dot(do, tl.trans(v), input_precision="ieee")
        ds = p * (dp - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")
    return dq


@triton.jit(do_not_specialize=["T", "S", "window", "sinks"])
def _query_kernel(
    q_ptr, k_ptr, v_ptr, o_ptr, do_ptr, lse_ptr, delta_ptr, dq_ptr,
    T, S, H, window, sinks, scale, scale_log2,
    stride_qb, stride_qt, stride_qh,
    stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh,
    stride_gb, stride_gt, stride_gh,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    SINKS: tl.constexpr,
):  # fmt: skip
    i_m = tl.num_programs(0) - 1 - tl.program_id(0)  # later queries see more keys: they go first
    i_h = (tl.program_id(1) % H).to(tl.int64)
    i_b = (tl.program_id(1) // H).to(tl.int64)
    past = S - T
    first = past + i_m * BLOCK_M
    last = past + tl.minimum(i_m * BLOCK_M + BLOCK_M, T) - 1

    rows = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    key_rows = tl.arange(0, BLOCK_N)
    d = tl.arange(0, D)
    rows64 = rows.to(tl.int64)
    mask = (rows < T)[:, None]
    q_tile = q_ptr + i_b * stride_qb + i_h * stride_qh + rows64[:, None] * stride_qt + d[None, :]
    do_tile = do_ptr + i_b * stride_gb + i_h * stride_gh + rows64[:, None] * stride_gt + d[None, :]
    out_rows = ((i_b * T + rows64) * H + i_h)[:, None] * D + d[None, :]
    k_base = k_ptr + i_b * stride_kb + (i_h // GROUP) * stride_kh
    v_base = v_ptr + i_b * stride_vb + (i_h // GROUP) * stride_vh
    k_tile = k_base + key_rows.to(tl.int64)[:, None] * stride_kt + d[None, :]
    v_tile = v_base + key_rows.to(tl.int64)[:, None] * stride_vt + d[None, :]
    q = tl.load(q_tile, mask=mask, other=0.0)
    do = tl.load(do_tile, mask=mask, other=0.0)
    o = tl.load(o_ptr + out_rows, mask=mask, other=0.0)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), axis=1)
    row_of = (i_b * H + i_h) * T + rows64
    tl.store(delta_ptr + row_of, delta, mask=rows < T)
    lse = tl.load(lse_ptr + row_of, mask=rows < T, other=0.0)
    query_at = past + rows

    lo = tl.maximum(first - window + 1, 0) // BLOCK_N * BLOCK_N
    full_lo = tl.cdiv(tl.maximum(last - window + 1, 0), BLOCK_N) * BLOCK_N
    if SINKS:
        after_sinks = tl.cdiv(sinks, BLOCK_N) * BLOCK_N
        lo = tl.maximum(lo, after_sinks)
        full_lo = tl.maximum(full_lo, after_sinks)
    full_hi = tl.maximum(full_lo, (first + 1) // BLOCK_N * BLOCK_N)
    dq = tl.zeros([BLOCK_M, D], dtype=tl.float32)
    if SINKS:
        dq = _visit_keys(
            dq, q, do, lse, delta, k_tile, v_tile, key_rows, query_at,
            0, tl.minimum(after_sinks, last + 1),
            S, stride_kt, stride_vt, scale_log2, window, sinks, BLOCK_N, True, True,
        )  # fmt: skip
    dq = _visit_keys(
        dq, q, do, lse, delta, k_tile, v_tile, key_rows, query_at, lo, full_lo,
        S, stride_kt, stride_vt, scale_log2, window, sinks, BLOCK_N, True, False,
    )  # fmt: skip
    dq = _visit_keys(
        dq, q, do, lse, delta, k_tile, v_tile, key_rows, query_at, full_lo, full_hi,
        S, stride_kt, stride_vt, scale_log2, window, sinks, BLOCK_N, False, False,
    )  # fmt: skip
    dq = _visit_keys(
        dq, q, do, lse, delta, k_tile, v_tile, key_rows, query_at, full_hi, last + 1,
        S, stride_kt, stride_vt, scale_log2, window, sinks, BLOCK_N, True, False,
    )  # fmt: skip
    tl.store(dq_ptr + out_rows, (dq * scale).to(dq_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _visit_queries(
    dk, dv, k, v, q_tile, do_tile, lse_row, delta_row, query_rows, key_at, lo, hi,
    T, past, stride_qt, stride_gt, scale_log2, window, sinks,
    BLOCK_M: tl.constexpr, MASKED: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    """Query blocks lo, lo + BLOCK_M, ... < hi of one head; tiles are [keys, queries]."""
    for m in range(lo, hi, BLOCK_M):
        at = tl.cast(m, tl.int64)
        t = m + query_rows
        if MASKED:
            inside = (t < T)[:, None]
            q = tl.load(q_tile + at * stride_qt, mask=inside, other=0.0)
            do = tl.load(do_tile + at * stride_gt, mask=inside, other=0.0)
            lse = tl.load(lse_row + t, mask=t < T, other=0.0)
            delta = tl.load(delta_row + t, mask=t < T, other=0.0)
        else:
            q = tl.load(q_tile + at * stride_qt)
            do = tl.load(do_tile + at * stride_gt)
            lse = tl.load(lse_row + t)
            delta = tl.load(delta_row + t)
        scores = tl.dot(k, tl.trans(q), input_precision="ieee")
        p = tl.exp2(scores * scale_log2 - lse[None, :])
        if MASKED:
            distance = (past + t)[None, :] - key_at[:, None]
            near = distance < window
            if SINKS:
                near = near | (key_at < sinks)[:, None]
            p = tl.where((distance >= 0) & near & (t < T)[None, :], p, 0.0)
        dv = tl.dot(p.to(do.dtype), do, dv, input_precision="ieee")
        dp = tl.dot(v, tl.trans(do), input_precision="ieee")
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    return dk, dv


@triton.jit(do_not_specialize=["T", "S", "window", "sinks"])
def _key_kernel(
    q_ptr, k_ptr, v_ptr, do_ptr, lse_ptr, delta_ptr, dk_ptr, dv_ptr,
    T, S, H_kv, window, sinks, scale, scale_log2,
    stride_qb, stride_qt, stride_qh,
    stride_kb, stride_kt, stride_kh,
    stride_vb, stride_vt, stride_vh,
    stride_gb, stride_gt, stride_gh,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    SINKS: tl.constexpr,
):  # fmt: skip
    i_n = tl.program_id(0)
    i_k = (tl.program_id(1) % H_kv).to(tl.int64)
    i_b = (tl.program_id(1) // H_kv).to(tl.int64)
    past = S - T
    first = i_n * BLOCK_N
    last = tl.minimum(first + BLOCK_N, S) - 1

    key_at = first + tl.arange(0, BLOCK_N)
    keys64 = key_at.to(tl.int64)
    d = tl.arange(0, D)
    query_rows = tl.arange(0, BLOCK_M)
    rows64 = query_rows.to(tl.int64)
    mask = (key_at < S)[:, None]
    k_base = k_ptr + i_b * stride_kb + i_k * stride_kh
    v_base = v_ptr + i_b * stride_vb + i_k * stride_vh
    k = tl.load(k_base + keys64[:, None] * stride_kt + d[None, :], mask=mask, other=0.0)
    v = tl.load(v_base + keys64[:, None] * stride_vt + d[None, :], mask=mask, other=0.0)

    # Queries that see any of these keys: t in [lo, hi). The blocks [full_lo, full_hi) hold
    # queries that see all of them; they are whole blocks, so no row of them lies past T.
    lo = tl.maximum(first - past, 0) // BLOCK_M * BLOCK_M
    hi = tl.minimum(last + window - past, T)
    full_lo = tl.cdiv(tl.maximum(last - past, 0), BLOCK_M) * BLOCK_M
    far = first + window - past  # the first query that no longer sees all of them
    if SINKS:
        hi = tl.where(first < sinks, T, hi)
        far = tl.where(first < sinks, sinks + window - past, far)
        far = tl.where(last < sinks, T, far)
    full_hi = tl.maximum(tl.minimum(far, T), 0) // BLOCK_M * BLOCK_M
    full_hi = tl.maximum(full_lo, full_hi)

    dk = tl.zeros([BLOCK_N, D], dtype=tl.float32)
    dv = tl.zeros([BLOCK_N, D], dtype=tl.float32)
    for i_g in range(GROUP):
        i_h = i_k * GROUP + i_g
        q_base = q_ptr + i_b * stride_qb + i_h * stride_qh
        do_base = do_ptr + i_b * stride_gb + i_h * stride_gh
        q_tile = q_base + rows64[:, None] * stride_qt + d[None, :]
        do_tile = do_base + rows64[:, None] * stride_gt + d[None, :]
        lse_row = lse_ptr + (i_b * H_kv * GROUP + i_h) * T
        delta_row = delta_ptr + (i_b * H_kv * GROUP + i_h) * T
        dk, dv = _visit_queries(
            dk, dv, k, v, q_tile, do_tile, lse_row, delta_row, query_rows, key_at,
            lo, tl.minimum(full_lo, hi),
            T, past, stride_qt, stride_gt, scale_log2, window, sinks, BLOCK_M, True, SINKS,
        )  # fmt: skip
        dk, dv = _visit_queries(
            dk, dv, k, v, q_tile, do_tile, lse_row, delta_row, query_rows, key_at,
            full_lo, full_hi,
            T, past, stride_qt, stride_gt, scale_log2, window, sinks, BLOCK_M, False, SINKS,
        )  # fmt: skip
        dk, dv = _visit_queries(
            dk, dv, k, v, q_tile, do_tile, lse_row, delta_row, query_rows, key_at,
            full_hi, hi,
            T, past, stride_qt, stride_gt, scale_log2, window, sinks, BLOCK_M, True, SINKS,
        )  # fmt: skip

    out = ((i_b * S + keys64) * H_kv + i_k)[:, None] * D + d[None, :]
    tl.store(dk_ptr + out, (dk * scale).to(dk_ptr.dtype.element_ty), mask=mask)
    tl.store(dv_ptr + out, dv.to(dv_ptr.dtype.element_ty), mask=mask)


def backward(
    do: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    o: torch.Tensor,
    lse: torch.Tensor,
    window: int | None,
    scale: float,
    sinks: int = 0,
    over_queries: Blocks | None = None,
    over_keys: Blocks | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dq [B, T, H, d], dk and dv [B, S, Hkv, d], contiguous; past keys get gradients too."""
    batch, T, H, d = q.shape
    S, H_kv = k.shape[1:3]
    q, k, v, do = unit_last(q), unit_last(k), unit_last(v), unit_last(do)
    delta = torch.empty_like(lse)
    dq = torch.empty(batch, T, H, d, dtype=q.dtype, device=q.device)
    dk = torch.empty(batch, S, H_kv, d, dtype=k.dtype, device=q.device)
    dv = torch.empty(batch, S, H_kv, d, dtype=v.dtype, device=q.device)
    strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *do.stride()[:3])
    window, sinks = limits(window, sinks, S)
    blocks = over_queries or query_blocks(d, q.dtype)
    _query_kernel[(triton.cdiv(T, blocks.queries), batch * H)](
        q, k, v, o.contiguous(), do, lse, delta, dq,
        T, S, H, window, sinks, scale, scale * LOG2_E, *strides,
        GROUP=H // H_kv, D=d, BLOCK_M=blocks.queries, BLOCK_N=blocks.keys, SINKS=sinks > 0,
        num_warps=blocks.num_warps, num_stages=blocks.num_stages,
    )  # fmt: skip
    blocks = over_keys or key_blocks(d, q.dtype)
    _key_kernel[(triton.cdiv(S, blocks.keys), batch * H_kv)](
        q, k, v, do, lse, delta, dk, dv,
        T, S, H_kv, window, sinks, scale, scale * LOG2_E, *strides,
        GROUP=H // H_kv, D=d, BLOCK_M=blocks.queries, BLOCK_N=blocks.keys, SINKS=sinks > 0,
        num_warps=blocks.num_warps, num_stages=blocks.num_stages,
    )  # fmt: skip
    return dq, dk, dv
