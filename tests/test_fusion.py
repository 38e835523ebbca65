"""The fused forms of reading and generation against the plain layers, and joint weights."""

import pytest
import torch
from conftest import make_checkpoint

from samba_cli.kernels.dispatch import force
from samba_cli.kernels.rotate import rotate
from samba_cli.kernels.selective_scan import selective_scan
from samba_cli.model import Model, load_checkpoint
from samba_cli.model.description import (
    AttentionSpec,
    Description,
    LayerSpec,
    Mamba2Spec,
    MambaSpec,
    MLPSpec,
)
from samba_cli.model.fusion import joint_rows, joint_weight
from samba_cli.model.parts import Embedding, Linear, SwiGLU
from samba_cli.model.quantization import quantize

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])]


def normal(*shape: int, device: str = "cpu") -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(device)


def mixed(device: str, dtype: torch.dtype = torch.float32) -> Model:
    """One layer of each kind, with a residual multiplier, a partial rotation and bare mixers."""
    attention = AttentionSpec(n_head=4, n_kv_head=2, d_head=16, window=8, rope_theta=1e4, sinks=2)
    mlp = MLPSpec(d_ff=40)
    layers = (
        LayerSpec(MambaSpec(48, 4, 4, 5, inner_norm="weighted"), mlp),
        LayerSpec(attention, mlp),
        LayerSpec(Mamba2Spec(4, 16, 8, 2, 4, norm_eps=1e-5), None),
        LayerSpec(MambaSpec(48, 4, 4, 5, inner_norm="plain"), mlp),
    )
    model = Model(Description(64, 32, layers, 1e-5, True, residual_multiplier=0.5), dtype)
    return random_weights(model).to(device)


def random_weights(model: Model) -> Model:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.copy_(drawn + 1 if "norm" in name else drawn)
    return model.eval().requires_grad_(False)


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def logits_of(model: Model, tokens: torch.Tensor) -> torch.Tensor:
    state = model.initial_state()
    cuts = [(0, 1), (1, 5), (5, 30), (30, 31), (31, 32)]
    return torch.cat([model(tokens[:, a:b], state) for a, b in cuts], dim=1)


