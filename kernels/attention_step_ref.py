"""Specification of one token of attention's fused stages in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from samba_cli.kernels.gemv_ref import gemv_ref
from samba_cli.kernels.rotate_ref import rotate_ref


def attention_input_step_ref(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    norm: tuple[Tensor, float],
    rotation: tuple[Tensor, Tensor] | None,
    n_head: int,
    keys: Tensor,
    values: Tensor,
    slot: int | Tensor,
) -> Tensor:
    """The queries [1, 1, H, d], rotated; keys and values take the token in `slot`, in place."""
    n_kv, d = keys.shape[2:]
    heads = gemv_ref(x, weight, scale, bias, norm, out_dtype=torch.float32)
    q, k, v = heads.view(1, 1, -1, d).split([n_head, n_kv, n_kv], dim=2)
    if rotation is not None:
        q, k = rotate_ref(q, *rotation), rotate_ref(k, *rotation)
    at = torch.as_tensor(slot, device=x.device).reshape(1)
    keys.index_copy_(1, at, k.to(keys.dtype))
    values.index_copy_(1, at, v.to(values.dtype))
    return q.to(keys.dtype)


def ring_slot_ref(position: Tensor, window: int, sinks: int) -> tuple[Tensor, Tensor]:
    """Slots in use after the token at `position`, and the slot that it takes."""
    past_sinks = position - sinks
    slot = torch.where(past_sinks < 0, position, past_sinks % window + sinks)
    return (position + 1).clamp(max=sinks + window), slot
