"""What does not fit or is not built is refused with one sentence, before anything is allocated."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from public_checkpoints import transformers_model, write_state_spaces
from safetensors.torch import load_file, save_file

from samba_cli.model import CheckpointError, load_checkpoint
from samba_cli.model.architectures import read_architecture

pytest.importorskip("transformers")

Damage = Callable[[Path], Any]


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("refused")
    for case in ("mamba", "falcon_mamba", "jamba", "mamba2", "bamba", "granitemoehybrid"):
        model = transformers_model(case)
        model.save_pretrained(root / case)
        model.save_pretrained(root / f"{case}-sharded", max_shard_size="16KB")
    write_state_spaces(root / "original", "mamba", transformers_model("mamba").state_dict())
    write_state_spaces(root / "original2", "mamba2", transformers_model("mamba2").state_dict())
    return root


def edit(**values: Any) -> Damage:
    def change(folder: Path) -> None:
        raw = json.loads((folder / "config.json").read_text())
        raw.update(values)
        (folder / "config.json").write_text(json.dumps(raw))

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        stored = load_file(path)
        change(stored)
        save_file(stored, path)

    return apply


def pickled(content: Any) -> Damage:
    return lambda folder: torch.save(content, folder / "pytorch_model.bin")


def legacy(folder: Path) -> None:
    tensors = {"backbone.norm_f.weight": torch.zeros(32)}
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


class Code:
    def __reduce__(self):
        return os.system, ("echo code ran",)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-of-*.safetensors"))


def index_of(file: str) -> Damage:
    index = json.dumps({"weight_map": {"a": file}})
    return lambda folder: (folder / "model.safetensors.index.json").write_text(index)


HUGE = 10**9
FUSED = "model.layers.0.shared_mlp.input_linear.weight"
REFUSED: list[tuple[str, Damage, str]] = [
    ("mamba", edit(model_type="llama"), "model_type is 'llama'; built are samba, mamba,"),
    ("mamba", edit(model_type=["mamba"]), "model_type is"),
    ("mamba", edit(model_type=None), "model_type is"),
    ("mamba", edit(hidden_act="relu"), "hidden_act = 'relu' is not built"),
    ("mamba", edit(quantization_config={"quant_method": "fp8"}), "quantization_config is not"),
    ("mamba", edit(hidden_size=None), "hidden_size is missing"),
    ("mamba", edit(hidden_size=-32), "hidden_size = -32 is not a size"),
    ("mamba", edit(hidden_size=32.5), "hidden_size = 32.5 is not a size"),
    ("mamba", edit(hidden_size="32"), "hidden_size = '32' is not a whole number"),
    ("mamba", edit(vocab_size=math.inf), "vocab_size = inf is not a size"),
    ("mamba", edit(vocab_size=math.nan), "vocab_size = nan is not a size"),
    ("mamba", edit(num_hidden_layers=HUGE), "num_hidden_layers = 1000000000 is not a size"),
    ("mamba", edit(layer_norm_epsilon=-1), "layer_norm_epsilon = -1 is not above 0"),
    ("mamba", edit(tie_word_embeddings="yes"), "tie_word_embeddings = 'yes' is neither"),
    ("mamba", edit(tie_word_embeddings=False), "lacks lm_head.weight"),
    ("mamba", edit(num_hidden_layers=4), "lacks backbone.layers.3"),
    ("mamba", edit(num_hidden_layers=2), "unknown tensor backbone.layers.2"),
    ("mamba", edit(use_bias=True), "lacks backbone.layers.0.mixer.in_proj.bias"),
    ("mamba", edit(state_size=9), r"has the shape \[.*\], config.json says"),
    ("mamba", edit(vocab_size=HUGE), r"has the shape \[96, 32\], config.json says \[1000000000,"),
    ("mamba", edit(hidden_size=HUGE), "the sizes are too large|config.json says"),
    ("mamba", edit(hidden_size=HUGE, expand=HUGE), "the sizes are too large"),
    ("mamba", edit(hidden_size=2**31, expand=2**31), "the sizes are too large"),
    ("falcon_mamba", edit(intermediate_size=None), "intermediate_size is missing"),
    ("jamba", edit(num_experts=16), "num_experts = 16 is not built, only 1"),
    ("jamba", edit(num_experts=None), "num_experts = 16 is not built, only 1"),
    ("jamba", edit(attn_layer_offset=7), "attn_layer_offset = 7 is not below"),
    ("jamba", edit(num_key_value_heads=3), "num_attention_heads = 4 do not share"),
    ("jamba", edit(num_attention_heads=64), "head_dim = 0 is not a size"),
    ("jamba", edit(sliding_window=2048), "sliding_window = 2048 is not built"),
    ("mamba2", edit(num_heads=8), "8 Mamba-2 heads of 16 do not make the width 64"),
    ("mamba2", edit(n_groups=3), "4 Mamba-2 heads do not share 3 groups"),
    ("mamba2", edit(time_step_limit=[1]), "time_step_limit is not two numbers"),
    ("mamba2", edit(time_step_limit=[{}, "x"]), "time_step_limit is not two numbers"),
    ("mamba2", edit(time_step_limit=[2, 1]), r"time_step_limit = \[2.0, 1.0\] is no interval"),
    ("bamba", edit(rope_scaling={"type": "yarn"}), "rope_scaling = .* is not built"),
    ("bamba", edit(rope_parameters={"rope_type": "yarn"}), "rope_parameters.rope_type = 'yarn'"),
    ("bamba", edit(rope_parameters=3), "rope_parameters is not an object"),
    ("bamba", edit(rope_parameters={"partial_rotary_factor": 0.2}), "1 of the 8 dimensions"),
    ("bamba", edit(rope_parameters={"partial_rotary_factor": 1e308}), "factor = .* is above 1"),
    ("bamba", edit(attn_rotary_emb=8), "attn_rotary_emb = 8 is not built, only 4"),
    ("bamba", edit(attn_layer_indices=[9]), "attn_layer_indices has 9, which is no layer"),
    ("bamba", edit(attn_layer_indices=[[]]), "attn_layer_indices has"),
    ("bamba", edit(attn_layer_indices="all"), "attn_layer_indices = 'all' is not a list"),
    ("granitemoehybrid", edit(num_local_experts=32), "num_local_experts = 32 is not built"),
    ("granitemoehybrid", edit(layer_types=["mamba"]), "layer_types has 1 layers"),
    ("granitemoehybrid", edit(layer_types=["mlp"] * 4), "layer_types has 'mlp'"),
    ("granitemoehybrid", edit(position_embedding_type="alibi"), "position_embedding_type ="),
    ("granitemoehybrid", edit(logits_scaling=0), "logits_scaling = 0 is not above 0"),
    ("granitemoehybrid", edit(shared_intermediate_size=40), r"linear.weight has the shape .* says"),
    ("granitemoehybrid", edit(shared_intermediate_size=96), r"linear.weight has the shape .* says"),
    (
        "granitemoehybrid",
        tensors(lambda t: t.update({FUSED: torch.zeros(97, 32)})),
        r"input_linear.weight has the shape \[97, 32\], config.json says \[96, 32\]",
    ),
    ("original", edit(rms_norm=False), "rms_norm = False is not built"),
    ("original", edit(attn_layer_idx=[1]), r"attn_layer_idx = \[1\] is not built"),
    ("original", edit(d_intermediate=64), "d_intermediate = 64 is not built"),
    ("original", edit(ssm_cfg={"layer": "Mamba3"}), "ssm_cfg.layer = 'Mamba3' is not built"),
    ("original", edit(ssm_cfg={"new": 1}), "ssm_cfg.new = 1 is not built"),
    ("original", edit(pad_vocab_size_multiple=1), r"has the shape \[96, 32\], .* says \[93, 32\]"),
    ("original2", edit(ssm_cfg={"layer": "Mamba2", "headdim": 48}), "1 Mamba-2 heads of 48"),
    ("original2", edit(ssm_cfg={"layer": "Mamba2", "rmsnorm": False}), "ssm_cfg.rmsnorm = False"),
    ("original", pickled({"a": Code()}), r"alone \(it asks for posix.system, and could run"),
    ("original", pickled({"a": eval}), r"tensors alone \(it asks for .*eval, and could run code\)"),
    ("original", pickled({"a": 3}), "is refused: it is not a file of tensors alone"),
    ("original", pickled([torch.zeros(1)]), "is refused: it is not a file of tensors alone"),
    ("original", pickled({"a": torch.zeros(1).expand(1 << 40)}), "not a file of tensors alone"),
    ("original", pickled({"a": torch.eye(3).to_sparse()}), "not a file of tensors alone"),
    ("original", lambda f: (f / "pytorch_model.bin").write_bytes(b"PK"), "is damaged, or older"),
    ("original", lambda f: os.truncate(f / "pytorch_model.bin", 9000), "is damaged, or older"),
    ("original", legacy, r"tensors alone \(it is damaged, or older than PyTorch 1.6\)"),
    ("mamba", lambda f: (f / "config.json").write_text("[" * 200_000), "is not readable"),
    ("mamba", tensors(lambda t: t.pop("backbone.norm_f.weight")), "lacks backbone.norm_f.weight"),
    ("mamba", tensors(lambda t: t.update(extra=torch.zeros(1))), "unknown tensor extra"),
    (
        "mamba",
        tensors(lambda t: t.update({"backbone.norm_f.weight": torch.zeros(3)})),
        r"backbone.norm_f.weight has the shape \[3\], config.json says \[32\]",
    ),
    (
        "mamba",
        tensors(lambda t: t.update({"backbone.norm_f.weight": torch.zeros(32, dtype=torch.int64)})),
        "backbone.norm_f.weight has the type torch.int64",
    ),
    ("jamba-sharded", lambda f: shards(f)[2].unlink(), "the shard .* is missing"),
    ("jamba-sharded", lambda f: shutil.copy(shards(f)[0], shards(f)[1]), "does not hold"),
    *[
        ("jamba-sharded", index_of(f), "not a readable index")
        for f in ("../b", "..", "", "x" * 999)
    ],
    ("jamba-sharded", index_of("a\0b"), "not a readable index of shards"),
    ("jamba-sharded", index_of("config.json"), "is damaged"),
]


@pytest.mark.parametrize(("case", "damage", "words"), REFUSED)
def test_one_sentence_says_what_does_not_fit(originals, tmp_path, case, damage, words, capfd):
    folder = Path(shutil.copytree(originals / case, tmp_path / case))
    damage(folder)
    with pytest.raises(CheckpointError, match=words) as raised:
        load_checkpoint(folder)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value).replace(str(tmp_path), "")) < 300
    assert "code ran" not in capfd.readouterr().out


SAMBA = {
    "model_type": "samba", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2,
    "attn": {"layers": [1], "num_heads": 2},
}  # fmt: skip


def samba(**changes: Any) -> dict[str, Any]:
    """With changes; those of `attn_` keys are of attention."""
    ours = {k: v for k, v in changes.items() if not k.startswith("attn_")}
    attention = {k.removeprefix("attn_"): v for k, v in changes.items() if k not in ours}
    return {**SAMBA, "attn": {**SAMBA["attn"], **attention}, **ours}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (samba(num_hidden_layers=10**15), "num_hidden_layers = 1000000000000000 is not a size"),
        (samba(vocab_size=10**15), "vocab_size = 1000000000000000 is not a size"),
        (samba(state_size=math.inf), "state_size = inf is not a size"),
        (samba(conv_kernel=-4), "conv_kernel = -4 is not a size"),
        (samba(expand=10**30), "expand = 1000000000000000000000000000000 is not a size"),
        (samba(expand=2.5), "expand = 2.5 is not a size"),
        (samba(time_step_rank="9"), "time_step_rank = '9' is not a whole number"),
        (samba(intermediate_size=-1), "intermediate_size = -1 is not a size"),
        (samba(hidden_ratio=math.inf), "hidden_ratio = inf is not above 0 and finite"),
        (samba(hidden_ratio=1e300), r"hidden_ratio = 1e\+300 is above 1024"),
        (samba(norm_eps=math.nan), "norm_eps = nan is not above 0"),
        (samba(tie_word_embeddings="no"), "tie_word_embeddings = 'no' is neither true nor false"),
        (samba(attnres_block_size=4), "attnres_block_size = 4 is not built"),
        (samba(attn_num_heads=0), "attn.num_heads = 0 is not a size"),
        (samba(attn_num_kv_heads=1e308), r"attn.num_kv_heads = 1e\+308 is not a size"),
        (samba(attn_rope_theta=-1), "attn.rope_theta = -1 is not above 0"),
        (samba(attn_window_size=10**12), "attn.window_size = 1000000000000 is not a size"),
        (samba(attn_rope_scaling={"type": "linear"}), "attn.rope_scaling = .* is not built"),
        (samba(attn=[SAMBA["attn"]]), "attn is not an object"),
        (samba(hidden_size=2**31, expand=2**31), "the sizes are too large"),
    ],
)
def test_a_samba_config_is_checked_before_it_is_unrolled(tmp_path, config, words):
    assert read_architecture(SAMBA).description.window == 2048
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=words) as raised:
        load_checkpoint(tmp_path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value).replace(str(tmp_path), "")) < 300
