"""Public architectures with random weights, made where they are to run: no file, no copy.

Every part stays in the range that training leaves it in, so that activations stay finite and the
recurrences neither forget at once nor never: A and the steps as Mamba initialises them (Gu & Dao
2023, section 3.6; Dao & Gu 2024), norms 1, matrices N(0, 0.02).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from samba_cli.model import Model
from samba_cli.model.checkpoint import _FLOAT32, _named
from samba_cli.model.description import Description

# The values of the published config.json that matter.
CONFIGS: dict[str, dict[str, Any]] = {
    "falcon-mamba-7b": {
        "model_type": "falcon_mamba", "vocab_size": 65024, "hidden_size": 4096, "expand": 16,
        "intermediate_size": 8192, "num_hidden_layers": 64, "time_step_rank": 256,
        "state_size": 16, "mixer_rms_eps": 1e-6, "tie_word_embeddings": False,
    },
    "granite-4.0-h-micro": {
        "model_type": "granitemoehybrid", "vocab_size": 100352, "hidden_size": 2048,
        "num_hidden_layers": 40,
        "layer_types": ["attention" if i in (5, 15, 25, 35) else "mamba" for i in range(40)],
        "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 0,
        "shared_intermediate_size": 8192, "mamba_n_heads": 64, "mamba_d_head": 64,
        "mamba_d_state": 128, "mamba_n_groups": 1, "position_embedding_type": "nope",
        "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22, "attention_multiplier": 1 / 64, "logits_scaling": 8.0,
    },
    "Bamba-9B-v2": {
        "model_type": "bamba", "vocab_size": 128256, "hidden_size": 4096,
        "num_hidden_layers": 32, "attn_layer_indices": [9, 18, 27], "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "mamba_n_heads": 128,
        "mamba_d_head": 64, "mamba_d_state": 128, "mamba_n_groups": 1,
    },
}  # fmt: skip
# The same on toy sizes.
TINY: dict[str, dict[str, Any]] = {
    "falcon-mamba-7b": {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "time_step_rank": 8,
    },
    "granite-4.0-h-micro": {
        "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "mamba_d_state": 16,
        "layer_types": ["mamba", "attention"], "num_attention_heads": 4,
        "num_key_value_heads": 2, "shared_intermediate_size": 64, "mamba_n_heads": 4,
        "mamba_d_head": 32, "mamba_chunk_size": 16,
    },
    "Bamba-9B-v2": {
        "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "attn_layer_indices": [1],
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64,
        "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_chunk_size": 16,
    },
}  # fmt: skip

STEPS = (1e-3, 1e-1)  # dt with nothing but its bias
WEIGHT_STD = 0.02


@torch.no_grad()
def random_model(
    description: Description, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> Model:
    """A model as `load_checkpoint` leaves it. What stays float32 is rounded to `dtype` too, so
    that a model that holds everything in `dtype` can have exactly these weights."""
    with torch.device("meta"):
        model = Model(description, dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for name, like in _named(model).items():
        values = _draw(name, torch.empty(like.shape, device=device, dtype=dtype), generator)
        if name.endswith(_FLOAT32):
            values = values.float()
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, nn.Parameter(values, requires_grad=False))
    if description.tie_embeddings:
        model.lm_head.weight = model.backbone.embeddings.weight
    model.fingerprint = f"random-{seed}"
    return model.eval().requires_grad_(False)


def _draw(name: str, empty: Tensor, generator: torch.Generator) -> Tensor:
    """The values of one parameter, drawn in place."""
    if name.endswith((".dt_bias", ".dt_proj.bias")):
        low, high = (math.log(step) for step in STEPS)
        steps = torch.rand(empty.shape, device=empty.device, generator=generator)
        steps = torch.exp(low + (high - low) * steps)
        return empty.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus
    if name.endswith(".A_log"):
        if empty.dim() == 2:  # Mamba: A = -1 .. -N in every channel
            n = torch.arange(1, empty.shape[1] + 1, device=empty.device, dtype=torch.float32)
            return empty.copy_(n.log())
        rates = torch.empty(empty.shape, device=empty.device)  # Mamba-2: between -1 and -16
        return empty.copy_(rates.uniform_(1, 16, generator=generator).log())
    if name.endswith((".conv1d.weight", ".conv1d.bias")):  # four taps of a channel
        return empty.uniform_(-0.5, 0.5, generator=generator)
    if empty.dim() == 1 and not name.endswith(".bias"):  # norms, and D
        return empty.fill_(1)
    return empty.normal_(0, WEIGHT_STD, generator=generator)
