"""The selective scan against float64 references: values, state, gradients, chunk invariance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from samba_cli.kernels.dispatch import force, triton_available
from samba_cli.kernels.selective_scan import selective_scan
from samba_cli.kernels.selective_scan_ref import selective_scan_ref

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "state")
OPTIONAL = {"D", "z", "delta_bias", "state"}
ALL = frozenset(OPTIONAL)

needs_interpreter = pytest.mark.skipif(
    not triton_available() or torch.cuda.is_available(), reason="runs in Triton's interpreter"
)
BACKENDS = ["torch", pytest.param("triton", marks=needs_interpreter)]


def make_inputs(
    batch: int, length: int, channels: int, n: int, present: frozenset[str] = ALL, seed: int = 0
) -> dict[str, Tensor | None]:
    """Random inputs in float64, with steps dt between about 0.01 and 2 as in trained models."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    rows = (batch, length, channels)
    inputs = {
        "u": normal(*rows),
        "delta": normal(*rows) - 1.5,
        "A": -torch.rand((channels, n), generator=g, dtype=torch.float64) * 8,
        "B": normal(batch, length, n),
        "C": normal(batch, length, n),
        "D": normal(channels),
        "z": normal(*rows),
        "delta_bias": normal(channels),
        "state": normal(batch, channels, n),
    }
    return {k: v if k not in OPTIONAL or k in present else None for k, v in inputs.items()}


def cast(inputs: dict[str, Tensor | None], io: torch.dtype, device: str = "cpu") -> dict:
    """u, delta, z, B, C in the io type, the parameters and the state in fp32."""
    return {
        k: v
        if v is None
        else v.to(device, io if k in ("u", "delta", "z", "B", "C") else torch.float32)
        for k, v in inputs.items()
    }


def error(got: Tensor, wanted: Tensor) -> float:
    got, wanted = got.detach().double().cpu(), wanted.detach().double().cpu()
    scale = wanted.norm()  # zero where nothing depends on an input: dA of one token from no state
    return float((got - wanted).norm() / (scale if scale > 0 else 1.0))


def outputs_and_gradients(inputs: dict[str, Tensor | None], backend: str) -> dict[str, Tensor]:
    leaves = {k: v if v is None else v.detach().requires_grad_() for k, v in inputs.items()}
    with force(backend):  # type: ignore[arg-type]
        y, state = selective_scan(**leaves)  # type: ignore[arg-type]
    # Fixed, uneven weights, so that every output counts differently.
    weights = torch.linspace(-1, 1, y.numel(), device=y.device).sin().view(y.shape)
    loss = (y.to(state.dtype) * weights).sum() + state.cos().sum()
    loss.backward()
    grads = {f"d{k}": v.grad for k, v in leaves.items() if v is not None}
    assert all(g is not None for g in grads.values())
    return {"y": y.detach(), "new_state": state.detach(), **grads}  # type: ignore[dict-item]


def check_all(
    inputs: dict[str, Tensor | None], io: torch.dtype, backend: str, device: str, tolerance: float
) -> None:
    rounded = cast(inputs, io, device)
    wanted = outputs_and_gradients(
        {k: v if v is None else v.double() for k, v in rounded.items()}, "ref"
    )
    got = outputs_and_gradients(rounded, backend)
    assert got["y"].dtype == io and got["new_state"].dtype == torch.float32
    errors = {k: error(got[k], v) for k, v in wanted.items()}
    assert max(errors.values()) < tolerance, errors


def naive_scan(inputs: dict[str, Tensor | None]) -> tuple[np.ndarray, np.ndarray]:
    """Every scalar on its own: h written out as a sum over the past, with products of decays."""
    x = {k: None if v is None else v.numpy() for k, v in inputs.items()}
    u, delta, A, B, C = (x[k] for k in ("u", "delta", "A", "B", "C"))
    assert u is not None and delta is not None and A is not None and B is not None and C is not None
    bias = x["delta_bias"] if x["delta_bias"] is not None else np.zeros(A.shape[0])
    dt = np.logaddexp(0, delta + bias)
    elapsed = np.cumsum(dt, axis=1)
    batch, length, channels = u.shape
    y = np.zeros_like(u)
    h = np.zeros((batch, channels, A.shape[1]))
    for b in range(batch):
        for e in range(channels):
            for t in range(length):
                h[b, e] = (
                    0 if x["state"] is None else np.exp(A[e] * elapsed[b, t, e]) * x["state"][b, e]
                )
                for s in range(t + 1):
                    decay = np.exp(A[e] * (elapsed[b, t, e] - elapsed[b, s, e]))
                    h[b, e] += decay * dt[b, s, e] * B[b, s] * u[b, s, e]
                y[b, t, e] = C[b, t] @ h[b, e]
    if x["D"] is not None:
        y = y + x["D"] * u
    if x["z"] is not None:
        y = y * x["z"] / (1 + np.exp(-x["z"]))
    return y, h


