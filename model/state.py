"""The state: all that is carried from chunk to chunk, of constant size.

Per Mamba layer the last inputs of the convolution and the SSM state; per attention layer a
ring of the last W keys and values. Keys are stored rotated to their absolute position;
the angles are computed in float64 (model/rope.py), so they stay exact past ten million
tokens.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
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
    conv: Tensor  # [B, E, K - 1] the last inputs of the convolution
    ssm: Tensor  # [B, E, N] float32


@dataclass
class AttentionState:
    """Keys and values of the last W positions: position p lies in slot p % W."""

    keys: Tensor  # [B, W, H_kv, d_head], rotated
    values: Tensor  # [B, W, H_kv, d_head]
    position: int = 0  # tokens read

    @property
    def window(self) -> int:
        return self.keys.shape[1]

    @property
    def count(self) -> int:
        """Slots in use."""
        return min(self.position, self.window)

    def with_past(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values in use, oldest first, followed by the new ones: [B, past + T, ..]."""
        if self.position == 0:
            return k, v
        if self.position <= self.window:
            past = [slice(0, self.position)]
        else:
            oldest = self.position % self.window
            past = [slice(oldest, None), slice(0, oldest)]
        return (
            torch.cat([*(self.keys[:, s] for s in past), k], dim=1),
            torch.cat([*(self.values[:, s] for s in past), v], dim=1),
        )

    @torch.no_grad()
    def write(self, k: Tensor, v: Tensor) -> None:
        """Take T new positions into the ring, in place. Only the last W of them can matter."""
        length = k.shape[1]
        kept = min(length, self.window)
        first = (self.position + length - kept) % self.window
        before_wrap = min(kept, self.window - first)
        for ring, new in ((self.keys, k), (self.values, v)):
            new = new[:, length - kept :].detach()
            ring[:, first : first + before_wrap] = new[:, :before_wrap]
            ring[:, : kept - before_wrap] = new[:, before_wrap:]
        self.position += length


@dataclass
class State:
    """What a model has read. Only the model's forward moves it."""

    layers: list[MambaState | AttentionState]
    position: int = 0  # tokens read
    model_fingerprint: str = ""

    def tensors(self) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        for i, layer in enumerate(self.layers):
            if isinstance(layer, MambaState):
                named |= {f"layers.{i}.conv": layer.conv, f"layers.{i}.ssm": layer.ssm}
            else:
                named |= {f"layers.{i}.keys": layer.keys, f"layers.{i}.values": layer.values}
        return named

    def _map(self, change) -> State:
        layers: list[MambaState | AttentionState] = []
        for layer in self.layers:
            if isinstance(layer, MambaState):
                layers.append(MambaState(change(layer.conv), change(layer.ssm)))
            else:
                layers.append(
                    AttentionState(change(layer.keys), change(layer.values), layer.position)
                )
        return State(layers, self.position, self.model_fingerprint)

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

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
        expected = state.tensors()
        if tensors.keys() != expected.keys():
            raise StateError(f"{path} does not hold the tensors of this model's state")
        for name, tensor in tensors.items():
            if tensor.shape != expected[name].shape:
                raise StateError(f"{path}: {name} has the wrong shape")
            expected[name].copy_(tensor)
        try:
            state.position = int(metadata["tokens"])
        except (KeyError, ValueError):
            raise StateError(f"{path} does not say how many tokens it holds") from None
        for layer in state.layers:
            if isinstance(layer, AttentionState):
                layer.position = state.position
        return state, metadata
