"""The selective scan in plain PyTorch, fast on a CPU.

A block of K tokens at a time: the decays exp(dt A) and inputs dt B u of the whole block are
computed in large operations that use all cores, then one fused multiply-add per token walks the
recurrence, in place, and one batched product with C reads the block's outputs. Buffers are made
once and K keeps both within the second-level caches. States are held as [N, E], so that the
contiguous axis of every operation is long.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from samba_cli.kernels.selective_scan_ref import selective_scan_ref

BLOCK_VALUES = 1 << 17  # K * batch * N * E values in a buffer: 512 KiB of fp32


def selective_scan_cpu(
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
    """Same contract as `selective_scan`. With gradients it is the differentiable reference."""
    inputs = (u, delta, A, B, C, D, z, delta_bias, state)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        return selective_scan_ref(*inputs)

    batch, length, channels = u.shape
    n = A.shape[1]
    output_dtype = u.dtype
    # Time first: the tokens of a block are then one contiguous slab.
    u, delta, B, C = (x.transpose(0, 1).float() for x in (u, delta, B, C))
    dt = F.softplus(delta if delta_bias is None else delta + delta_bias)
    dtu = (dt * u)[:, :, None, :]
    # exp2 is faster than exp; its argument absorbs the change of base.
    rate = (A.float() * math.log2(math.e)).t().contiguous()
    dt, B, C = dt[:, :, None, :], B[:, :, :, None], C[:, :, None, :]

    if state is None:
        h = u.new_zeros(batch, n, channels)
    else:
        h = state.float().transpose(1, 2).contiguous()
    block = max(1, min(length, BLOCK_VALUES // (batch * n * channels)))
    decays = u.new_empty(block, batch, n, channels)
    states = u.new_empty(block, batch, n, channels)
    y = u.new_empty(length, batch, 1, channels)
    for start in range(0, length, block):
        stop = min(start + block, length)
        decay, path = decays[: stop - start], states[: stop - start]
        torch.mul(dt[start:stop], rate, out=decay)
        torch.exp2(decay, out=decay)
        torch.mul(dtu[start:stop], B[start:stop], out=path)
        previous = h
        for decay_t, path_t in zip(decay, path, strict=True):
            previous = path_t.addcmul_(decay_t, previous)
        h.copy_(previous)
        torch.matmul(C[start:stop], path, out=y[start:stop])

    y = y[:, :, 0]
    if D is not None:
        y.addcmul_(u, D.float())
    if z is not None:
        y.mul_(F.silu(z.transpose(0, 1).float()))
    return y.transpose(0, 1).contiguous().to(output_dtype), h.transpose(1, 2).contiguous()