@pytest.mark.parametrize("present", [ALL, frozenset()], ids=["all", "bare"])
def test_reference_agrees_with_the_written_out_sum(present: frozenset[str]) -> None:
    inputs = make_inputs(2, 9, 3, 4, present)
    y, h = naive_scan(inputs)
    got_y, got_h = selective_scan_ref(**inputs)  # type: ignore[arg-type]
    assert error(got_y, torch.from_numpy(y)) < 1e-12
    assert error(got_h, torch.from_numpy(h)) < 1e-12


def test_reference_gradients_agree_with_finite_differences() -> None:
    inputs = [x.requires_grad_() for x in make_inputs(1, 3, 2, 2).values() if x is not None]
    assert torch.autograd.gradcheck(selective_scan_ref, inputs)


@pytest.mark.parametrize("length", [1, 2, 7, 63, 64, 65, 130])
@pytest.mark.parametrize("backend", BACKENDS)
def test_values_without_gradients(backend: str, length: int) -> None:
    inputs = make_inputs(2 if length < 63 else 1, length, 20, 16)  # the interpreter is slow
    wanted_y, wanted_h = selective_scan_ref(**inputs)  # type: ignore[arg-type]
    for io, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        with torch.no_grad(), force(backend):  # type: ignore[arg-type]
            y, h = selective_scan(**cast(inputs, io))
        assert y.dtype == io and h.dtype == torch.float32
        assert error(y, wanted_y) < tolerance and error(h, wanted_h) < tolerance


@pytest.mark.parametrize("length", [1, 2, 32, 65])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(backend: str, length: int) -> None:
    check_all(make_inputs(1, length, 12, 16), torch.float32, backend, "cpu", 1e-5)


@needs_interpreter
@pytest.mark.parametrize(
    "missing", [ALL, *({x} for x in sorted(ALL))], ids=lambda x: "-".join(sorted(x))
)
def test_gradients_without_optional_inputs(missing: frozenset[str]) -> None:
    check_all(make_inputs(2, 7, 5, 4, ALL - missing), torch.float32, "triton", "cpu", 1e-5)


@needs_interpreter
def test_gradients_in_bf16() -> None:
    check_all(make_inputs(1, 33, 8, 16), torch.bfloat16, "triton", "cpu", 1e-2)


