"""The parts that every architecture shares: linear layers, norms, the MLP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samba_cli.kernels.rms_norm import add_rms_norm, rms_norm
from samba_cli.kernels.swiglu import swiglu
from samba_cli.model.description import MLPSpec
from samba_cli.model.fusion import fused, joint_weight, side_by_side


class Linear(nn.Linear):
    """Computes in the dtype of its input: weights may be fp32, or int8 with a scale per row."""

    weight_scale: Tensor | None  # [out] fp32, where the weight is int8

    def __init__(self, d_in: int, d_out: int, bias: bool = False) -> None:
        super().__init__(d_in, d_out, bias)
        self.register_buffer("weight_scale", None, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """[.., in] -> [.., out]"""
        if self.bias is None:
            return self.product(input)
        if self.weight_scale is None:
            return F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))
        return self.product(input) + self.bias.to(input.dtype)

    def product(self, input: Tensor) -> Tensor:
        """Without the bias."""
        product = F.linear(input, self.weight.to(input.dtype))
        if self.weight_scale is None:
            return product
        # whole numbers to 127 are exact in bfloat16, so the scale may wait until after the sum
        return (product * self.weight_scale).to(input.dtype)


class Embedding(nn.Embedding):
    """Rows in float32; the weight may be int8 with a scale per row."""

    weight_scale: Tensor | None

    def __init__(self, count: int, d: int) -> None:
        super().__init__(count, d)
        self.register_buffer("weight_scale", None, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """[..] ids -> [.., D] float32"""
        rows = F.embedding(input, self.weight).float()
        if self.weight_scale is None:
            return rows
        return rows * F.embedding(input, self.weight_scale[:, None])


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang & Sennrich 2019), computed in float32; with `groups`, over
    each part of the dimension on its own.
    """

    def __init__(self, d: int, eps: float, weighted: bool = True, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d)) if weighted else None
        self.eps = eps
        self.groups = groups

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """[.., D] -> the same in `dtype`"""
        if self.groups == 1 and self.weight is not None and fused(x):
            return rms_norm(x, self.weight, self.eps, dtype)
        weight = None if self.weight is None else self.weight.float()
        if self.groups == 1:
            return F.rms_norm(x.float(), x.shape[-1:], weight, self.eps).to(dtype)
        parts = x.float().unflatten(-1, (self.groups, -1))
        x = F.rms_norm(parts, parts.shape[-1:], None, self.eps).flatten(-2)
        return (x if weight is None else x * weight).to(dtype)

    def after(
        self, residual: Tensor, branch: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The norm in `dtype` of residual + branch, and that sum in float32, in one kernel."""
        if branch is None:
            return self(residual, dtype), residual
        assert self.weight is not None and self.groups == 1
        return add_rms_norm(branch, residual, self.weight, self.eps, dtype)


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer 2020)."""

    def __init__(self, d_model: int, spec: MLPSpec) -> None:
        super().__init__()
        self.gate_proj = Linear(d_model, spec.d_ff, spec.bias)
        self.up_proj = Linear(d_model, spec.d_ff, spec.bias)
        self.down_proj = Linear(spec.d_ff, d_model, spec.bias)

    def join(self) -> None:
        side_by_side((self.gate_proj, self.up_proj))

    def forward(self, x: Tensor) -> Tensor:
        if fused(x):
            joint = joint_weight((self.gate_proj, self.up_proj))
            if joint is not None and joint.dtype == x.dtype:
                return self.down_proj(swiglu(F.linear(x, joint)))
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
