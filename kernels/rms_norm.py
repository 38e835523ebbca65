"""RMSNorm, alone and fused with the addition to the fp32 residual stream before it.

RMSNorm: Zhang & Sennrich 2019, equation 4. Where autograd or torch.compile is at work this is
the plain formula (the compiler fuses it); reading and generation have kernels.
"""

from __future__ import annotations

import torch

from samba_cli.kernels.dispatch import backend_for, compiled
from samba_cli.kernels.grad_mode import needs_grad
from samba_cli.kernels.rms_norm_ref import add_rms_norm_ref, rms_norm_ref


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-5, out_dtype: torch.dtype | None = None
) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, computed in fp32.

    x [..., D], weight [D]. Returns [..., D] in out_dtype (default: weight.dtype).
    """
    if compiled(x) and not needs_grad(x, weight) and out_dtype in (torch.float32, torch.bfloat16):
        from samba_cli.kernels.rms_norm_compiled import rms_norm_compiled

        return rms_norm_compiled(x, weight, eps, out_dtype)
    if _plain(x, weight):
        return rms_norm_ref(x, weight, eps, out_dtype)
    from samba_cli.kernels import rms_norm_triton

    return rms_norm_triton.forward(x, None, weight, eps, out_dtype or weight.dtype)[0]


def add_rms_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    eps: float = 1e-5,
    out_dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """RMSNorm of residual + x, and that sum: the residual stream of the next block.

    x [..., D] in any dtype, residual [..., D], weight [D]. Returns the norm in out_dtype
    (default: weight.dtype) and the new residual in fp32.
    """
    frozen = compiled(x) and not needs_grad(x, residual, weight)
    if frozen and out_dtype == x.dtype and x.shape == residual.shape:
        from samba_cli.kernels.rms_norm_compiled import add_rms_norm_compiled

        return add_rms_norm_compiled(x, residual, weight, eps, x.dtype)
    if _plain(x, residual, weight):
        return add_rms_norm_ref(x, residual, weight, eps, out_dtype)
    from samba_cli.kernels import rms_norm_triton

    return rms_norm_triton.forward(x, residual, weight, eps, out_dtype or weight.dtype)


def _plain(*tensors: torch.Tensor) -> bool:
    compiling = torch.compiler.is_compiling()
    return compiling or needs_grad(*tensors) or backend_for(tensors[0]) != "triton"
