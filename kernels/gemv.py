"""Products of a matrix with one vector: decoding at batch 1.

Such a product is bound by reading the matrix. So what stands before and after it is computed in
the same launch: the norm and the residual addition of a block, and the activation of its MLP.
"""

from __future__ import annotations

import torch
from torch import Tensor

from samba_cli.kernels.dispatch import backend_for
from samba_cli.kernels.gemv_ref import gemv_ref, gemv_swiglu_ref


def gemv(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    norm: tuple[Tensor, float] | None = None,
    residual: Tensor | None = None,
    multiplier: float = 1.0,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """residual + multiplier * (weight norm(x) + bias), summed in float32.

    x [..., K] holds one vector; weight [M, K] is floating point, or int8 with `scale` [M] float32;
    bias [M]; norm: weight [K] and epsilon of an RMSNorm (Zhang & Sennrich 2019); residual
    [..., M]. Returns [..., M] in out_dtype (default: x.dtype), with a residual in float32.

    Raises ValueError where x holds more than one vector or the shapes do not fit together.
    """
    _check(x, weight)
    if backend_for(x) != "triton":
        return gemv_ref(x, weight, scale, bias, norm, residual, multiplier, out_dtype)
    from samba_cli.kernels import gemv_triton

    return gemv_triton.linear(x, weight, scale, bias, norm, residual, multiplier, out_dtype)


def gemv_swiglu(
    x: Tensor,
    gate_up: Tensor,
    scale: Tensor | None = None,
    norm: tuple[Tensor, float] | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """silu(gate norm(x)) * (up norm(x)): a SwiGLU block (Shazeer 2020) up to its last product.

    gate_up [2 F, K]: the rows of gate, then those of up; the rest as in `gemv`. Returns [..., F].

    Raises ValueError where x holds more than one vector or the shapes do not fit together.
    """
    _check(x, gate_up)
    if len(gate_up) % 2:
        raise ValueError(f"gate and up have as many rows each, together not {len(gate_up)}")
    if backend_for(x) != "triton":
        return gemv_swiglu_ref(x, gate_up, scale, norm, out_dtype)
    from samba_cli.kernels import gemv_triton

    return gemv_triton.swiglu(x, gate_up, scale, norm, out_dtype)


def _check(x: Tensor, weight: Tensor) -> None:
    if weight.dim() != 2 or x.numel() != weight.shape[1] or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"{tuple(weight.shape)} times one vector, not {tuple(x.shape)}")
