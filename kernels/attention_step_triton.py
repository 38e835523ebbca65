"""One token of window attention in Triton: the projections with the rotation, then the ring.

The ring is cut into stretches that are read all at once, and joined in a second launch
(Flash-Decoding, Dao et al. 2023). A stretch is loaded before waiting, as the ring is but for one
slot what it was a token ago; the program that holds this slot loads it again.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.dependent_launch import begin, options, wait
from samba_cli.kernels.gemv_triton import Tile, awaited_vector, block_of_rows, tile
from samba_cli.kernels.window_attention_triton import LOG2_E, MASKED_SCORE


@triton.jit
def _input_kernel(
    x, norm, weight, scale, bias, cos, sin, q, keys, values, slot_ptr, slot,
    n_q, n_kv, stride_k, stride_v, eps,
    D: tl.constexpr, COLUMNS: tl.constexpr, HEAD: tl.constexpr, HALF: tl.constexpr,
    ROWS: tl.constexpr, STAGES: tl.constexpr, INSIDE: tl.constexpr,
    SLOT_IN_MEMORY: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Pairs of rows that one rotation turns: i and i + HALF of a head, for i < HALF."""
    begin(EARLY)
    PAIRS: tl.constexpr = ROWS // 2
    first_block = tl.program_id(0)
    pairs = (n_q + 2 * n_kv) * (HEAD // 2)
    v = tl.zeros([COLUMNS], tl.float32)
    if not INSIDE:
        v = awaited_vector(x, norm, eps, D, COLUMNS, True, EARLY)
    if SLOT_IN_MEMORY:  # written before the first kernel of the chain
        slot = tl.load(slot_ptr)
    for block in tl.range(
        first_block, tl.cdiv(pairs, PAIRS), tl.num_programs(0), num_stages=STAGES
    ):
        pair = block * PAIRS + tl.arange(0, ROWS) // 2
        side = tl.arange(0, ROWS) % 2
        i = pair % (HEAD // 2)
        dimension = tl.where(i < HALF, i + side * HALF, 2 * i + side)  # past them: neighbours
        r = pair // (HEAD // 2) * HEAD + dimension
        in_r = pair < pairs
        w = block_of_rows(weight, r, in_r, D, COLUMNS)
        if INSIDE:  # noqa: SIM102 (a constexpr, apart from what is known at run time)
            if block == first_block:
                v = awaited_vector(x, norm, eps, D, COLUMNS, True, EARLY)
        y = tl.sum(w.to(tl.float32) * v[None, :], axis=1)
        if SCALE:
            y *= tl.load(scale + r, in_r, 0.0)
        if BIAS:
            y += tl.load(bias + r, in_r, 0.0).to(tl.float32)
        first, second = tl.split(tl.reshape(y, [PAIRS, 2]))

        pair = block * PAIRS + tl.arange(0, PAIRS)
        head = pair // (HEAD // 2)
        i = pair % (HEAD // 2)
        if HALF > 0:  # noqa: SIM102 (a constexpr, apart from the value read at run time)
            if block * PAIRS < (n_q + n_kv) * (HEAD // 2):
                turned = (head < n_q + n_kv) & (i < HALF)
                c = tl.load(cos + i, turned, 1.0)
                s = tl.load(sin + i, turned, 0.0)
                first, second = first * c - second * s, second * c + first * s
        at = tl.where(i < HALF, i, 2 * i)
        beside = tl.where(i < HALF, i + HALF, 2 * i + 1)
        dtype = q.dtype.element_ty
        is_q = head < n_q
        is_k = (head >= n_q) & (head < n_q + n_kv)
        is_v = (head >= n_q + n_kv) & (head < n_q + 2 * n_kv)
        q_row = q + head * HEAD
        k_row = keys + slot * stride_k + (head - n_q) * HEAD
        v_row = values + slot * stride_v + (head - n_q - n_kv) * HEAD
        tl.store(q_row + at, first.to(dtype), is_q)
        tl.store(q_row + beside, second.to(dtype), is_q)
        tl.store(k_row + at, first.to(dtype), is_k)
        tl.store(k_row + beside, second.to(dtype), is_k)
        tl.store(v_row + at, first.to(dtype), is_v)
        tl.store(v_row + beside, second.to(dtype), is_v)


def input_step(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    norm: tuple[Tensor, float],
    rotation: tuple[Tensor, Tensor] | None,
    n_head: int,
    keys: Tensor,
    values: Tensor,
    slot: int | Tensor,
    tiled: Tile | None = None,
) -> Tensor:
    """Same contract as `attention_input_step`."""
    n_kv, d = keys.shape[2:]
    tiled = tiled or tile(weight, least_rows=2)
    q = torch.empty((1, 1, n_head, d), dtype=keys.dtype, device=x.device)
    in_memory = isinstance(slot, Tensor)
    cos, sin = rotation or (x, x)
    D = weight.shape[1]
    _input_kernel[(tiled.programs,)](
        x.contiguous(), norm[0], weight.contiguous(), x if scale is None else scale,
        x if bias is None else bias, cos, sin, q, keys, values,
        slot if in_memory else x, 0 if in_memory else slot,
        n_head, n_kv, keys.stride(1), values.stride(1), norm[1],
        D=D, COLUMNS=triton.next_power_of_2(D), HEAD=d,
        HALF=0 if rotation is None else cos.shape[-1], ROWS=tiled.rows,
        SLOT_IN_MEMORY=in_memory, SCALE=scale is not None, BIAS=bias is not None,
        **tiled.launch(x),
    )  # fmt: skip
    return q


@triton.jit
def _stretch(ptr, first, rows, d, S, stride, HEAD: tl.constexpr):
    s = first + rows
    inside = (s < S)[:, None] & (d < HEAD)[None, :]
    return tl.load(ptr + s.to(tl.int64)[:, None] * stride + d[None, :], inside, 0.0)


@triton.jit
def _absorb(acc, total, peak, q, k, v, valid, scale_log2):
    """One step of the online softmax, in base 2."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
    scores = tl.where(valid[None, :], scores, MASKED_SCORE)
    new_peak = tl.maximum(peak, tl.max(scores, axis=1))
    p = tl.where(valid[None, :], tl.exp2(scores - new_peak[:, None]), 0.0)
    fade = tl.exp2(peak - new_peak)
    acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
    return acc, total * fade + tl.sum(p, axis=1), new_peak


@triton.jit(do_not_specialize=["blocks", "n_splits"])
def _ring_kernel(
    q, keys, values, count_ptr, slot_ptr, partial, peaks, totals,
    S, n_splits, blocks, scale_log2, stride_k, stride_v,
    GROUP: tl.constexpr, GROUP_PAD: tl.constexpr, HEAD: tl.constexpr, HEAD_PAD: tl.constexpr,
    BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The queries of one key head over `blocks` x BLOCK slots."""
    begin(EARLY)
    i_s, i_k = tl.program_id(0), tl.program_id(1)
    lo = i_s * BLOCK * blocks
    rows, d, g = tl.arange(0, BLOCK), tl.arange(0, HEAD_PAD), tl.arange(0, GROUP_PAD)
    keys += i_k * HEAD
    values += i_k * HEAD
    k = _stretch(keys, lo, rows, d, S, stride_k, HEAD)
    v = _stretch(values, lo, rows, d, S, stride_v, HEAD)
    wait(EARLY)
    count = tl.load(count_ptr)
    if EARLY:
        slot = tl.load(slot_ptr)
        if (slot >= lo) & (slot < lo + BLOCK):
            k = _stretch(keys, lo, rows, d, S, stride_k, HEAD)
            v = _stretch(values, lo, rows, d, S, stride_v, HEAD)

    heads = i_k * GROUP + g
    group = (g < GROUP)[:, None] & (d < HEAD)[None, :]
    q_rows = tl.load(q + heads[:, None] * HEAD + d[None, :], group, 0.0)
    acc = tl.zeros([GROUP_PAD, HEAD_PAD], tl.float32)
    total = tl.zeros([GROUP_PAD], tl.float32)
    peak = tl.full([GROUP_PAD], MASKED_SCORE, tl.float32)
    acc, total, peak = _absorb(acc, total, peak, q_rows, k, v, lo + rows < count, scale_log2)
    for i in range(1, blocks):
        first = lo + i * BLOCK
        k = _stretch(keys, first, rows, d, S, stride_k, HEAD)
        v = _stretch(values, first, rows, d, S, stride_v, HEAD)
        acc, total, peak = _absorb(acc, total, peak, q_rows, k, v, first + rows < count, scale_log2)
    part = heads * n_splits + i_s
    tl.store(partial + part[:, None] * HEAD + d[None, :], acc, group)
    tl.store(peaks + part, peak, g < GROUP)
    tl.store(totals + part, total, g < GROUP)


@triton.jit(do_not_specialize=["n_splits"])
def _join_kernel(
    partial, peaks, totals, y, n_splits,
    HEAD: tl.constexpr, HEAD_PAD: tl.constexpr, SPLITS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The stretches of one query head. A stretch without a slot in use weighs nothing."""
    begin(EARLY)
    head = tl.program_id(0)
    s, d = tl.arange(0, SPLITS), tl.arange(0, HEAD_PAD)
    in_s = s < n_splits
    wait(EARLY)
    at = head * n_splits + s
    peak = tl.load(peaks + at, in_s, MASKED_SCORE)
    total = tl.load(totals + at, in_s, 0.0)
    inside = in_s[:, None] & (d < HEAD)[None, :]
    parts = tl.load(partial + at[:, None] * HEAD + d[None, :], inside, 0.0)
    weight = tl.exp2(peak - tl.max(peak, axis=0))
    out = tl.sum(parts * weight[:, None], axis=0) / tl.sum(total * weight, axis=0)
    tl.store(y + head * HEAD + d, out.to(y.dtype.element_ty), d < HEAD)


BLOCK = 64  # slots that a program reads at a time
MOST_SPLITS = 128  # what one program joins


def ring_step(
    q: Tensor, keys: Tensor, values: Tensor, count: Tensor, slot: Tensor, scale: float,
    block: int = BLOCK,
) -> Tensor:  # fmt: skip
    """Same contract as `attention_ring_step`."""
    H, d = q.shape[2:]
    S, n_kv = keys.shape[1:3]
    block = block if d <= 128 else block // 2  # registers are the limit
    blocks = triton.cdiv(triton.cdiv(S, block), MOST_SPLITS)
    splits = triton.cdiv(S, block * blocks)
    y = torch.empty_like(q)
    partial = torch.empty(H, splits, d, dtype=torch.float32, device=q.device)
    peaks, totals = torch.empty(2, H, splits, dtype=torch.float32, device=q.device)
    head_pad = max(16, triton.next_power_of_2(d))
    _ring_kernel[(splits, n_kv)](
        q, keys, values, count, slot, partial, peaks, totals,
        S, splits, blocks, scale * LOG2_E, keys.stride(1), values.stride(1),
        GROUP=H // n_kv, GROUP_PAD=max(16, triton.next_power_of_2(H // n_kv)),
        HEAD=d, HEAD_PAD=head_pad, BLOCK=block, num_warps=4, **options(q),
    )  # fmt: skip
    _join_kernel[(H,)](
        partial, peaks, totals, y, splits,
        HEAD=d, HEAD_PAD=head_pad, SPLITS=triton.next_power_of_2(splits), num_warps=4,
        **options(q),
    )  # fmt: skip
    return y


@triton.jit(do_not_specialize=["window", "sinks"])
def _slot_kernel(position, count, slot, window, sinks):
    p = tl.load(position)
    tl.store(count, tl.minimum(p + 1, (sinks + window).to(tl.int64)))
    tl.store(slot, tl.where(p < sinks, p, sinks + (p - sinks) % window))


def ring_slot(position: Tensor, window: int, sinks: int) -> tuple[Tensor, Tensor]:
    """Same contract as `attention_step.ring_slot`."""
    count, slot = torch.empty_like(position), torch.empty_like(position)
    _slot_kernel[(1,)](position, count, slot, window, sinks, num_warps=1)
    return count, slot
