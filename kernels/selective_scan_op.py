"""The selective scan of a GPU as PyTorch operators, so that autograd and torch.compile see it.

The CUDA source runs where it can, Triton elsewhere: they take and return the same tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from samba_cli.kernels.grad_mode import needs_grad
from samba_cli.kernels.selective_scan_cuda import cuda_scan_for
from samba_cli.kernels.selective_scan_triton import CHUNK
from samba_cli.kernels.selective_step_triton import step


def scan_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    state: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if cuda_scan_for(u, delta, A, B, C, z, gradients=keep):
        from samba_cli.kernels.selective_scan_cuda import scan_forward as scan
    else:
        from samba_cli.kernels.selective_scan_triton import scan_forward as scan
    return scan(u, delta, A, B, C, D, z, delta_bias, state, keep)


def scan_backward(
    dy: Tensor,
    dstate: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    kept: Tensor,
) -> tuple[Tensor, ...]:
    if cuda_scan_for(u, delta, A, B, C, z, gradients=True):
        from samba_cli.kernels.selective_scan_cuda_backward import scan_backward as scan
    else:
        from samba_cli.kernels.selective_scan_triton_backward import scan_backward as scan
    return scan(dy, dstate, u, delta, A, B, C, D, z, delta_bias, kept)


_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, "
    "Tensor? delta_bias, Tensor? state"
)


@torch.library.custom_op(
    "samba::selective_scan",
    mutates_args=(),
    schema=f"({_INPUTS}, bool keep) -> (Tensor, Tensor, Tensor)",
)
def _forward(u, delta, A, B, C, D, z, delta_bias, state, keep):
    return scan_forward(u, delta, A, B, C, D, z, delta_bias, state, keep)


@_forward.register_fake
def _(u, delta, A, B, C, D, z, delta_bias, state, keep):
    batch, length, channels = u.shape
    n = A.shape[1]
    chunks = (length + CHUNK - 1) // CHUNK if keep else 0
    return (
        u.new_empty((batch, length, channels)),
        u.new_empty((batch, channels, n), dtype=torch.float32),
        u.new_empty((batch, chunks, n, channels), dtype=torch.float32),
    )


@torch.library.custom_op(
    "samba::selective_scan_backward",
    mutates_args=(),
    schema=(
        "(Tensor dy, Tensor? dstate, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, "
        "Tensor? D, Tensor? z, Tensor? delta_bias, Tensor kept) -> (Tensor, Tensor, Tensor, "
        "Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
)
def _backward(dy, dstate, u, delta, A, B, C, D, z, delta_bias, kept):
    return scan_backward(dy, dstate, u, delta, A, B, C, D, z, delta_bias, kept)


@_backward.register_fake
def _(dy, dstate, u, delta, A, B, C, D, z, delta_bias, kept):
    batch, _, channels = u.shape
    return (
        u.new_empty(u.shape),
        delta.new_empty(u.shape),
        A.new_empty(A.shape, dtype=torch.float32),
        B.new_empty(B.shape),
        C.new_empty(C.shape),
        u.new_empty((channels if D is not None else 0,), dtype=torch.float32),
        u.new_empty((0,)) if z is None else z.new_empty(u.shape),
        u.new_empty((channels if delta_bias is not None else 0,), dtype=torch.float32),
        u.new_empty((batch, channels, A.shape[1]), dtype=torch.float32),
    )


def _setup_context(ctx, inputs, output):
    *tensors, _ = inputs
    kept = output[2]
    ctx.has_state = tensors[8] is not None
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(kept)
    ctx.save_for_backward(*tensors[:8], kept)


def _differentiate(ctx, dy, dstate, _):
    *tensors, kept = ctx.saved_tensors
    u = tensors[0]
    dy = torch.zeros_like(u) if dy is None else dy
    grads = torch.ops.samba.selective_scan_backward(dy, dstate, *tensors, kept)
    present = [x is not None for x in tensors] + [ctx.has_state]
    return *(grad if here else None for grad, here in zip(grads, present, strict=True)), None


_forward.register_autograd(_differentiate, setup_context=_setup_context)


def selective_scan_triton(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Same contract as `selective_scan`, on a CUDA device or in Triton's interpreter."""
    A = A.float()
    D, delta_bias, state = (x if x is None else x.float() for x in (D, delta_bias, state))
    if D is not None:
        D = D.contiguous()
    if delta_bias is not None:
        delta_bias = delta_bias.contiguous()
    inputs = (u, delta, A, B, C, D, z, delta_bias, state)
    keep = needs_grad(*inputs)
    if not keep and not torch.compiler.is_compiling():
        if u.shape[1] == 1:
            return step(*inputs)
        return scan_forward(*inputs, keep=False)[:2]  # saves the operator's dispatch in decoding
    y, final, _ = torch.ops.samba.selective_scan(*inputs, keep)
    return y, final
