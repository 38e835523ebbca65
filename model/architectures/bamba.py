"""`bamba`: Mamba-2, a few attention layers that rotate half of each head, SwiGLU.

Read off transformers 5.23, models/bamba.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samba_cli.model.architectures.architecture import Architecture, Config, renamed
from samba_cli.model.architectures.hybrid import FEED_FORWARD, NAMES, attention, mamba2, rotating
from samba_cli.model.description import Description, LayerSpec, MLPSpec

STORED = renamed(*NAMES, *FEED_FORWARD)


def read(raw: Mapping[str, Any]) -> Architecture:
    """Raises ValueError naming the key that cannot be used."""
    config = Config(raw)
    config.only("hidden_act", "silu", "swish")
    d_model, eps = config.whole("hidden_size"), config.number("rms_norm_eps", 1e-5)
    fraction = config.number("partial_rotary_factor", 0.5)
    attend = rotating(attention(config, d_model), config, fraction)
    config.only("attn_rotary_emb", attend.d_rotary)
    mamba = mamba2(config, d_model, eps)
    mlp = MLPSpec(config.whole("intermediate_size"), config.flag("mlp_bias", False))
    n_layer, attends = config.layers(), config.items("attn_layer_indices", [])
    for index in attends:
        if index not in range(n_layer):
            raise ValueError(f"attn_layer_indices has {str(index)[:40]}, which is no layer")
    layers = (LayerSpec(attend if i in attends else mamba, mlp) for i in range(n_layer))
    description = Description(
        vocab_size=config.whole("vocab_size"),
        d_model=d_model,
        layers=tuple(layers),
        norm_eps=eps,
        tie_embeddings=config.flag("tie_word_embeddings", False),
    )
    return Architecture("bamba", description, STORED)
