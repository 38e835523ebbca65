"""What reading a config.json gives: the description of a model and where its tensors lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from samba_cli.model.description import Description


@dataclass(frozen=True)
class Stored:
    """Where a parameter lies in the files: a tensor, or some rows of one."""

    name: str
    rows: tuple[int, int] | None = None


@dataclass(frozen=True)
class Architecture:
    """A public architecture with the sizes of one checkpoint."""

    model_type: str
    description: Description
    stored: Callable[[str], Stored]  # our parameter name -> where it is


class Config:
    """A config.json that says which key is missing or not built. Raises ValueError."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw

    def int(self, key: str, default: int | None = None) -> int:
        value = self.raw.get(key, default)
        if value is None:
            raise ValueError(f"{key} is missing")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
            raise ValueError(f"{key} = {value!r} is not a whole number")
        if not 0 < value < 2**40:
            raise ValueError(f"{key} = {value!r} is not a size")
        return int(value)

    def float(self, key: str, default: float) -> float:
        value = self.raw.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{key} = {value!r} is not a number")
        return float(value)

    def bool(self, key: str, default: bool) -> bool:
        value = self.raw.get(key, default)
        if not isinstance(value, bool):
            raise ValueError(f"{key} = {value!r} is neither true nor false")
        return value

    def only(self, key: str, wanted: Any, default: Any = ...) -> None:
        """Refuse what is not built: the key must have this value, or be absent."""
        value = self.raw.get(key, wanted if default is ... else default)
        if value != wanted:
            raise ValueError(f"{key} = {value!r} is not built, only {wanted!r}")
