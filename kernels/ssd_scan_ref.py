"""The scan of Mamba-2 as a loop over tokens: the specification and the oracle of the fast paths."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def ssd_scan_ref(
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
    """Same contract as `ssd_scan`; Mamba-2 (Dao & Gu 2024, arXiv 2405.21060), equations 1 and 2.

    Computes in fp32, or in fp64 where x is fp64 (then the returned state is fp64 too).
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    output_dtype = x.dtype
    x, dt, A, B, C = (v.to(dtype) for v in (x, dt, A, B, C))
    if dt_bias is not None:
        dt = dt + dt_bias.to(dtype)
    dt = F.softplus(dt).clamp(*dt_limit)
    batch, length, heads, width = x.shape
    # Head h reads and writes its state through the B and C of its group.
    B, C = (v.repeat_interleave(heads // v.shape[2], dim=2) for v in (B, C))
    h = x.new_zeros(batch, heads, width, B.shape[3]) if state is None else state.to(dtype)
    outputs = []
    for t in range(length):
        decay = torch.exp(dt[:, t] * A)
        update = (dt[:, t, :, None] * x[:, t])[:, :, :, None] * B[:, t, :, None, :]
        h = decay[:, :, None, None] * h + update
        outputs.append((h * C[:, t, :, None, :]).sum(-1))
    y = torch.stack(outputs, dim=1)
    if D is not None:
        y = y + D.to(dtype)[:, None] * x
    return y.to(output_dtype), h
