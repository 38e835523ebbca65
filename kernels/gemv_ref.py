"""Specification of the products with one vector in plain PyTorch, computed in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from samba_cli.kernels.rms_norm_ref import rms_norm_ref


def gemv_ref(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    norm: tuple[Tensor, float] | None = None,
    residual: Tensor | None = None,
    multiplier: float = 1.0,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """residual + multiplier (weight norm(x) + bias)."""
    if norm is not None:
        x = rms_norm_ref(x, *norm, torch.float32)
    y = x.float() @ weight.float().t()
    if scale is not None:
        y = y * scale
    if bias is not None:
        y = y + bias.float()
    if residual is not None:
        return residual.float() + multiplier * y
    return (multiplier * y).to(out_dtype or x.dtype)


def gemv_swiglu_ref(
    x: Tensor,
    gate_up: Tensor,
    scale: Tensor | None = None,
    norm: tuple[Tensor, float] | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """silu(gate x) * up x, where the first half of the rows is the gate."""
    both = gemv_ref(x, gate_up, scale, None, norm, out_dtype=torch.float32)
    gate, up = both.chunk(2, dim=-1)
    return (F.silu(gate) * up).to(out_dtype or x.dtype)
