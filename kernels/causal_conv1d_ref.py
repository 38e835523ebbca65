"""Specification of the causal convolution in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def causal_conv1d_ref(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    state: torch.Tensor | None = None,
    activation: str | None = "silu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """y_t = act(bias + sum_k weight[:, k] * x_{t-(K-1)+k}), computed in fp32.

    x [B, T, E], weight [E, K], bias [E], state [B, E, K-1] (the inputs before x_0, oldest
    first; None means zeros). Returns y [B, T, E] and the last K-1 inputs [B, E, K-1].
    """
    batch, T, E = x.shape
    K = weight.shape[1]
    if state is None:
        state = x.new_zeros(batch, E, K - 1)
    inputs = torch.cat([state.to(x.dtype).transpose(1, 2), x], dim=1)  # [B, K-1+T, E]
    y = torch.zeros(batch, T, E, device=x.device) if bias is None else bias.float()
    for k in range(K):
        y = y + inputs[:, k : k + T].float() * weight[:, k].float()
    if activation == "silu":
        y = F.silu(y)
    new_state = inputs[:, T:].transpose(1, 2).contiguous()
    return y.to(x.dtype), new_state
