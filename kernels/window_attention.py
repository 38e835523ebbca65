"""Causal attention within a sliding window or over everything before, past keys and the chunk's.

SAMBA (Ren et al. 2024), section 2: each query sees the last `window` keys, itself included.
Attention sinks (Xiao et al. 2023, arXiv 2309.17453): the first keys stay visible past the window.
The caller keeps the past keys and rotates queries and keys; nothing here knows positions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from samba_cli.kernels.dispatch import backend_for
from samba_cli.kernels.grad_mode import needs_grad
from samba_cli.kernels.window_attention_cpu import (
    window_attention_cpu,
    window_attention_decode_cpu,
)
from samba_cli.kernels.window_attention_ref import (
    window_attention_decode_ref,
    window_attention_ref,
)

MAX_TRITON_HEAD_DIM = 256


def window_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None,
    scale: float | None = None,
    sinks: int = 0,
) -> torch.Tensor:
    """softmax(scale q k^T) v, where query t sees the keys past+t-window+1 .. past+t.

    q [B, T, H, d]; k, v [B, S, Hkv, d] with S = past + T: the past keys come first. H is a
    multiple of Hkv. A window of None is every earlier key; a scale of None is 1 / sqrt(d), and
    any other multiplies q k^T. The first `sinks` keys given are the sequence's first keys, and
    seen by every query that is not before them; the rest are the sequence's last keys, without
    a gap. Returns [B, T, H, d] in q.dtype. Gradients reach q, k and v, past keys and sinks too.

    Raises ValueError where the shapes do not fit together, the window is below 1, the scale is
    not above 0 or the sinks are below 0.
    """
    _check(q, k, v, scale)
    if not 1 <= q.shape[1] <= k.shape[1]:
        raise ValueError(f"{q.shape[1]} queries need as many keys at least, not {k.shape[1]}")
    if window is not None and window < 1:
        raise ValueError(f"the window must be at least 1, not {window}")
    if sinks < 0:
        raise ValueError(f"there cannot be {sinks} sinks")
    backend = backend_for(q)
    d = q.shape[-1]
    if backend == "ref":
        return window_attention_ref(q, k, v, window, scale, sinks)
    if backend == "torch" or d > MAX_TRITON_HEAD_DIM:
        return window_attention_cpu(q, k, v, window, scale, sinks)
    padding = _padding(d)
    if padding:  # zeros change no score, and give outputs that are cut off again
        q, k, v = (F.pad(t, (0, padding)) for t in (q, k, v))
    scale = 1.0 / math.sqrt(d) if scale is None else scale
    if torch.compiler.is_compiling() or needs_grad(q, k, v):
        out, _ = _forward_op(q, k, v, window, scale, sinks)
    else:
        from samba_cli.kernels import window_attention_triton

        out, _ = window_attention_triton.forward(q, k, v, window, scale, sinks)
    return out[..., :d] if padding else out


def window_attention_decode(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    count: int | torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of one query over the valid slots of a ring or a cache of keys.

    q [B, 1, H, d]; keys, values [B, W, Hkv, d] with slots 0..count-1 valid, in any order. count
    >= 1 is an int, or an int64 tensor of one element on q's device, so that a CUDA graph can be
    replayed with a new count: the launches then depend on W alone. A scale of None is
    1 / sqrt(d). Returns [B, 1, H, d].

    Raises ValueError where the shapes do not fit together, an int count is not in 1..W or the
    scale is not above 0.
    """
    _check(q, keys, values, scale)
    if q.shape[1] != 1:
        raise ValueError(f"decoding takes one query, not {q.shape[1]}")
    if isinstance(count, int) and not 1 <= count <= keys.shape[1]:
        raise ValueError(f"count must be in 1..{keys.shape[1]}, not {count}")
    backend = backend_for(q)
    d = q.shape[-1]
    if backend == "ref":
        return window_attention_decode_ref(q, keys, values, count, scale)
    # Nobody trains through single steps.
    if backend == "torch" or d > MAX_TRITON_HEAD_DIM or needs_grad(q, keys, values):
        return window_attention_decode_cpu(q, keys, values, count, scale)
    scale = 1.0 / math.sqrt(d) if scale is None else scale
    if torch.compiler.is_compiling():
        if not isinstance(count, torch.Tensor):
            count = torch.full((1,), count, dtype=torch.int64, device=q.device)
        return _decode_op(q, keys, values, count, scale)
    from samba_cli.kernels import window_attention_triton

    return window_attention_triton.decode(q, keys, values, count, scale)


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None) -> None:
    fits = q.shape[0] == k.shape[0] and q.shape[3] == k.shape[3] and q.shape[2] % k.shape[2] == 0
    if not fits or k.shape != v.shape:
        shapes = ", ".join(str(tuple(t.shape)) for t in (q, k, v))
        raise ValueError(f"queries, keys and values do not fit together: {shapes}")
    if scale is not None and not scale > 0:
        raise ValueError(f"the scale of the scores must be above 0, not {scale}")


def _padding(head_dim: int) -> int:
    """Zeros to append so that the head dimension is a power of two of at least 16."""
    return max(16, 1 << (head_dim - 1).bit_length()) - head_dim


@torch.library.custom_op("samba::window_attention", mutates_args=())
def _forward_op(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int | None,
    scale: float,
    sinks: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    from samba_cli.kernels import window_attention_triton

    return window_attention_triton.forward(q, k, v, window, scale, sinks)


@_forward_op.register_fake
def _(q, k, v, window, scale, sinks=0):
    batch, T, H, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((batch, H, T), dtype=torch.float32)


@torch.library.custom_op("samba::window_attention_backward", mutates_args=())
def _backward_op(
    do: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    o: torch.Tensor,
    lse: torch.Tensor,
    window: int | None,
    scale: float,
    sinks: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    from samba_cli.kernels import window_attention_triton_backward

    return window_attention_triton_backward.backward(do, q, k, v, o, lse, window, scale, sinks)


@_backward_op.register_fake
def _(do, q, k, v, o, lse, window, scale, sinks):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    q, k, v, ctx.window, ctx.scale, ctx.sinks = inputs
    o, lse = output
    ctx.save_for_backward(q, k, v, o, lse)
    ctx.mark_non_differentiable(lse)


def _backward(ctx: Any, do: torch.Tensor, _: torch.Tensor | None) -> tuple[Any, ...]:
    grads = _backward_op(do, *ctx.saved_tensors, ctx.window, ctx.scale, ctx.sinks)
    return *grads, None, None, None


_forward_op.register_autograd(_backward, setup_context=_save_for_backward)


@torch.library.custom_op("samba::window_attention_decode", mutates_args=())
def _decode_op(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, count: torch.Tensor, scale: float
) -> torch.Tensor:
    from samba_cli.kernels import window_attention_triton

    return window_attention_triton.decode(q, keys, values, count, scale)


@_decode_op.register_fake
def _(q, keys, values, count, scale):
    return q.new_empty(q.shape)
