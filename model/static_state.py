"""A state at fixed addresses whose position is a tensor: what a CUDA graph can be replayed on.

The forward of the model runs on it as on a `State`; nothing in it asks the host where the text
stands. A forward of T tokens prepares the slots that it will touch (`begin`) and moves the buffers
on when it is done (`settle`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samba_cli.kernels.attention_step import ring_slot
from samba_cli.model.state import AttentionState, MambaState, State, end_to_end


@dataclass
class StaticRing:
    """An `AttentionState` at a position that only the device knows."""

    keys: Tensor  # [B, S + W, H_kv, d_head], rotated
    values: Tensor  # [B, S + W, H_kv, d_head]
    sinks: int  # S
    count: Tensor  # int64 [1]: slots in use after a single token
    slots: Tensor  # int64 [kept]: where the last tokens of the chunk go
    past: Tensor  # int64 [S + W]: all slots, oldest first

    @property
    def window(self) -> int:
        return self.keys.shape[1] - self.sinks

    def with_past(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, oldest first, followed by the new ones: every slot is in use."""
        return (
            end_to_end([self.keys.index_select(1, self.past), k]),
            end_to_end([self.values.index_select(1, self.past), v]),
        )

    def write(self, k: Tensor, v: Tensor) -> None:
        """Take the new positions into their slots, in place."""
        kept = self.slots.shape[0]
        self.keys.index_copy_(1, self.slots, k[:, k.shape[1] - kept :])
        self.values.index_copy_(1, self.slots, v[:, v.shape[1] - kept :])


class StaticState:
    """Buffers for a state like the one given, which must be of constant size."""

    def __init__(self, like: State) -> None:
        copies = like.fork()
        device = next(iter(copies.tensors().values())).device
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self._nothing = torch.zeros(0, dtype=torch.int64, device=device)
        self._kept = copies.layers
        self.slots = copies.slots
        self.layers: list[MambaState | StaticRing] = []
        self._read = 0  # tokens since it settled

    @staticmethod
    def possible(state: State) -> bool:
        return all(isinstance(part, (MambaState, AttentionState)) for part in state.layers)

    def load(self, state: State) -> None:
        """Take what a state holds."""
        copy_all(self._tensors(), list(state.tensors().values()))
        self.position.fill_(state.position)

    def store(self, state: State, position: int) -> None:
        """Give it to a state, in place; the host knows how many tokens were read."""
        copy_all(list(state.tensors().values()), self._tensors())
        state.position = position
        for part in state.layers:
            if isinstance(part, AttentionState):
                part.position = position

    def take(self, rows: Tensor) -> None:
        """Each row becomes what row `rows[i]` [B] was, in place."""
        tensors = self._tensors()
        copy_all(tensors, [tensor.index_select(0, rows) for tensor in tensors])

    def begin(self, length: int) -> None:
        """Before a forward of so many tokens; more than one need rings in which all is in use."""
        places: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        self.layers = []
        for part in self._kept:
            if isinstance(part, MambaState):
                self.layers.append(MambaState(part.conv, part.ssm))
                continue
            assert isinstance(part, AttentionState)
            kind = (part.window, part.sinks)
            if kind not in places:  # the rings of a model are alike, so this is computed once
                places[kind] = self._places(length, *kind)
            self.layers.append(StaticRing(part.keys, part.values, part.sinks, *places[kind]))

    def advance(self, tokens: int) -> None:
        self._read = tokens

    def settle(self) -> None:
        """After a forward: what it returned becomes what the next one starts from."""
        self.position += self._read
        into: list[Tensor] = []
        moved: list[Tensor] = []
        for kept, part in zip(self._kept, self.layers, strict=True):
            if isinstance(kept, MambaState) and isinstance(part, MambaState):
                pairs = ((kept.conv, part.conv), (kept.ssm, part.ssm))
                into += [old for old, new in pairs if new is not old]  # a step writes in place
                moved += [new for old, new in pairs if new is not old]
        copy_all(into, moved)

    def _places(self, length: int, window: int, sinks: int) -> tuple[Tensor, Tensor, Tensor]:
        """Count, slots and past of `StaticRing`."""
        if length == 1:
            return *ring_slot(self.position, window, sinks), self._nothing
        device, past_sinks = self.position.device, self.position - sinks
        kept = min(length, window)
        order = torch.arange(window, dtype=torch.int64, device=device)
        slots = (past_sinks + (length - kept) + order[:kept]) % window + sinks
        past = (past_sinks + order) % window + sinks
        if sinks:
            past = torch.cat([torch.arange(sinks, dtype=torch.int64, device=device), past])
        return self._nothing, slots, past

    def _tensors(self) -> list[Tensor]:
        return [tensor for part in self._kept for tensor in part.tensors().values()]


def copy_all(into: list[Tensor], source: list[Tensor]) -> None:
    """Copy many tensors in a few launches: one for each dtype."""
    by_dtype: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for a, b in zip(into, source, strict=True):
        pair = by_dtype.setdefault(a.dtype, ([], []))
        pair[0].append(a)
        pair[1].append(b)
    for a, b in by_dtype.values():
        torch._foreach_copy_(a, b)  # pyright: ignore[reportPrivateImportUsage]
