"""`samba`, in the naming of flash-linear-attention: our native format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samba_cli.model.architectures.architecture import Architecture, Config, Stored
from samba_cli.model.config import SambaConfig

# The window alone is in no tensor's shape, so nothing else would catch a nonsensical one.
_MOST_WINDOW = 2**20
_MOST_RATIO = 1024.0  # of the width of an MLP to that of the model


def read(raw: Mapping[str, Any]) -> Architecture:
    """Raises ValueError naming the key that cannot be used."""
    config = Config(raw)
    config.layers()
    for key in ("vocab_size", "hidden_size"):
        config.whole(key)
    # What may be left out is checked where it is there.
    for key in ("state_size", "conv_kernel", "expand", "intermediate_size"):
        config.whole(key, 1)
    config.rank("time_step_rank", 1)
    config.number("hidden_ratio", 4.0, most=_MOST_RATIO)
    config.number("norm_eps", 1e-5)
    config.flag("tie_word_embeddings", False)
    config.never("attnres_block_size")
    attention = config.section("attn")
    for key in ("num_heads", "num_kv_heads"):
        attention.whole(key, 1)
    attention.number("rope_theta", 10_000.0)
    attention.whole("window_size", 2048, most=_MOST_WINDOW)
    attention.never("rope_scaling")
    return Architecture("samba", SambaConfig.from_dict(dict(raw)).description(), Stored)
