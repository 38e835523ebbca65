"""The product: any cut of the input into chunks gives the same logits and the same state."""

from pathlib import Path

import pytest
import torch
from conftest import make_checkpoint
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from samba_cli.kernels.dispatch import force
from samba_cli.model import Model, Samba, SambaConfig, State, load_checkpoint

SMALL = {"n_layer": 4, "window": 8}
LENGTH = 40
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def small_model(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Samba:
    config = SambaConfig(
        vocab_size=64, d_model=32, n_layer=4, d_state=4, d_ff=48, n_head=2, n_kv_head=1, window=8
    )
    return Samba(config, dtype).initialise(seed=1).to(device).eval().requires_grad_(False)


def read(model: Model, tokens: torch.Tensor, cuts: list[int], state: State | None = None):
    state = state or model.initial_state(len(tokens))
    edges = [0, *cuts, tokens.shape[1]]
    logits = [model(tokens[:, a:b], state) for a, b in zip(edges, edges[1:], strict=False) if b > a]
    return torch.cat(logits, dim=1), state


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def needs(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


# A failing example is small already; shrinking it under the interpreter would take minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
cuts = st.lists(st.integers(1, LENGTH - 1), unique=True, max_size=12).map(sorted)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["ref", "torch", "triton"])
@settings(deadline=None, max_examples=8, phases=PHASES)
@given(cuts=cuts, batch=st.integers(1, 2), seed=st.integers(0, 99))
@torch.inference_mode()
def test_any_cut_gives_the_logits_and_state_of_one_pass(device, backend, cuts, batch, seed):
    needs(device)
    if backend == "triton" and device == "cpu":
        cuts = cuts[:3]  # the interpreter is slow
    model = small_model(device=device)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(64, (batch, LENGTH), generator=generator).to(device)
    with force("ref"):
        whole, whole_state = read(model, tokens, [])
    with force(backend):
        chunked, state = read(model, tokens, cuts)
    assert relative(chunked, whole) < 1e-4
    assert state.position == whole_state.position == LENGTH
    for name, tensor in state.tensors().items():
        assert relative(tensor, whole_state.tensors()[name]) < 1e-4, name


@pytest.mark.parametrize("device", DEVICES)
@settings(deadline=None, max_examples=8, phases=PHASES)
@given(cuts=cuts)
@torch.inference_mode()
def test_bfloat16_is_within_the_rounding_of_one_pass(device, cuts):
    needs(device)
    model = small_model(torch.bfloat16, device)
    exact = small_model(device=device)
    tokens = torch.randint(64, (1, LENGTH), generator=torch.Generator().manual_seed(0)).to(device)
    truth, _ = read(exact, tokens, [])
    rounding = relative(read(model, tokens, [])[0], truth)
    assert relative(read(model, tokens, cuts)[0], truth) < 2 * rounding + 1e-3


def test_one_token_at_a_time_equals_one_pass():
    model = small_model()
    tokens = torch.randint(64, (1, LENGTH), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        whole, _ = read(model, tokens, [])
        single, _ = read(model, tokens, list(range(1, LENGTH)))
    assert relative(single, whole) < 1e-4


@settings(deadline=None, max_examples=10, phases=PHASES)
@given(before=st.integers(1, LENGTH - 1), cuts=cuts)
def test_a_restored_state_goes_on_bit_for_bit(tmp_path_factory, before, cuts):
    folder = tmp_path_factory.mktemp("state")
    model = load_checkpoint(_checkpoint(folder))
    tokens = torch.randint(32, 288, (1, LENGTH), generator=torch.Generator().manual_seed(before))
    with torch.inference_mode():
        _, state = read(model, tokens[:, :before], [])
        state.save(folder / "s.safetensors", "tokenizer", {"note": "x"})
        restored, metadata = State.load(folder / "s.safetensors", model, "tokenizer")
        cuts = [cut - before for cut in cuts if cut > before]
        unsaved, _ = read(model, tokens[:, before:], cuts, state)
        saved, _ = read(model, tokens[:, before:], cuts, restored)
    assert metadata["note"] == "x"
    assert torch.equal(unsaved, saved)
    assert all(torch.equal(t, restored.tensors()[n]) for n, t in state.tensors().items())


def _checkpoint(folder: Path) -> Path:
    return make_checkpoint(folder / "model", window=8)


@torch.inference_mode()
def test_rope_holds_beyond_ten_million_positions():
    """Attention depends on distances alone, wherever in a text they lie: no need to read there."""
    model = small_model()
    tokens = torch.randint(64, (1, 30), generator=torch.Generator().manual_seed(0))
    near, _ = read(model, tokens, [11])
    for start in (10_000_000, 12_345_678, 2**33):
        state = model.initial_state()
        state.position = start  # the rotation's position; the rings are still empty
        far, _ = read(model, tokens, [11], state)
        assert relative(far, near) < 1e-5


@torch.inference_mode()
def test_the_state_does_not_grow():
    model = small_model()
    state = model.initial_state()
    sizes = set()
    for _ in range(5):
        model(torch.randint(64, (1, 50)), state)
        sizes.add(state.nbytes)
    assert len(sizes) == 1


def test_a_gradient_reaches_every_parameter_also_through_the_state():
    model = small_model().requires_grad_(True)
    state = model.initial_state(2)
    tokens = torch.randint(64, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    model.hidden(tokens[:, :20], state)
    model(tokens[:, 20:], state).square().mean().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing
