"""The scan of Mamba-2 in plain PyTorch, as matrix products over segments of time.

Mamba-2 (Dao & Gu 2024, arXiv 2405.21060), section 6. Within a segment of S tokens, with
l_t = sum of dt A up to token t, and h the state that enters the segment:

    y_t = exp(l_t) h C_t + sum over s <= t of exp(l_t - l_s) dt_s <C_t, B_s> x_s
    end = exp(l_S) h     + sum over s      of exp(l_S - l_s) dt_s x_s B_s^T

Everything but h is one product for all segments; h is carried over them in order. Only as many
segments are worked on at a time as BUFFER_VALUES allows, so that memory does not grow with T.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from samba_cli.kernels.grad_mode import needs_grad

SEGMENT = 64  # tokens: more cost more inside a segment (S^2), fewer more products with states
BUFFER_VALUES = 1 << 21  # values of the largest buffer, [batch, segments, H, S, S or N, P]
# exp of this is 0 in fp32. Steeper decays of single tokens would only cost the sums digits.
LEAST_LOG_DECAY = -110.0


def ssd_scan_cpu(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    state: Tensor | None = None,
    dt_limit: tuple[float, float] = (0.0, math.inf),
) -> tuple[Tensor, Tensor]:
    """Same contract as `ssd_scan`, on any device."""
    batch, length, heads, width = x.shape
    groups, n = B.shape[2:]
    dtype = torch.promote_types(x.dtype, torch.float32)
    dt = dt.to(dtype) if dt_bias is None else dt + dt_bias.to(dtype)
    dt = F.softplus(dt).clamp(*dt_limit)
    A, D = A.to(dtype), None if D is None else D.to(dtype)
    # The heads of a group lie side by side: rows of one product with the group's B or C.
    shape = (batch, groups, heads // groups * width, n)
    h = x.new_zeros(shape, dtype=dtype) if state is None else state.to(dtype).reshape(shape)
    if length == 1 and not needs_grad(x, dt, A, B, C, D, state):
        y, h = _step(x, dt, A, B, C, D, h, fresh=state is None)
        return y, h.view(batch, heads, width, n)

    pieces = []
    span = heads * max(SEGMENT * SEGMENT, width * n) * batch
    at_once = max(1, BUFFER_VALUES // span)
    start = 0
    while start < length:
        size = min(SEGMENT, length - start)
        count = min(at_once, (length - start) // size)
        stop = start + count * size
        cut = (v[:, start:stop].unflatten(1, (count, size)) for v in (x, dt, B, C))
        y, h = _segments(*cut, A, D, h)
        pieces.append(y.flatten(1, 2))
        start = stop
    y = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
    return y, h.reshape(batch, heads, width, n)


def _segments(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor | None, h: Tensor
) -> tuple[Tensor, Tensor]:
    """x [batch, K, S, H, P], the others alike; h [batch, G, H / G * P, N] enters the first."""
    batch, count, size, heads, width = x.shape
    groups = B.shape[3]
    output_dtype = x.dtype
    split = (groups, heads // groups)
    steps = dt.movedim(2, 3)  # [batch, K, H, S], as all per token and head from here on
    log_decay = (steps * A[:, None]).clamp(min=LEAST_LOG_DECAY).cumsum(-1)
    B, C = (v.to(h.dtype).movedim(2, 3) for v in (B, C))  # [batch, K, G, S, N]
    values = x.to(h.dtype).movedim(2, 3)  # [batch, K, H, S, P]

    def side_by_side(v: Tensor) -> Tensor:
        """[batch, K, H, S, P] -> [batch, K, G, S, H / G * P]"""
        return v.unflatten(2, split).transpose(3, 4).flatten(-2)

    fade = torch.exp(log_decay[..., -1:] - log_decay) * steps
    ends = side_by_side(values * fade[..., None]).mT @ B  # [batch, K, G, H / G * P, N]
    whole = torch.exp(log_decay[..., -1]).repeat_interleave(width, dim=2)
    whole = whole.unflatten(2, (groups, -1))[..., None]  # [batch, K, G, H / G * P, 1]
    entering = []
    for k in range(count):
        entering.append(h)
        h = torch.addcmul(ends[:, k], whole[:, k], h)

    y = C @ torch.stack(entering, dim=1).mT  # [batch, K, G, S, H / G * P]
    y = y.unflatten(-1, (split[1], width)).transpose(3, 4).flatten(2, 3)
    y = y * torch.exp(log_decay)[..., None]
    later = torch.ones(size, size, dtype=torch.bool, device=x.device).triu(1)
    gap = (log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(later, -math.inf)
    weights = torch.exp(gap) * steps[..., None, :]
    weights = weights.unflatten(2, split) * (C @ B.mT)[:, :, :, None]
    y = y + weights.flatten(2, 3) @ values
    if D is not None:
        y = y + D[:, None, None] * values
    return y.movedim(3, 2).to(output_dtype), h


def _step(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    h: Tensor,
    fresh: bool,
) -> tuple[Tensor, Tensor]:
    """One token (decoding): the state is read and written once, then read for the output."""
    batch, groups, rows, n = h.shape
    heads, width = x.shape[2:]
    values, steps = x[:, 0].to(h.dtype), dt[:, 0]
    update = (values * steps[..., None]).reshape(-1, rows, 1)
    B, C = (v[:, 0].to(h.dtype).reshape(-1, 1, n) for v in (B, C))
    if fresh:
        h = update @ B
    else:
        decay = torch.exp(steps * A)[:, :, None, None]
        h = (h.view(batch, heads, width, n) * decay).view(-1, rows, n).baddbmm_(update, B)
    y = (h @ C.mT).view(batch, heads, width)
    if D is not None:
        y = y + D[:, None] * values
    return y[:, None].to(x.dtype), h
