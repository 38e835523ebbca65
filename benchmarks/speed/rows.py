"""What a part of the benchmark says: one row for each thing that was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any, Literal

import torch

Unit = Literal["ms", "s", "tokens/s", "MB"]
LOWER_IS_BETTER = ("ms", "s", "MB")


@dataclass(frozen=True)
class Row:
    """One measurement. Ratios are above 1 where we are the faster, whatever the unit."""

    what: str
    shape: str
    ours: float | None  # None: not measured, and `note` says why
    unit: Unit
    peers: Mapping[str, float] = field(default_factory=dict)  # in the same unit
    goal: float | None = None  # of the ratio to the fastest peer
    limits: Mapping[str, float] = field(default_factory=dict)  # shares of physical limits
    error: float | None = None  # relative, against the reference or the peer: checked first
    facts: Mapping[str, Any] = field(default_factory=dict)  # further numbers, for plots
    note: str = ""
    headline: bool = False  # stands in README

    @property
    def fastest_peer(self) -> str | None:
        best = min if self.unit in LOWER_IS_BETTER else max
        return best(self.peers, key=lambda name: self.peers[name]) if self.peers else None

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the fastest peer."""
        if self.ours is None or self.fastest_peer is None:
            return None
        peer = self.peers[self.fastest_peer]
        return peer / self.ours if self.unit in LOWER_IS_BETTER else self.ours / peer

    def as_json(self) -> dict[str, Any]:
        ratio = self.ratio
        return {**asdict(self), "ratio": None if ratio is None else round(ratio, 3)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Row:
        """Raises TypeError for keys that no row has."""
        return Row(**{key: value for key, value in values.items() if key != "ratio"})


@dataclass(frozen=True)
class Setting:
    """How a part is to run."""

    device: Literal["cuda", "cpu"]
    tiny: bool  # sizes that only show that the part runs
    deadline: float  # on the monotonic clock: what would take longer is left out, and said so

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.cuda else torch.float32

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - monotonic()


Part = Callable[[Setting], Iterator[Row]]
