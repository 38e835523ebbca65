"""Published configurations at their real size, without weights: every name, shape and count.

The configs hold the published values that matter. Where a value is not published in a form that
could be read here it is marked as derived: it is the one that gives the published count.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from samba_cli.model import Model
from samba_cli.model.architectures import Architecture, read_architecture
from samba_cli.model.checkpoint import _named
from samba_cli.model_facts import described, state_size
from samba_cli.units import bytes_text

transformers = pytest.importorskip("transformers")

MAMBA = {"model_type": "mamba", "vocab_size": 50280, "state_size": 16, "conv_kernel": 4}
GRANITE = {
    "model_type": "granitemoehybrid", "vocab_size": 100352, "num_local_experts": 0,
    "mamba_d_state": 128, "mamba_n_groups": 1, "mamba_expand": 2, "mamba_d_conv": 4,
    "position_embedding_type": "nope", "tie_word_embeddings": True, "rms_norm_eps": 1e-5,
}  # fmt: skip


def granite(n_layer: int, attention: tuple[int, ...], **sizes: Any) -> dict[str, Any]:
    kinds = ["attention" if i in attention else "mamba" for i in range(n_layer)]
    return {**GRANITE, "num_hidden_layers": n_layer, "layer_types": kinds, **sizes}


# name -> (class in transformers, config.json, parameters as published, or computed)
PUBLISHED: dict[str, tuple[str, dict[str, Any], int]] = {
    "state-spaces/mamba-130m-hf": (
        "Mamba",
        {**MAMBA, "hidden_size": 768, "num_hidden_layers": 24, "time_step_rank": 48, "expand": 2},
        129_135_360,
    ),
    "state-spaces/mamba-2.8b-hf": (
        "Mamba",
        {**MAMBA, "hidden_size": 2560, "num_hidden_layers": 64, "time_step_rank": 160},
        2_768_345_600,
    ),
    "tiiuae/falcon-mamba-7b": (
        "FalconMamba",
        {
            "model_type": "falcon_mamba", "vocab_size": 65024, "hidden_size": 4096, "expand": 16,
            "intermediate_size": 8192, "num_hidden_layers": 64, "time_step_rank": 256,
            "state_size": 16, "mixer_rms_eps": 1e-6, "tie_word_embeddings": False,
        },
        7_272_665_088,
    ),
    "ai21labs/AI21-Jamba2-3B": (
        "Jamba",
        {
            "model_type": "jamba", "vocab_size": 65536, "hidden_size": 2560,
            "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 1,
            "attn_layer_period": 14, "attn_layer_offset": 7, "num_experts": 1,
            "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 160,
            "intermediate_size": 8192, "tie_word_embeddings": True,  # both derived
        },
        3_029_337_472,  # 3.03B published
    ),
    "state-spaces/mamba2-2.7b": (
        "Mamba2",
        {  # as transformers would call it; the original config is read below
            "model_type": "mamba2", "vocab_size": 50288, "hidden_size": 2560,
            "num_hidden_layers": 64, "num_heads": 80, "head_dim": 64, "state_size": 128,
            "n_groups": 1, "tie_word_embeddings": True,
        },
        2_702_599_680,  # 2.7B published
    ),
    "ibm-ai-platform/Bamba-9B-v2": (
        "Bamba",
        {
            "model_type": "bamba", "vocab_size": 128256, "hidden_size": 4096,
            "num_hidden_layers": 32, "attn_layer_indices": [9, 18, 27],
            "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
            "mamba_n_heads": 128, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_n_groups": 1,
        },
        9_780_235_392,
    ),
    "ibm-granite/granite-4.0-h-350m": (
        "GraniteMoeHybrid",
        granite(
            32, (10, 13, 17, 27), hidden_size=768, num_attention_heads=12, num_key_value_heads=4,
            shared_intermediate_size=2048, mamba_n_heads=48, mamba_d_head=32,
            embedding_multiplier=12, residual_multiplier=0.246, attention_multiplier=0.015625,
            logits_scaling=3,
        ),
        340_332_224,
    ),
    "ibm-granite/granite-4.0-h-1b": (
        "GraniteMoeHybrid",
        granite(
            40, (5, 15, 25, 35), hidden_size=1536, num_attention_heads=12, num_key_value_heads=4,
            shared_intermediate_size=4096, mamba_n_heads=48, mamba_d_head=64,
            attention_multiplier=0.0078125, logits_scaling=6,
        ),
        1_461_538_368,
    ),
    "ibm-granite/granite-4.0-h-micro": (
        "GraniteMoeHybrid",
        granite(
            40, (5, 15, 25, 35), hidden_size=2048, num_attention_heads=32, num_key_value_heads=8,
            shared_intermediate_size=8192, mamba_n_heads=64, mamba_d_head=64,
            residual_multiplier=0.22, logits_scaling=8,
        ),
        3_191_396_096,
    ),
}  # fmt: skip

# name -> some of the shapes that its files are known to hold
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "state-spaces/mamba-130m-hf": {
        "backbone.embeddings.weight": (50280, 768),
        "backbone.layers.23.norm.weight": (768,),
        "backbone.layers.23.mixer.A_log": (1536, 16),
        "backbone.layers.23.mixer.D": (1536,),
        "backbone.layers.23.mixer.conv1d.weight": (1536, 1, 4),
        "backbone.layers.23.mixer.conv1d.bias": (1536,),
        "backbone.layers.23.mixer.in_proj.weight": (3072, 768),
        "backbone.layers.23.mixer.x_proj.weight": (80, 1536),
        "backbone.layers.23.mixer.dt_proj.weight": (1536, 48),
        "backbone.layers.23.mixer.dt_proj.bias": (1536,),
        "backbone.layers.23.mixer.out_proj.weight": (768, 1536),
        "backbone.norm_f.weight": (768,),
    },
    "tiiuae/falcon-mamba-7b": {
        "backbone.layers.63.mixer.x_proj.weight": (288, 8192),
        "lm_head.weight": (65024, 4096),
    },
    "ai21labs/AI21-Jamba2-3B": {
        "model.layers.0.mamba.A_log": (5120, 16),
        "model.layers.0.mamba.conv1d.weight": (5120, 1, 4),
        "model.layers.0.mamba.in_proj.weight": (10240, 2560),
        "model.layers.0.mamba.x_proj.weight": (192, 5120),
        "model.layers.0.mamba.dt_proj.weight": (5120, 160),
        "model.layers.0.mamba.dt_layernorm.weight": (160,),
        "model.layers.0.mamba.b_layernorm.weight": (16,),
        "model.layers.0.mamba.c_layernorm.weight": (16,),
        "model.layers.0.mamba.out_proj.weight": (2560, 5120),
        "model.layers.7.self_attn.q_proj.weight": (2560, 2560),
        "model.layers.21.self_attn.k_proj.weight": (128, 2560),
        "model.layers.21.pre_ff_layernorm.weight": (2560,),
        "model.layers.21.feed_forward.gate_proj.weight": (8192, 2560),
        "model.final_layernorm.weight": (2560,),
    },
    "ibm-granite/granite-4.0-h-micro": {
        "model.layers.0.shared_mlp.input_linear.weight": (16384, 2048),
        "model.layers.0.shared_mlp.output_linear.weight": (2048, 8192),
        "model.layers.0.mamba.conv1d.weight": (4096 + 2 * 128, 1, 4),
        "model.layers.0.mamba.norm.weight": (4096,),
        "model.layers.0.mamba.dt_bias": (64,),
        "model.layers.5.self_attn.k_proj.weight": (512, 2048),
        "model.layers.5.post_attention_layernorm.weight": (2048,),
        "model.norm.weight": (2048,),
    },
}

# name -> bytes of keys and values in bfloat16 that every token read adds to the state
GROWTH = {
    "ai21labs/AI21-Jamba2-3B": 1_024,
    "ibm-ai-platform/Bamba-9B-v2": 12_288,
    "ibm-granite/granite-4.0-h-350m": 4_096,
    "ibm-granite/granite-4.0-h-1b": 8_192,
    "ibm-granite/granite-4.0-h-micro": 8_192,
}


@pytest.fixture(autouse=True)
def no_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn: there is no memory to draw it into."""
    for kind in (nn.Linear, nn.Conv1d, nn.Embedding):
        monkeypatch.setattr(kind, "reset_parameters", lambda self: None)


