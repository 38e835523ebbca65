"""The selective scan on a CPU: compiled for long inputs, see `selective_scan_compiled`, else here,
in plain PyTorch.

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

from samba_cli.kernels.dispatch import compiled
from samba_cli.kernels.grad_mode import needs_grad
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
    if needs_grad(*inputs):
        return selective_scan_ref(*inputs)

    batch, length, channels = u.shape
    if length == 1:
        return _step(*inputs)
    same = all(x is None or x.dtype == u.dtype for x in (delta, B, C, z))
    if same and compiled(u):
        from samba_cli.kernels.selective_scan_compiled import selective_scan_compiled

        return selective_scan_compiled(*inputs)
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
    tokens = list(zip(decays, states, strict=True))
    y = u.new_empty(length, batch, 1, channels)
    for start in range(0, length, block):
        stop = min(start + block, length)
        decay, path = decays[: stop - start], states[: stop - start]
        torch.mul(dt[start:stop], rate, out=decay)
        torch.exp2(decay, out=decay)
        torch.mul(dtu[start:stop], B[start:stop], out=path)
        previous = h
        for decay_t, path_t in tokens[: stop - start]:
            previous = path_t.addcmul_(decay_t, previous)
        h.copy_(previous)
        torch.matmul(C[start:stop], path, out=y[start:stop])

    y = y[:, :, 0]
    if D is not None:
        y.addcmul_(u, D.float())
    if z is not None:
        y.mul_(F.silu(z.transpose(0, 1).float()))
    return y.transpose(0, 1).contiguous().to(output_dtype), h.transpose(1, 2).contiguous()


def _step(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    state: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One token (decoding), in the state's own layout."""
    x = u[:, 0].float()
    dt = F.softplus(delta[:, 0].float() if delta_bias is None else delta[:, 0] + delta_bias)
    decay = (dt[:, :, None] * (A.float() * math.log2(math.e))).exp2_()
    h = torch.zeros_like(decay) if state is None else decay.mul_(state)
    h = torch.baddbmm(h, (dt * x)[:, :, None], B.float())
    y = torch.bmm(h, C.float().transpose(1, 2))[:, :, 0]
    if D is not None:
        y.addcmul_(x, D.float())
    if z is not None:
        y.mul_(F.silu(z[:, 0].float()))
    return y[:, None].to(u.dtype), h
