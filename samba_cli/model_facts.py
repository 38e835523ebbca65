"""What a checkpoint's config.json and headers say about it, read without torch.

The sizes of the state follow model/state.py: per Mamba layer the last K - 1 inputs of the
convolution and a float32 SSM state; per attention layer the keys and values of its window, or of
all that was read.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Config = Mapping[str, Any]
_CONTEXT = ("max_position_embeddings", "max_sequence_length", "seq_length", "n_positions")
_LARGEST_HEADER = 100_000_000  # as the format says
_SCALE = "_scale"  # of an int8 matrix: no parameter of its own


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


def state_size(config: Config, element: int) -> StateSize | None:
    """The state with `element` bytes a number (4 in float32, 2 in bfloat16).

    None where the config is of a family we do not know or lacks a size.
    """
    try:
        return _state_size(config, element)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError):
        return None


def _state_size(config: Config, element: int) -> StateSize | None:
    kind = architecture(config)
    if "model_type" not in config and kind is not None:
        return _original_mamba(config, element)
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    if kind == "samba":
        attention = config["attn"]
        rings = attention["layers"]
        heads = attention.get("num_kv_heads") or attention["num_heads"]
        head = width // attention["num_heads"]
        ring = _keys(heads, head, element) * attention.get("window_size", 2048)
        mamba = _mamba(
            config.get("expand", 2) * width, config.get("state_size", 16),
            config.get("conv_kernel", 4), element,
        )  # fmt: skip
        return StateSize(mamba * (layers - len(rings)) + ring * len(rings), 0)
    if kind in ("mamba", "falcon_mamba"):
        inner = config.get("intermediate_size") or config.get("expand", 2) * width
        one = _mamba(inner, config.get("state_size", 16), config.get("conv_kernel", 4), element)
        return StateSize(one * layers, 0)
    if kind == "mamba2":
        one = _mamba2(
            config["num_heads"], config["head_dim"], config["state_size"],
            config.get("n_groups", 1), config.get("conv_kernel", 4), element,
        )  # fmt: skip
        return StateSize(one * layers, 0)
    if kind == "jamba":
        mamba = _mamba(
            config.get("mamba_expand", 2) * width, config.get("mamba_d_state", 16),
            config.get("mamba_d_conv", 4), element,
        )  # fmt: skip
        return _hybrid(config, mamba, element)
    if kind in ("bamba", "granitemoehybrid"):
        heads, head = config["mamba_n_heads"], config.get("mamba_d_head", "auto")
        if head == "auto":
            head = config.get("mamba_expand", 2) * width // heads
        mamba = _mamba2(
            heads, head, config.get("mamba_d_state", 256), config.get("mamba_n_groups", 1),
            config.get("mamba_d_conv", 4), element,
        )  # fmt: skip
        return _hybrid(config, mamba, element)
    return None


def _hybrid(config: Config, mamba: int, element: int) -> StateSize:
    """Mamba layers of `mamba` bytes, and layers of full attention, which keep all keys."""
    layers, full = config["num_hidden_layers"], _full_attention(config)
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return StateSize(mamba * (layers - full), _keys(heads, head, element) * full)


def _full_attention(config: Config) -> int:
    for key in ("layer_types", "layers_block_type"):
        if kinds := config.get(key):
            return sum(kind in ("attention", "full_attention") for kind in kinds)
    if config["model_type"] == "jamba":
        period, offset = config.get("attn_layer_period", 8), config.get("attn_layer_offset", 4)
        return sum(i % period == offset for i in range(config["num_hidden_layers"]))
    return len(config.get("attn_layer_indices") or ())


def _original_mamba(config: Config, element: int) -> StateSize | None:
    """The config.json of the mamba_ssm package, with its defaults."""
    if config.get("attn_layer_idx"):
        return None
    ssm = config["ssm_cfg"]
    inner, kernel = ssm.get("expand", 2) * config["d_model"], ssm.get("d_conv", 4)
    if ssm.get("layer") == "Mamba2":
        head = ssm.get("headdim", 64)
        one = _mamba2(
            inner // head, head, ssm.get("d_state", 128), ssm.get("ngroups", 1), kernel, element
        )
    else:
        one = _mamba(inner, ssm.get("d_state", 16), kernel, element)
    return StateSize(one * config["n_layer"], 0)


def _mamba(inner: int, state: int, kernel: int, element: int) -> int:
    return inner * (kernel - 1) * element + inner * state * 4


def _mamba2(heads: int, head: int, state: int, groups: int, kernel: int, element: int) -> int:
    convolved = heads * head + 2 * groups * state
    return convolved * (kernel - 1) * element + heads * head * state * 4


def _keys(heads: int, head: int, element: int) -> int:
    """Keys and values of one position in one layer."""
    return 2 * heads * head * element


def parameters(files: Iterable[Path]) -> int:
    """Numbers in the tensors of safetensors files, by their headers. Raises ValueError, OSError."""
    total = 0
    for path in files:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= _LARGEST_HEADER:
                raise ValueError(f"{path.name} is no safetensors file")
            header = json.loads(file.read(length))
        try:
            total += sum(
                math.prod(tensor["shape"])
                for name, tensor in header.items()
                if name != "__metadata__" and not name.endswith(_SCALE)
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{path.name} is no safetensors file") from error
    return total
