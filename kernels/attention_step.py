"""One token of window attention at batch 1: the projections fused with what follows, then the ring.

q, k, v = rotate(qkv_proj(norm(residual)));  ring[slot] = k, v      attention_input_step
y = softmax(scale q keys^T) values                                  attention_ring_step
"""

from __future__ import annotations

import math

from torch import Tensor

from samba_cli.kernels.attention_step_ref import attention_input_step_ref, ring_slot_ref
from samba_cli.kernels.dispatch import backend_for
from samba_cli.kernels.window_attention import MAX_TRITON_HEAD_DIM
from samba_cli.kernels.window_attention_ref import window_attention_decode_ref


def attention_input_step(
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
    """Queries, keys and values of a token after an RMSNorm, rotated; the last two go to their slot.

    x [1, 1, D]; weight [(H + 2 Hkv) d, D]: the rows of the queries, keys and values, floating
    point, or int8 with scale [M] float32; bias [M]; norm: weight [D] and epsilon; rotation: cosines
    and sines [1, R] float32, 2 R <= d, of the first 2 R dimensions by halves (the NeoX pairing);
    keys, values [1, S, Hkv, d], the last two dimensions contiguous; slot: an int, or int64 [1] on
    the device. Returns the queries [1, 1, H, d] in the keys' dtype.

    Raises ValueError where the shapes do not fit together or the head dimension is odd.
    """
    n_kv, d = keys.shape[2:]
    rows = (n_head + 2 * n_kv) * d
    if x.numel() != weight.shape[1] or len(weight) != rows or keys.shape != values.shape:
        shapes = ", ".join(str(tuple(t.shape)) for t in (x, weight, keys, values))
        raise ValueError(f"x, weight, keys and values do not fit together: {shapes}")
    if d % 2 or (rotation is not None and 2 * rotation[0].shape[-1] > d):
        raise ValueError(f"heads of {d} dimensions do not fit the rotation")
    if backend_for(x) != "triton":
        return attention_input_step_ref(
            x, weight, scale, bias, norm, rotation, n_head, keys, values, slot
        )
    from samba_cli.kernels import attention_step_triton

    return attention_step_triton.input_step(
        x, weight, scale, bias, norm, rotation, n_head, keys, values, slot
    )


def attention_ring_step(
    q: Tensor, keys: Tensor, values: Tensor, count: Tensor, slot: Tensor, scale: float | None = None
) -> Tensor:
    """Attention of one query over the slots in use of a ring, in any order.

    q [1, 1, H, d]; keys, values [1, S, Hkv, d], the last two dimensions contiguous; count int64 [1]
    on the device: slots 0..count-1 are in use; slot int64 [1]: the one written last. It is the only
    one that is read anew, should the kernel have been started before it was written. A scale of
    None is 1 / sqrt(d). Returns [1, 1, H, d].

    Raises ValueError where the shapes do not fit together or d is above 256.
    """
    d = q.shape[-1]
    fits = q.shape[:2] == (1, 1) and keys.shape == values.shape and len(keys) == 1
    if not fits or keys.shape[3] != d or q.shape[2] % keys.shape[2] or d > MAX_TRITON_HEAD_DIM:
        shapes = ", ".join(str(tuple(t.shape)) for t in (q, keys, values))
        raise ValueError(f"query, keys and values do not fit together: {shapes}")
    if backend_for(q) != "triton":
        return window_attention_decode_ref(q, keys, values, count, scale)
    from samba_cli.kernels import attention_step_triton

    scale = 1.0 / math.sqrt(d) if scale is None else scale
    return attention_step_triton.ring_step(q, keys, values, count, slot, scale)


def ring_slot(position: Tensor, window: int, sinks: int) -> tuple[Tensor, Tensor]:
    """Where the token at `position` goes in a ring: the slots in use with it, and its slot.

    position int64 [1] on any device; the first `sinks` tokens keep slots of their own, in front of
    the `window` slots that go round. Returns int64 [1] twice.
    """
    if backend_for(position) != "triton":
        return ring_slot_ref(position, window, sinks)
    from samba_cli.kernels import attention_step_triton

    return attention_step_triton.ring_slot(position, window, sinks)
