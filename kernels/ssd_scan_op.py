"""The Triton scan of Mamba-2 as a PyTorch operator, so that torch.compile sees it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from samba_cli.kernels.ssd_scan_triton import scan_forward


@torch.library.custom_op(
    "samba::ssd_scan",
    mutates_args=(),
    schema=(
        "(Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? dt_bias, "
        "Tensor? state, float low, float high) -> (Tensor, Tensor)"
    ),
)
def _forward(x, dt, A, B, C, D, dt_bias, state, low, high):
    return scan_forward(x, dt, A, B, C, D, dt_bias, state, low, high)


@_forward.register_fake
def _(x, dt, A, B, C, D, dt_bias, state, low, high):
    batch, _, heads, width = x.shape
    final = x.new_empty((batch, heads, width, B.shape[3]), dtype=torch.float32)
    return x.new_empty(x.shape), final


def ssd_scan_triton(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    state: Tensor | None = None,
    dt_limit: tuple[float, float] = (0.0, math.inf),
) -> tuple[Tensor, Tensor]:
    """Same contract as `ssd_scan`, without gradients, on CUDA or in Triton's interpreter."""
    A = A.float().contiguous()
    D, dt_bias = (v if v is None else v.float().contiguous() for v in (D, dt_bias))
    state = state if state is None else state.float()
    low, high = dt_limit
    inputs = (x, dt, A, B, C, D, dt_bias, state, float(low), float(high))
    if not torch.compiler.is_compiling():
        return scan_forward(*inputs)  # saves the operator's dispatch in decoding
    return torch.ops.samba.ssd_scan(*inputs)
