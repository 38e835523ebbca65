"""Where things lie on this machine: configuration, memories, models, partial reads, the log."""

from __future__ import annotations

import os
from pathlib import Path

NAME = "samba-cli"  # `samba` is the folder name of the SMB server


def _folder(variable: str, kind: str) -> Path:
    # The XDG variables count on every system: a person who sets one means it.
    if base := os.environ.get(variable):
        return Path(base) / NAME
    import platformdirs

    return Path(getattr(platformdirs, f"user_{kind}_dir")(NAME, appauthor=False))


def config_folder() -> Path:
    return _folder("XDG_CONFIG_HOME", "config")


def data_folder() -> Path:
    return _folder("XDG_DATA_HOME", "data")


def state_folder() -> Path:
    return _folder("XDG_STATE_HOME", "state")


def cache_folder() -> Path:
    return _folder("XDG_CACHE_HOME", "cache")


def memories_folder() -> Path:
    return data_folder() / "memories"


def models_folder() -> Path:
    return data_folder() / "models"


def config_file() -> Path:
    return config_folder() / "config.toml"


def log_file() -> Path:
    return state_folder() / "error.log"
