"""Checkpoints: a folder with config.json, tokenizer.json and model.safetensors.

Tensor names are those of flash-linear-attention's `samba` model. Loading maps the file into
memory, goes one tensor at a time and accepts exactly the expected keys and shapes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from samba_cli.model.config import SambaConfig
from samba_cli.model.quantization import SCALE, dequantize, quantizable, quantize_tensors
from samba_cli.model.samba import Samba

# These stay float32 whatever the layers compute in: the recurrence runs in float32.
_FLOAT32 = (".A_log", ".D", ".dt_proj.bias")


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not of an architecture we have."""


def default_model_path() -> Path:
    """The folder of the model that ships with the package."""
    return Path(__file__).parent / "weights"


def save_checkpoint(model: Samba, folder: Path, tokenizer_file: Path, int8: bool = False) -> None:
    """Write a checkpoint folder; with `int8` the matrices are quantised. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in _named(model).items()}
    config: dict[str, Any] = model.config.to_dict()
    if int8:
        tensors = quantize_tensors(tensors)
        config["quantization"] = {"method": "int8", "scale": "per-output-channel"}
    temporary = folder / ".model.safetensors.partial"
    save_file(tensors, temporary, metadata={"format": "pt"})
    os.replace(temporary, folder / "model.safetensors")
    if tokenizer_file.resolve() != (folder / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer_file, folder / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_checkpoint(
    folder: Path | str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Samba:
    """A model ready to read, on `device`, computing in `dtype` (default: float32 on a CPU, else
    bfloat16). Raises CheckpointError with one sentence for anything that does not fit.
    """
    folder, device = Path(folder), torch.device(device)
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    config = _read_config(folder)
    path = folder / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    with torch.device("meta"):
        model = Samba(config, dtype)
    try:
        with safe_open(str(path), framework="pt") as file:
            _fill(model, file, device, dtype)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error})") from None
    model.fingerprint = _sha256(path)
    return model.eval().requires_grad_(False)


def _read_config(folder: Path) -> SambaConfig:
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is not a checkpoint: it has no config.json") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is not readable ({error})") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    method = raw.get("quantization", {"method": "int8"})
    if not isinstance(method, dict) or method.get("method") != "int8":
        raise CheckpointError(f"{path}: only int8 quantization is built")
    try:
        return SambaConfig.from_dict(raw)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _named(model: Samba) -> dict[str, Tensor]:
    """The tensors of the file: a tied lm_head is stored once, as the embedding."""
    tensors: dict[str, Tensor] = dict(model.named_parameters())  # tied weights come once
    if model.config.tie_embeddings:
        tensors.pop("lm_head.weight", None)
    return tensors


def _fill(model: Samba, file: Any, device: torch.device, dtype: torch.dtype) -> None:
    expected = _named(model)
    keys = set(file.keys())
    scales = {name for name in keys if name.endswith(SCALE)}
    scales = {name for name in scales if name.removesuffix(SCALE) in expected}
    # A tied head may be stored a second time; it must then be the embedding.
    spare = {"lm_head.weight"} & keys if model.config.tie_embeddings else set()
    missing, foreign = expected.keys() - keys, keys - expected.keys() - scales - spare
    if missing or foreign:
        what = f"lacks {min(missing)}" if missing else f"has the unknown tensor {min(foreign)}"
        count = len(missing) + len(foreign)
        raise CheckpointError(
            f"model.safetensors does not fit its config.json: it {what} ({count} differ)"
        )
    for name, parameter in expected.items():
        tensor = file.get_tensor(name)
        if tensor.shape != parameter.shape:
            wanted, found = list(parameter.shape), list(tensor.shape)
            raise CheckpointError(
                f"model.safetensors: {name} is {found}, config.json says {wanted}"
            )
        target = torch.float32 if name.endswith(_FLOAT32) else dtype
        if tensor.dtype == torch.int8 and quantizable(name, tensor):
            if name + SCALE not in scales:
                raise CheckpointError(f"model.safetensors: {name} is int8 but has no scale")
            scale = file.get_tensor(name + SCALE)
            if scale.shape != tensor.shape[:1]:
                raise CheckpointError(f"model.safetensors: {name}{SCALE} has the wrong shape")
            tensor = dequantize(tensor.to(device), scale.to(device), target)
        elif not tensor.is_floating_point():
            raise CheckpointError(f"model.safetensors: {name} has type {tensor.dtype}")
        _set(model, name, tensor.to(device=device, dtype=target, copy=True))
    if model.config.tie_embeddings:
        model.lm_head.weight = model.backbone.embeddings.weight


def _set(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.Parameter(tensor, requires_grad=False))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
