"""One token of window attention of each of a few rows in Triton: from a product to heads and rings.

See `rows_step_triton`; the rings are then read by `window_attention_triton.decode`.
B rows (texts), H query heads of width d, n_kv of keys and of values, S parts.
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


@triton.jit(do_not_specialize=["B"])
def _heads_kernel(
    parts, cos, sin, q, keys, values, slot_ptr, B, S, n_q, n_kv, stride_b, stride_t,
    HEAD: tl.constexpr, HALF: tl.constexpr, S_PAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A head of a row from its parts: turned where it is a query's or a key's, put where it goes.

    A rotation turns i and i + HALF, for i < HALF; what is past them stays.
    """
    begin(EARLY)
    head, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i, s = tl.arange(0, HEAD // 2), tl.arange(0, S_PAD)
    slot = tl.load(slot_ptr)  # written before the first kernel of the chain
    at = tl.where(i < HALF, i, 2 * i)
    beside = tl.where(i < HALF, i + HALF, 2 * i + 1)
    wait(EARLY)
    line = parts + ((s * B + row) * (n_q + 2 * n_kv) + head)[:, None] * HEAD
    in_s = (s < S)[:, None]
    first = tl.sum(tl.load(line + at[None, :], in_s, 0.0), axis=0)
    second = tl.sum(tl.load(line + beside[None, :], in_s, 0.0), axis=0)
    if HALF > 0:
        turned = i < tl.where(head < n_q + n_kv, HALF, 0)
        c = tl.load(cos + i, turned, 1.0)
        d = tl.load(sin + i, turned, 0.0)
        first, second = first * c - second * d, second * c + first * d
    dtype = q.dtype.element_ty
    ring = row * stride_b + slot * stride_t
    if head < n_q:
        to = q + (row * n_q + head) * HEAD
    elif head < n_q + n_kv:
        to = keys + ring + (head - n_q) * HEAD
    else:
        to = values + ring + (head - n_q - n_kv) * HEAD
    tl.store(to + at, first.to(dtype))
    tl.store(to + beside, second.to(dtype))


def heads(
    parts: Tensor, rotation: tuple[Tensor, Tensor] | None, n_head: int, keys: Tensor,
    values: Tensor, slot: Tensor,
) -> Tensor:  # fmt: skip
    """Queries [B, 1, H, d]; keys and values of the token go to `slot` of the rings.

    parts [S, B, 1, (H + 2 n_kv) d] float32, whose sum holds the heads of q, k and v; keys and
    values [B, slots, n_kv, d], laid out alike.
    """
    n_kv, d = keys.shape[2:]
    S, B = parts.shape[:2]
    q = torch.empty((B, 1, n_head, d), dtype=keys.dtype, device=keys.device)
    cos, sin = rotation or (parts, parts)
    _heads_kernel[(n_head + 2 * n_kv, B)](
        parts, cos, sin, q, keys, values, slot, B, S, n_head, n_kv, keys.stride(0),
        keys.stride(1), HEAD=d, HALF=0 if rotation is None else cos.shape[-1],
        S_PAD=triton.next_power_of_2(S), num_warps=1, **options(parts),
    )  # fmt: skip
    return q
