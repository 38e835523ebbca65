"""What the layers compute in by default: bfloat16 where a device multiplies it faster.

Whatever this says, SSM states, A, D, the steps, norms, the residual stream and logits are float32.
"""

from __future__ import annotations

import torch


def reading_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 on a GPU and on a CPU with instructions for it, else float32.

    It goes by what the processor has, not by a measurement: the same machine must always read a
    text into the same state.
    """
    if torch.device(device).type != "cpu" or _multiplies_bfloat16():
        return torch.bfloat16
    return torch.float32


def _multiplies_bfloat16() -> bool:
    """AMX or AVX-512 BF16. Others convert to float32, or emulate, which is slower."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # not public, nor everywhere
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)
