"""What a model is made of: the values every part is built from.

Each architecture is read into one of these (model/architectures/), and model/network.py builds
it from a few mixers. Nothing here computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

InnerNorm = Literal["none", "plain", "weighted"]


@dataclass(frozen=True)
class MambaSpec:
    """Mamba (Gu & Dao 2023), a selective scan with a diagonal A."""

    d_inner: int
    d_state: int
    d_conv: int
    dt_rank: int
    conv_bias: bool = True
    bias: bool = False  # of in_proj and out_proj
    inner_norm: InnerNorm = "none"  # RMSNorm of dt, B and C: Falcon-Mamba plain, Jamba weighted
    inner_norm_eps: float = 1e-6


@dataclass(frozen=True)
class Mamba2Spec:
    """Mamba-2 (Dao & Gu 2024, arXiv 2405.21060), one scalar A for each head."""

    n_head: int
    d_head: int
    d_state: int
    n_group: int  # heads that share B and C
    d_conv: int
    norm_eps: float
    conv_bias: bool = True
    bias: bool = False  # of in_proj and out_proj
    dt_limit: tuple[float, float] = (0.0, math.inf)

    @property
    def d_inner(self) -> int:
        return self.n_head * self.d_head

    @property
    def d_convolved(self) -> int:
        """Channels of the convolution: x, B and C."""
        return self.d_inner + 2 * self.n_group * self.d_state


@dataclass(frozen=True)
class AttentionSpec:
    """Causal attention with grouped queries, over a window or over everything."""

    n_head: int
    n_kv_head: int
    d_head: int
    window: int | None  # keys a query sees, itself included; None: all, and the state grows
    rope_theta: float | None = None  # None: no position embedding
    rope_fraction: float = 1.0  # of the dimensions of a head that are rotated
    scale: float | None = None  # of the scores; None: 1 / sqrt(d_head)
    bias: bool = False  # of q, k, v and o
    sinks: int = 0  # first keys of the sequence that are always seen (Xiao et al. 2023)

    @property
    def d_rotary(self) -> int:
        return 0 if self.rope_theta is None else int(self.d_head * self.rope_fraction)


@dataclass(frozen=True)
class MLPSpec:
    """SwiGLU (Shazeer 2020)."""

    d_ff: int
    bias: bool = False


Mixer = MambaSpec | Mamba2Spec | AttentionSpec


@dataclass(frozen=True)
class LayerSpec:
    mixer: Mixer
    mlp: MLPSpec | None = None  # pure Mamba models have none


@dataclass(frozen=True)
class Description:
    """A whole model. The multipliers are those of Granite."""

    vocab_size: int
    d_model: int
    layers: tuple[LayerSpec, ...]
    norm_eps: float
    tie_embeddings: bool
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_divisor: float = 1.0

    @property
    def attention(self) -> tuple[AttentionSpec, ...]:
        return tuple(x.mixer for x in self.layers if isinstance(x.mixer, AttentionSpec))

    @property
    def window(self) -> int | None:
        """The smallest attention window; None where nothing is bounded by one."""
        return min((a.window for a in self.attention if a.window is not None), default=None)

    def bounded(self, window: int, sinks: int = 4) -> Description:
        """The same with full attention cut to a window and the first tokens: lossy."""
        return replace(self, layers=tuple(_bounded(layer, window, sinks) for layer in self.layers))

    def state_bytes(self, itemsize: int) -> tuple[int, int]:
        """(fixed bytes, bytes for each token read) of a state of batch 1, keys and values and
        convolution tails of `itemsize` bytes an element, SSM states in float32."""
        fixed = growth = 0
        for layer in self.layers:
            match layer.mixer:
                case MambaSpec() as m:
                    fixed += m.d_inner * ((m.d_conv - 1) * itemsize + m.d_state * 4)
                case Mamba2Spec() as m:
                    fixed += m.d_convolved * (m.d_conv - 1) * itemsize
                    fixed += m.d_inner * m.d_state * 4
                case AttentionSpec() as a:
                    one = 2 * a.n_kv_head * a.d_head * itemsize
                    if a.window is None:
                        growth += one
                    else:
                        fixed += one * (a.window + a.sinks)
        return fixed, growth


def _bounded(layer: LayerSpec, window: int, sinks: int) -> LayerSpec:
    if isinstance(layer.mixer, AttentionSpec) and layer.mixer.window is None:
        return replace(layer, mixer=replace(layer.mixer, window=window, sinks=sinks))
    return layer
