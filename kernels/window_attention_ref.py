"""Specification of sliding-window attention in plain PyTorch."""

from __future__ import annotations

import torch


def band(
    T: int, S: int, window: int | None, sinks: int = 0, device: torch.device | None = None
) -> torch.Tensor:
    """[T, S] bool: what query t, at key index S - T + t, sees.

    Itself and the window - 1 keys before (every one before, where the window is None), and of
    the first `sinks` keys those that are not after it.
    """
    keys = torch.arange(S, device=device)
    distance = torch.arange(S - T, S, device=device)[:, None] - keys
    near = distance < (S if window is None else window)
    return (distance >= 0) & (near | (keys < sinks))


def window_attention_ref(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None,
    scale: float | None = None,
    sinks: int = 0,
) -> torch.Tensor:
    """softmax(scale q k^T) v over the band and the sinks, computed in fp32, with a dense mask.

    q [B, T, H, d]; k, v [B, S, Hkv, d] with S = past + T and H % Hkv == 0: query head h reads
    key head h // (H / Hkv). scale None is 1 / sqrt(d). Returns [B, T, H, d].
    """
    T, H, d = q.shape[1:]
    S, H_kv = k.shape[1:3]
    k = k.float().repeat_interleave(H // H_kv, dim=2)
    v = v.float().repeat_interleave(H // H_kv, dim=2)
    scores = torch.einsum("bthd,bshd->bhts", q.float(), k) * (d**-0.5 if scale is None else scale)
    scores = scores.masked_fill(~band(T, S, window, sinks, q.device), float("-inf"))
    return torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v).to(q.dtype)


def window_attention_decode_ref(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    count: int | torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """One query over the first `count` slots: q [B, 1, H, d]; keys, values [B, W, Hkv, d]."""
    n = int(count)
    return window_attention_ref(q, keys[:, :n], values[:, :n], None, scale)
