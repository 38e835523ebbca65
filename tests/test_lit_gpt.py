"""Checkpoints of the paper's repository: the weights arrive where they belong, or nothing does."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_byte_tokenizer
from torch import Tensor

from samba_cli.model import CheckpointError, Samba, SambaConfig, load_checkpoint
from samba_cli.model.lit_gpt import LitGPT, convert_lit_gpt

CONFIG = SambaConfig(
    vocab_size=288, d_model=32, n_layer=4, d_state=4, d_ff=40, n_head=4, n_kv_head=2, window=8
)
FACTS = LitGPT(d_head=8, window=8)


def lit_gpt_weights(model: Samba, prefix: str = "") -> dict[str, Tensor]:
    """The same model in the names and the layout of lit_gpt."""
    c, ours = model.config, model.state_dict()
    theirs = {
        "transformer.wte.weight": ours["backbone.embeddings.weight"],
        "lm_head.weight": ours["lm_head.weight"],
        "transformer.ln_f.weight": ours["backbone.norm_f.weight"],
    }
    for i in range(c.n_layer):
        layer, h = f"backbone.layers.{i}.", f"transformer.h.{i}."
        theirs[h + "norm_1.weight"] = ours[layer + "mixer_norm.weight"]
        theirs[h + "norm_2.weight"] = ours[layer + "mlp_norm.weight"]
        for w, name in (("w1", "gate"), ("w2", "up"), ("w3", "down")):
            theirs[h + f"mlp.swiglu.{w}.weight"] = ours[layer + f"mlp.{name}_proj.weight"]
        if c.is_attention(i):
            q, k, v = (ours[layer + f"mixer.{x}_proj.weight"] for x in "qkv")
            rows, each = [], c.n_head // c.n_kv_head * c.d_head
            for group in range(c.n_kv_head):
                rows.append(q[group * each : (group + 1) * each])
                rows += [x[group * c.d_head : (group + 1) * c.d_head] for x in (k, v)]
            theirs[h + "attn.attn.weight"] = torch.cat(rows)
            theirs[h + "attn.proj.weight"] = ours[layer + "mixer.o_proj.weight"]
            continue
        for name in ours:
            if name.startswith(layer + "mixer."):
                theirs[h + "attn." + name.removeprefix(layer + "mixer.")] = ours[name]
    return {prefix + name: tensor for name, tensor in theirs.items()}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    write_byte_tokenizer(tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


def save(path: Path, weights: Any) -> Path:
    extra = {"hparams": {"lr": 4e-4}, "iter_num": 7, "step_count": 7, "optimizer": {}}
    torch.save({"model": weights, **extra}, path)
    return path


@torch.inference_mode()
@pytest.mark.parametrize("prefix", ["", "_forward_module.", "_forward_module._orig_mod."])
@pytest.mark.parametrize("tied", [True, False])
def test_the_converted_model_is_the_same(tmp_path, tokenizer, prefix, tied):
    config = SambaConfig(**{**vars(CONFIG), "tie_embeddings": tied})
    model = Samba(config).initialise(seed=3).eval()
    file = save(tmp_path / "m.pth", lit_gpt_weights(model, prefix))
    assert convert_lit_gpt(file, tokenizer, tmp_path / "out", FACTS) == config
    converted = load_checkpoint(tmp_path / "out")
    tokens = torch.randint(288, (1, 30), generator=torch.Generator().manual_seed(0))
    expected = model(tokens, model.initial_state())
    assert torch.equal(converted(tokens, converted.initial_state()), expected)


def without(name: str):
    return lambda weights: weights.pop(name)


def adding(name: str, tensor: Any):
    return lambda weights: weights.update({name: tensor})


class Code:
    def __reduce__(self):
        return os.system, ("echo code ran",)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("transformer.ln_f.weight"), "lacks backbone.norm_f.weight"),
        (without("transformer.h.2.attn.D"), "lacks backbone.layers.2.mixer.D"),
        (without("transformer.h.1.attn.attn.weight"), "attn.attn.weight is missing"),
        (without("lm_head.weight"), "lm_head.weight is missing"),
        (lambda w: w.clear(), "holds no weights"),
        (adding("transformer.h.1.attn.q_conv1d.weight", torch.zeros(2)), "convolved queries"),
        (adding("transformer.h.1.attn.attn.bias", torch.zeros(2)), "has the unknown tensor"),
        (adding("transformer.h.9.norm_1.weight", torch.zeros(32)), "is not a SAMBA checkpoint"),
        (adding("transformer.ln_f.weight", torch.zeros(5)), r"has the shape \[5\], not \[32\]"),
        (adding("transformer.ln_f.weight", 3), "is not a tensor of numbers"),
        (adding("transformer.h.0.attn.A_log", torch.zeros(5)), r"has the shape \[5\]"),
        (adding("transformer.h.3.attn.attn.weight", torch.zeros(7, 32)), "cannot be converted"),
        (adding("transformer.ln_f.weight", Code()), "not a file of tensors alone"),
    ],
)
def test_anything_else_is_refused_with_a_sentence(tmp_path, tokenizer, damage, words, capfd):
    weights = lit_gpt_weights(Samba(CONFIG).initialise(seed=3))
    damage(weights)
    file = save(tmp_path / "m.pth", weights)
    with pytest.raises(CheckpointError, match=words) as raised:
        convert_lit_gpt(file, tokenizer, tmp_path / "out", FACTS)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    assert "code ran" not in capfd.readouterr().out


def test_what_the_caller_says_must_fit(tmp_path, tokenizer):
    file = save(tmp_path / "m.pth", lit_gpt_weights(Samba(CONFIG).initialise(seed=3)))
    for facts, words in (
        (LitGPT(d_head=5), "heads of 5 do not fit"),
        ("Samba_421M", "heads of 128 do not fit"),
        ("Samba_421M_nope", "is not a known configuration"),
    ):
        with pytest.raises(CheckpointError, match=words):
            convert_lit_gpt(file, tokenizer, tmp_path / "out", facts)
    with pytest.raises(CheckpointError, match="the tokenizer .* is missing"):
        convert_lit_gpt(file, tmp_path / "none.json", tmp_path / "out", FACTS)
    with pytest.raises(CheckpointError, match="is refused"):
        convert_lit_gpt(tmp_path / "none.pth", tokenizer, tmp_path / "out", FACTS)
