"""The state-space-dual scan of Mamba-2 with its state as an input and an output."""

from __future__ import annotations

import math

from torch import Tensor

from samba_cli.kernels.dispatch import backend_for
from samba_cli.kernels.grad_mode import needs_grad
from samba_cli.kernels.ssd_scan_cpu import ssd_scan_cpu
from samba_cli.kernels.ssd_scan_ref import ssd_scan_ref


def ssd_scan(
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
    """Read T tokens into the matrix states of H heads, each with one decay per token.

        dt_t = clamp(softplus(dt_t + dt_bias), *dt_limit)
        h_t  = exp(dt_t * A) * h_{t-1} + dt_t * x_t B_t^T
        y_t  = h_t C_t + D * x_t

    Args:
        x: [batch, T, H, P], any strides, T >= 1. dt: [batch, T, H].
        A: [H] fp32, negative. D, dt_bias: [H] fp32 or None.
        B, C: [batch, T, G, N] with H a multiple of G; head h belongs to group h // (H / G).
        state: [batch, H, P, N] fp32, the h before the first token, or None for zeros.
        dt_limit: the least and the greatest step.

    Returns y [batch, T, H, P] in x's dtype and the state after the last token, a new fp32 tensor.
    Cutting T into several calls gives the same result. Steps and decays are computed in fp32, and
    every sum is taken in fp32. Differentiable in every input (on a GPU by the plain PyTorch path).
    Raises ValueError when shapes do not fit together.

    Mamba-2 (Dao & Gu 2024, arXiv 2405.21060), equations 1 and 2 and section 6.
    """
    batch, length, heads, _ = x.shape
    groups = B.shape[2]
    if length < 1 or B.shape != C.shape or B.shape[:2] != (batch, length) or heads % groups:
        raise ValueError(
            f"x {tuple(x.shape)}, B {tuple(B.shape)} and C {tuple(C.shape)} must be "
            "[batch, T >= 1, H, P] and twice [batch, T, G, N] with H a multiple of G"
        )
    if dt.shape != (batch, length, heads) or A.shape != (heads,):
        raise ValueError(
            f"dt {tuple(dt.shape)} and A {tuple(A.shape)} must be [batch, T, H] and [H], "
            f"here {(batch, length, heads)} and {(heads,)}"
        )
    inputs = (x, dt, A, B, C, D, dt_bias, state)
    backend = backend_for(x)
    if backend == "ref":
        return ssd_scan_ref(*inputs, dt_limit)
    if backend == "torch" or needs_grad(*inputs):  # the Triton kernels are forward only
        return ssd_scan_cpu(*inputs, dt_limit)
    # Triton is not installed everywhere, and is slow to import.
    from samba_cli.kernels.ssd_scan_op import ssd_scan_triton

    return ssd_scan_triton(*inputs, dt_limit)
