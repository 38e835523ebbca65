"""Rotary position embedding (Su et al. 2021), exact at any position.

Angles are position x frequency. In float32 they are off by 0.03 radians at a million; so
they are computed in float64, and only cosine and sine are rounded.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from samba_cli.kernels.token_input import token_rotation
from samba_cli.model.fusion import fused


def rotation(
    position: int | Tensor, length: int, d_head: int, theta: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines for positions position .. position + length - 1: [T, d_head / 2] fp32.

    A position on the device (int64, one element) is never read back; the angles are the same.
    """
    if length == 1 and isinstance(position, Tensor) and fused(position):
        return token_rotation(position, _frequencies(d_head, theta, device))
    positions = torch.arange(length, dtype=torch.float64, device=device) + position
    angles = positions[:, None] * _frequencies(d_head, theta, device)
    return angles.cos().float(), angles.sin().float()


@cache
def _frequencies(d_head: int, theta: float, device: torch.device) -> Tensor:
    """Radians a position for each pair of dimensions: [d_head / 2] float64."""
    with torch.inference_mode(False):  # kept, and training may come to use it
        pairs = torch.arange(0, d_head, 2, dtype=torch.float64, device=device)
        return theta ** (-pairs / d_head)
