"""`jamba` without experts: Mamba with weighted norms, a few attention layers, SwiGLU.

Lieber et al. 2024, arXiv 2403.19887. Read off transformers 5.23, models/jamba.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samba_cli.model.architectures.architecture import Architecture, Config, renamed
from samba_cli.model.architectures.hybrid import FEED_FORWARD, NAMES, attention, attention_layers
from samba_cli.model.description import Description, LayerSpec, MambaSpec, MLPSpec

STORED = renamed(
    *NAMES,
    *FEED_FORWARD,
    (r"\.dt_norm\.", ".dt_layernorm."),
    (r"\.B_norm\.", ".b_layernorm."),
    (r"\.C_norm\.", ".c_layernorm."),
)


def read(raw: Mapping[str, Any]) -> Architecture:
    """Raises ValueError naming the key that cannot be used."""
    config = Config(raw)
    config.only("hidden_act", "silu", "swish")
    config.only("num_experts", 1, default=16)
    config.only("mamba_inner_layernorms", True)
    config.never("rope_scaling")
    config.only("attention_bias", False)
    d_model, eps = config.whole("hidden_size"), config.number("rms_norm_eps", 1e-6)
    mamba = MambaSpec(
        d_inner=config.whole("mamba_expand", 2) * d_model,
        d_state=config.whole("mamba_d_state", 16),
        d_conv=config.whole("mamba_d_conv", 4),
        dt_rank=config.rank("mamba_dt_rank", d_model),
        conv_bias=config.flag("mamba_conv_bias", True),
        bias=config.flag("mamba_proj_bias", False),
        inner_norm="weighted",
        inner_norm_eps=eps,
    )
    attend, mlp = attention(config, d_model), MLPSpec(config.whole("intermediate_size"))
    layers = (LayerSpec(attend if attends else mamba, mlp) for attends in _attends(config))
    description = Description(
        vocab_size=config.whole("vocab_size"),
        d_model=d_model,
        layers=tuple(layers),
        norm_eps=eps,
        tie_embeddings=config.flag("tie_word_embeddings", False),
    )
    return Architecture("jamba", description, STORED)


def _attends(config: Config) -> list[bool]:
    n_layer = config.layers()
    listed = attention_layers(config, "layers_block_type", n_layer)
    if listed is not None:
        return listed
    period = config.whole("attn_layer_period", 8)
    offset = config.get("attn_layer_offset", 4)
    if offset not in range(period):
        raise ValueError(
            f"attn_layer_offset = {offset!r} is not below attn_layer_period = {period}"
        )
    return [i % period == offset for i in range(n_layer)]
