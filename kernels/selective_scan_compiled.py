"""The selective scan as one compiled loop: what `selective_scan_cpu` does in many operations.

A task is a batch row and WIDTH channels, whose states stay in the first-level cache from the first
token to the last. Per token and state that is one exp2 and five other operations, all of them on
whole vectors; nothing but the inputs is read from memory, and nothing but the outputs written.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import cfunc, njit
from torch import Tensor

from samba_cli.kernels.compiled import (
    BFLOAT16,
    C_FUNCTION,
    FLOAT32,
    exp2,
    fields,
    load,
    next_task,
    prefetch,
    run,
    silu,
    softplus,
    span,
    store,
    vector,
)

WIDTH = 64  # channels of a task: [N, 64] states and rates are 8 KiB for N = 16
# The rows of a task lie a whole row of channels apart: too far for the processor to foresee them.
AHEAD, CACHE_LINE = 4, 64  # tokens, bytes
_LOG2E = math.log2(math.e)


@njit(error_model="numpy", fastmath={"contract"})
def _scan(job, like, size):
    batch, length, channels, n_states = job[1], job[2], job[3], job[4]
    u = vector(job[5], job[6], like)
    delta = vector(job[9], job[10], like)
    z = vector(job[13], job[14], like)
    B = vector(job[17], job[18], like)
    C = vector(job[21], job[22], like)
    y = vector(job[25], batch * length * channels, like)
    rate = vector(job[26], channels * n_states, FLOAT32)
    D = vector(job[27], channels, FLOAT32)
    bias = vector(job[28], channels, FLOAT32)
    state = vector(job[29], batch * channels * n_states, FLOAT32)
    gated = job[30] != 0
    tiles = (channels + WIDTH - 1) // WIDTH

    h = np.zeros((n_states, WIDTH), np.float32)
    rates = np.zeros((n_states, WIDTH), np.float32)
    dt, dtu = np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    out, skip = np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    shift = np.zeros(WIDTH, np.float32)
    while True:
        task = next_task(job)
        if task >= batch * tiles:
            return
        b, first = task // tiles, (task % tiles) * WIDTH
        width = min(WIDTH, channels - first)
        held = (b * channels + first) * n_states
        for e in range(width):
            skip[e], shift[e] = D[first + e], bias[first + e]
            for n in range(n_states):
                h[n, e] = state[held + e * n_states + n]
                rates[n, e] = rate[(first + e) * n_states + n]
        for t in range(length):
            for line in range(0, width * size, CACHE_LINE):
                at = first * size + line
                prefetch(job[5] + (b * job[7] + (t + AHEAD) * job[8]) * size + at)
                prefetch(job[9] + (b * job[11] + (t + AHEAD) * job[12]) * size + at)
                prefetch(job[13] + (b * job[15] + (t + AHEAD) * job[16]) * size + at)
            u_t = u[b * job[7] + t * job[8] + first :]
            delta_t = delta[b * job[11] + t * job[12] + first :]
            B_t, C_t = B[b * job[19] + t * job[20] :], C[b * job[23] + t * job[24] :]
            for e in range(width):
                x = load(u_t, e)
                step = softplus(load(delta_t, e) + shift[e])
                dt[e] = step
                dtu[e] = step * x
                out[e] = skip[e] * x
            for n in range(n_states):
                b_n, c_n = load(B_t, n), load(C_t, n)
                for e in range(WIDTH):
                    value = exp2(dt[e] * rates[n, e]) * h[n, e] + dtu[e] * b_n
                    h[n, e] = value
                    out[e] += c_n * value
            y_t = y[(b * length + t) * channels + first :]
            if gated:
                z_t = z[b * job[15] + t * job[16] + first :]
                for e in range(width):
                    store(y_t, e, out[e] * silu(load(z_t, e)))
            else:
                for e in range(width):
                    store(y_t, e, out[e])
        for e in range(width):
            for n in range(n_states):
                state[held + e * n_states + n] = h[n, e]


@cfunc(C_FUNCTION, cache=True)
def _scan_float32(job):
    _scan(fields(job), FLOAT32, 4)


@cfunc(C_FUNCTION, cache=True)
def _scan_bfloat16(job):
    _scan(fields(job), BFLOAT16, 2)


def selective_scan_compiled(
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
    """Same contract as `selective_scan`, without gradients; u in float32 or bfloat16."""
    batch, length, channels = u.shape
    n = A.shape[1]
    rows = [_rows(x, u.dtype) for x in (u, delta, u if z is None else z, B, C)]
    y = torch.empty(batch, length, channels, dtype=u.dtype, device=u.device)
    rate = (A.float() * _LOG2E).contiguous()
    plain: Any = {"dtype": torch.float32, "device": u.device}  # whatever the defaults are
    zeros = torch.zeros(channels, **plain)
    D = zeros if D is None else D.float().contiguous()
    bias = zeros if delta_bias is None else delta_bias.float().contiguous()
    shape = (batch, channels, n)
    h = torch.zeros(shape, **plain) if state is None else torch.empty(shape, **plain).copy_(state)
    job = [batch, length, channels, n]
    for x in rows:
        job += [x.data_ptr(), span(x), x.stride(0), x.stride(1)]
    job += [x.data_ptr() for x in (y, rate, D, bias, h)]
    job.append(z is not None)
    run(_scan_bfloat16 if u.dtype == torch.bfloat16 else _scan_float32, job)
    return y, h


def _rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """In one dtype, and dense along the channels; the compiled loop takes any other strides."""
    x = x.to(dtype)
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()
