"""Compiled loops over matrices of int8: products with a few vectors, and the matrix expanded."""

from __future__ import annotations

import numpy as np
import torch
from numba import cfunc, njit
from torch import Tensor

from samba_cli.kernels.compiled import (
    BFLOAT16,
    C_FUNCTION,
    FLOAT32,
    fields,
    next_rows,
    run,
    store,
    vector,
)

ROWS = 16  # of the matrix, in a task
_INT8 = np.int8(0)


# "reassoc": the products of a row are summed in vectors
@njit(error_model="numpy", fastmath={"contract", "reassoc"})
def _dot(row, x, width):
    total = np.float32(0)
    for i in range(width):
        total += np.float32(row[i]) * x[i]
    return total


@njit(error_model="numpy", fastmath={"contract"})
def _products(job, like):
    rows, width, count = job[1], job[2], job[3]
    weight = vector(job[4], rows * width, _INT8)
    scale = vector(job[5], rows, FLOAT32)
    x = vector(job[6], count * width, FLOAT32)
    y = vector(job[7], count * rows, like)
    while True:
        first, stop = next_rows(job, rows, ROWS)
        if first >= rows:
            return
        for row in range(first, stop):
            values = weight[row * width :]
            for i in range(count):
                store(y, i * rows + row, _dot(values, x[i * width :], width) * scale[row])


@njit(error_model="numpy", fastmath={"contract"})
def _expand(job, like):
    rows, width = job[1], job[2]
    weight = vector(job[3], rows * width, _INT8)
    scale = vector(job[4], rows, FLOAT32)
    y = vector(job[5], rows * width, like)
    while True:
        first, stop = next_rows(job, rows, ROWS)
        if first >= rows:
            return
        for row in range(first, stop):
            values, out, factor = weight[row * width :], y[row * width :], scale[row]
            for i in range(width):
                store(out, i, np.float32(values[i]) * factor)


@cfunc(C_FUNCTION, cache=True)
def _products_float32(job):
    _products(fields(job), FLOAT32)


@cfunc(C_FUNCTION, cache=True)
def _products_bfloat16(job):
    _products(fields(job), BFLOAT16)


@cfunc(C_FUNCTION, cache=True)
def _expand_float32(job):
    _expand(fields(job), FLOAT32)


@cfunc(C_FUNCTION, cache=True)
def _expand_bfloat16(job):
    _expand(fields(job), BFLOAT16)


def few_products(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x [.., in], weight [out, in], scale [out] -> [.., out] in x's dtype: float32 or bfloat16."""
    weight, scale, wide = weight.contiguous(), scale.contiguous(), x.float().contiguous()
    y = torch.empty(*x.shape[:-1], len(weight), dtype=x.dtype)
    job = [*weight.shape, x.numel() // x.shape[-1]]
    job += [tensor.data_ptr() for tensor in (weight, scale, wide, y)]
    run(_products_bfloat16 if x.dtype == torch.bfloat16 else _products_float32, job)
    return y


def expanded(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """weight [out, in] times scale [out], in float32 or bfloat16."""
    weight, scale = weight.contiguous(), scale.contiguous()
    y = torch.empty(weight.shape, dtype=dtype)
    job = [*weight.shape, weight.data_ptr(), scale.data_ptr(), y.data_ptr()]
    run(_expand_bfloat16 if dtype == torch.bfloat16 else _expand_float32, job)
    return y
