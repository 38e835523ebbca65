"""The parts that every architecture shares: linear layers, norms, the MLP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samba_cli.kernels.dispatch import compiled
from samba_cli.kernels.gemv import gemv, gemv_swiglu
from samba_cli.kernels.int8_linear import int8_linear
from samba_cli.kernels.rms_norm import add_rms_norm, rms_norm
from samba_cli.kernels.swiglu import gated, swiglu
from samba_cli.kernels.token_input import token_input
from samba_cli.model.description import MLPSpec
from samba_cli.model.fusion import (
    fused,
    joint_rows,
    joint_weight,
    multiplies_rows,
    side_by_side,
)

Norm = tuple[Tensor, float]  # weight and epsilon of an RMSNorm


def picked(x: Tensor, at: Tensor | None) -> Tensor:
    """Positions `at` [B, K] of x [B, T, D]: [B, K, D]; all of them where that is None."""
    return x if at is None else x.gather(1, at[..., None].expand(-1, -1, x.shape[-1]))


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
        if self.weight_scale is not None and input.device.type == "cpu":
            return int8_linear(input, self.weight, self.weight_scale)
        product = F.linear(input, self.weight.to(input.dtype))
        if self.weight_scale is None:
            return product
        # whole numbers to 127 are exact in bfloat16, so the scale may wait until after the sum
        return (product * self.weight_scale).to(input.dtype)

    def step(
        self,
        input: Tensor,
        norm: Norm | None = None,
        residual: Tensor | None = None,
        multiplier: float = 1.0,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """residual + multiplier * forward(norm(input)) for one vector, in one launch.

        In `dtype` (default: the input's), with a residual in float32.
        """
        return gemv(
            input, self.weight, self.weight_scale, self.bias, norm, residual, multiplier, dtype
        )


class Embedding(nn.Embedding):
    """Rows in float32; the weight may be int8 with a scale per row."""

    weight_scale: Tensor | None

    def __init__(self, count: int, d: int) -> None:
        super().__init__(count, d)
        self.register_buffer("weight_scale", None, persistent=False)

    def forward(self, input: Tensor, multiplier: float = 1.0) -> Tensor:
        """[..] ids -> [.., D] float32, times the multiplier"""
        if input.numel() == 1 and fused(self.weight):
            return token_input(input, self.weight, self.weight_scale, multiplier)
        rows = F.embedding(input, self.weight).float()
        if self.weight_scale is not None:
            rows = rows * F.embedding(input, self.weight_scale[:, None])
        return rows if multiplier == 1 else rows * multiplier


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
        direct = fused(x) or (compiled(x) and not torch.is_grad_enabled())
        if self.groups == 1 and self.weight is not None and direct:
            return rms_norm(x, self.weight, self.eps, dtype)
        weight = None if self.weight is None else self.weight.float()
        if self.groups == 1:
            return F.rms_norm(x.float(), x.shape[-1:], weight, self.eps).to(dtype)
        parts = x.float().unflatten(-1, (self.groups, -1))
        x = F.rms_norm(parts, parts.shape[-1:], None, self.eps).flatten(-2)
        return (x if weight is None else x * weight).to(dtype)

    @property
    def pair(self) -> Norm:
        """Weight and epsilon, for kernels that compute the norm on their way."""
        assert self.weight is not None and self.groups == 1
        return self.weight, self.eps

    def after(
        self, residual: Tensor, branch: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The norm in `dtype` of residual + branch, and that sum in float32, in one kernel."""
        if branch is None:
            return self(residual, dtype), residual
        return add_rms_norm(branch, residual, *self.pair, dtype)


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
        return self.down_proj(gated(self.gate_proj(x), self.up_proj(x)))

    def takes_rows(self, dtype: torch.dtype) -> bool:
        joined = joint_weight((self.gate_proj, self.up_proj)) is not None
        return joined and multiplies_rows((self.gate_proj, self.up_proj, self.down_proj), dtype)

    def rows_step(self, y: Tensor) -> Tensor:
        """forward(y) for one token of each row, y [B, 1, D], in float32 parts [S, B, 1, D]."""
        from samba_cli.kernels.rows_step_triton import cut_linear, swiglu

        joint = joint_weight((self.gate_proj, self.up_proj))
        assert joint is not None
        return cut_linear(swiglu(y, joint), self.down_proj.weight)

    def step(self, x: Tensor, norm: Norm, multiplier: float, dtype: torch.dtype) -> Tensor:
        """x + multiplier * forward(norm(x)) for one token x [1, 1, D] float32."""
        joint = joint_rows((self.gate_proj, self.up_proj))
        if joint is not None:
            inner = gemv_swiglu(x, *joint, norm, dtype)
        else:
            gate = self.gate_proj.step(x, norm, dtype=dtype)
            inner = F.silu(gate) * self.up_proj.step(x, norm, dtype=dtype)
        return self.down_proj.step(inner, None, x, multiplier)
