"""The state: all that is carried from chunk to chunk.

Per Mamba layer the last inputs of the convolution and the SSM state; per window-attention layer
a ring of the last W keys and values: of constant size. Full attention, which some public models
have, keeps all its keys and values. Keys are stored rotated to their absolute position; the
angles are computed in float64 (model/rope.py), so they stay exact past ten million tokens.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "samba-state-1"


class StateError(ValueError):
    """A state file that is damaged, or that belongs to another model or tokenizer."""


class Reader(Protocol):
    """What a state belongs to: a model."""

    fingerprint: str

    def initial_state(self, batch: int = 1) -> State: ...


@dataclass
class MambaState:
    """Of a Mamba or Mamba-2 layer: constant, whatever was read."""

    conv: Tensor  # [B, E, K - 1] the last inputs of the convolution
    ssm: Tensor  # float32: [B, E, N], for Mamba-2 [B, H, P, N]

    def tensors(self) -> dict[str, Tensor]:
        return {"conv": self.conv, "ssm": self.ssm}

    def map(self, change: Change) -> MambaState:
        return MambaState(change(self.conv), change(self.ssm))

    def restore(self, tensors: Mapping[str, Tensor], position: int) -> None:
        """Take what `tensors` held when it was saved. Raises ValueError for other shapes."""
        _copy(self.tensors(), tensors)


@dataclass
class AttentionState:
    """Keys and values of the first S and the last W positions, constant once W were read.

    Position p lies in slot p where p < S, else in slot S + (p - S) % W.
    """

    keys: Tensor  # [B, S + W, H_kv, d_head], rotated
    values: Tensor  # [B, S + W, H_kv, d_head]
    position: int = 0  # tokens read
    sinks: int = 0  # S

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "values": self.values}

    def map(self, change: Change) -> AttentionState:
        return AttentionState(change(self.keys), change(self.values), self.position, self.sinks)

    def restore(self, tensors: Mapping[str, Tensor], position: int) -> None:
        """Take what `tensors` held when it was saved. Raises ValueError for other shapes."""
        _copy(self.tensors(), tensors)
        self.position = position

    @property
    def window(self) -> int:
        return self.keys.shape[1] - self.sinks

    @property
    def count(self) -> int:
        """Slots in use."""
        return min(self.position, self.keys.shape[1])

    def with_past(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values in use, oldest first, followed by the new ones: [B, past + T, ..]."""
        if self.position == 0:
            return k, v
        slots = self.keys.shape[1]
        if self.position <= slots:
            past = [slice(0, self.position)]
        else:
            oldest = self.sinks + (self.position - self.sinks) % self.window
            past = [slice(0, self.sinks), slice(oldest, None), slice(self.sinks, oldest)]
        return (
            end_to_end([*(self.keys[:, s] for s in past), k]),
            end_to_end([*(self.values[:, s] for s in past), v]),
        )

    @torch.no_grad()
    def write(self, k: Tensor, v: Tensor) -> None:
        """Take T new positions into the slots, in place."""
        first = min(max(self.sinks - self.position, 0), k.shape[1])  # of them become sinks
        length = k.shape[1] - first
        kept = min(length, self.window)  # only the last W of them can matter
        start = max(self.position, self.sinks) - self.sinks + length - kept
        slot = start % self.window
        before_wrap = min(kept, self.window - slot)
        for slots, new in ((self.keys, k), (self.values, v)):
            new = new.detach()
            slots[:, self.position : self.position + first] = new[:, :first]
            ring, new = slots[:, self.sinks :], new[:, new.shape[1] - kept :]
            ring[:, slot : slot + before_wrap] = new[:, :before_wrap]
            ring[:, : kept - before_wrap] = new[:, before_wrap:]
        self.position += k.shape[1]


