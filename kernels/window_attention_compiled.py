"""Sliding-window attention as one compiled loop, in blocks that stay in the caches.

FlashAttention (Dao et al. 2022, arXiv 2205.14135) for a CPU: a task is a key head and a few queries
of all its query heads, which go along their band of keys in blocks. Only the scores of one block
exist at a time; sums and maxima are carried from block to block. Only keys that some query of the
task sees are multiplied, up to a tile's edge, and only blocks at the edges of the band are masked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import cfunc, njit
from torch import Tensor

from samba_cli.kernels.compiled import (
    BFLOAT16,
    C_FUNCTION,
    FLOAT32,
    compiled_where,
    exp2,
    fields,
    next_task,
    run,
    span,
    store,
    supported,
    vector,
)
from samba_cli.kernels.compiled_tiles import (
    COLUMNS,
    LEAST,
    ROWS,
    add_product_bfloat16,
    add_product_float32,
    exponentials_bfloat16,
    exponentials_float32,
    largest,
    product_bfloat16,
    product_float32,
)

TASK_ROWS = 64
BLOCK = 256  # keys at a time
_LEAST = np.float32(LEAST)
_COUNTER = np.int64(0)


@njit
def _sizes(group, width):
    """Queries and rows of a task, and the words that a thread needs room for."""
    queries = max(1, TASK_ROWS // group)
    rows = (queries * group + ROWS - 1) // ROWS * ROWS
    words = rows * (2 * BLOCK + 2 * width + 2)
    return queries, rows, (words + 15) // 16 * 16  # whole cache lines


@njit(error_model="numpy", fastmath={"contract"})
def _pack(job, like, each):
    """Keys and values [Hkv, padded, d] as tiles take them, `each` elements in a word.

    Keys: [Hkv, padded / COLUMNS, d / each, COLUMNS] words along d; values: [Hkv, padded / each, d]
    words along the keys. Beyond the last key there are zeros.
    """
    heads, length, width, padded = job[1], job[2], job[3], job[4]
    k = vector(job[5], job[6], like)
    v = vector(job[9], job[10], like)
    packed_k = vector(job[13], heads * padded * width, like)
    packed_v = vector(job[14], heads * padded * width, like)
    tiles = padded // COLUMNS
    while True:
        task = next_task(job)
        if task >= heads * tiles:
            return
        head, first = task // tiles, (task % tiles) * COLUMNS
        to_k = packed_k[(head * padded + first) * width :]
        to_v = packed_v[(head * padded + first) * width :]
        for s in range(COLUMNS):
            key = to_k[s * each :]
            value = to_v[s // each * width * each + s % each :]
            if first + s < length:
                row_k = k[(first + s) * job[7] + head * job[8] :]
                row_v = v[(first + s) * job[11] + head * job[12] :]
                for e in range(width):
                    key[e // each * COLUMNS * each + e % each] = row_k[e]
                    value[e * each] = row_v[e]
            else:
                for e in range(width):
                    key[e // each * COLUMNS * each + e % each] = like
                    value[e * each] = like


@njit(error_model="numpy", fastmath={"contract"})
def _attend(job, like, each, product, exponentials, add_product):
    length, keys, heads, group, width = job[1], job[2], job[3], job[4], job[5]
    window, padded = job[6], job[7]
    q = vector(job[8], job[9], like)
    y = vector(job[12], length * heads * group * width, like)
    packed_k, packed_v = job[13], job[14]
    scale = vector(job[15], 1, FLOAT32)[0]
    queries, rows, _ = _sizes(group, width)
    words, past = width // each, keys - length

    # of this thread alone
    room = job[16] + 4 * job[18] * next_task(vector(job[17], 1, _COUNTER))
    at_scores, at_out = room, room + 4 * rows * BLOCK
    at_own = at_out + 4 * rows * width
    at_weights = at_own + 4 * rows * width
    at_rows = at_weights + 4 * rows * BLOCK
    scores, out = vector(at_scores, rows * BLOCK, FLOAT32), vector(at_out, rows * width, FLOAT32)
    own, weights = vector(at_own, rows * width, like), vector(at_weights, rows * BLOCK, like)
    highest, total = vector(at_rows, rows, FLOAT32), vector(at_rows + 4 * rows, rows, FLOAT32)
    # rows beyond the last query are multiplied, too
    for i in range(rows * width):
        own[i] = like
    for i in range(rows * BLOCK):
        weights[i] = like

    blocks = (length + queries - 1) // queries
    while True:
        task = next_task(job)
        if task >= heads * blocks:
            return
        head, first = task % heads, task // heads * queries
        count = min(queries, length - first)
        for t in range(count):
            for g in range(group):
                row = q[(first + t) * job[10] + (head * group + g) * job[11] :]
                to = own[(t * group + g) * width :]
                for e in range(width):
                    to[e] = row[e]
        for i in range(rows):
            highest[i], total[i] = _LEAST, 0
        for i in range(rows * width):
            out[i] = 0

        stop = past + first + count
        start = max(0, past + first - window + 1) // COLUMNS * COLUMNS
        while start < stop:
            tiles = (min(BLOCK, stop - start) + COLUMNS - 1) // COLUMNS
            size = tiles * COLUMNS
            for tile in range(tiles):
                at_k = packed_k + 4 * (head * padded + start + tile * COLUMNS) * words
                for i in range(0, rows, ROWS):
                    at_score = at_scores + 4 * (i * BLOCK + tile * COLUMNS)
                    at_q = at_own + 4 * i * words
                    product(at_score, BLOCK, at_q, words, at_k, COLUMNS, words)
            for i in range(count * group):
                at = past + first + i // group  # of the query
                row = scores[i * BLOCK :]
                for s in range(min(size, at - window + 1 - start)):
                    row[s] = _LEAST
                for s in range(max(0, at + 1 - start), size):
                    row[s] = _LEAST
                at_row, at_weight = at_scores + 4 * i * BLOCK, at_weights + 4 * i * BLOCK // each
                most = max(highest[i], largest(at_row, tiles))
                fade = exp2((highest[i] - most) * scale)
                total[i] *= fade
                total[i] += exponentials(at_row, at_weight, tiles, scale, most)
                highest[i] = most
                if fade != 1:
                    so_far = out[i * width :]
                    for e in range(width):
                        so_far[e] *= fade
            at_v = packed_v + 4 * (head * padded + start) * words
            for i in range(0, rows, ROWS):
                at_weight = at_weights + 4 * i * BLOCK // each
                for e in range(0, width, COLUMNS):
                    at_sum = at_out + 4 * (i * width + e)
                    add_product(
                        at_sum, width, at_weight, BLOCK // each, at_v + 4 * e, width, size // each
                    )
            start += size

        for t in range(count):
            for g in range(group):
                i = t * group + g
                to = y[((first + t) * heads * group + head * group + g) * width :]
                share, row = np.float32(1) / total[i], out[i * width :]
                for e in range(width):
                    store(to, e, row[e] * share)


@cfunc(C_FUNCTION, cache=True)
def _pack_float32(job):
    _pack(fields(job), FLOAT32, 1)


@cfunc(C_FUNCTION, cache=True)
def _pack_bfloat16(job):
    _pack(fields(job), BFLOAT16, 2)


@compiled_where("avx512f")
def _attend_float32(job):
    _attend(
        fields(job), FLOAT32, 1, product_float32, exponentials_float32, add_product_float32
    )  # fmt: skip


@compiled_where("avx512bf16")
def _attend_bfloat16(job):
    _attend(fields(job), BFLOAT16, 2, product_bfloat16, exponentials_bfloat16, add_product_bfloat16)


def takes(q: Tensor) -> bool:
    """Whether this loop is the fastest for such queries.

    It needs AVX-512, in bfloat16 AVX-512 BF16; with AMX the library has units of another kind.
    """
    if q.shape[3] % COLUMNS:
        return False
    if q.dtype == torch.float32:
        return supported("avx512f")
    return supported("avx512bf16") and not supported("amx-bf16")


def window_attention_compiled(
    q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float | None
) -> Tensor:
    """Same contract as `window_attention`, without sinks and gradients; d a multiple of COLUMNS."""
    batch, T, H, d = q.shape
    S, H_kv = k.shape[1:3]
    pack, attend = _pack_float32, _attend_float32
    if q.dtype == torch.bfloat16:
        pack, attend = _pack_bfloat16, _attend_bfloat16
    q, k, v = (t if t.stride(3) == 1 else t.contiguous() for t in (q, k, v))
    y = torch.empty(batch, T, H, d, dtype=q.dtype, device=q.device)
    padded = -(-S // BLOCK) * BLOCK
    packed = torch.empty(2, H_kv, padded, d, dtype=q.dtype, device=q.device)
    group, window = H // H_kv, S if window is None else min(window, S)
    # Not of the default type or device, which a program that we are a part of may have set.
    plain: Any = {"dtype": torch.float32, "device": q.device}
    factor = torch.tensor([(d**-0.5 if scale is None else scale) * math.log2(math.e)], **plain)
    room = torch.empty(torch.get_num_threads(), _sizes(group, d)[2], **plain)
    for q_row, k_row, v_row, y_row in zip(q, k, v, y, strict=True):
        job = [H_kv, S, d, padded]
        for t in (k_row, v_row):
            job += [t.data_ptr(), span(t), *t.stride()[:2]]
        run(pack, [*job, *(t.data_ptr() for t in packed)])
        threads = torch.zeros(1, dtype=torch.int64, device=q.device)  # that have taken their room
        job = [T, S, H_kv, group, d, window, padded, q_row.data_ptr(), span(q_row)]
        job += [*q_row.stride()[:2], *(t.data_ptr() for t in (y_row, *packed, factor, room))]
        run(attend, [*job, threads.data_ptr(), room.shape[1]])
    return y
