"""`granitemoehybrid` without experts: Granite 4.0 H, Mamba-2 with a few attention layers.

Read off transformers 5.23, models/granitemoehybrid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from samba_cli.model.architectures.architecture import Architecture, Config, Stored, renamed
from samba_cli.model.architectures.hybrid import (
    NAMES,
    attention,
    attention_layers,
    mamba2,
    rotating,
)
from samba_cli.model.description import Description, LayerSpec, MLPSpec

_RENAMED = renamed(
    *NAMES,
    (r"\.mlp_norm\.", ".post_attention_layernorm."),
    (r"\.mlp\.(gate|up)_proj\.", ".shared_mlp.input_linear."),
    (r"\.mlp\.down_proj\.", ".shared_mlp.output_linear."),
    (r"^backbone\.norm_f\.", "model.norm."),
)


def read(raw: Mapping[str, Any]) -> Architecture:
    """Raises ValueError naming the key that cannot be used."""
    config = Config(raw)
    config.only("hidden_act", "silu", "swish")
    config.only("num_local_experts", 0, default=8)
    d_model, eps = config.whole("hidden_size"), config.number("rms_norm_eps", 1e-6)
    attend = replace(attention(config, d_model), scale=config.number("attention_multiplier", 1.0))
    if config.only("position_embedding_type", "nope", "rope") == "rope":
        attend = rotating(attend, config, 1.0)
    mamba, d_ff = mamba2(config, d_model, eps), config.whole("shared_intermediate_size", 1024)
    layers = (
        LayerSpec(attend if attends else mamba, MLPSpec(d_ff)) for attends in _attends(config)
    )
    description = Description(
        vocab_size=config.whole("vocab_size"),
        d_model=d_model,
        layers=tuple(layers),
        norm_eps=eps,
        tie_embeddings=config.flag("tie_word_embeddings", False),
        embedding_multiplier=config.number("embedding_multiplier", 1.0),
        residual_multiplier=config.number("residual_multiplier", 1.0),
        logits_divisor=config.number("logits_scaling", 1.0),
    )

    def stored(name: str) -> Stored:
        place = _RENAMED(name)
        if ".gate_proj." in name:
            return Stored(place.name, (0, d_ff), 2 * d_ff)
        return Stored(place.name, (d_ff, 2 * d_ff), 2 * d_ff) if ".up_proj." in name else place

    return Architecture("granitemoehybrid", description, stored)


def _attends(config: Config) -> list[bool]:
    n_layer = config.layers()
    for key in ("layer_types", "layers_block_type"):
        listed = attention_layers(config, key, n_layer)
        if listed is not None:
            return listed
    return [False] * n_layer
