"""Sliding-window attention without Triton: exact, in blocks of queries, each over its own band."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from samba_cli.kernels.window_attention_ref import band

BLOCK_QUERIES = 128  # 32 to 256 differ by less than a tenth


def window_attention_cpu(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int
) -> torch.Tensor:
    """The same as `window_attention_ref`, in O(T * window).

    The query heads of one key head lie side by side on the time axis, so that keys and values
    are never repeated.
    """
    batch, T, H, d = q.shape
    S, H_kv = k.shape[1:3]
    group, past = H // H_kv, S - T
    keys, values = k.transpose(1, 2), v.transpose(1, 2)  # [B, Hkv, S, d]
    queries = q.unflatten(2, (H_kv, group)).permute(0, 2, 3, 1, 4)  # [B, Hkv, G, T, d]
    blocks = []
    for start in range(0, T, BLOCK_QUERIES):
        stop = min(T, start + BLOCK_QUERIES)
        lo, hi = max(0, past + start - window + 1), past + stop
        rows = queries[:, :, :, start:stop].reshape(batch, H_kv, group * (stop - start), d)
        mask = None
        if stop - start > 1:  # a single query sees all its keys
            mask = torch.zeros(stop - start, hi - lo, dtype=q.dtype, device=q.device)
            visible = band(stop - start, hi - lo, window, q.device)
            mask = mask.masked_fill_(~visible, float("-inf")).repeat(group, 1)
        out = F.scaled_dot_product_attention(
            rows, keys[:, :, lo:hi], values[:, :, lo:hi], attn_mask=mask
        )
        blocks.append(out.unflatten(2, (group, stop - start)))
    out = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=3)
    return out.permute(0, 3, 1, 2, 4).reshape(batch, T, H, d)


def window_attention_decode_cpu(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, count: int | torch.Tensor
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
        rows, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask
    )
    return out.reshape(batch, 1, H, d)
