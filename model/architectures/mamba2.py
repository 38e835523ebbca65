"""`mamba2` in the naming of transformers.

Dao & Gu 2024, arXiv 2405.21060. Read off transformers 5.23, models/mamba2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samba_cli.model.architectures import mamba
from samba_cli.model.architectures.architecture import Architecture, Config
from samba_cli.model.architectures.hybrid import checked
from samba_cli.model.description import Description, LayerSpec, Mamba2Spec


def read(raw: Mapping[str, Any]) -> Architecture:
    """Raises ValueError naming the key that cannot be used."""
    config = Config(raw)
    config.only("hidden_act", "silu", "swish")
    d_model, eps = config.whole("hidden_size"), config.number("layer_norm_epsilon", 1e-5)
    mixer = Mamba2Spec(
        n_head=config.whole("num_heads", 128),
        d_head=config.whole("head_dim", 64),
        d_state=config.whole("state_size", 128),
        n_group=config.whole("n_groups", 8),
        d_conv=config.whole("conv_kernel", 4),
        norm_eps=eps,
        conv_bias=config.flag("use_conv_bias", True),
        bias=config.flag("use_bias", False),
        dt_limit=config.interval("time_step_limit"),
    )
    mixer = checked(mixer, config.whole("expand", 2) * d_model)
    description = Description(
        vocab_size=config.whole("vocab_size"),
        d_model=d_model,
        layers=(LayerSpec(mixer),) * config.layers(),
        norm_eps=eps,
        tie_embeddings=config.flag("tie_word_embeddings", False),
    )
    return Architecture("mamba2", description, mamba.STORED)
