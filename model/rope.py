"""Rotary position embedding (Su et al. 2021), exact at any position.

Angles are position x frequency. In float32 they are off by 0.03 radians at a million; so
they are computed in float64, and only cosine and sine are rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotation(
    position: int, length: int, d_head: int, theta: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines for positions position .. position + length - 1: [T, d_head / 2] fp32."""
    positions = torch.arange(position, position + length, dtype=torch.float64, device=device)
    pairs = torch.arange(0, d_head, 2, dtype=torch.float64, device=device)
    angles = positions[:, None] * theta ** (-pairs / d_head)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first 2 x cos.shape[-1] dimensions of each head of x [B, T, H, d_head], by halves
    (the NeoX pairing), in float32; x's dtype returns.
    """
    half = cos.shape[-1]
    first, second = x[..., :half].float(), x[..., half : 2 * half].float()
    cos, sin = cos[:, None], sin[:, None]
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    rotated = rotated.to(x.dtype)
    return rotated if 2 * half == x.shape[-1] else torch.cat([rotated, x[..., 2 * half :]], dim=-1)
