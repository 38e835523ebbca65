"""Weight-only int8: each matrix as int8 with one float32 scale per output channel.

Symmetric, w = q * s with s = max|w| / 127 over the row. Norms, biases, convolutions, A_log and D
stay as they are: they are few, and the recurrence is sensitive to them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = "_scale"  # "x.weight" is accompanied by "x.weight_scale"


def quantizable(name: str, tensor: Tensor) -> bool:
    return name.endswith(".weight") and tensor.dim() == 2


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[out, in] floating point -> int8 [out, in] and float32 scales [out]."""
    weight = weight.float()
    scale = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
    return torch.round(weight / scale[:, None]).clamp(-127, 127).to(torch.int8), scale


def dequantize(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return (weight.float() * scale[:, None]).to(dtype)


def quantize_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with its matrices quantised and their scales added."""
    quantized: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if quantizable(name, tensor):
            quantized[name], quantized[name + SCALE] = quantize(tensor)
        else:
            quantized[name] = tensor
    return quantized
