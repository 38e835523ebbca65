"""`mamba` in the naming of transformers (the -hf checkpoints of state-spaces, and others).

Gu & Dao 2023. Read off transformers 5.23, models/mamba.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samba_cli.model.architectures.architecture import Architecture, Config, renamed
from samba_cli.model.description import Description, LayerSpec, MambaSpec

STORED = renamed((r"\.mixer_norm\.", ".norm."))


def read(raw: Mapping[str, Any]) -> Architecture:
    """Raises ValueError naming the key that cannot be used."""
    config = Config(raw)
    config.only("hidden_act", "silu", "swish")
    d_model = config.whole("hidden_size")
    mixer = MambaSpec(
        d_inner=config.whole("expand", 2) * d_model,
        d_state=config.whole("state_size", 16),
        d_conv=config.whole("conv_kernel", 4),
        dt_rank=config.rank("time_step_rank", d_model),
        conv_bias=config.flag("use_conv_bias", True),
        bias=config.flag("use_bias", False),
    )
    description = Description(
        vocab_size=config.whole("vocab_size"),
        d_model=d_model,
        layers=(LayerSpec(mixer),) * config.layers(),
        norm_eps=config.number("layer_norm_epsilon", 1e-5),
        tie_embeddings=config.flag("tie_word_embeddings", True),
    )
    return Architecture("mamba", description, STORED)