@pytest.mark.parametrize("n", [1, 2, 5, 32])
@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_of_states(backend: str, n: int) -> None:
    check_all(make_inputs(1, 5, 70, n), torch.float32, backend, "cpu", 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_inputs(backend: str) -> None:
    inputs = cast(make_inputs(2, 6, 10, 4), torch.float32)
    wanted = outputs_and_gradients(inputs, "ref")
    transposed = {k: v.mT.contiguous().mT if v.dim() > 1 else v for k, v in inputs.items()}
    sliced = {k: torch.cat([v, v + 1], dim=-1)[..., : v.shape[-1]] for k, v in inputs.items()}
    for variant in (transposed, sliced):
        leaves = {k: v.detach() for k, v in variant.items()}
        got = outputs_and_gradients(leaves, backend)
        assert max(error(got[k], v) for k, v in wanted.items()) < 1e-5


@needs_interpreter
def test_time_segments_change_nothing() -> None:
    from samba_cli.kernels.selective_scan_triton import scan_forward
    from samba_cli.kernels.selective_scan_triton_backward import scan_backward

    inputs = cast(make_inputs(1, 66, 6, 4), torch.float32)
    values = list(inputs.values())
    dstate = torch.ones(1, 6, 4)
    whole = scan_forward(*values, keep=True)
    cut = scan_forward(*values, keep=True, segment=32)
    assert all(error(a, b) < 1e-6 for a, b in zip(cut, whole, strict=True))
    for dh in (None, dstate):
        arguments: list[Any] = [torch.ones_like(inputs["u"]), dh, *values[:8], whole[2]]
        whole_grads = scan_backward(*arguments)
        cut_grads = scan_backward(*arguments, segment=32)
        assert all(error(a, b) < 1e-5 for a, b in zip(cut_grads, whole_grads, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=4)
@given(cuts=st.lists(st.integers(1, 39), max_size=4, unique=True))
def test_chunk_invariance(backend: str, cuts: list[int]) -> None:
    inputs = cast(make_inputs(1, 40, 6, 4), torch.float32)
    bounds = [0, *sorted(cuts), 40]
    with torch.no_grad(), force(backend):  # type: ignore[arg-type]
        whole, wanted_state = selective_scan(**inputs)
        state, pieces = inputs["state"], []
        for start, stop in zip(bounds, bounds[1:], strict=False):
            part = {k: inputs[k][:, start:stop] for k in ("u", "delta", "B", "C", "z")}
            y, state = selective_scan(**{**inputs, **part, "state": state})
            pieces.append(y)
    assert error(torch.cat(pieces, 1), whole) < 1e-5
    assert error(state, wanted_state) < 1e-5


@pytest.mark.parametrize("backend", ["ref", *BACKENDS])
def test_state_is_a_new_tensor(backend: str) -> None:
    inputs = cast(make_inputs(1, 1, 4, 2), torch.float32)
    before = inputs["state"].clone()
    with torch.no_grad(), force(backend):  # type: ignore[arg-type]
        _, state = selective_scan(**inputs)
    assert torch.equal(inputs["state"], before)
    assert state.data_ptr() != inputs["state"].data_ptr()


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_steps_stay_finite(backend: str) -> None:
    inputs = cast(make_inputs(1, 8, 4, 2), torch.float32)
    inputs["delta"] = torch.tensor([-200.0, -30, 0, 200]).expand(1, 8, 4)
    wanted = outputs_and_gradients({k: v.double() for k, v in inputs.items()}, "ref")
    got = outputs_and_gradients(inputs, backend)
    assert max(error(got[k], wanted[k]) for k in ("y", "new_state", "du", "dB", "dC")) < 1e-5
    assert all(bool(v.isfinite().all()) for v in got.values())


@needs_interpreter
def test_compiles_without_graph_breaks() -> None:
    def loss(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, z: Tensor) -> Tensor:
        with torch.no_grad():
            scale = u.abs().mean()
        y, state = selective_scan(u / scale, delta, A, B, C, None, z)
        return y.sum() + state.sum()

    inputs = cast(make_inputs(1, 3, 4, 2), torch.float32)
    values = [inputs[k] for k in ("u", "delta", "A", "B", "C", "z")]
    results = []
    with force("triton"):
        for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
            leaves = [v.clone().requires_grad_() for v in values]
            value = function(*leaves)
            value.backward()
            results.append([value, *(x.grad for x in leaves)])
    for eager, compiled in zip(*results, strict=True):
        assert error(compiled, eager) < 1e-6


def test_rejects_shapes_that_do_not_fit() -> None:
    inputs = cast(make_inputs(1, 2, 4, 2), torch.float32)
    with pytest.raises(ValueError, match=r"\[batch, T"):
        selective_scan(**{**inputs, "A": inputs["A"][:2]})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(
    ("batch", "length", "channels", "n"),
    [(1, 1, 64, 16), (2, 7, 100, 16), (1, 130, 48, 5), (2, 1000, 96, 32), (4, 4096, 1024, 16)],
)
def test_gpu(batch: int, length: int, channels: int, n: int) -> None:
    inputs = make_inputs(batch, length, channels, n)
    check_all(inputs, torch.float32, "triton", "cuda", 1e-5)
    check_all(inputs, torch.bfloat16, "triton", "cuda", 1e-2)
    check_all(
        make_inputs(batch, length, channels, n, frozenset()), torch.float32, "triton", "cuda", 1e-5
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_gpu_compiled_training_step() -> None:
    inputs = cast(make_inputs(2, 300, 128, 16), torch.bfloat16, "cuda")

    def loss(values: list[Tensor]) -> Tensor:
        y, _ = selective_scan(*values)
        return y.float().square().sum()

    eager = [x.detach().requires_grad_() for x in inputs.values()]
    compiled = [x.detach().requires_grad_() for x in inputs.values()]
    loss(eager).backward()
    torch.compile(loss, fullgraph=True)(compiled).backward()
    assert max(error(a.grad, b.grad) for a, b in zip(compiled, eager, strict=True)) < 1e-2
