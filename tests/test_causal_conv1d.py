"""The causal convolution: every backend against the specification, and chunk invariance."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.kernels.causal_conv1d import causal_conv1d
from samba_cli.kernels.dispatch import Backend, force

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
LENGTHS = (1, 2, 3, 17, 65)


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).float().norm() / (expected.float().norm() + 1e-6))


def example(T: int, E: int, K: int, *, batch=2, bias=True, state=True, dtype=torch.float32,
            device="cpu") -> list[Any]:  # fmt: skip
    generator = torch.Generator().manual_seed(T * 1000 + E * 10 + K)
    shapes = [(batch, T, E), (E, K), (E,) if bias else None, (batch, E, K - 1) if state else None]
    return [
        None if shape is None else torch.randn(shape, generator=generator).to(device, dtype)
        for shape in shapes
    ]


def results(
    backend: Backend, inputs: list[Any], activation: str | None = "silu"
) -> list[torch.Tensor]:
    """Outputs, new state and all gradients, with the state taking part in the loss."""
    inputs = [None if t is None else t.detach().requires_grad_() for t in inputs]
    with force(backend):
        y, state = causal_conv1d(*inputs, activation=activation)
    generator = torch.Generator().manual_seed(7)
    dy, dstate = (torch.randn(t.shape, generator=generator).to(t) for t in (y, state))
    present = [t for t in inputs if t is not None]
    grads = torch.autograd.grad([y, state], present, [dy, dstate], allow_unused=True)
    return [y.detach(), state.detach(), *(torch.zeros(()) if g is None else g for g in grads)]


@pytest.mark.parametrize("K", [2, 4, 8])
def test_reference_is_a_convolution(K: int) -> None:
    x, weight, bias, state = example(17, 5, K)
    with force("ref"):
        y, new_state = causal_conv1d(x, weight, bias, state)
    inputs = torch.cat([state, x.transpose(1, 2)], dim=-1)
    expected = F.silu(F.conv1d(inputs, weight[:, None], bias, groups=5)).transpose(1, 2)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(new_state, inputs[..., -(K - 1) :])


@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_backends_equal_the_reference(backend: Backend, T: int) -> None:
    for K, bias, state, activation in [
        (4, True, True, "silu"), (4, False, False, "silu"), (2, True, False, None),
        (8, False, True, None),
    ]:  # fmt: skip
        inputs = example(T, 33, K, bias=bias, state=state)
        actual, expected = (results(b, inputs, activation) for b in (backend, "ref"))
        assert len(actual) == len(expected)
        assert max(map(error, actual, expected)) < 1e-5
        with torch.no_grad(), force(backend):
            for a, b in zip(causal_conv1d(*inputs, activation=activation), expected, strict=False):
                assert error(a, b) < 1e-5


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_low_precision(backend: Backend) -> None:
    inputs = example(65, 32, 4, dtype=torch.bfloat16)
    expected = results("ref", [t.float() for t in inputs])
    actual = results(backend, inputs)
    assert actual[0].dtype == torch.bfloat16
    assert max(map(error, actual, expected)) < 1e-2


@pytest.mark.parametrize("backend", ["torch", "triton"])
@torch.no_grad()
def test_strided_inputs(backend: Backend) -> None:
    x, weight, bias, state = example(19, 24, 4)
    wide = torch.randn(2, 19, 48)
    wide[..., 24:] = x
    transposed = x.transpose(1, 2).contiguous().transpose(1, 2)
    slots = state.transpose(1, 2).contiguous().transpose(1, 2)
    with force("ref"):
        expected = causal_conv1d(x, weight, bias, state)
    for view in (wide[..., 24:], transposed):
        with force(backend):
            actual = causal_conv1d(view, weight.t().contiguous().t(), bias, slots)
        assert max(map(error, actual, expected)) < 1e-5


@pytest.mark.parametrize("backend", ["torch", "triton"])
@settings(deadline=None, max_examples=8)
@given(cuts=st.lists(st.integers(1, 39), max_size=5, unique=True))
@torch.no_grad()
def test_every_cut_gives_the_same(backend: Backend, cuts: list[int]) -> None:
    x, weight, bias, state = example(40, 16, 4)
    with force(backend):
        whole, end = causal_conv1d(x, weight, bias, state)
        parts = []
        for start, stop in itertools.pairwise([0, *sorted(cuts), 40]):
            y, state = causal_conv1d(x[:, start:stop], weight, bias, state)
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-6, atol=1e-6)
    assert torch.equal(state, end)


@torch.no_grad()
@pytest.mark.parametrize("T", [2, 9])
def test_the_new_state_is_a_new_tensor(T: int) -> None:
    x, weight, bias, state = example(T, 8, 4)
    for backend in ("ref", "torch", "triton"):
        with force(backend):
            new_state = causal_conv1d(x, weight, bias, state)[1]
        before = new_state.clone()
        x.add_(1)
        state.add_(1)
        assert torch.equal(new_state, before)


def test_the_operator_is_registered_soundly() -> None:
    inputs = [t.requires_grad_() for t in example(5, 16, 4)]
    torch.library.opcheck(torch.ops.samba.causal_conv1d.default, (*inputs, True))


def test_compiles_without_graph_breaks() -> None:
    inputs = [t.requires_grad_() for t in example(9, 16, 4)]

    def loss(*args):
        y, state = causal_conv1d(*args)
        return (y * y).sum() + state.sum()

    for backend in ("torch", "triton"):
        with force(backend):
            expected = torch.autograd.grad(loss(*inputs), inputs)
            compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
            actual = torch.autograd.grad(compiled(*inputs), inputs)
        assert max(map(error, actual, expected)) < 1e-5


@pytest.mark.parametrize("bad", [{"activation": "relu"}, {"state": torch.zeros(2, 8, 2)}])
def test_refuses_what_does_not_fit(bad) -> None:
    x, weight, bias, _ = example(5, 8, 4)
    with pytest.raises(ValueError):
        causal_conv1d(x, weight, bias, **bad)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("T", [1, 3, 1000, 4097])
def test_gpu(T: int, dtype: torch.dtype, bound: float) -> None:
    inputs = example(T, 1056, 4, dtype=dtype, device="cuda")
    expected = results("ref", [t.float() for t in inputs])
    assert max(map(error, results("triton", inputs), expected)) < bound
