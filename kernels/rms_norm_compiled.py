"""RMSNorm as one compiled loop: a row is read, scaled and rounded while it is in the cache.

So is the sum with a branch, where the norm is of the residual stream after it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import cfunc, njit

from samba_cli.kernels.compiled import (
    BFLOAT16,
    C_FUNCTION,
    FLOAT32,
    fields,
    load,
    next_rows,
    run,
    store,
    vector,
)

ROWS = 32  # of a task


# "reassoc": the squares are summed in vectors
@njit(error_model="numpy", fastmath={"contract", "reassoc"})
def _square_sum(x, width):
    total = np.float32(0)
    for d in range(width):
        total += x[d] * x[d]
    return total


@njit(error_model="numpy", fastmath={"contract"})
def _norm_row(x, weight, eps, out, width):
    mean = _square_sum(x, width) / np.float32(width)
    scale = np.float32(1) / np.float32(math.sqrt(mean + eps))
    for d in range(width):
        store(out, d, x[d] * scale * weight[d])


@njit(error_model="numpy", fastmath={"contract"})
def _norm(job, like):
    rows, width = job[1], job[2]
    x = vector(job[3], rows * width, FLOAT32)
    weight = vector(job[4], width, FLOAT32)
    y = vector(job[5], rows * width, like)
    eps = vector(job[6], 1, FLOAT32)[0]
    while True:
        first, stop = next_rows(job, rows, ROWS)
        if first >= rows:
            return
        for row in range(first, stop):
            _norm_row(x[row * width :], weight, eps, y[row * width :], width)


@njit(error_model="numpy", fastmath={"contract"})
def _add_norm(job, like):
    rows, width = job[1], job[2]
    x = vector(job[3], rows * width, FLOAT32)
    weight = vector(job[4], width, FLOAT32)
    y = vector(job[5], rows * width, like)
    eps = vector(job[6], 1, FLOAT32)[0]
    branch = vector(job[7], rows * width, like)
    total = vector(job[8], rows * width, FLOAT32)
    while True:
        first, stop = next_rows(job, rows, ROWS)
        if first >= rows:
            return
        for row in range(first, stop):
            values, added, sums = x[row * width :], branch[row * width :], total[row * width :]
            for d in range(width):
                sums[d] = values[d] + load(added, d)
            _norm_row(sums, weight, eps, y[row * width :], width)


@cfunc(C_FUNCTION, cache=True)
def _norm_float32(job):
    _norm(fields(job), FLOAT32)


@cfunc(C_FUNCTION, cache=True)
def _norm_bfloat16(job):
    _norm(fields(job), BFLOAT16)


@cfunc(C_FUNCTION, cache=True)
def _add_norm_float32(job):
    _add_norm(fields(job), FLOAT32)


@cfunc(C_FUNCTION, cache=True)
def _add_norm_bfloat16(job):
    _add_norm(fields(job), BFLOAT16)


def rms_norm_compiled(
    x: torch.Tensor, weight: torch.Tensor, eps: float, out_dtype: torch.dtype
) -> torch.Tensor:
    """Same contract as `rms_norm`, without gradients; out_dtype is float32 or bfloat16."""
    x, weight = x.float().contiguous(), weight.float().contiguous()
    y = torch.empty(x.shape, dtype=out_dtype, device=x.device)
    small = torch.tensor([eps], dtype=torch.float32, device=x.device)
    job = [x.numel() // x.shape[-1], x.shape[-1]]
    job += [tensor.data_ptr() for tensor in (x, weight, y, small)]
    run(_norm_bfloat16 if out_dtype == torch.bfloat16 else _norm_float32, job)
    return y


def add_rms_norm_compiled(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    out_dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Same contract as `add_rms_norm`, without gradients; out_dtype is float32 or bfloat16."""
    residual, weight = residual.float().contiguous(), weight.float().contiguous()
    x = x.to(out_dtype).contiguous()
    y = torch.empty(x.shape, dtype=out_dtype, device=x.device)
    total = torch.empty_like(residual)
    small = torch.tensor([eps], dtype=torch.float32, device=x.device)
    job = [x.numel() // x.shape[-1], x.shape[-1]]
    job += [tensor.data_ptr() for tensor in (residual, weight, y, small, x, total)]
    run(_add_norm_bfloat16 if out_dtype == torch.bfloat16 else _add_norm_float32, job)
    return y, total
