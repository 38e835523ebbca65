"""Depthwise causal convolution with a state: the short convolution of a Mamba block.

Mamba (Gu & Dao 2023), figure 3: each channel is filtered over time with K taps (K = 4),
then SiLU. The state carries the last K-1 inputs from one chunk to the next, so that any
way of cutting a sequence into chunks gives the same outputs.
"""

from __future__ import annotations

from typing import Any

import torch

from samba_cli.kernels.causal_conv1d_cpu import causal_conv1d_cpu
from samba_cli.kernels.causal_conv1d_ref import causal_conv1d_ref
from samba_cli.kernels.dispatch import backend_for
from samba_cli.kernels.grad_mode import needs_grad

_TRITON_TAPS = 4  # every published Mamba has 4; more are rare enough for plain PyTorch


def causal_conv1d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    state: torch.Tensor | None = None,
    activation: str | None = "silu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """y_t = act(bias + sum_k weight[:, k] * x_{t-(K-1)+k}), accumulated in fp32.

    x [B, T, E] with any strides and T >= 1; weight [E, K], 2 <= K <= 8; bias [E] or None;
    state [B, E, K-1], the inputs before x_0, oldest first, or None for zeros; activation
    "silu" or None. Returns y [B, T, E] and the new state [B, E, K-1], a new tensor, both in
    x.dtype. Gradients reach x, weight, bias and state, also from the returned state.

    Raises ValueError where the activation is unknown or the shapes do not fit together.
    """
    if activation not in ("silu", None):
        raise ValueError(f'activation must be "silu" or None, not {activation!r}')
    batch, T, E = x.shape
    if T < 1 or weight.shape[0] != E or not 2 <= weight.shape[1] <= 8:
        raise ValueError(f"x {tuple(x.shape)} and weight {tuple(weight.shape)} do not fit")
    if state is not None and state.shape != (batch, E, weight.shape[1] - 1):
        raise ValueError(f"x {tuple(x.shape)} and state {tuple(state.shape)} do not fit")
    backend = backend_for(x)
    if backend == "ref":
        return causal_conv1d_ref(x, weight, bias, state, activation)
    if backend == "torch" or weight.shape[1] > _TRITON_TAPS:
        return causal_conv1d_cpu(x, weight, bias, state, activation)
    state = None if state is None else state.to(x.dtype)
    silu = activation == "silu"
    if torch.compiler.is_compiling() or needs_grad(x, weight, bias, state):
        return _forward_op(x, weight, bias, state, silu)
    from samba_cli.kernels import causal_conv1d_triton

    return causal_conv1d_triton.forward(x, weight, bias, state, silu)


@torch.library.custom_op("samba::causal_conv1d", mutates_args=())
def _forward_op(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    state: torch.Tensor | None,
    silu: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    from samba_cli.kernels import causal_conv1d_triton

    return causal_conv1d_triton.forward(x, weight, bias, state, silu)


@_forward_op.register_fake
def _(x, weight, bias, state, silu):
    batch, T, E = x.shape
    return x.new_empty(batch, T, E), x.new_empty(batch, E, weight.shape[1] - 1)


@torch.library.custom_op("samba::causal_conv1d_backward", mutates_args=())
def _backward_op(
    dy: torch.Tensor,
    dfinal: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    state: torch.Tensor | None,
    silu: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    from samba_cli.kernels import causal_conv1d_triton

    return causal_conv1d_triton.backward(dy, dfinal, x, weight, bias, state, silu)


@_backward_op.register_fake
def _(dy, dfinal, x, weight, bias, state, silu):
    batch, T, E = x.shape
    K = weight.shape[1]
    dbias = weight.new_empty(0) if bias is None else bias.new_empty(E)
    dstate = x.new_empty(0 if state is None else batch, E, K - 1)
    return x.new_empty(batch, T, E), weight.new_empty(E, K), dbias, dstate


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, bias, state, silu = inputs
    ctx.save_for_backward(x, weight, bias, state)
    ctx.silu = silu


def _backward(ctx: Any, dy: torch.Tensor | None, dfinal: torch.Tensor | None) -> tuple[Any, ...]:
    x, weight, bias, state = ctx.saved_tensors
    batch, T, E = x.shape
    if dy is None:
        dy = x.new_zeros(batch, T, E)
    if dfinal is None:
        dfinal = x.new_zeros(batch, E, weight.shape[1] - 1)
    dx, dweight, dbias, dstate = _backward_op(dy, dfinal, x, weight, bias, state, ctx.silu)
    return dx, dweight, None if bias is None else dbias, None if state is None else dstate, None


_forward_op.register_autograd(_backward, setup_context=_save_for_backward)
