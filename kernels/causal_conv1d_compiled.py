"""The causal convolution as one compiled loop: each input is read once for all of its taps.

A task is a batch row and ROWS tokens of all channels; the first K - 1 tokens reach into the state.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import cfunc, njit

from samba_cli.kernels.compiled import (
    BFLOAT16,
    C_FUNCTION,
    FLOAT32,
    fields,
    load,
    next_task,
    run,
    silu,
    span,
    store,
    vector,
)

ROWS = 32  # tokens of a task


@njit(error_model="numpy", fastmath={"contract"})
def _convolve(job, like):
    batch, length, channels, taps = job[1], job[2], job[3], job[4]
    x = vector(job[5], job[6], like)
    head = vector(job[9], batch * (taps - 1) * channels, like)  # [batch, K-1, E]
    weight = vector(job[10], taps * channels, FLOAT32)  # [K, E]
    bias = vector(job[11], channels, FLOAT32)
    y = vector(job[12], batch * length * channels, like)
    activated = job[13] != 0
    blocks = (length + ROWS - 1) // ROWS
    total = np.zeros(channels, np.float32)
    while True:
        task = next_task(job)
        if task >= batch * blocks:
            return
        b, first = task // blocks, (task % blocks) * ROWS
        for t in range(first, min(first + ROWS, length)):
            for e in range(channels):
                total[e] = bias[e]
            for k in range(taps):
                s, tap = t - (taps - 1) + k, weight[k * channels :]
                if s >= 0:
                    row = x[b * job[7] + s * job[8] :]
                else:
                    row = head[(b * (taps - 1) + s + taps - 1) * channels :]
                for e in range(channels):
                    total[e] += tap[e] * load(row, e)
            out = y[(b * length + t) * channels :]
            if activated:
                for e in range(channels):
                    store(out, e, silu(total[e]))
            else:
                for e in range(channels):
                    store(out, e, total[e])


@cfunc(C_FUNCTION, cache=True)
def _convolve_float32(job):
    _convolve(fields(job), FLOAT32)


@cfunc(C_FUNCTION, cache=True)
def _convolve_bfloat16(job):
    _convolve(fields(job), BFLOAT16)


def causal_conv1d_compiled(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    state: torch.Tensor | None = None,
    activation: str | None = "silu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Same contract as `causal_conv1d`, without gradients; x in float32 or bfloat16."""
    batch, length, channels = x.shape
    taps = weight.shape[1]
    x = x if x.stride(2) == 1 or channels == 1 else x.contiguous()
    if state is None:
        state = x.new_zeros(batch, channels, taps - 1)
    head = state.to(x.dtype).transpose(1, 2).contiguous()
    rows = weight.float().t().contiguous()
    bias = torch.zeros(channels) if bias is None else bias.float().contiguous()
    y = torch.empty(batch, length, channels, dtype=x.dtype)
    job = [batch, length, channels, taps, x.data_ptr(), span(x), x.stride(0), x.stride(1)]
    job += [tensor.data_ptr() for tensor in (head, rows, bias, y)]
    job.append(activation == "silu")
    run(_convolve_bfloat16 if x.dtype == torch.bfloat16 else _convolve_float32, job)
    recent = x if length >= taps - 1 else torch.cat([head, x], dim=1)
    new_state = recent[:, recent.shape[1] - (taps - 1) :].transpose(1, 2)
    return y, new_state.clone(memory_format=torch.contiguous_format)
