"""Facts of a checkpoint from its config.json and headers, against the models themselves."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from samba_cli.model import load_checkpoint
from samba_cli.model_facts import (
    StateSize,
    architecture,
    context_length,
    described,
    memory_bytes,
    parameters,
    read_config,
    shapes,
    state_size,
)

JAMBA = {
    "model_type": "jamba", "hidden_size": 2560, "num_hidden_layers": 28,
    "attn_layer_period": 14, "attn_layer_offset": 7, "num_attention_heads": 20,
    "num_key_value_heads": 1, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2,
    "num_experts": 1, "vocab_size": 300, "intermediate_size": 99,
}  # fmt: skip
GRANITE = {
    "model_type": "granitemoehybrid", "hidden_size": 768, "num_hidden_layers": 32,
    "layer_types": ["attention" if i in (10, 13, 17, 27) else "mamba" for i in range(32)],
    "num_attention_heads": 12, "num_key_value_heads": 4, "mamba_n_heads": 48, "mamba_d_head": 32,
    "mamba_d_state": 128, "mamba_n_groups": 1, "mamba_d_conv": 4,
    "num_local_experts": 0, "vocab_size": 300, "shared_intermediate_size": 99,
}  # fmt: skip
MAMBA = {"d_model": 768, "n_layer": 24, "ssm_cfg": {}, "vocab_size": 300}


def test_the_state_of_our_models_is_that_of_the_model(tiny_checkpoint: Path) -> None:
    model = load_checkpoint(tiny_checkpoint)
    description = described(read_config(tiny_checkpoint))
    assert description is not None
    assert state_size(description, 4) == StateSize(model.initial_state().nbytes, 0)


@pytest.mark.parametrize(
    ("config", "fixed", "per_token"),
    [
        (JAMBA, 26 * (5120 * 3 * 2 + 5120 * 16 * 4), 1024),
        (GRANITE, 28 * ((1536 + 256) * 3 * 2 + 48 * 32 * 128 * 4), 4096),
        (MAMBA, 24 * (1536 * 3 * 2 + 1536 * 16 * 4), 0),
        ({**MAMBA, "ssm_cfg": {"layer": "Mamba2"}},
         24 * ((1536 + 256) * 3 * 2 + 1536 * 128 * 4), 0),
        ({"model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 9},
         24 * (1536 * 3 * 2 + 1536 * 16 * 4), 0),
        ({"model_type": "falcon_mamba", "hidden_size": 4096, "intermediate_size": 8192,
          "num_hidden_layers": 64, "expand": 16, "vocab_size": 9},
         64 * (8192 * 3 * 2 + 8192 * 16 * 4), 0),
    ],
)  # fmt: skip
def test_the_state_of_public_models(config: dict[str, Any], fixed: int, per_token: int) -> None:
    description = described(config)
    assert description is not None
    assert state_size(description, 2) == StateSize(fixed, per_token)
    bounded = described(config, window=1000)
    assert bounded is not None
    assert state_size(bounded, 2) == StateSize(fixed + 1004 * per_token, 0)


def test_what_cannot_be_told_is_not_guessed() -> None:
    for unbuilt in (
        {}, {"model_type": "llama", "hidden_size": 5, "num_hidden_layers": 2},
        {"model_type": "jamba"}, {**JAMBA, "hidden_size": "x"}, {**MAMBA, "attn_layer_idx": [3]},
    ):  # fmt: skip
        assert described(unbuilt) is None
    assert context_length({}) is None
    assert context_length({"max_position_embeddings": 131_072}) == 131_072


def test_architectures() -> None:
    assert architecture(JAMBA) == "jamba"
    assert architecture(MAMBA) == "mamba"
    assert architecture({**MAMBA, "ssm_cfg": {"layer": "Mamba2"}}) == "mamba2"
    for unclear in ({}, {"model_type": 5}, {"d_model": 5}, {"ssm_cfg": {}}):
        assert architecture(unclear) is None


def test_weights_are_counted_from_the_headers(tiny_checkpoint: Path, tmp_path: Path) -> None:
    files = [tiny_checkpoint / "model.safetensors"]
    model = load_checkpoint(tiny_checkpoint)
    assert parameters(shapes(files)) == sum(p.numel() for p in model.parameters())
    for int8 in (False, True):
        model = load_checkpoint(tiny_checkpoint, quantize="int8" if int8 else "none")
        kept = [*model.parameters(), *model.buffers()]
        loaded = sum(t.numel() * t.element_size() for t in {id(t): t for t in kept}.values())
        assert memory_bytes(shapes(files), 4, int8) == loaded
    for content in (b"", b"PK\x03\x04" * 10, struct.pack("<Q", 4) + b"[1]]",
                    struct.pack("<Q", 9) + json.dumps({"a": 1}).encode() + b" "):  # fmt: skip
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(ValueError):
            shapes([tmp_path / "broken"])
