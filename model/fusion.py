"""Where the layers take their fused form: reading and generation by Triton kernels.

Training keeps the plain form, whose element-wise parts torch.compile fuses itself, and so does
plain PyTorch. `SAMBA_FUSED=off` keeps it everywhere, to compare.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from samba_cli.kernels.dispatch import backend_for


def fused(x: Tensor) -> bool:
    """Is this a call without gradients, on a device whose kernels are Triton's?"""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return backend_for(x) == "triton" and os.environ.get("SAMBA_FUSED") != "off"


def side_by_side(linears: Sequence[nn.Linear]) -> None:
    """Lay the weights of frozen layers with one input side by side in memory, each a part of one.

    Names, shapes and values stay as they are.
    """
    weights = [linear.weight for linear in linears]
    kinds = {(w.dtype, w.device, w.shape[1]) for w in weights}
    if len(kinds) > 1 or any(w.requires_grad for w in weights):
        return
    joint, start = torch.cat([w.detach() for w in weights]), 0
    for linear in linears:
        stop = start + linear.weight.shape[0]
        linear.weight = nn.Parameter(joint[start:stop], requires_grad=False)
        start = stop


def joint_weight(linears: Sequence[nn.Linear]) -> Tensor | None:
    """One matrix of all rows, where the weights lie side by side: one product instead of many."""
    first = linears[0].weight
    storage, end, rows = first.untyped_storage().data_ptr(), first.data_ptr(), 0
    for linear in linears:
        weight = linear.weight
        beside = weight.data_ptr() == end and weight.is_contiguous()
        if not beside or weight.untyped_storage().data_ptr() != storage:
            return None
        if linear.bias is not None or not weight.is_floating_point():
            return None
        end += weight.nbytes
        rows += weight.shape[0]
    width = first.shape[1]
    return first.as_strided((rows, width), (width, 1), first.storage_offset())
