"""Specification of what a token brings to the first layer, in plain PyTorch."""

from __future__ import annotations

from torch import Tensor


def token_input_ref(
    token: Tensor, table: Tensor, scale: Tensor | None, multiplier: float
) -> Tensor:
    """The token's row of the table in float32."""
    row = table[token].float()
    if scale is not None:
        row = row * scale[token][..., None]
    return row * multiplier


def token_rotation_ref(position: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position x frequency, computed in float64."""
    angles = position.double()[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()
