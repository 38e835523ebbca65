"""Specification of one token of Mamba's two fused stages in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from samba_cli.kernels.causal_conv1d_ref import causal_conv1d_ref
from samba_cli.kernels.gemv_ref import gemv_ref
from samba_cli.kernels.rms_norm_ref import rms_norm_ref
from samba_cli.kernels.selective_scan_ref import selective_scan_ref

InnerNorms = tuple[Tensor | None, Tensor | None, Tensor | None]


def mamba_input_step_ref(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    norm: tuple[Tensor, float],
    conv_weight: Tensor,
    conv_bias: Tensor | None,
    conv_state: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The convolved x and the gate z, [1, 1, E] each, and the new state of the convolution."""
    both = gemv_ref(x, weight, scale, bias, norm, out_dtype=conv_state.dtype)
    x, z = both.reshape(1, 1, -1).chunk(2, dim=-1)
    x, state = causal_conv1d_ref(x, conv_weight, conv_bias, conv_state, "silu")
    return x, z, state


def mamba_scan_step_ref(
    x: Tensor,
    z: Tensor,
    dt_B_C: Tensor,
    dt_weight: Tensor,
    dt_scale: Tensor | None,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    state: Tensor,
    inner: tuple[InnerNorms, float] | None = None,
) -> Tensor:
    """y [1, 1, E]; the SSM state moves on, in place."""
    rank, n = dt_weight.shape[1], A.shape[1]
    parts = dt_B_C.reshape(1, 1, -1).float().split([rank, n, n], dim=-1)
    if inner is not None:
        weights, eps = inner
        pairs = zip(parts, weights, strict=True)
        parts = [rms_norm_ref(p, torch.ones_like(p[0, 0]) if w is None else w, eps, torch.float32)
                 for p, w in pairs]  # fmt: skip
    dt, B, C = parts
    dt = F.linear(dt, dt_weight.float())
    if dt_scale is not None:
        dt = dt * dt_scale
    y, after = selective_scan_ref(x, dt, A, B, C, D.float(), z, dt_bias.float(), state)
    state.copy_(after)
    return y
