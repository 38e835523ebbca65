"""Public checkpoints: what each family calls its sizes and its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from samba_cli.model.architectures import (
    bamba,
    falcon_mamba,
    granitemoehybrid,
    jamba,
    mamba,
    mamba2,
    samba,
    state_spaces,
)
from samba_cli.model.architectures.architecture import Architecture, Stored

__all__ = ["Architecture", "READERS", "Stored", "read_architecture"]

# model_type of config.json -> how to read the rest of it
READERS: dict[str, Callable[[Mapping[str, Any]], Architecture]] = {
    "samba": samba.read,
    "mamba": mamba.read,
    "falcon_mamba": falcon_mamba.read,
    "jamba": jamba.read,
    "mamba2": mamba2.read,
    "bamba": bamba.read,
    "granitemoehybrid": granitemoehybrid.read,
}


def read_architecture(raw: Mapping[str, Any]) -> Architecture:
    """What a config.json describes. Raises ValueError with one sentence for what is not built."""
    model_type = raw.get("model_type")
    if model_type is None and state_spaces.written_by(raw):
        return state_spaces.read(raw)
    reader = READERS.get(model_type) if isinstance(model_type, str) else None
    if reader is None:
        raise ValueError(f"model_type is {str(model_type)[:40]!r}; built are {', '.join(READERS)}")
    return reader(raw)