@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_fused_layers_equal_plain_ones(device):
    model = mixed(device)
    tokens = torch.randint(64, (1, 32), generator=torch.Generator().manual_seed(1)).to(device)
    with force("ref"):
        plain = logits_of(model, tokens)
    names = {name: t.clone() for name, t in model.state_dict().items()}
    with force("triton"):
        apart = logits_of(model, tokens)
        joined = logits_of(model.join(), tokens)
    torch.testing.assert_close(apart, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(joined, plain, rtol=1e-4, atol=1e-4)
    after = model.state_dict()
    assert after.keys() == names.keys()
    assert all(torch.equal(t, names[name]) for name, t in after.items())


@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_single_tokens_of_int8_weights(device):
    model = mixed(device)
    for module in model.modules():
        if isinstance(module, (Linear, Embedding)):
            weight, module.weight_scale = quantize(module.weight)
            module.weight = torch.nn.Parameter(weight, requires_grad=False)
    model.lm_head.weight = model.backbone.embeddings.weight  # tied
    model.lm_head.weight_scale = model.backbone.embeddings.weight_scale
    tokens = torch.randint(64, (1, 32), generator=torch.Generator().manual_seed(1)).to(device)
    with force("ref"):
        plain = logits_of(model, tokens)
    for joined in (model, model.join()):
        with force("triton"):
            torch.testing.assert_close(logits_of(joined, tokens), plain, rtol=1e-4, atol=1e-4)
    mlp = next(module for module in model.modules() if isinstance(module, SwiGLU))
    pair = (mlp.gate_proj, mlp.up_proj)
    rows, scales = joint_rows(pair), [linear.weight_scale for linear in pair]
    assert joint_weight(pair) is None and rows is not None and rows[1] is not None
    assert rows[1].tolist() == [x for scale in scales if scale is not None for x in scale.tolist()]


def test_the_switch_turns_fusion_off(monkeypatch):
    model = mixed("cpu").join()
    tokens = torch.randint(64, (1, 32), generator=torch.Generator().manual_seed(1))
    monkeypatch.setenv("SAMBA_FUSED", "off")
    with torch.inference_mode(), force("ref"):
        off = logits_of(model, tokens)
        assert torch.equal(off, logits_of(mixed("cpu"), tokens))


def test_joint_weights_are_views_of_one_matrix():
    mlp = SwiGLU(6, MLPSpec(4)).requires_grad_(False)
    pair = (mlp.gate_proj, mlp.up_proj)
    assert joint_weight(pair) is None
    expected = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
    mlp.join()
    joint = joint_weight(pair)
    assert joint is not None and torch.equal(joint, expected)
    mlp.up_proj.weight.mul_(2)  # what the file's names hold is what the product sees
    assert torch.equal(joint[4:], expected[4:] * 2)
    mlp.double()  # each weight has memory of its own again
    assert joint_weight(pair) is None


def test_weights_in_training_are_not_joined():
    mlp = SwiGLU(6, MLPSpec(4))
    mlp.join()
    assert joint_weight((mlp.gate_proj, mlp.up_proj)) is None


@torch.no_grad()
def test_rates_follow_the_weights(tmp_path):
    model = load_checkpoint(make_checkpoint(tmp_path / "c"))
    tokens = torch.randint(288, (1, 9))
    before = model(tokens, model.initial_state())
    model.get_parameter("backbone.layers.0.mixer.A_log").add_(1.0)
    assert not torch.equal(model(tokens, model.initial_state()), before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "shape, half", [((2, 3, 4, 16), 8), ((1, 70, 3, 20), 6), ((1, 1, 2, 8), 4)]
)
@torch.no_grad()
def test_rotation(device, shape, half):
    x = normal(*shape, 2, device=device)[..., 0]  # strided
    cos, sin = normal(shape[1], half, device=device).cos(), normal(shape[1], half, device=device)
    with force("ref"):
        expected = rotate(x, cos, sin)
    with force("triton"):
        actual = rotate(x, cos, sin)
        low = rotate(x.bfloat16(), cos, sin)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(low.float(), expected, rtol=2e-2, atol=2e-2)
    with pytest.raises(ValueError):
        rotate(x, cos[:, :1], sin)


@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_reading_without_logits(device):
    model = mixed(device)
    tokens = torch.zeros(1, 3, dtype=torch.long, device=device)
    with force("triton"):
        assert model(tokens, model.initial_state(), at=tokens[0, :0]).shape == (1, 0, 64)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "backend, last", [("ref", 0), ("ref", 1), ("ref", 2), ("triton", 1), ("triton", 2)]
)
@torch.inference_mode()
def test_the_last_layer_makes_what_is_asked_for(backend, last, device):
    layers = mixed("cpu").description.layers
    description = Description(64, 32, (layers[0], layers[last]), 1e-5, True)
    model = random_weights(Model(description)).to(device)
    tokens = torch.randint(64, (2, 25), generator=torch.Generator().manual_seed(2)).to(device)
    places = torch.tensor([[3, 20], [0, 24]], device=device)
    with force(backend):
        whole, state = model.initial_state(2), model.initial_state(2)
        expected = model(tokens, whole)
        some = model(tokens, state, at=places)
        for at in (places[0], places[0, :1], places[0, :0]):
            other = model.initial_state(2)
            assert_close(model(tokens, other, at=at), expected[:, at])
            for name, tensor in other.tensors().items():
                assert torch.equal(tensor, state.tensors()[name]), name
        assert_close(some, torch.stack([expected[i, at] for i, at in enumerate(places)]))
        after = model(tokens[:, :3], state, at=places[:, :1] * 0)
        assert_close(after, model(tokens[:, :3], whole)[:, :1])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optional", [True, False])
@torch.no_grad()
def test_one_token_of_the_scan(device, optional):
    E, N = 70, 5
    u, delta, z = (normal(2, 1, E, i, device=device)[..., 0] for i in (1, 2, 3))
    A = -normal(E, N, device=device).abs()
    B, C = normal(2, 1, 2 * N, device=device).split(N, dim=-1)
    D, bias = normal(E, device=device), normal(E, device=device) / 2
    state = normal(2, E, N, device=device)
    inputs = (u, delta, A, B, C, D, z, bias, state) if optional else (u, delta, A, B, C)
    with force("ref"):
        y, h = selective_scan(*inputs)
    with force("triton"):
        actual, after = selective_scan(*inputs)
    torch.testing.assert_close(actual, y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after, h, rtol=1e-5, atol=1e-5)