@dataclass
class CacheState:
    """Keys and values of every position: full attention, whose state grows with what is read."""

    keys: Tensor  # [B, room, H_kv, d_head], rotated where the model rotates; room >= position
    values: Tensor  # [B, room, H_kv, d_head]
    position: int = 0  # tokens read
    host: bool = False  # kept in host memory; a layer's share visits the device for its turn

    def tensors(self) -> dict[str, Tensor]:
        return {
            "keys": self.keys[:, : self.position], "values": self.values[:, : self.position]
        }  # fmt: skip

    def map(self, change: Change) -> CacheState:
        used = self.tensors()
        return CacheState(change(used["keys"]), change(used["values"]), self.position, self.host)

    def restore(self, tensors: Mapping[str, Tensor], position: int) -> None:
        """Take what `tensors` held when it was saved. Raises ValueError for other shapes."""
        if any(tensors[name].shape[1] != position for name in ("keys", "values")):
            raise ValueError("keys has the wrong shape")
        self.reserve(position)
        self.position = position
        _copy(self.tensors(), tensors)

    def reserve(self, room: int) -> None:
        """Make room for so many positions in all, so that no reading has to copy."""
        if room <= self.keys.shape[1]:
            return
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            shape = (old.shape[0], room, *old.shape[2:])
            place = torch.device("cpu") if self.host else old.device
            new = torch.empty(shape, dtype=old.dtype, device=place)
            new[:, : self.position] = old[:, : self.position]
            setattr(self, name, new)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Take T new positions; all keys and values so far, on the device of the new ones."""
        past = self.tensors()
        self.write(k, v)
        if torch.is_grad_enabled() and k.requires_grad:  # gradients flow to the new ones
            return torch.cat([past["keys"], k], dim=1), torch.cat([past["values"], v], dim=1)
        now = self.tensors()
        return now["keys"].to(k.device), now["values"].to(k.device)

    @torch.no_grad()
    def write(self, k: Tensor, v: Tensor) -> None:
        """Take T new positions."""
        end = self.position + k.shape[1]
        if end > self.keys.shape[1]:
            # by half as much again: every position is copied twice at most, on average
            self.reserve(max(end, self.keys.shape[1] + self.keys.shape[1] // 2, 256))
        self.keys[:, self.position : end] = k
        self.values[:, self.position : end] = v
        self.position = end


LayerState = MambaState | AttentionState | CacheState
Change = Callable[[Tensor], Tensor]


def end_to_end(parts: Sequence[Tensor]) -> Tensor:
    """Tensors [B, T, ..] one after the other in time."""
    if torch.is_grad_enabled() and any(part.requires_grad for part in parts):
        return torch.cat(list(parts), dim=1)
    # torch.cat takes twice as long as these copies where the parts are slices, on an H200
    length = sum(part.shape[1] for part in parts)
    whole = parts[0].new_empty((parts[0].shape[0], length, *parts[0].shape[2:]))
    place = 0
    for part in parts:
        whole[:, place : place + part.shape[1]] = part
        place += part.shape[1]
    return whole


def _copy(into: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in into.items():
        if tensor.shape != tensors[name].shape:
            raise ValueError(f"{name} has the wrong shape")
        tensor.copy_(tensors[name])


@dataclass
class State:
    """What a model has read. Only the model's forward moves it."""

    layers: list[LayerState]
    position: int = 0  # tokens read
    model_fingerprint: str = ""

    def advance(self, tokens: int) -> None:
        self.position += tokens

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"layers.{i}.{name}": tensor
            for i, layer in enumerate(self.layers)
            for name, tensor in layer.tensors().items()
        }

    def _map(self, change: Change) -> State:
        layers: list[LayerState] = [layer.map(change) for layer in self.layers]
        return State(layers, self.position, self.model_fingerprint)

    def on_host(self) -> State:
        """The same, with the caches of full attention in host memory from here on."""
        for layer in self.layers:
            if isinstance(layer, CacheState):
                layer.keys, layer.values, layer.host = layer.keys.cpu(), layer.values.cpu(), True
        return self

    def reserve(self, tokens: int) -> None:
        """Make room for so many tokens in all where the state grows."""
        for layer in self.layers:
            if isinstance(layer, CacheState):
                layer.reserve(tokens)

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    @property
    def slots(self) -> int:
        """The most slots of a ring: from this position on all are in use."""
        rings = [layer for layer in self.layers if isinstance(layer, AttentionState)]
        return max((ring.keys.shape[1] for ring in rings), default=0)

    @property
    def batch(self) -> int:
        return next(iter(self.tensors().values())).shape[0]

    def fork(self) -> State:
        """An independent copy."""
        return self._map(torch.clone)

    def expand(self, n: int) -> State:
        """A batch of n independent copies of a state of batch 1: many forks of one prefill."""
        if self.batch != 1:
            raise ValueError(f"only a state of batch 1 expands; this one has {self.batch}")
        return self._map(lambda t: t.repeat(n, *([1] * (t.dim() - 1))))

    def select(self, row: int) -> State:
        """An independent copy of one row of the batch."""
        return self._map(lambda t: t[row : row + 1].clone())

    def take(self, rows: Sequence[int]) -> State:
        """An independent copy of some rows of the batch, in this order."""
        places: dict[torch.device, Tensor] = {}  # sent once, not for every tensor

        def taken(t: Tensor) -> Tensor:
            if t.device not in places:
                places[t.device] = torch.tensor(rows, dtype=torch.int64, device=t.device)
            return t.index_select(0, places[t.device])

        return self._map(taken)

    def detach_(self) -> State:
        """Cut the graph, for truncated back-propagation through time."""
        for layer in self.layers:
            if isinstance(layer, MambaState):
                layer.conv, layer.ssm = layer.conv.detach(), layer.ssm.detach()
        return self

    def save(
        self, path: Path, tokenizer_fingerprint: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write a safetensors file: all of it, or nothing. Raises OSError."""
        header = {
            **(metadata or {}),
            "format": FORMAT,
            "model_sha256": self.model_fingerprint,
            "tokenizer_sha256": tokenizer_fingerprint,
            "tokens": str(self.position),
        }
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.tensors().items()}
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            try:
                save_file(tensors, temporary, metadata=header)
            except SafetensorError as error:
                raise OSError(str(error)) from error
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @staticmethod
    def load(path: Path, model: Reader, tokenizer_fingerprint: str) -> tuple[State, dict[str, str]]:
        """Read a state that this model saved. Returns it with its metadata.

        Raises StateError where the file is damaged or of another model or tokenizer.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise StateError(f"{path} does not exist") from None
        except (SafetensorError, OSError, ValueError) as error:
            raise StateError(f"{path} is not a readable state file ({error})") from None
        if metadata.get("format") != FORMAT:
            raise StateError(f"{path} is not a state file of this program")
        if metadata.get("model_sha256") != model.fingerprint:
            raise StateError(f"{path} was made by another model")
        if metadata.get("tokenizer_sha256") != tokenizer_fingerprint:
            raise StateError(f"{path} was made with another tokenizer")
        batch = next((t.shape[0] for t in tensors.values() if t.dim()), 1)
        state = model.initial_state(batch)
        if tensors.keys() != state.tensors().keys():
            raise StateError(f"{path} does not hold the tensors of this model's state")
        try:
            state.position = int(metadata["tokens"])
        except (KeyError, ValueError):
            raise StateError(f"{path} does not say how many tokens it holds") from None
        for i, layer in enumerate(state.layers):
            prefix = f"layers.{i}."
            try:
                layer.restore(
                    {name: tensors[prefix + name] for name in layer.tensors()}, state.position
                )
            except ValueError as error:
                raise StateError(f"{path}: {prefix}{error}") from None
        return state, metadata
