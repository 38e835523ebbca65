"""Checkpoints: a folder with config.json, tokenizer.json and weights.

Ours have the tensor names of flash-linear-attention's `samba` model; other architectures are
read by model/architectures. Exactly the expected keys and shapes are accepted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from samba_cli.kernels.dispatch import compiles
from samba_cli.model.architectures import Architecture, Stored, read_architecture
from samba_cli.model.network import Model
from samba_cli.model.precision import reading_dtype
from samba_cli.model.quantization import SCALE, dequantize, quantizable, quantize_tensors
from samba_cli.model.quantization import quantize as quantized
from samba_cli.model.samba import Samba
from samba_cli.model.weight_files import (
    CheckpointError,
    Shard,
    fingerprint,
    opened,
    weight_files,
)

# These stay float32 whatever the layers compute in: the recurrence runs in float32.
_FLOAT32 = (".A_log", ".D", ".dt_bias", ".dt_proj.bias")

# What weights may be stored in; anything smaller is quantised, and needs scales.
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

Quantize = Literal["none", "stored", "int8"]


class _Valueless(TorchFunctionMode):
    """Modules made inside draw no first values for their weights, which come from a file.

    On the meta device drawing them would cost nothing but the import of torch's compiler: seconds,
    and memory as of a small model.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


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
    try:
        save_file(tensors, temporary, metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, for one
        raise OSError(str(error)) from error
    os.replace(temporary, folder / "model.safetensors")
    if tokenizer_file.resolve() != (folder / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer_file, folder / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_checkpoint(
    folder: Path | str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    quantize: Quantize = "none",
    window: int | None = None,
) -> Model:
    """A model ready to read, on `device`, computing in `dtype` (default: float32 on a CPU, else
    bfloat16).

    One tensor at a time goes from the mapped file to the device. `quantize` int8 keeps the
    matrices as int8 with a scale for each row, stored those that are so in the file; `window`
    bounds full attention to so many positions and the first few tokens, which is lossy. Raises
    CheckpointError with one sentence for anything that does not fit.
    """
    folder, device = Path(folder), torch.device(device)
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    architecture = read_config(folder)
    if window is not None:
        architecture = replace(architecture, description=architecture.description.bounded(window))
    files = weight_files(folder)
    with torch.device("meta"), _Valueless():
        try:
            model = Model(architecture.description, dtype)
        except ValueError as error:
            raise CheckpointError(f"{folder / 'config.json'}: {error}") from None
        except (RuntimeError, TypeError):  # a tensor of more than 2^63 bytes, or such a dimension
            raise CheckpointError(f"{folder / 'config.json'}: the sizes are too large") from None
    _fill(model, architecture, files, device, dtype, quantize)
    model.fingerprint = fingerprint(sorted(set(files.values())))
    if window is not None:  # another state, though of the same weights
        model.fingerprint += f"-window-{window}"
    model.eval().requires_grad_(False)
    return model.join() if device.type == "cuda" else model


def load_for_reading(
    folder: Path | str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    quantize: Quantize = "none",
    window: int | None = None,
) -> Model:
    """`load_checkpoint` as the program does it: in `dtype`, or what the device multiplies fastest.

    Where loops are compiled for a CPU, int8 matrices stay as they are in the file: reading is as
    fast, decoding faster, and the memory a fraction. Raises CheckpointError.
    """
    dtype = dtype or reading_dtype(device)
    loops = torch.device(device).type == "cpu" and compiles(torch.empty(0, dtype=dtype))
    return load_checkpoint(
        folder, device, dtype, "stored" if quantize == "none" and loops else quantize, window
    )


def read_config(folder: Path) -> Architecture:
    """What the config.json of a checkpoint folder describes. Raises CheckpointError."""
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is not a checkpoint: it has no config.json") from None
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable ({error})") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    method = raw.get("quantization", {"method": "int8"})
    if not isinstance(method, dict) or method.get("method") != "int8":
        raise CheckpointError(f"{path}: only int8 quantization is built")
    if raw.get("quantization_config"):
        raise CheckpointError(f"{path}: quantization_config is not built; use the full weights")
    try:
        return read_architecture(raw)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _named(model: Model) -> dict[str, Tensor]:
    """The tensors of the file: a tied lm_head is stored once, as the embedding."""
    tensors: dict[str, Tensor] = dict(model.named_parameters())  # tied weights come once
    if model.description.tie_embeddings:
        tensors.pop("lm_head.weight", None)
    return tensors


def _fill(
    model: Model, architecture: Architecture, files: Mapping[str, Path], device: torch.device,
    dtype: torch.dtype, quantize: Quantize,
) -> None:  # fmt: skip
    expected = _named(model)
    stored = {name: architecture.stored(name) for name in expected}
    wanted = {place.name for place in stored.values()}
    scales = {name for name in files if name.endswith(SCALE) and name[: -len(SCALE)] in wanted}
    # A tied head may be stored a second time; it must then be the embedding.
    tied = model.description.tie_embeddings
    spare = {architecture.stored("lm_head.weight").name} if tied else set()
    missing, foreign = wanted - files.keys(), files.keys() - wanted - scales - spare
    if missing or foreign:
        what = f"lacks {min(missing)}" if missing else f"has the unknown tensor {min(foreign)}"
        count = len(missing) + len(foreign)
        raise CheckpointError(f"the weights do not fit their config.json: {what} ({count} differ)")
    for path in sorted(set(files.values())):
        with opened(path) as (_, shard):
            for name, place in stored.items():
                if files[place.name] == path:
                    _take(model, name, place, shard, files, device, dtype, quantize)
    if tied:
        model.lm_head.weight = model.backbone.embeddings.weight
        model.lm_head.weight_scale = model.backbone.embeddings.weight_scale


def _take(
    model: Model, name: str, place: Stored, shard: Shard, files: Mapping[str, Path],
    device: torch.device, dtype: torch.dtype, quantize: Quantize,
) -> None:  # fmt: skip
    """One parameter, from its file to its place."""
    owner_name, _, attribute = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    shape = wanted = list(getattr(owner, attribute).shape)
    if place.rows is not None:
        wanted = [place.height, *shape[1:]]
    found = list(shard.shape(place.name))
    if found != wanted:
        raise CheckpointError(f"{place.name} has the shape {found}, config.json says {wanted}")
    tensor = shard.tensor(place.name, place.rows)
    target = torch.float32 if name.endswith(_FLOAT32) else dtype
    scale: Tensor | None = None
    dequantized = False
    if tensor.dtype == torch.int8 and quantizable(name, tensor):
        if files.get(place.name + SCALE) != files[place.name]:
            raise CheckpointError(f"{place.name} is int8 but has no scale beside it")
        scale = shard.tensor(place.name + SCALE, place.rows)
        if list(scale.shape) != shape[:1]:
            raise CheckpointError(f"{place.name}{SCALE} has the wrong shape")
        if quantize == "none":
            tensor, scale = dequantize(tensor.to(device), scale.to(device), target), None
            dequantized = True
        else:
            tensor, scale = tensor.to(device, copy=True), scale.to(device, copy=True)
    elif tensor.dtype not in _FLOATS:
        raise CheckpointError(f"{place.name} has the type {tensor.dtype}")
    elif quantize == "int8" and quantizable(name, tensor):
        tensor, scale = quantized(tensor.to(device))
    if scale is not None:
        owner.weight_scale = scale  # type: ignore[assignment]
    elif not dequantized:
        # a copy, so that nothing keeps the file mapped
        tensor = tensor.to(device=device, dtype=target, copy=True)
    setattr(owner, attribute, nn.Parameter(tensor, requires_grad=False))
