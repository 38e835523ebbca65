"""Weight-only int8: each matrix as int8 with one float32 scale per output channel.

Symmetric, w = q * s with s = max|w| / 127 over the row. Norms, biases, convolutions, A_log and D
stay as they are: they are few, and the recurrence is sensitive to them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_BLOCK = 1 << 18  # elements

SCALE = "_scale"  # "x.weight" is accompanied by "x.weight_scale"


def quantizable(name: str, tensor: Tensor) -> bool:
    return name.endswith(".weight") and tensor.dim() == 2


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[out, in] floating point -> int8 [out, in] and float32 scales [out].

    Some rows at a time: in float32 a whole matrix would need several times its own memory.
    """
    quantized = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scale = torch.empty(len(weight), dtype=torch.float32, device=weight.device)
    step = max(1, _BLOCK // max(1, weight.shape[1]))
    for start in range(0, len(weight), step):
        rows = weight[start : start + step].float()
        block = rows.abs().amax(dim=1).clamp(min=1e-12) / 127
        scale[start : start + step] = block
        quantized[start : start + step] = torch.round(rows / block[:, None]).clamp(-127, 127)
    return quantized, scale


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
