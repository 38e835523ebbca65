"""What a checkpoint's config.json and headers say about it, read without torch."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samba_cli.model.architectures import read_architecture
from samba_cli.model.description import Description

Config = Mapping[str, Any]
Shapes = dict[str, tuple[int, ...]]
_CONTEXT = ("max_position_embeddings", "max_sequence_length", "seq_length", "n_positions")
_LARGEST_HEADER = 100_000_000  # as the format says
_SCALE = "_scale"  # of an int8 matrix: no parameter of its own
_FLOAT32 = (".A_log", ".D", ".dt_bias", ".dt_proj.bias")  # as in model/checkpoint.py


@dataclass(frozen=True)
class StateSize:
    """Bytes of the state of one sequence."""

    fixed: int  # whatever was read; windows full
    per_token: int  # what every token read adds: 0 for models of constant memory


def read_config(folder: Path) -> dict[str, Any]:
    """Raises ValueError or OSError."""
    value = json.loads((folder / "config.json").read_bytes())
    if not isinstance(value, dict):
        raise ValueError("config.json holds no JSON object")
    return value


def architecture(config: Config) -> str | None:
    """The `model_type`; for the original Mamba checkpoints, which state none, what they are."""
    if isinstance(stated := config.get("model_type"), str) and stated:
        return stated
    if isinstance(config.get("ssm_cfg"), dict) and "d_model" in config and "n_layer" in config:
        return "mamba2" if config["ssm_cfg"].get("layer") == "Mamba2" else "mamba"
    return None


def context_length(config: Config) -> int | None:
    """Tokens the model was made for, where its config says so."""
    stated = (config.get(key) for key in _CONTEXT)
    return next((n for n in stated if isinstance(n, int) and n > 0), None)


def described(config: Config, window: int = 0) -> Description | None:
    """The model it describes, full attention bounded by `window`; None for what is not built."""
    try:
        description = read_architecture(config).description
    except ValueError:
        return None
    return description.bounded(window) if window else description


def state_size(description: Description, element: int) -> StateSize:
    """The state with `element` bytes a number (4 in float32, 2 in bfloat16)."""
    return StateSize(*description.state_bytes(element))


def parameters(tensors: Shapes) -> int:
    """Numbers in the tensors."""
    return sum(math.prod(shape) for shape in tensors.values())


def memory_bytes(tensors: Shapes, element: int, int8: bool = False) -> int:
    """Bytes of the loaded weights: as model/checkpoint.py keeps them, `element` bytes a number
    but what the recurrence needs in float32; `int8`: the matrices in one byte, a scale a row.
    """
    total = 0
    for name, shape in tensors.items():
        if int8 and name.endswith(".weight") and len(shape) == 2:
            total += math.prod(shape) + 4 * shape[0]
        else:
            total += math.prod(shape) * (4 if name.endswith(_FLOAT32) else element)
    return total


def shapes(files: Iterable[Path]) -> Shapes:
    """The tensors in safetensors files, by their headers. Raises ValueError, OSError."""
    found: Shapes = {}
    for path in files:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= _LARGEST_HEADER:
                raise ValueError(f"{path.name} is no safetensors file")
            header = json.loads(file.read(length))
        try:
            found |= {
                name: tuple(tensor["shape"])
                for name, tensor in header.items()
                if name != "__metadata__" and not name.endswith(_SCALE)
            }
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{path.name} is no safetensors file") from error
    return found
