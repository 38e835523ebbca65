"""The tensors of a checkpoint folder: one safetensors file, several with an index, or a .bin.

Files are mapped into memory and read one tensor at a time.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

_HASHED_WHOLE = 256 << 20  # bytes of a file up to which all of it is hashed
_FILE = re.compile(r"[\w-][\w.-]{0,250}")  # of an index: it lies beside it
_BLOCK, _BLOCKS = 64 << 10, 256  # else its ends and so many blocks between


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not of an architecture we have."""


class Shard(Protocol):
    """An open file of tensors."""

    def shape(self, name: str) -> tuple[int, ...]: ...

    def tensor(self, name: str, rows: tuple[int, int] | None = None) -> Tensor: ...


def weight_files(folder: Path) -> dict[str, Path]:
    """Which file holds which tensor. Raises CheckpointError where a file is missing or damaged."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    pickled = folder / "pytorch_model.bin"
    if single.is_file():
        paths = [single]
    elif index.is_file():
        paths = sorted({folder / name for name in _index(index).values()})
    elif pickled.is_file():
        paths = [pickled]
    else:
        raise CheckpointError(f"{single} is missing")
    found: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise CheckpointError(f"the shard {path} is missing")
        with opened(path) as (names, _):
            found |= dict.fromkeys(names, path)
    if not single.is_file() and index.is_file():
        for name, file in _index(index).items():
            if found.get(name) != folder / file:
                raise CheckpointError(f"{file} does not hold {name}, as the index says")
    return found


def _index(path: Path) -> Mapping[str, str]:
    try:
        weights = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if all(isinstance(f, str) and _FILE.fullmatch(f) for f in weights.values()):
            return weights
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        pass
    raise CheckpointError(f"{path} is not a readable index of shards")


@contextmanager
def opened(path: Path) -> Iterator[tuple[set[str], Shard]]:
    """The names in a file and access to its tensors. Raises CheckpointError."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt") as file:
                yield set(file.keys()), _Safetensors(file)
            return
        yield from _pickled_tensors(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error})") from None


def pickled(path: Path) -> Any:
    """What a file of torch.save holds, mapped. Raises CheckpointError for code in it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds; code in the file is among them
        raise CheckpointError(
            f"{path} is refused: it is not a file of tensors alone ({_why(error)})"
        ) from None


def _why(error: Exception) -> str:
    """In our words: torch's are a page, and tell how to load the file all the same."""
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return error.strerror or "it cannot be read"
    if not isinstance(error, UnpicklingError):
        return "it is damaged, or older than PyTorch 1.6"
    named = re.search(r"\bGLOBAL ([\w.]{1,60})", str(error))
    return f"it asks for {named[1]}, and could run code" if named else "it holds other things"


def _pickled_tensors(path: Path) -> Iterator[tuple[set[str], Shard]]:
    tensors = pickled(path)
    if not isinstance(tensors, dict) or not all(plain(t) for t in tensors.values()):
        raise CheckpointError(f"{path} is refused: it is not a file of tensors alone")
    yield set(tensors), _Tensors(tensors)


def plain(tensor: object) -> bool:
    """A dense tensor whose elements are all there: not one number seen a billion times."""
    return (
        isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


class _Safetensors:
    def __init__(self, file: Any) -> None:
        self._file = file

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())

    def tensor(self, name: str, rows: tuple[int, int] | None = None) -> Tensor:
        if rows is None:
            return self._file.get_tensor(name)
        return self._file.get_slice(name)[rows[0] : rows[1]]


class _Tensors:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def tensor(self, name: str, rows: tuple[int, int] | None = None) -> Tensor:
        return self._tensors[name] if rows is None else self._tensors[name][rows[0] : rows[1]]


def fingerprint(paths: list[Path]) -> str:
    """SHA-256 that tells checkpoints apart. Of a large file its size, its ends and blocks spread
    over it are hashed: all of ten gigabytes would take longer than loading them.
    """
    if len(paths) == 1 and paths[0].stat().st_size <= _HASHED_WHOLE:
        with open(paths[0], "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for path in sorted(paths):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with open(path, "rb") as file:
            if size <= _HASHED_WHOLE:
                digest.update(hashlib.file_digest(file, "sha256").digest())
                continue
            for block in range(_BLOCKS):
                file.seek((size - _BLOCK) * block // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()