def built(raw: dict[str, Any]) -> tuple[Model, Architecture]:
    architecture = read_architecture(raw)
    with torch.device("meta"):
        return Model(architecture.description), architecture


def files_of(model: Model, architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The names and shapes that its files must have."""
    shapes = {}
    for name, tensor in _named(model).items():
        place = architecture.stored(name)
        shape = tuple(tensor.shape)
        shapes[place.name] = (place.height, *shape[1:]) if place.rows else shape
    return shapes


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_counts_are_the_published_ones(name):
    family, raw, count = PUBLISHED[name]
    model, architecture = built(raw)
    files = files_of(model, architecture)
    assert sum(p.numel() for p in model.parameters()) == count
    assert {n: files.get(n) for n in SHAPES.get(name, {})} == SHAPES.get(name, {})
    assert model.description.state_bytes(2)[1] == GROWTH.get(name, 0)

    config = getattr(transformers, f"{family}Config")(**raw)
    with torch.device("meta"):
        reference = getattr(transformers, f"{family}ForCausalLM")(config)
    theirs = {n: tuple(t.shape) for n, t in reference.state_dict().items()}
    if model.description.tie_embeddings:
        theirs.pop("lm_head.weight")
    assert files == theirs


def test_the_readme_says_what_samba_models_show_would_say():
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    rows = [
        re.split(r" *\| *", line) for line in text.splitlines() if re.search("`.+/.+`.*A B", line)
    ]
    assert {row[2].strip("`") for row in rows} == set(PUBLISHED)
    for row in rows:
        _, raw, count = PUBLISHED[row[2].strip("`")]
        description = described(raw)
        assert description is not None
        size = state_size(description, 2)
        millions = f"{count / 1e6:.0f} M" if count < 1e9 else f"{count / 1e9:.2f} B"
        growth = f"{size.per_token:,} bytes" if size.per_token else "0"
        assert (row[3], *row[5:7]) == (millions, bytes_text(size.fixed), growth)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        (
            "state-spaces/mamba-130m-hf",
            {
                "d_model": 768, "n_layer": 24, "vocab_size": 50277, "ssm_cfg": {},
                "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True,
                "pad_vocab_size_multiple": 8,
            },
        ),
        (
            "state-spaces/mamba-2.8b-hf",
            {
                "d_model": 2560, "n_layer": 64, "vocab_size": 50277, "ssm_cfg": {},
                "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True,
                "pad_vocab_size_multiple": 8,
            },
        ),
        (
            "state-spaces/mamba2-2.7b",
            {
                "d_model": 2560, "d_intermediate": 0, "n_layer": 64, "vocab_size": 50277,
                "ssm_cfg": {"layer": "Mamba2"}, "attn_layer_idx": [], "attn_cfg": {},
                "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True,
                "pad_vocab_size_multiple": 16, "tie_embeddings": True,
            },
        ),
    ],
)  # fmt: skip
def test_the_original_configs_describe_the_same_models(name, raw):
    assert read_architecture(raw).description == read_architecture(PUBLISHED[name][1]).description
