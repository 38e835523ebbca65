"""The scan of Mamba-2 against float64 references: values, state, gradients, chunk invariance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from samba_cli.kernels.dispatch import force, triton_available
from samba_cli.kernels.ssd_scan import ssd_scan
from samba_cli.kernels.ssd_scan_ref import ssd_scan_ref

Inputs = dict[str, Tensor | None]
OPTIONAL = {"D", "dt_bias", "state"}
ALL = frozenset(OPTIONAL)
PER_TOKEN = ("x", "dt", "B", "C")
LIMIT = (0.05, 0.9)

needs_interpreter = pytest.mark.skipif(
    not triton_available() or torch.cuda.is_available(), reason="runs in Triton's interpreter"
)
BACKENDS = ["torch", pytest.param("triton", marks=needs_interpreter)]


def make_inputs(
    batch: int,
    length: int,
    heads: int,
    width: int,
    groups: int,
    n: int,
    present: frozenset[str] = ALL,
    seed: int = 0,
) -> Inputs:
    """Random inputs in float64, with steps dt between about 0.01 and 2 as in trained models."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    inputs = {
        "x": normal(batch, length, heads, width),
        "dt": normal(batch, length, heads) - 1.5,
        "A": -torch.rand(heads, generator=g, dtype=torch.float64) * 8,
        "B": normal(batch, length, groups, n),
        "C": normal(batch, length, groups, n),
        "D": normal(heads),
        "dt_bias": normal(heads),
        "state": normal(batch, heads, width, n),
    }
    return {k: v if k not in OPTIONAL or k in present else None for k, v in inputs.items()}


def cast(inputs: Inputs, io: torch.dtype, device: str = "cpu") -> dict:
    """x, dt, B, C in the io type, the parameters and the state in fp32."""
    return {
        k: v if v is None else v.to(device, io if k in PER_TOKEN else torch.float32)
        for k, v in inputs.items()
    }


def double(inputs: Inputs) -> dict:
    return {k: v if v is None else v.double() for k, v in inputs.items()}


def error(got: Tensor, wanted: Tensor) -> float:
    got, wanted = got.detach().double().cpu(), wanted.detach().double().cpu()
    scale = wanted.norm()  # zero where nothing depends on an input: dA of one token from no state
    return float((got - wanted).norm() / (scale if scale > 0 else 1.0))


def check(
    inputs: Inputs,
    io: torch.dtype,
    backend: str,
    device: str = "cpu",
    limit: tuple[float, float] = (0.0, math.inf),
) -> None:
    """Values without gradients: the Triton kernels take no others."""
    rounded = cast(inputs, io, device)
    wanted_y, wanted_h = ssd_scan_ref(**double(rounded), dt_limit=limit)
    with torch.no_grad(), force(backend):  # type: ignore[arg-type]
        y, h = ssd_scan(**rounded, dt_limit=limit)
    assert y.dtype == io and h.dtype == torch.float32
    assert y.shape == wanted_y.shape and h.shape == wanted_h.shape
    tolerance = 1e-5 if io == torch.float32 else 1e-2
    assert error(y, wanted_y) < tolerance and error(h, wanted_h) < tolerance


def outputs_and_gradients(inputs: Inputs, backend: str) -> dict[str, Tensor]:
    leaves = {k: v if v is None else v.detach().requires_grad_() for k, v in inputs.items()}
    with force(backend):  # type: ignore[arg-type]
        y, state = ssd_scan(**leaves, dt_limit=LIMIT)  # type: ignore[arg-type]
    # Fixed, uneven weights, so that every output counts differently.
    weights = torch.linspace(-1, 1, y.numel(), device=y.device).sin().view(y.shape)
    ((y.to(state.dtype) * weights).sum() + state.cos().sum()).backward()
    grads = {f"d{k}": v.grad for k, v in leaves.items() if v is not None}
    assert all(g is not None for g in grads.values())
    return {"y": y.detach(), "new_state": state.detach(), **grads}  # type: ignore[dict-item]


