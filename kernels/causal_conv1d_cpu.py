"""Causal convolution without Triton: compiled for long inputs, see `causal_conv1d_compiled`, else
shifted multiply-adds over blocks that fit the cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from samba_cli.kernels.causal_conv1d_ref import causal_conv1d_ref
from samba_cli.kernels.dispatch import compiled
from samba_cli.kernels.grad_mode import needs_grad

BLOCK_ELEMENTS = 1 << 18  # of one block of the output: 1 MiB in fp32; smaller ones cost calls


def causal_conv1d_cpu(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    state: torch.Tensor | None = None,
    activation: str | None = "silu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same as `causal_conv1d_ref`. Where a gradient is wanted it is that formula."""
    low_precision = x.dtype in (torch.bfloat16, torch.float16)
    traced = torch.compiler.is_compiling() or needs_grad(x, weight, bias, state)
    if not traced and compiled(x):
        from samba_cli.kernels.causal_conv1d_compiled import causal_conv1d_compiled

        return causal_conv1d_compiled(x, weight, bias, state, activation)
    if low_precision or traced:
        return causal_conv1d_ref(x, weight, bias, state, activation)
    batch, T, E = x.shape
    K = weight.shape[1]
    if state is None:
        state = x.new_zeros(batch, E, K - 1)
    if T == 1:
        return _step(x, weight, bias, state, activation)
    taps = weight.to(x.dtype).t().contiguous()  # [K, E]
    bias = None if bias is None else bias.to(x.dtype)
    # The first K-1 outputs reach back into the state; all others see x alone.
    head = torch.cat([state.to(x.dtype).transpose(1, 2), x[:, : K - 1]], dim=1)
    y = x.new_empty(batch, T, E)
    _convolve(head, taps, bias, activation, y[:, : K - 1])
    rows = max(16, BLOCK_ELEMENTS // max(1, batch * E))
    for start in range(K - 1, T, rows):
        stop = min(T, start + rows)
        _convolve(x[:, start - (K - 1) : stop], taps, bias, activation, y[:, start:stop])
    recent = head if T < K else x[:, T - (K - 1) :]
    new_state = (
        recent[:, recent.shape[1] - (K - 1) :]
        .transpose(1, 2)
        .clone(memory_format=torch.contiguous_format)
    )
    return y, new_state


def _step(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    state: torch.Tensor,
    activation: str | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token: here the number of calls is what costs."""
    inputs = torch.cat([state.to(x.dtype), x.transpose(1, 2)], dim=2)  # [B, E, K]
    y = (inputs * weight.to(x.dtype)).sum(2)
    if bias is not None:
        y += bias.to(x.dtype)
    if activation == "silu":
        F.silu(y, inplace=True)
    return y[:, None], inputs[:, :, 1:].contiguous()


def _convolve(
    inputs: torch.Tensor,
    taps: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    out: torch.Tensor,
) -> None:
    """Write the outputs of inputs [B, K-1+n, E] into out [B, n, E]."""
    n = out.shape[1]
    if bias is None:
        torch.mul(inputs[:, :n], taps[0], out=out)
    else:
        torch.addcmul(bias, inputs[:, :n], taps[0], out=out)
    for k in range(1, taps.shape[0]):
        out.addcmul_(inputs[:, k : k + n], taps[k])
    if activation == "silu":
        F.silu(out, inplace=True)
