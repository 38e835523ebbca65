"""What reading a config.json gives: the description of a model and where its tensors lie."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from samba_cli.model.description import Description

# No public model comes near these; more would only keep a machine busy before it is refused.
MOST = 2**31
MOST_LAYERS = 512


@dataclass(frozen=True)
class Stored:
    """Where a parameter lies in the files: a tensor, or some rows of one of so many rows."""

    name: str
    rows: tuple[int, int] | None = None
    height: int = 0


@dataclass(frozen=True)
class Architecture:
    """A public architecture with the sizes of one checkpoint."""

    model_type: str
    description: Description
    stored: Callable[[str], Stored]  # our parameter name -> where it is


def renamed(*pairs: tuple[str, str]) -> Callable[[str], Stored]:
    """Each (pattern, replacement) is applied once, in this order, to our parameter name."""
    patterns = [(re.compile(pattern), replacement) for pattern, replacement in pairs]

    def stored(name: str) -> Stored:
        for pattern, replacement in patterns:
            name = pattern.sub(replacement, name, count=1)
        return Stored(name)

    return stored


class Config:
    """A config.json, or a part of it, that says which key is missing or not built.

    A key that is null counts as absent. Everything raises ValueError with one sentence.
    """

    def __init__(self, raw: Mapping[str, Any], path: str = "") -> None:
        self.raw = raw
        self.path = path  # what the keys are called in sentences: "ssm_cfg."

    def get(self, key: str, default: Any = None) -> Any:
        value = self.raw.get(key)
        return default if value is None else value

    def whole(self, key: str, default: int | None = None, most: int = MOST) -> int:
        """A size: at least 1."""
        value = self.get(key, default)
        if value is None:
            raise ValueError(f"{self.path}{key} is missing")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{self.path}{key} = {_shown(value)} is not a whole number")
        if not 1 <= value <= most or value != int(value):
            raise ValueError(f"{self.path}{key} = {_shown(value)} is not a size")
        return int(value)

    def layers(self, key: str = "num_hidden_layers") -> int:
        return self.whole(key, most=MOST_LAYERS)

    def number(self, key: str, default: float, most: float = math.inf) -> float:
        """A finite number above 0, not above `most`."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{self.path}{key} = {_shown(value)} is not a number")
        if not 0 < value < math.inf:
            raise ValueError(f"{self.path}{key} = {_shown(value)} is not above 0 and finite")
        if value > most:
            raise ValueError(f"{self.path}{key} = {_shown(value)} is above {most:g}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.path}{key} = {_shown(value)} is neither true nor false")
        return value

    def only(self, key: str, *built: Any, default: Any = None) -> Any:
        """Refuse what is not built: the key must have one of these values, the first by default."""
        value = self.get(key, built[0] if default is None else default)
        if value not in built:
            names = " or ".join(repr(b) for b in built)
            raise ValueError(f"{self.path}{key} = {_shown(value)} is not built, only {names}")
        return value

    def never(self, *keys: str) -> None:
        """Refuse keys of things that are not built."""
        for key in keys:
            if self.get(key) not in (None, [], {}):
                raise ValueError(f"{self.path}{key} = {_shown(self.raw[key])} is not built")

    def section(self, key: str) -> Config:
        value = self.get(key, {})
        if not isinstance(value, Mapping):
            raise ValueError(f"{self.path}{key} is not an object")
        return Config(value, f"{self.path}{key}.")

    def items(self, key: str, default: list[Any] | None = None) -> list[Any]:
        value = self.get(key, default)
        if not isinstance(value, list):
            raise ValueError(f"{self.path}{key} = {_shown(value)} is not a list")
        return value

    def interval(self, key: str) -> tuple[float, float]:
        """Two numbers; transformers writes infinity as {"__float__": "Infinity"}."""
        limits = self.items(key, [0.0, math.inf])
        limits = [v.get("__float__", v) if isinstance(v, Mapping) else v for v in limits]
        try:
            low, high = (float(v) for v in limits)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ValueError(f"{self.path}{key} is not two numbers") from None
        if not 0 <= low < high:
            raise ValueError(f"{self.path}{key} = {[low, high]} is no interval of steps")
        return low, high

    def rank(self, key: str, d_model: int) -> int:
        """A dt_rank, which may be "auto"."""
        automatic = -(-d_model // 16)
        return automatic if self.get(key) == "auto" else self.whole(key, automatic)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
