"""`samba`, in the naming of flash-linear-attention: our native format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samba_cli.model.architectures.architecture import Architecture, Config, Stored
from samba_cli.model.config import SambaConfig

# The window alone is in no tensor's shape, so nothing else would catch a nonsensical one.
_MOST_WINDOW = 2**20


def read(raw: Mapping[str, Any]) -> Architecture:
    """Raises ValueError naming the key that cannot be used."""
    config = Config(raw)
    config.layers()
    for key in ("vocab_size", "hidden_size"):
        config.whole(key)
    attention = config.section("attn")
    attention.whole("window_size", 2048, most=_MOST_WINDOW)
    attention.never("rope_scaling")
    return Architecture("samba", SambaConfig.from_dict(dict(raw)).description(), Stored)
