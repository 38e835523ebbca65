"""Checkpoints round-trip, in float and int8, and anything that does not fit is refused."""

import json

import pytest
import torch
from conftest import make_checkpoint
from safetensors.torch import load_file, save_file

from samba_cli.model import CheckpointError, SambaConfig, Tokenizer, load_checkpoint


def logits(model) -> torch.Tensor:
    tokens = torch.arange(40, 80)[None]
    with torch.inference_mode():
        return model(tokens, model.initial_state())


def test_round_trip_and_int8(tmp_path):
    exact = load_checkpoint(make_checkpoint(tmp_path / "a"))
    again = load_checkpoint(make_checkpoint(tmp_path / "b"))
    small = load_checkpoint(make_checkpoint(tmp_path / "c", int8=True))
    assert torch.equal(logits(exact), logits(again))
    assert exact.fingerprint == again.fingerprint != small.fingerprint
    error = (logits(small) - logits(exact)).norm() / logits(exact).norm()
    assert 0 < error < 0.03
    stored = load_file(tmp_path / "c" / "model.safetensors")
    assert stored["backbone.embeddings.weight"].dtype == torch.int8
    assert stored["backbone.layers.0.mixer.A_log"].dtype == torch.float32
    sizes = [(tmp_path / f / "model.safetensors").stat().st_size for f in "ac"]
    assert sizes[1] < 0.4 * sizes[0]


def test_names_are_those_of_flash_linear_attention(tmp_path):
    names = load_file(make_checkpoint(tmp_path / "a") / "model.safetensors").keys()
    mamba = "A_log D conv1d.weight conv1d.bias in_proj.weight x_proj.weight dt_proj.weight "
    mamba = (mamba + "dt_proj.bias out_proj.weight").split()
    attention = ["q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight"]
    layer = "mixer_norm.weight mlp_norm.weight mlp.gate_proj.weight mlp.up_proj.weight "
    layer = (layer + "mlp.down_proj.weight").split()
    expected = {"backbone.embeddings.weight", "backbone.norm_f.weight"}
    for i in range(4):
        mixer = attention if i % 2 else mamba
        expected |= {f"backbone.layers.{i}.{n}" for n in layer}
        expected |= {f"backbone.layers.{i}.mixer.{n}" for n in mixer}
    assert set(names) == expected


def test_config_reads_what_it_writes():
    config = SambaConfig(vocab_size=100, d_model=512, n_layer=12, d_ff=1280, window=1024)
    assert SambaConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    # without our own key the width follows from the ratio, as flash-linear-attention has it
    raw = config.to_dict()
    del raw["intermediate_size"]
    assert SambaConfig.from_dict(raw).d_ff == 1280


def edit(key, value):
    def change(folder):
        raw = json.loads((folder / "config.json").read_text())
        raw[key] = value
        (folder / "config.json").write_text(json.dumps(raw))

    return change


def tensors(change):
    def apply(folder):
        path = folder / "model.safetensors"
        stored = load_file(path)
        change(stored)
        save_file(stored, path)

    return apply


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (edit("model_type", "llama"), "model_type is 'llama'"),
        (edit("hidden_size", 64), "config.json says"),
        (edit("num_hidden_layers", 6), "attn.layers"),
        (edit("hidden_size", "wide"), "config.json"),
        (edit("quantization", {"method": "gptq"}), "int8"),
        (truncate, "not a readable safetensors"),
        (tensors(lambda t: t.pop("backbone.norm_f.weight")), "lacks backbone.norm_f.weight"),
        (tensors(lambda t: t.update(extra=torch.zeros(1))), "unknown tensor extra"),
        (lambda f: (f / "model.safetensors").unlink(), "is missing"),
        (lambda f: (f / "config.json").unlink(), "is not a checkpoint"),
        (lambda f: (f / "config.json").write_text("{"), "not readable"),
        (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(tmp_path, damage, words):
    folder = make_checkpoint(tmp_path / "c")
    damage(folder)
    with pytest.raises(CheckpointError, match=words) as raised:
        load_checkpoint(folder)
    assert "\n" not in str(raised.value)


def test_a_damaged_tokenizer_is_refused(tmp_path):
    folder = make_checkpoint(tmp_path / "c")
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ValueError, match="not a readable tokenizer"):
        Tokenizer.load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="is missing"):
        Tokenizer.load(folder)
