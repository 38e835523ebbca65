"""Public architectures against transformers' own classes, on tiny random checkpoints they saved.

The reference reads in one pass; ours must agree with it, and with itself for every way of cutting
the text into chunks, which is where other libraries go wrong.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from public_checkpoints import (
    CASES,
    FAMILIES,
    VOCABULARY,
    transformers_model,
    write_state_spaces,
)
from torch import Tensor

from samba_cli.kernels.dispatch import force
from samba_cli.model import Model, State, load_checkpoint
from samba_cli.model.architectures import READERS
from samba_cli.model.architectures.names import KNOWN
from samba_cli.model.description import MambaSpec
from samba_cli.model.quantization import dequantize
from samba_cli.model.state import CacheState

pytest.importorskip("transformers")

LENGTH = 40
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
HYBRIDS = ("jamba", "bamba", "granitemoehybrid")


@dataclass(frozen=True)
class Saved:
    folder: Path
    tokens: Tensor  # [2, LENGTH]
    logits: Tensor  # the reference's, in one pass


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory):
    """case -> the checkpoint that transformers wrote and what it answers, made once."""
    root, made = tmp_path_factory.mktemp("public"), dict[str, Saved]()

    def make(case: str) -> Saved:
        if case not in made:
            folder = root / case.replace(" ", "-")
            reference = transformers_model(case)
            generator = torch.Generator().manual_seed(1)
            tokens = torch.randint(VOCABULARY, (2, LENGTH), generator=generator)
            with torch.inference_mode():
                logits = reference(tokens, use_cache=False).logits
            reference.save_pretrained(folder)
            reference.save_pretrained(folder / "sharded", max_shard_size="16KB")
            made[case] = Saved(folder, tokens, logits)
        return made[case]

    return make


def read(model: Model, tokens: Tensor, cuts: list[int], state: State | None = None):
    state = state or model.initial_state(len(tokens))
    edges = [0, *cuts, tokens.shape[1]]
    logits = [model(tokens[:, a:b], state) for a, b in zip(edges, edges[1:], strict=False) if b > a]
    return torch.cat(logits, dim=1), state


def relative(a: Tensor, b: Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def needs(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@torch.inference_mode()
@pytest.mark.parametrize("files", ["", "sharded"])
@pytest.mark.parametrize("case", CASES)
def test_logits_equal_those_of_transformers(saved, case, files):
    checkpoint = saved(case)
    folder = checkpoint.folder / files
    assert len(list(folder.glob("*.safetensors"))) == 1 or files
    model = load_checkpoint(folder)
    assert relative(read(model, checkpoint.tokens, [])[0], checkpoint.logits) < 1e-4
    assert relative(read(model, checkpoint.tokens, [7, 8, 23])[0], checkpoint.logits) < 1e-4


@torch.inference_mode()
@pytest.mark.parametrize("case", ["mamba", "mamba2"])
def test_the_naming_of_state_spaces(saved, tmp_path, case):
    checkpoint = saved(case)
    write_state_spaces(tmp_path / "original", case, transformers_model(case).state_dict())
    model = load_checkpoint(tmp_path / "original")
    assert relative(read(model, checkpoint.tokens, [])[0], checkpoint.logits) < 1e-4


@torch.inference_mode()
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", FAMILIES)
@settings(
    deadline=None,
    max_examples=6,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=st.lists(st.integers(1, LENGTH - 1), unique=True, max_size=12).map(sorted))
def test_any_cut_gives_the_logits_and_state_of_one_pass(saved, device, case, cuts):
    needs(device)
    model = load_checkpoint(saved(case).folder, device, torch.float32)
    tokens = saved(case).tokens.to(device)
    with force("ref"):
        whole, whole_state = read(model, tokens, [])
    chunked, state = read(model, tokens, cuts)
    assert relative(chunked, whole) < 1e-4
    assert state.position == whole_state.position == LENGTH
    for name, tensor in state.tensors().items():
        assert relative(tensor, whole_state.tensors()[name]) < 1e-4, name


@torch.inference_mode()
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", FAMILIES)
def test_one_token_at_a_time_equals_one_pass(saved, device, case):
    needs(device)
    model = load_checkpoint(saved(case).folder, device, torch.float32)
    tokens = saved(case).tokens.to(device)
    single, _ = read(model, tokens, list(range(1, LENGTH)))
    assert relative(single.cpu(), saved(case).logits) < 1e-4


@torch.inference_mode()
@pytest.mark.gpu
@pytest.mark.parametrize("case", FAMILIES)
def test_bfloat16_on_a_gpu_is_close(saved, case):
    needs("cuda")
    model = load_checkpoint(saved(case).folder, "cuda")
    assert model.dtype == torch.bfloat16
    tokens = saved(case).tokens.cuda()
    whole, _ = read(model, tokens, [])
    assert relative(whole.cpu(), saved(case).logits) < 0.05
    assert relative(read(model, tokens, [1, 5, 30])[0].cpu(), saved(case).logits) < 0.05


@torch.inference_mode()
@pytest.mark.parametrize("case", FAMILIES)
def test_a_state_forks_and_goes_through_a_file(saved, tmp_path, case):
    model, tokens = load_checkpoint(saved(case).folder), saved(case).tokens[:1]
    _, state = read(model, tokens[:, :17], [5])
    fork = state.fork()
    state.save(tmp_path / "s.safetensors", "tokenizer")
    restored, _ = State.load(tmp_path / "s.safetensors", model, "tokenizer")
    grows = any(isinstance(layer, CacheState) for layer in state.layers)
    assert grows == (case in HYBRIDS)

    expected, _ = read(model, tokens[:, 17:], [9, 10], state)
    assert relative(expected, saved(case).logits[:1, 17:]) < 1e-4
    read(model, torch.zeros(1, 3, dtype=torch.int64), [], fork.fork())  # touches nothing but itself
    for other in (fork, restored):
        assert torch.equal(read(model, tokens[:, 17:], [9, 10], other)[0], expected)
        assert all(torch.equal(t, state.tensors()[n]) for n, t in other.tensors().items())
    many = restored.expand(3)
    assert many.select(2).nbytes == restored.nbytes
    fixed, growth = model.description.state_bytes(4)
    assert restored.nbytes == fixed + growth * LENGTH


@torch.inference_mode()
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", HYBRIDS)
def test_keys_and_values_may_stay_in_host_memory(saved, tmp_path, device, case):
    """Whatever becomes of the state, they stay there, and nothing else changes."""
    needs(device)
    model = load_checkpoint(saved(case).folder, device, torch.float32)
    tokens = saved(case).tokens.to(device)[:1]
    expected, _ = read(model, tokens, [7, 20, 21])

    def caches(state: State) -> list[CacheState]:
        found = [layer for layer in state.layers if isinstance(layer, CacheState)]
        assert found and all(layer.host for layer in found)
        assert {t.device.type for x in found for t in x.tensors().values()} == {"cpu"}
        others = [layer for layer in state.layers if not isinstance(layer, CacheState)]
        assert {t.device.type for x in others for t in x.tensors().values()} == {device}
        return found

    model.cache_on_host = True
    first, state = read(model, tokens[:, :20], [7])
    state.save(tmp_path / "s.safetensors", "tokenizer")
    restored, _ = State.load(tmp_path / "s.safetensors", model, "tokenizer")
    for other in (state, state.fork(), state.expand(3).select(1), state.take([0]), restored):
        other.reserve(400)  # more than there is, so that they move
        assert all(layer.keys.shape[1] == 400 for layer in caches(other))
        second, after = read(model, tokens[:, 20:], [1], other)
        caches(after)
        assert relative(torch.cat([first, second], dim=1), expected) < 1e-6


@torch.inference_mode()
@pytest.mark.parametrize("case", HYBRIDS)
def test_a_window_changes_nothing_while_the_text_is_short(saved, case):
    full, tokens = load_checkpoint(saved(case).folder), saved(case).tokens
    wide = load_checkpoint(saved(case).folder, window=LENGTH)
    assert wide.fingerprint != full.fingerprint
    for cuts in ([], [3, 17], list(range(1, LENGTH))):
        assert relative(read(wide, tokens, cuts)[0], saved(case).logits) < 1e-4

    narrow = load_checkpoint(saved(case).folder, window=6)
    whole, whole_state = read(narrow, tokens, [])
    short = 6 + 4  # the window and the first tokens
    assert relative(whole[:, :short], saved(case).logits[:, :short]) < 1e-4
    assert relative(whole[:, short:], saved(case).logits[:, short:]) > 1e-4
    for cuts in ([2], [9, 10, 11, 31], list(range(1, LENGTH))):
        chunked, state = read(narrow, tokens, cuts)
        assert relative(chunked, whole) < 1e-4
        assert state.nbytes == whole_state.nbytes


@torch.inference_mode()
@pytest.mark.parametrize("case", FAMILIES)
def test_int8_is_close_and_smaller(saved, case):
    exact = load_checkpoint(saved(case).folder)
    small = load_checkpoint(saved(case).folder, quantize="int8")
    logits, _ = read(small, saved(case).tokens, [11])
    assert 0 < relative(logits, saved(case).logits) < 0.15  # rows of 32 weights round coarsely
    assert _nbytes(small) < 0.45 * _nbytes(exact)
    for name, parameter in exact.named_parameters():  # nothing but the weights is rounded
        scale = getattr(small.get_submodule(name.rpartition(".")[0]), "weight_scale", None)
        if scale is not None and name.endswith(".weight"):
            parameter.copy_(dequantize(small.get_parameter(name), scale, torch.float32))
    assert relative(read(exact, saved(case).tokens, [])[0], logits) < 1e-4


def _nbytes(model: Model) -> int:
    tensors = [*model.parameters(), *model.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)


def test_the_list_of_names_is_the_list_of_readers():
    assert tuple(READERS) == KNOWN


@torch.inference_mode()
def test_a_tied_head_may_be_stored_twice(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(saved("mamba").folder, tmp_path / "m"))
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["backbone.embeddings.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    logits, _ = read(load_checkpoint(folder), saved("mamba").tokens, [])
    assert relative(logits, saved("mamba").logits) < 1e-4


def test_older_and_newer_spellings_of_a_config_mean_the_same(saved):
    def described(case: str, **changes):
        raw = json.loads((saved(case).folder / "config.json").read_text())
        kept = {k: v for k, v in {**raw, **changes}.items() if v is not ...}
        return READERS[raw["model_type"]](kept).description

    granite = described("granitemoehybrid")
    assert described("granitemoehybrid", time_step_limit=[0.0, float("inf")]) == granite
    old = ["mamba", "attention", "mamba", "mamba"]
    assert described("granitemoehybrid", layer_types=old) == granite
    assert described("granitemoehybrid", layer_types=..., layers_block_type=old) == granite
    assert described("granitemoehybrid", position_embedding_type=None) == granite
    assert described("granitemoehybrid", mamba_d_head="auto") == granite
    bamba = described("bamba")
    assert described("bamba", rope_parameters=..., rope_theta=10000.0, attn_rotary_emb=4) == bamba
    jamba = described("jamba")
    kinds = ["mamba", "attention", "mamba", "mamba"]
    assert described("jamba", layers_block_type=kinds, attn_layer_period=...) == jamba
    mamba = described("mamba", time_step_rank="auto").layers[0].mixer
    assert isinstance(mamba, MambaSpec) and mamba.dt_rank == 2
