"""Weight-only int8: each matrix as int8 with one float32 scale per output channel.

Symmetric, w = q * s with s = max|w| / 127 over the row. Norms, biases, convolutions, A_log and D
stay as they are: they are few, and the recurrence is sensitive to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from mmap import mmap

import torch
from torch import Tensor

# Elements at a time: small ones leave a heap in one piece, large ones keep a GPU busy.
_BLOCK_CPU, _BLOCK = 1 << 16, 1 << 24

SCALE = "_scale"  # "x.weight" is accompanied by "x.weight_scale"


def quantizable(name: str, tensor: Tensor) -> bool:
    return name.endswith(".weight") and tensor.dim() == 2


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[out, in] floating point -> int8 [out, in] and float32 scales [out].

    Some rows at a time and in place: whole matrices in float32 would need several times their own
    memory, and leave the heap in pieces.
    """
    quantized = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scale = torch.empty(len(weight), dtype=torch.float32, device=weight.device)
    cpu, width = weight.device.type == "cpu", max(1, weight.shape[1])
    step = max(1, (_BLOCK_CPU if cpu else _BLOCK) // width)
    # Outside of the heap: the scales, which are kept, would settle in the hole that it leaves.
    room = torch.frombuffer(mmap(-1, 4 * step * width), dtype=torch.float32) if cpu else None
    for start in range(0, len(weight), step):
        rows = weight[start : start + step]
        if room is None:
            rows = rows.to(torch.float32, copy=True)
        else:
            rows = room[: rows.numel()].view(rows.shape).copy_(rows)
        most = torch.maximum(rows.amax(dim=1), -rows.amin(dim=1)).clamp_(min=1e-12).div_(127)
        scale[start : start + step] = most
        quantized[start : start + step] = rows.div_(most[:, None]).round_().clamp_(-127, 127)
    return quantized, scale


def dequantize(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """int8 [out, in] and scales [out] -> the matrix in `dtype`, some rows at a time as above."""
    whole = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    block = _BLOCK_CPU if weight.device.type == "cpu" else _BLOCK
    step = max(1, block // max(1, weight.shape[1]))
    for start in range(0, len(weight), step):
        rows = slice(start, start + step)
        whole[rows] = weight[rows].float() * scale[rows, None]
    return whole


def quantize_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with its matrices quantised and their scales added."""
    quantized: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if quantizable(name, tensor):
            quantized[name], quantized[name + SCALE] = quantize(tensor)
        else:
            quantized[name] = tensor
    return quantized
