"""The language model: mixers and MLPs between an embedding and a head.

B batch, T tokens of the chunk, D d_model, V vocabulary.

One forward serves training, prefill and decoding: it reads T >= 1 tokens into the state. Cutting
a text into chunks in any way gives the same state and the same logits, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from samba_cli.kernels.dispatch import compiled
from samba_cli.model.attention import Attention, Rotation, leave_uncompiled
from samba_cli.model.description import AttentionSpec, Description, LayerSpec, Mamba2Spec, Mixer
from samba_cli.model.fusion import few_rows, fused, multiplies_rows, one_token
from samba_cli.model.mamba import Mamba
from samba_cli.model.mamba2 import Mamba2
from samba_cli.model.parts import Embedding, Linear, RMSNorm, SwiGLU, picked
from samba_cli.model.rope import rotation
from samba_cli.model.state import LayerState, State
from samba_cli.model.static_state import StaticRing, StaticState


def _mixer(d_model: int, spec: Mixer) -> Mamba | Mamba2 | Attention:
    if isinstance(spec, AttentionSpec):
        return Attention(d_model, spec)
    return Mamba2(d_model, spec) if isinstance(spec, Mamba2Spec) else Mamba(d_model, spec)


class Layer(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)); the residual stream is float32."""

    def __init__(self, description: Description, spec: LayerSpec) -> None:
        super().__init__()
        d, eps = description.d_model, description.norm_eps
        self.mixer_norm = RMSNorm(d, eps)
        self.mixer = _mixer(d, spec.mixer)
        self.residual_multiplier = description.residual_multiplier
        self.mlp = None
        if spec.mlp is not None:
            self.mlp_norm = RMSNorm(d, eps)
            self.mlp = SwiGLU(d, spec.mlp)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        leave_uncompiled()
        super().compile(*args, **kwargs)

    def forward(
        self,
        x: Tensor,
        state: LayerState | StaticRing,
        rotation: Rotation | None,
        dtype: torch.dtype,
        at: Tensor | None = None,
    ) -> Tensor:
        """x [B, T, D] float32 -> the same; the state moves on by T tokens.

        Of the last layer only positions `at` [B, K] are made: [B, K, D].
        """
        y = self.mixer.inner(self.mixer_norm(x, dtype), state, rotation, at)  # type: ignore[arg-type]
        x = picked(x, at)
        if not x.shape[1]:
            return x
        x = self._add(x, self.mixer.output(y))
        if self.mlp is None:
            return x
        return self._add(x, self.mlp(self.mlp_norm(x, dtype)))

    def fused(
        self, x: Tensor, branch: Tensor | None, state: LayerState | StaticRing,
        rotation: Rotation | None, dtype: torch.dtype, at: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """`forward` where the residual stream is x + branch: the norm after it adds the two."""
        y, x = self.mixer_norm.after(x, branch, dtype)
        y, x = self.mixer.inner(y, state, rotation, at), picked(x, at)  # type: ignore[arg-type]
        if not x.shape[1]:
            return x, None
        branch = self._scaled(self.mixer.output(y))
        if self.mlp is None:
            return x, branch
        y, x = self.mlp_norm.after(x, branch, dtype)
        return x, self._scaled(self.mlp(y))

    def step(
        self, x: Tensor, state: LayerState | StaticRing, rotation: Rotation | None,
        dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        """`forward` of one token of one text: each product takes what surrounds it along."""
        multiplier = self.residual_multiplier
        x = self.mixer.step(x, self.mixer_norm.pair, state, rotation, multiplier, dtype)  # type: ignore[arg-type]
        if self.mlp is None:
            return x
        return self.mlp.step(x, self.mlp_norm.pair, multiplier, dtype)

    def takes_rows(self, state: LayerState | StaticRing, dtype: torch.dtype) -> bool:
        """Can `rows_step` take this layer?"""
        if isinstance(self.mixer, Mamba2) or not self.mixer.takes_rows(state, dtype):
            return False
        return self.mlp is None or self.mlp.takes_rows(dtype)

    def rows_step(
        self, x: Tensor, parts: Tensor | None, state: LayerState | StaticRing,
        rotation: Rotation | None, dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """`fused` for one token of each of a few rows, whose branch is the sum of `parts`."""
        from samba_cli.kernels.rows_step_triton import add_norm

        m = self.residual_multiplier
        x, y = add_norm(x, parts, *self.mixer_norm.pair, m, dtype)
        after: Tensor = self.mixer.rows_step(y, state, rotation)  # type: ignore[operator, arg-type]
        if self.mlp is not None:
            x, y = add_norm(x, after, *self.mlp_norm.pair, m, dtype)
            after = self.mlp.rows_step(y)
        return x, after

    def _add(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + self._scaled(branch)

    def _scaled(self, branch: Tensor) -> Tensor:
        return branch if self.residual_multiplier == 1 else branch * self.residual_multiplier


class Backbone(nn.Module):
    def __init__(self, description: Description) -> None:
        super().__init__()
        self.embeddings = Embedding(description.vocab_size, description.d_model)
        self.layers = nn.ModuleList(Layer(description, spec) for spec in description.layers)
        self.norm_f = RMSNorm(description.d_model, description.norm_eps)


class Model(nn.Module):
    """Any architecture of the family. `dtype` is what the layers compute in; SSM states stay fp32.

    Raises ValueError for attention layers that rotate differently.
    """

    def __init__(self, description: Description, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.description = description
        self.dtype = dtype
        self.fingerprint = ""  # SHA-256 of the weights, where they came from a file
        self.cache_on_host = False  # keep the keys and values of full attention off the device
        ropes = {(a.rope_theta, a.d_rotary) for a in description.attention if a.rope_theta}
        if len(ropes) > 1:
            raise ValueError("attention layers with different rotary embeddings are not built")
        self.rope = next(iter(ropes), None)
        self.backbone = Backbone(description)
        self.lm_head = Linear(description.d_model, description.vocab_size)
        if description.tie_embeddings:
            self.lm_head.weight = self.backbone.embeddings.weight

    @property
    def device(self) -> torch.device:
        return self.backbone.embeddings.weight.device

    def join(self) -> Model:
        """Lay frozen weights that share an input side by side: fewer, larger products."""
        for module in self.modules():
            if isinstance(module, (Attention, SwiGLU)):
                module.join()
        return self

    def initial_state(self, batch: int = 1) -> State:
        """The state before the first token."""
        layers = [
            layer.mixer.initial_state(batch, self.device, self.dtype)  # type: ignore[union-attr]
            for layer in self.backbone.layers
        ]
        state = State(layers, model_fingerprint=self.fingerprint)
        return state.on_host() if self.cache_on_host else state

    def hidden(
        self, tokens: Tensor, state: State | StaticState, at: Tensor | None = None
    ) -> Tensor:
        """Read tokens [B, T] into the state; the residual stream before norm_f, [B, T, D].

        Of positions `at` [B, K] alone where given, [B, K, D]: after the mixer of the last layer,
        the others are not needed for anything.
        """
        rotations = None
        if self.rope is not None:
            theta, width = self.rope
            rotations = rotation(state.position, tokens.shape[1], width, theta, self.device)
        x = self.backbone.embeddings(tokens, self.description.embedding_multiplier)
        if one_token(x):
            for layer, part in zip(self.backbone.layers, state.layers, strict=True):
                x = layer.step(x, part, rotations, self.dtype)  # type: ignore[operator]
        elif self._takes_rows(x, state):
            from samba_cli.kernels.rows_step_triton import add_norm

            parts = None
            for layer, part in zip(self.backbone.layers, state.layers, strict=True):
                x, parts = layer.rows_step(x, parts, part, rotations, self.dtype)  # type: ignore[operator]
            norm, m = self.backbone.norm_f.pair, self.description.residual_multiplier
            x, _ = add_norm(x, parts, *norm, m, self.dtype)
        elif fused(x) or (compiled(x) and not torch.is_grad_enabled()):
            branch = None
            for layer, part, some in self._parts(state, at):
                x, branch = layer.fused(x, branch, part, rotations, self.dtype, some)  # type: ignore[operator]
            x, at = x if branch is None else x + branch, None
        else:
            for layer, part, some in self._parts(state, at):
                x = layer(x, part, rotations, self.dtype, some)
            at = None
        state.advance(tokens.shape[1])
        return picked(x, at)

    def _parts(
        self, state: State | StaticState, at: Tensor | None
    ) -> Iterator[tuple[nn.Module, LayerState | StaticRing, Tensor | None]]:
        """Each layer with its state, and the positions that it has to make."""
        last = len(self.backbone.layers) - 1
        for i, (layer, part) in enumerate(zip(self.backbone.layers, state.layers, strict=True)):
            yield layer, part, at if i == last else None

    def _takes_rows(self, x: Tensor, state: State | StaticState) -> bool:
        """One token of each of a few rows, on a state that may move on in place."""
        return (
            few_rows(x) and isinstance(state, StaticState)
            and all(
                layer.takes_rows(part, self.dtype)  # type: ignore[operator]
                for layer, part in zip(self.backbone.layers, state.layers, strict=True)
            )
        )  # fmt: skip

    def logits(self, hidden: Tensor) -> Tensor:
        """[.., D] -> [.., V] float32."""
        divisor = self.description.logits_divisor
        if one_token(hidden):
            norm = self.backbone.norm_f.pair
            return self.lm_head.step(hidden, norm, None, 1 / divisor, torch.float32)
        if few_rows(hidden) and multiplies_rows((self.lm_head,), self.dtype):
            from samba_cli.kernels.rows_step_triton import add_norm, linear

            _, y = add_norm(hidden.float(), None, *self.backbone.norm_f.pair, 1.0, self.dtype)
            return linear(y, self.lm_head.weight, multiplier=1 / divisor)[0]
        logits = self.lm_head(self.backbone.norm_f(hidden, self.dtype)).float()
        return logits if divisor == 1 else logits / divisor

    def forward(self, tokens: Tensor, state: State, at: Tensor | None = None) -> Tensor:
        """Read tokens [B, T] into the state, in place, and return logits.

        `at` [K] or [B, K] picks the positions of the chunk whose logits are wanted ([B, K, V]; an
        empty one means reading only); without it all come: [B, T, V].
        """
        if at is not None:
            at = at.expand(len(tokens), -1) if at.dim() == 1 else at
        return self.logits(self.hidden(tokens, state, at))

    def logits_at(self, hidden: Tensor, at: Tensor) -> Tensor:
        """The logits [B, K, V] of the positions `at` [K] or [B, K] of hidden [B, T, D]."""
        return self.logits(picked(hidden, at.expand(len(hidden), -1) if at.dim() == 1 else at))
