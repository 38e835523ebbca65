"""The selective scan as a loop over tokens: the specification and the oracle of the fast paths."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan_ref(
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
    """Same contract as `selective_scan`; Mamba (Gu & Dao 2023), equation 2 and algorithm 2.

    Computes in fp32, or in fp64 where u is fp64 (then the returned state is fp64 too).
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    output_dtype = u.dtype
    u, delta, A, B, C = (x.to(dtype) for x in (u, delta, A, B, C))
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)
    dt = F.softplus(delta)
    h = u.new_zeros(u.shape[0], *A.shape) if state is None else state.to(dtype)
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(dt[:, t, :, None] * A)
        h = decay * h + (dt[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        outputs.append((h * C[:, t, None, :]).sum(-1))
    y = torch.stack(outputs, dim=1)
    if D is not None:
        y = y + D.to(dtype) * u
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(output_dtype), h
