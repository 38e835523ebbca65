"""Sliding-window attention without Triton: exact, in blocks of queries, each over its own band.

Chunks are attended to by a compiled loop where the processor has the registers it is written for.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F

from samba_cli.kernels.dispatch import compiled
from samba_cli.kernels.grad_mode import needs_grad
from samba_cli.kernels.window_attention_ref import band

BLOCK_QUERIES = 128  # 32 to 256 differ by less than a tenth
MASK_ELEMENTS = 1 << 24  # of one block: where many keys are visible, the blocks hold fewer queries
KEPT_MASK_ELEMENTS = 1 << 20  # of a mask that is kept: most blocks of a text have the same one
# Over a long past more queries at a time read the keys more rarely; no mask grows with them.
BLOCK_QUERIES_PAST = 512


def window_attention_cpu(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None,
    scale: float | None = None,
    sinks: int = 0,
) -> torch.Tensor:
    """The same as `window_attention_ref`, in O(T * (window + sinks)), in bounded memory.

    The query heads of one key head lie side by side on the time axis, so that keys and values
    are never repeated.
    """
    if not sinks and compiled(q) and not needs_grad(q, k, v) and q.dtype == k.dtype == v.dtype:
        from samba_cli.kernels.window_attention_compiled import takes, window_attention_compiled

        if takes(q):
            return window_attention_compiled(q, k, v, window, scale)
    batch, T, H, d = q.shape
    S, H_kv = k.shape[1:3]
    keys, values = k.transpose(1, 2), v.transpose(1, 2)  # [B, Hkv, S, d]
    queries = q.unflatten(2, (H_kv, H // H_kv)).permute(0, 2, 3, 1, 4)  # [B, Hkv, G, T, d]
    if window is None or window >= S:
        window, sinks = S, 0
    traced = torch.compiler.is_compiling() or needs_grad(q, k, v)
    if window == S and q.device.type == "cpu" and not traced:
        blocks = _causal_blocks(queries, keys, values, scale)
    else:
        blocks = _band_blocks(queries, keys, values, window, scale, min(sinks, S))
    out = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=3)
    return out.permute(0, 3, 1, 2, 4).reshape(batch, T, H, d)


def _band_blocks(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    window: int,
    scale: float | None,
    sinks: int,
) -> list[torch.Tensor]:
    """Blocks [B, Hkv, G, n, d] of the output, each from one masked product over its keys."""
    T, S = queries.shape[3], keys.shape[2]
    group, past = queries.shape[2], S - T
    visible_keys = min(S, window + sinks + BLOCK_QUERIES)
    step = max(1, min(BLOCK_QUERIES, MASK_ELEMENTS // (group * visible_keys)))
    blocks = []
    for start in range(0, T, step):
        stop = min(T, start + step)
        n, lo, hi = stop - start, max(0, past + start - window + 1), past + stop
        apart = sinks if lo > sinks else 0  # sinks that lie apart from the band
        lo = lo if apart or not sinks else 0
        near, values_near = keys[:, :, lo:hi], values[:, :, lo:hi]
        if apart:
            near = torch.cat([keys[:, :, :apart], near], dim=2)
            values_near = torch.cat([values[:, :, :apart], values_near], dim=2)
        mask = None
        if n > 1:  # a single query sees all its keys
            keep = queries.device.type == "cpu" and not torch.compiler.is_compiling()
            make = _kept_mask if keep and group * n * near.shape[2] <= KEPT_MASK_ELEMENTS else _mask
            seen = 0 if apart else sinks
            mask = make(n, hi - lo, window, seen, apart, group, queries.dtype, queries.device)
        rows = queries[:, :, :, start:stop].flatten(2, 3)
        out = F.scaled_dot_product_attention(rows, near, values_near, attn_mask=mask, scale=scale)
        blocks.append(out.unflatten(2, (group, n)))
    return blocks


def _mask(
    n: int, keys: int, window: int, sinks: int, apart: int, group: int, dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:  # fmt: skip
    """What is added to the scores [group * n, apart + keys] of a block."""
    visible = F.pad(band(n, keys, window, sinks, device), (apart, 0), value=True)
    return _added(visible, dtype).repeat(group, 1)


@lru_cache(maxsize=16)
def _kept_mask(
    n: int, keys: int, window: int, sinks: int, apart: int, group: int, dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:  # fmt: skip
    with torch.inference_mode(False), torch.no_grad():  # also for calls with gradients
        return _mask(n, keys, window, sinks, apart, group, dtype, device)


def _causal_blocks(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float | None
) -> list[torch.Tensor]:
    """The same without a far edge: a block sees the keys before it unmasked, and itself masked.

    The two parts are joined by the sums of their exponentials, so no mask is as long as the past.
    """
    group, T = queries.shape[2:4]
    past = keys.shape[2] - T
    blocks = []
    for start in range(0, T, BLOCK_QUERIES_PAST):
        stop = min(T, start + BLOCK_QUERIES_PAST)
        n, seen = stop - start, past + start
        rows = queries[:, :, :, start:stop].flatten(2, 3)
        mask = _added(band(n, n, None), rows.dtype).repeat(group, 1)
        own = slice(seen, seen + n)
        out, lse = _with_lse(rows, keys[:, :, own], values[:, :, own], mask, scale)
        if seen:
            before, before_lse = _with_lse(
                rows, keys[:, :, :seen], values[:, :, :seen], None, scale
            )
            share = torch.sigmoid(before_lse - lse)[..., None]
            out = torch.lerp(out.float(), before.float(), share).to(rows.dtype)
        blocks.append(out.unflatten(2, (group, n)))
    return blocks


def _with_lse(
    rows: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention [B, Hkv, R, d], and the natural log of each row's sum of exponentials [B, Hkv, R].

    The operator behind scaled_dot_product_attention on a CPU: that function keeps the sums back.
    """
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    rows, keys, values = (t if t.stride(-1) == 1 else t.contiguous() for t in (rows, keys, values))
    return attend(rows, keys, values, attn_mask=mask, scale=scale)


def _added(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask as it is added to the scores."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, float("-inf"))


def window_attention_decode_cpu(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    count: int | torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """One query over the first `count` slots: q [B, 1, H, d]; keys, values [B, W, Hkv, d]."""
    batch, _, H, d = q.shape
    W, H_kv = keys.shape[1:3]
    mask = None
    if isinstance(count, torch.Tensor) and not (count.is_cuda or torch.compiler.is_compiling()):
        count = int(count)
    if isinstance(count, torch.Tensor):  # stays on its device: reading it would stop a graph
        mask = (torch.arange(W, device=q.device) < count.to(q.device)).expand(H // H_kv, W)
    else:
        keys, values = keys[:, :count], values[:, :count]
    rows = q.reshape(batch, H_kv, H // H_kv, d)
    out = F.scaled_dot_product_attention(
        rows, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask, scale=scale
    )
    return out.reshape(batch, 1, H, d)
