"""Causal attention with grouped queries, over a window (its state is a ring) or over all keys.

B batch, T tokens of the chunk, D d_model, H heads, W window.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samba_cli.kernels.attention_step import attention_input_step, attention_ring_step
from samba_cli.kernels.rotate import rotate
from samba_cli.kernels.window_attention import (
    MAX_TRITON_HEAD_DIM,
    window_attention,
    window_attention_decode,
)
from samba_cli.model.description import AttentionSpec
from samba_cli.model.fusion import (
    fused,
    joint_rows,
    joint_weight,
    multiplies_rows,
    side_by_side,
)
from samba_cli.model.parts import Linear, Norm, picked
from samba_cli.model.state import AttentionState, CacheState
from samba_cli.model.static_state import StaticRing

Rotation = tuple[Tensor, Tensor]  # cosines and sines, [T, d_rotary / 2]
Held = AttentionState | StaticRing | CacheState


class Attention(nn.Module):
    """Sliding-window or full attention; RoPE where the spec has it."""

    def __init__(self, d_model: int, spec: AttentionSpec) -> None:
        super().__init__()
        self.spec = spec
        self.q_proj = Linear(d_model, spec.n_head * spec.d_head, spec.bias)
        self.k_proj = Linear(d_model, spec.n_kv_head * spec.d_head, spec.bias)
        self.v_proj = Linear(d_model, spec.n_kv_head * spec.d_head, spec.bias)
        self.o_proj = Linear(spec.n_head * spec.d_head, d_model, spec.bias)

    def initial_state(
        self, batch: int, device: torch.device, dtype: torch.dtype
    ) -> AttentionState | CacheState:
        s = self.spec
        slots = 0 if s.window is None else s.window + s.sinks
        shape = (batch, slots, s.n_kv_head, s.d_head)
        keys = torch.zeros(shape, device=device, dtype=dtype)
        if s.window is None:
            return CacheState(keys, torch.zeros_like(keys))
        return AttentionState(keys, torch.zeros_like(keys), sinks=s.sinks)

    def join(self) -> None:
        side_by_side((self.q_proj, self.k_proj, self.v_proj))

    @property
    def output(self) -> Linear:
        return self.o_proj

    def forward(self, x: Tensor, state: Held, rotation: Rotation | None) -> Tensor:
        """x [B, T, D] -> [B, T, D]; the state moves on by T tokens."""
        return self.o_proj(self.inner(x, state, rotation))

    def inner(
        self, x: Tensor, state: Held, rotation: Rotation | None, at: Tensor | None = None
    ) -> Tensor:
        """`forward` before o_proj, of positions `at` [B, K] alone where given: [B, K, H d].

        Where none are wanted, nothing is attended to: the keys and values are all that stays.
        """
        q, k, v = self._heads(x, rotation if self.spec.rope_theta is not None else None)
        if at is not None and at.shape[-1] == 0:
            state.write(k, v)
            return q[:, :0].flatten(-2)
        return picked(attend(q, k, v, state, self.spec.scale).flatten(-2), at)

    def step(
        self,
        x: Tensor,
        norm: Norm,
        state: Held,
        rotation: Rotation | None,
        multiplier: float,
        dtype: torch.dtype,
    ) -> Tensor:
        """x + multiplier * forward(norm(x)) for one token x [1, 1, D] float32."""
        s = self.spec
        rotation = rotation if s.rope_theta is not None else None
        joint = joint_rows((self.q_proj, self.k_proj, self.v_proj))
        if joint is None or s.d_head % 2 or s.d_head > MAX_TRITON_HEAD_DIM:
            q, k, v = (p.step(x, norm, dtype=dtype).unflatten(-1, (-1, s.d_head))
                       for p in (self.q_proj, self.k_proj, self.v_proj))  # fmt: skip
            if rotation is not None:
                q, k = rotate(q, *rotation), rotate(k, *rotation)
            y = attend(q, k, v, state, s.scale)
        elif isinstance(state, StaticRing):
            q = attention_input_step(
                x, *joint, None, norm, rotation, s.n_head, state.keys, state.values, state.slots
            )
            y = attention_ring_step(q, state.keys, state.values, state.count, state.slots, s.scale)
        else:
            k, v = torch.empty(2, 1, 1, s.n_kv_head, s.d_head, device=x.device, dtype=dtype)
            q = attention_input_step(x, *joint, None, norm, rotation, s.n_head, k, v, 0)
            y = attend(q, k, v, state, s.scale)
        return self.o_proj.step(y.flatten(-2), None, x, multiplier)

    def takes_rows(self, state: object, dtype: torch.dtype) -> bool:
        d = self.spec.d_head
        linears = (self.q_proj, self.k_proj, self.v_proj)
        return (
            isinstance(state, StaticRing) and state.keys.dtype == dtype
            and 16 <= d <= MAX_TRITON_HEAD_DIM and d & (d - 1) == 0
            and joint_weight(linears) is not None
            and multiplies_rows((*linears, self.o_proj), dtype)
        )  # fmt: skip

    def rows_step(self, y: Tensor, state: StaticRing, rotation: Rotation | None) -> Tensor:
        """forward(y) for one token of each row, y [B, 1, D], in float32 parts [S, B, 1, D]."""
        from samba_cli.kernels.attention_rows_triton import heads
        from samba_cli.kernels.rows_step_triton import cut_linear
        from samba_cli.kernels.window_attention_triton import decode

        s = self.spec
        joint = joint_weight((self.q_proj, self.k_proj, self.v_proj))
        assert joint is not None
        turn = rotation if s.rope_theta is not None else None
        parts = cut_linear(y, joint)
        q = heads(parts, turn, s.n_head, state.keys, state.values, state.slots)
        scale = s.d_head**-0.5 if s.scale is None else s.scale
        y = decode(q, state.keys, state.values, state.count, scale, chained=True)
        return cut_linear(y.flatten(-2), self.o_proj.weight)

    def _heads(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, rotated: by one product and one rotation where they fuse."""
        s = self.spec
        joint = joint_weight((self.q_proj, self.k_proj, self.v_proj)) if fused(x) else None
        if joint is not None and joint.dtype == x.dtype:
            heads = F.linear(x, joint).unflatten(-1, (-1, s.d_head))
            turned, v = heads.tensor_split((s.n_head + s.n_kv_head,), dim=2)
            if rotation is not None:
                turned = rotate(turned, *rotation)
            q, k = turned.tensor_split((s.n_head,), dim=2)
            return q, k, v
        q = self.q_proj(x).unflatten(-1, (s.n_head, s.d_head))
        k = self.k_proj(x).unflatten(-1, (s.n_kv_head, s.d_head))
        v = self.v_proj(x).unflatten(-1, (s.n_kv_head, s.d_head))
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        return q, k, v


def attend(q: Tensor, k: Tensor, v: Tensor, state: Held, scale: float | None) -> Tensor:
    """Attention of a chunk to itself and to what the state holds; takes the chunk into it."""
    if isinstance(state, CacheState):
        keys, values = state.append(k, v)
        if q.shape[1] == 1 and not torch.is_grad_enabled():
            return window_attention_decode(q, keys, values, keys.shape[1], scale)
        return window_attention(q, keys, values, None, scale)
    if q.shape[1] == 1 and not torch.is_grad_enabled():
        state.write(k, v)
        return window_attention_decode(q, state.keys, state.values, state.count, scale)
    keys, values = state.with_past(k, v)
    y = window_attention(q, keys, values, state.window, scale, state.sinks)
    state.write(k, v)
    return y


def leave_uncompiled() -> None:
    """Keep `attend` out of what torch.compile makes of a layer, before it does.

    The state's position is a Python int: compiled, every step would be another program. Not at
    import: torch.compile takes as long to import as everything else together.
    """
    global attend
    attend = torch.compiler.disable(attend)  # pyright: ignore[reportAssignmentType]
