"""How many tokens a forward reads at a time: large chunks pay off, as far as they fit.

On a CPU a chunk takes about a second at most, in which Ctrl-C waits, so that a processor without
bfloat16 gets smaller ones.
"""

from __future__ import annotations

import torch

from samba_cli.model.description import AttentionSpec, Description
from samba_cli.model.network import Model

CPU, CPU_BFLOAT16, ACCELERATOR = 1024, 2048, 16384
LEAST = 512  # of a model whose activations are large
_MEMORY_SHARE = 8  # the activations take at most this part of a GPU's memory


def chunk_tokens(model: Model) -> int:
    """Tokens of a chunk by default: the same for a model and a device, whatever else they do."""
    if model.device.type == "cpu":
        return CPU_BFLOAT16 if model.dtype == torch.bfloat16 else CPU
    if model.device.type != "cuda":
        return ACCELERATOR
    # of the device, not what is free now: a read must go on in the chunks it began with
    memory = torch.cuda.get_device_properties(model.device).total_memory
    return fitting(model.description, model.dtype, memory)


def fitting(description: Description, dtype: torch.dtype, memory: int) -> int:
    """Tokens whose activations fit a GPU of `memory` bytes."""
    tokens, one = ACCELERATOR, _activation_bytes(description, dtype)
    while tokens > LEAST and tokens * one > memory // _MEMORY_SHARE:
        tokens //= 2
    return tokens


def _activation_bytes(description: Description, dtype: torch.dtype) -> int:
    """Of one token while it passes the widest layer, roughly: its inputs and outputs, and x."""
    widest = 0
    for layer in description.layers:
        mixer = layer.mixer
        inner = mixer.n_head * mixer.d_head if isinstance(mixer, AttentionSpec) else mixer.d_inner
        widest = max(widest, 6 * inner, 3 * layer.mlp.d_ff if layer.mlp else 0)
    return widest * dtype.itemsize + 12 * description.d_model