def naive_scan(inputs: Inputs, limit: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The recurrence of every head and channel on its own, in float64."""
    arrays = {k: None if v is None else v.numpy() for k, v in inputs.items()}
    x, dt, A, B, C = (arrays[k] for k in ("x", "dt", "A", "B", "C"))
    assert x is not None and dt is not None and A is not None and B is not None and C is not None
    batch, length, heads, width = x.shape
    per_group = heads // B.shape[2]
    y, h = np.zeros_like(x), np.zeros((batch, heads, width, B.shape[3]))
    if (state := arrays["state"]) is not None:
        h[:] = state
    for b, i, p in np.ndindex(batch, heads, width):
        bias = 0.0 if arrays["dt_bias"] is None else arrays["dt_bias"][i]
        skip = 0.0 if arrays["D"] is None else arrays["D"][i]
        for t in range(length):
            step = min(max(math.log1p(math.exp(dt[b, t, i] + bias)), limit[0]), limit[1])
            column, row = B[b, t, i // per_group], C[b, t, i // per_group]
            h[b, i, p] = math.exp(step * A[i]) * h[b, i, p] + step * x[b, t, i, p] * column
            y[b, t, i, p] = row @ h[b, i, p] + skip * x[b, t, i, p]
    return y, h


@pytest.mark.parametrize("limit", [(0.0, math.inf), (0.3, 0.6)])
@pytest.mark.parametrize("present", [ALL, frozenset()], ids=["all", "bare"])
def test_reference_agrees_with_the_written_out_recurrence(
    present: frozenset[str], limit: tuple[float, float]
) -> None:
    inputs = make_inputs(2, 9, 4, 3, 2, 5, present)
    y, h = naive_scan(inputs, limit)
    got_y, got_h = ssd_scan_ref(**inputs, dt_limit=limit)  # type: ignore[arg-type]
    assert error(got_y, torch.from_numpy(y)) < 1e-12
    assert error(got_h, torch.from_numpy(h)) < 1e-12


@pytest.mark.parametrize("io", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 2, 8, 9, 64, 65, 130])
@pytest.mark.parametrize("backend", BACKENDS)
def test_values(backend: str, length: int, io: torch.dtype) -> None:
    check(make_inputs(2 if length < 64 else 1, length, 4, 8, 2, 16), io, backend)


@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.parametrize(
    "missing", [ALL, *({x} for x in sorted(ALL))], ids=lambda x: "-".join(sorted(x))
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_values_without_optional_inputs(backend: str, missing: frozenset[str], length: int) -> None:
    check(make_inputs(2, length, 2, 4, 1, 4, ALL - missing), torch.float32, backend)


@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.parametrize(
    ("heads", "width", "groups", "n"),
    [(1, 1, 1, 1), (3, 16, 3, 7), (6, 20, 2, 33), (2, 80, 1, 16), (1, 128, 1, 256)],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes(backend: str, heads: int, width: int, groups: int, n: int, length: int) -> None:
    check(make_inputs(1, length, heads, width, groups, n), torch.float32, backend)


@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.parametrize("limit", [(0.3, 0.6), (0.0, 0.1), (0.5, math.inf)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_clamped(backend: str, limit: tuple[float, float], length: int) -> None:
    check(make_inputs(1, length, 4, 8, 2, 16), torch.float32, backend, limit=limit)


@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_inputs(backend: str, length: int) -> None:
    inputs = cast(make_inputs(2, length, 4, 6, 2, 5), torch.float32)
    wanted = ssd_scan_ref(**inputs)
    transposed = {k: v.mT.contiguous().mT if v.dim() > 1 else v for k, v in inputs.items()}
    sliced = {k: torch.cat([v, v + 1], dim=-1)[..., : v.shape[-1]] for k, v in inputs.items()}
    late = {
        k: v.transpose(0, 1).contiguous().transpose(0, 1) if v.dim() > 1 else v
        for k, v in inputs.items()
    }
    for variant in (transposed, sliced, late):
        with torch.no_grad(), force(backend):  # type: ignore[arg-type]
            got = ssd_scan(**variant)  # type: ignore[arg-type]
        assert all(error(a, b) < 1e-5 for a, b in zip(got, wanted, strict=True))


@needs_interpreter
@pytest.mark.parametrize("io", [torch.float32, torch.float16])
@pytest.mark.parametrize("present", [ALL, frozenset()], ids=["all", "bare"])
def test_time_segments_change_nothing(present: frozenset[str], io: torch.dtype) -> None:
    """Float16 takes the way of bf16, which the interpreter cannot multiply."""
    from samba_cli.kernels.ssd_scan_triton import scan_forward

    inputs = cast(make_inputs(1, 330, 2, 4, 1, 4, present), io)
    wanted = ssd_scan_ref(**double(inputs), dt_limit=LIMIT)
    for span in (2, 3):
        got = scan_forward(*inputs.values(), *LIMIT, span=span)  # type: ignore[call-arg]
        tolerance = 1e-5 if io == torch.float32 else 1e-2
        assert all(error(a, b) < tolerance for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("length", [1, 5, 64, 150])
def test_gradients(length: int) -> None:
    inputs = cast(make_inputs(2, length, 4, 3, 2, 5), torch.float32)
    wanted = outputs_and_gradients(double(inputs), "ref")
    got = outputs_and_gradients(inputs, "torch")
    assert max(error(got[k], v) for k, v in wanted.items()) < 1e-5


@needs_interpreter
def test_gradients_where_triton_is_chosen() -> None:
    inputs = cast(make_inputs(1, 20, 2, 3, 1, 4), torch.float32)
    wanted = outputs_and_gradients(double(inputs), "ref")
    got = outputs_and_gradients(inputs, "triton")
    assert max(error(got[k], v) for k, v in wanted.items()) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=5)
@given(cuts=st.lists(st.integers(1, 149), max_size=4, unique=True))
def test_chunk_invariance(backend: str, cuts: list[int]) -> None:
    inputs = cast(make_inputs(1, 150, 4, 6, 2, 4), torch.float32)
    bounds = [0, *sorted(cuts), 150]
    with torch.no_grad(), force(backend):  # type: ignore[arg-type]
        whole, wanted_state = ssd_scan(**inputs)
        state, pieces = inputs["state"], []
        for start, stop in zip(bounds, bounds[1:], strict=False):
            part = {k: inputs[k][:, start:stop] for k in PER_TOKEN}
            y, state = ssd_scan(**{**inputs, **part, "state": state})
            pieces.append(y)
    assert error(torch.cat(pieces, 1), whole) < 1e-5
    assert error(state, wanted_state) < 1e-5


@pytest.mark.parametrize("length", [1, 20])
@pytest.mark.parametrize("backend", ["ref", *BACKENDS])
def test_state_is_a_new_tensor(backend: str, length: int) -> None:
    inputs = cast(make_inputs(1, length, 4, 2, 1, 3), torch.float32)
    before = inputs["state"].clone()
    with torch.no_grad(), force(backend):  # type: ignore[arg-type]
        _, state = ssd_scan(**inputs)
    assert torch.equal(inputs["state"], before)
    assert state.data_ptr() != inputs["state"].data_ptr()


@pytest.mark.parametrize("repeats", [1, 10])
@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_steps_stay_finite(backend: str, repeats: int) -> None:
    """One step of 200 decays a state to nothing; the small ones after it must keep digits."""
    inputs = cast(make_inputs(1, 4 * repeats, 3, 4, 1, 2), torch.float32)
    inputs["dt"] = (
        torch.tensor([-200.0, 200, -30, 0]).repeat(repeats)[None, :, None].expand(1, -1, 3)
    )
    inputs["A"] = torch.tensor([-100.0, -1e-3, -1.0])
    wanted = ssd_scan_ref(**double(inputs))
    with torch.no_grad(), force(backend):  # type: ignore[arg-type]
        got = ssd_scan(**inputs)
    assert all(bool(v.isfinite().all()) for v in got)
    assert all(error(a, b) < 1e-4 for a, b in zip(got, wanted, strict=True))


@needs_interpreter
@pytest.mark.parametrize("length", [1, 20])
def test_compiles_without_graph_breaks(length: int) -> None:
    def scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        y, state = ssd_scan(x * 2, dt, A, B, C, dt_limit=LIMIT)
        return y.sum() + state.sum()

    inputs = cast(make_inputs(1, length, 4, 4, 2, 3), torch.float32)
    values = [inputs[k] for k in ("x", "dt", "A", "B", "C")]
    with torch.no_grad(), force("triton"):
        eager = scan(*values)
        compiled = torch.compile(scan, fullgraph=True, backend="aot_eager")(*values)
    assert error(compiled, eager) < 1e-6


@pytest.mark.parametrize(
    ("name", "shape"),
    [("B", (1, 2, 3, 5)), ("C", (1, 3, 2, 5)), ("dt", (1, 2, 3)), ("A", (3,)), ("x", (1, 0, 4, 3))],
)
def test_rejects_shapes_that_do_not_fit(name: str, shape: tuple[int, ...]) -> None:
    inputs = cast(make_inputs(1, 2, 4, 3, 2, 5), torch.float32)
    with pytest.raises(ValueError, match="must be"):
        ssd_scan(**{**inputs, name: torch.zeros(shape)})


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize(
    ("batch", "length", "heads", "width", "groups", "n"),
    [
        (1, 1, 128, 64, 1, 128),
        (3, 8, 5, 48, 5, 24),
        (2, 70, 6, 16, 2, 16),
        (1, 130, 4, 80, 2, 100),
        (1, 1500, 2, 128, 1, 128),
        (1, 700, 3, 64, 1, 256),
        (2, 3000, 48, 64, 1, 128),
    ],
)
def test_gpu(batch: int, length: int, heads: int, width: int, groups: int, n: int) -> None:
    for present in (ALL, frozenset()):
        inputs = make_inputs(batch, length, heads, width, groups, n, present)
        check(inputs, torch.float32, "triton", "cuda", LIMIT)
        check(inputs, torch.bfloat16, "triton", "cuda")


@pytest.mark.gpu
@gpu
def test_gpu_beyond_32_bit_offsets() -> None:
    """300,000 tokens of 8,192 channels: the last of them lie past 2^31 values."""
    torch.manual_seed(0)
    length, cut = 300_000, 299_950
    x = torch.randn(1, length, 128, 64, device="cuda", dtype=torch.bfloat16)
    dt = torch.randn(1, length, 128, device="cuda", dtype=torch.bfloat16)
    A = -torch.rand(128, device="cuda") * 8
    B, C = torch.randn(2, 1, length, 1, 128, device="cuda", dtype=torch.bfloat16).unbind()
    with force("triton"):
        y, final = ssd_scan(x, dt, A, B, C)
        _, before = ssd_scan(x[:, :cut].clone(), dt[:, :cut], A, B[:, :cut], C[:, :cut])
    x, dt, B, C = (v[:, cut:].double() for v in (x, dt, B, C))
    wanted_y, wanted_h = ssd_scan_ref(x, dt, A.double(), B, C, state=before.double())
    assert error(y[:, cut:], wanted_y) < 1e-2 and error(final, wanted_h) < 1e-2


@pytest.mark.gpu
@gpu
def test_gpu_compiled() -> None:
    inputs = cast(make_inputs(2, 300, 8, 64, 1, 128), torch.bfloat16, "cuda")
    with torch.no_grad():
        eager = ssd_scan(**inputs)
        compiled = torch.compile(ssd_scan, fullgraph=True)(**inputs)
    assert all(error(a, b) < 1e-6 for a, b in zip(compiled, eager, strict=True))
