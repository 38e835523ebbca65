"""Products with a matrix of int8 and one scale for each of its rows, on a CPU.

The weights stay int8 in memory. For a few vectors, as in decoding, where reading the matrix is what
takes time, they are multiplied as they are; for a chunk, parts of the matrix are expanded in turn.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from samba_cli.kernels.dispatch import compiles

FEW = (
    4  # vectors that a compiled loop multiplies faster than the library does once they are expanded
)
EXPANDED = 1 << 23  # elements at a time: parts as small as that still keep the library busy


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x @ (weight * scale[:, None]).T without gradients.

    x [.., in] floating point, weight [out, in] int8, scale [out] float32. Returns [.., out] in x's
    dtype; sums are float32, and the weights are rounded to x's dtype where x has many rows.
    """
    if compiles(x):
        from samba_cli.kernels.int8_linear_compiled import expanded, few_products

        if x.numel() <= FEW * x.shape[-1]:
            return few_products(x, weight, scale)
    else:
        expanded = _expanded
    rows = max(1, EXPANDED // weight.shape[1])
    if rows >= len(weight):
        return F.linear(x, expanded(weight, scale, x.dtype))
    y = x.new_empty(*x.shape[:-1], len(weight))
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        y[..., part] = F.linear(x, expanded(weight[part], scale[part], x.dtype))
    return y


def _expanded(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return (weight.float() * scale[:, None]).to(dtype)
