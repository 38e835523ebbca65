"""Tiny random checkpoints of public architectures, written by transformers' own classes."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

VOCABULARY = 96

MAMBA = dict(hidden_size=32, num_hidden_layers=3, state_size=8, time_step_rank=5)
MAMBA2 = dict(hidden_size=32, num_hidden_layers=3, state_size=8, num_heads=4, head_dim=16)
JAMBA = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=1, attn_layer_period=3, attn_layer_offset=1, num_experts=1,
    mamba_d_state=8, mamba_dt_rank=5,
)  # fmt: skip
HYBRID2 = dict(
    hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8, mamba_chunk_size=8,
)  # fmt: skip
BAMBA = dict(HYBRID2, intermediate_size=48, attn_layer_indices=[1, 3], mamba_n_groups=2)
GRANITE = dict(
    HYBRID2, shared_intermediate_size=48, num_local_experts=0, tie_word_embeddings=True,
    layer_types=["mamba", "attention", "mamba", "mamba"], position_embedding_type="nope",
    embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.2, logits_scaling=2.5,
)  # fmt: skip

# case -> (transformers class without "ForCausalLM", sizes)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("Mamba", MAMBA),
    "mamba biased, untied": (
        "Mamba",
        dict(MAMBA, use_bias=True, use_conv_bias=False, expand=3, tie_word_embeddings=False),
    ),
    "falcon_mamba": (
        "FalconMamba",
        dict(
            MAMBA, expand=16, intermediate_size=48, mixer_rms_eps=1e-3, tie_word_embeddings=False
        ),
    ),
    "jamba": ("Jamba", JAMBA),
    "jamba biased, tied": (
        "Jamba",
        dict(JAMBA, mamba_proj_bias=True, mamba_conv_bias=False, tie_word_embeddings=True),
    ),
    "mamba2": ("Mamba2", dict(MAMBA2, n_groups=1, chunk_size=8)),
    "mamba2 groups, limits, biased": (
        "Mamba2",
        dict(
            MAMBA2, n_groups=2, chunk_size=16, use_bias=True, time_step_limit=(0.5, 1.5),
            tie_word_embeddings=True,
        ),
    ),
    "bamba": ("Bamba", BAMBA),
    "bamba biased": ("Bamba", dict(BAMBA, attention_bias=True, mlp_bias=True, mamba_n_groups=1)),
    "granitemoehybrid": ("GraniteMoeHybrid", GRANITE),
    "granitemoehybrid rope": (
        "GraniteMoeHybrid",
        dict(GRANITE, position_embedding_type="rope", num_key_value_heads=4),
    ),
}  # fmt: skip
FAMILIES = ("mamba", "falcon_mamba", "jamba", "mamba2", "bamba", "granitemoehybrid")


def transformers_model(case: str, seed: int = 0, **sizes: Any) -> Any:
    """The reference with random weights: nothing stays at a value that hides a mistake."""
    import transformers
    from transformers.models.bamba import modeling_bamba

    family, defaults = CASES[case]
    by_group = "group_size" in inspect.signature(modeling_bamba.BambaRMSNormGated).parameters
    if {**defaults, **sizes}.get("mamba_n_groups", 1) > 1 and not by_group:
        pytest.skip("this version of transformers norms the groups of Mamba-2 as one")
    config = getattr(transformers, f"{family}Config")(
        **{"vocab_size": VOCABULARY, "pad_token_id": 0, **defaults, **sizes}
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.copy_(_random(name, parameter, generator))
    return model


def _random(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(like.shape, generator=generator)
    if "norm" in name or name.endswith(".D"):
        return 1 + 0.3 * noise
    if name.endswith("A_log"):
        return 0.7 * noise
    if name.endswith(("bias", "conv1d.weight")):
        return 0.5 * noise
    if "embed" in name:
        return noise
    return noise / math.sqrt(like.shape[-1])


def write_state_spaces(folder: Path, case: str, tensors: dict[str, Tensor]) -> None:
    """The same weights as state-spaces/mamba writes them."""
    config: dict[str, Any] = {
        "d_model": 32,
        "n_layer": 3,
        "vocab_size": VOCABULARY - 3,  # padded to a multiple
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 8,
    }
    if case == "mamba":
        config["ssm_cfg"] = {"d_state": 8, "dt_rank": 5}
    else:
        config["ssm_cfg"] = {"layer": "Mamba2", "d_state": 8, "headdim": 16}
        config["tie_embeddings"] = False
    tensors = {
        name.replace("backbone.embeddings.", "backbone.embedding."): tensor
        for name, tensor in tensors.items()
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(tensors, folder / "pytorch_model.bin")
