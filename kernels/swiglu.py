"""The activation of a SwiGLU block (Shazeer 2020, equation 5) over one joint projection.

Where autograd or torch.compile is at work this is the plain formula; reading and generation have
kernels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from samba_cli.kernels.dispatch import backend_for, compiled
from samba_cli.kernels.grad_mode import needs_grad
from samba_cli.kernels.swiglu_ref import swiglu_ref


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, where gate is the first half of the last dimension and up the second.

    gate_up [..., 2F]. Returns [..., F] in gate_up.dtype.

    Raises ValueError where the last dimension is odd.
    """
    if gate_up.shape[-1] % 2:
        raise ValueError(f"the last dimension holds two halves, not {gate_up.shape[-1]}")
    if torch.compiler.is_compiling() or needs_grad(gate_up):
        return swiglu_ref(gate_up)
    backend = backend_for(gate_up)
    if backend == "triton":
        from samba_cli.kernels import swiglu_triton

        return swiglu_triton.forward(gate_up)
    if compiled(gate_up):
        return gated(*gate_up.chunk(2, dim=-1))
    if backend == "torch" and gate_up.dtype == torch.float32:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)
    return swiglu_ref(gate_up)


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up of two projections [..., F] in one dtype. Returns [..., F] in it."""
    if compiled(gate) and not needs_grad(gate, up):
        from samba_cli.kernels.swiglu_compiled import gated_compiled

        return gated_compiled(gate, up)
    return F.silu(gate) * up
