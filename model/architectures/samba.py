"""`samba`, in the naming of flash-linear-attention: our native format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samba_cli.model.architectures.architecture import Architecture, Stored
from samba_cli.model.config import SambaConfig


def read(raw: Mapping[str, Any]) -> Architecture:
    """Raises ValueError naming the key that cannot be used."""
    return Architecture("samba", SambaConfig.from_dict(dict(raw)).description(), Stored)
