"""Where the layers take their fused form: reading and generation by Triton kernels.

Training keeps the plain form, whose element-wise parts torch.compile fuses itself, and so does
plain PyTorch. `SAMBA_FUSED=off` keeps it everywhere, to compare.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from samba_cli.kernels.dispatch import backend_for, interpreted

MOST_ROWS = 16  # texts that the kernels for `few_rows` have room for


def fused(x: Tensor) -> bool:
    """Is this a call without gradients, on a device whose kernels are Triton's?"""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return backend_for(x) == "triton" and os.environ.get("SAMBA_FUSED") != "off"


def one_token(x: Tensor) -> bool:
    """Is this one token of one text? Its products are bound by reading the weights alone."""
    return x.shape[:-1].numel() == 1 and fused(x)


def few_rows(x: Tensor) -> bool:
    """Is this one token of each of a few texts? Reading the weights is what its products cost."""
    return x.dim() == 3 and x.shape[1] == 1 and 1 < x.shape[0] <= MOST_ROWS and fused(x)


def multiplies_rows(linears: Sequence[nn.Linear], dtype: torch.dtype) -> bool:
    """Can the products of `few_rows` take these layers' weights? They have tensor cores' types."""
    takes = dtype in (torch.bfloat16, torch.float16) or interpreted()
    return takes and all(x.bias is None and x.weight.dtype == dtype for x in linears)


def side_by_side(linears: Sequence[nn.Linear]) -> None:
    """Lay the weights of frozen layers with one input side by side in memory, each a part of one.

    Names, shapes and values stay as they are. So do the scales of int8 weights.
    """
    weights = [linear.weight for linear in linears]
    kinds = {(w.dtype, w.device, w.shape[1]) for w in weights}
    if len(kinds) > 1 or any(w.requires_grad for w in weights):
        return
    for linear, part in zip(linears, _parts([w.detach() for w in weights]), strict=True):
        linear.weight = nn.Parameter(part, requires_grad=False)
    scales = [scale for linear in linears if (scale := _scale(linear)) is not None]
    if len(scales) == len(linears):
        for linear, part in zip(linears, _parts(scales), strict=True):
            linear.weight_scale = part


def joint_weight(linears: Sequence[nn.Linear]) -> Tensor | None:
    """One matrix of all rows, where the weights lie side by side: one product instead of many."""
    if any(linear.bias is not None for linear in linears):
        return None
    weight = _whole([linear.weight for linear in linears])
    return weight if weight is not None and weight.is_floating_point() else None


def joint_rows(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None] | None:
    """The same with the scale of each row, for products that take int8 weights as they are."""
    if any(linear.bias is not None for linear in linears):
        return None
    weight = _whole([linear.weight for linear in linears])
    if weight is None or weight.is_floating_point():
        return None if weight is None else (weight, None)
    scales = [scale for linear in linears if (scale := _scale(linear)) is not None]
    scale = _whole(scales) if len(scales) == len(linears) else None
    return None if scale is None else (weight, scale)


def _scale(linear: nn.Linear) -> Tensor | None:
    return getattr(linear, "weight_scale", None)


def _parts(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The same tensors as parts of one."""
    return torch.cat(list(tensors)).split([len(t) for t in tensors])


def _whole(parts: Sequence[Tensor]) -> Tensor | None:
    """What these are parts of, where they lie side by side."""
    first = parts[0]
    storage, end, rows = first.untyped_storage().data_ptr(), first.data_ptr(), 0
    for part in parts:
        beside = part.data_ptr() == end and part.is_contiguous()
        if not beside or part.untyped_storage().data_ptr() != storage:
            return None
        end += part.nbytes
        rows += len(part)
    return first.as_strided((rows, *first.shape[1:]), first.stride(), first.storage_offset())
