"""The compiled loops of the CPU against the references, in both dtypes and any shape."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from samba_cli.kernels import dispatch
from samba_cli.kernels.causal_conv1d import causal_conv1d
from samba_cli.kernels.dispatch import compiled, force
from samba_cli.kernels.rms_norm import add_rms_norm, rms_norm
from samba_cli.kernels.rotate import rotate
from samba_cli.kernels.selective_scan import selective_scan
from samba_cli.kernels.swiglu import gated

pytest.importorskip("numba")

from samba_cli.kernels import compiled as loops  # noqa: E402
from samba_cli.kernels.causal_conv1d_compiled import causal_conv1d_compiled  # noqa: E402
from samba_cli.kernels.rms_norm_compiled import (  # noqa: E402
    add_rms_norm_compiled,
    rms_norm_compiled,
)
from samba_cli.kernels.rotate_compiled import rotate_compiled  # noqa: E402
from samba_cli.kernels.selective_scan_compiled import selective_scan_compiled  # noqa: E402
from samba_cli.kernels.swiglu_compiled import gated_compiled  # noqa: E402

DTYPES = [(torch.float32, 2e-6), (torch.bfloat16, 4e-3)]
both = pytest.mark.parametrize("dtype, bound", DTYPES)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def error(got: Tensor, wanted: Tensor) -> float:
    got, wanted = got.double(), wanted.double()
    return float((got - wanted).norm() / wanted.norm().clamp(min=1e-30))


def scan_inputs(
    batch: int, length: int, channels: int, n: int, dtype: torch.dtype
) -> list[Tensor | None]:
    """Parts of joint projections, as in the model, with steps from 1e-4 to beyond 20."""
    u, delta = normal(batch, length, channels), normal(batch, length, channels, seed=1) * 6 - 3
    A = -normal(channels, n).abs() * 8
    _, B, C = normal(batch, length, 3 + 2 * n).to(dtype).split([3, n, n], dim=-1)
    z = normal(batch, length, 2 * channels).to(dtype)[..., channels:]
    D, bias, state = normal(channels), normal(channels, seed=2), normal(batch, channels, n)
    return [u.to(dtype), delta.to(dtype), A, B, C, D, z, bias, state]


@both
@pytest.mark.parametrize(
    "batch, length, channels, n", [(1, 9, 64, 16), (2, 5, 100, 5), (3, 1, 1, 1)]
)
def test_scan(batch, length, channels, n, dtype, bound):
    inputs = scan_inputs(batch, length, channels, n, dtype)
    for given_ in (inputs, [*inputs[:5], None, None, None, None]):
        with force("ref"):
            wide = [None if t is None else t.double() for t in given_]
            y, state = selective_scan(*wide)  # type: ignore[arg-type]
        got, after = selective_scan_compiled(*given_)  # type: ignore[arg-type]
        assert got.dtype == dtype and after.dtype == torch.float32
        assert error(got, y) < bound
        assert error(after, state) < 2e-6  # whatever comes in, the state is float32


@given(cuts=st.lists(st.integers(1, 39), max_size=4, unique=True))
@settings(max_examples=15, deadline=None)
def test_every_cut_of_a_scan_gives_the_same_bits(cuts):
    inputs = scan_inputs(2, 40, 70, 4, torch.float32)
    whole, end = selective_scan_compiled(*inputs)  # type: ignore[arg-type]
    state, pieces = inputs[8], []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 40], strict=True):
        u, delta, A, B, C, D, z, bias, _ = inputs
        u, delta, B, C, z = (t[:, start:stop] for t in (u, delta, B, C, z))  # type: ignore[index]
        y, state = selective_scan_compiled(u, delta, A, B, C, D, z, bias, state)  # type: ignore[arg-type]
        pieces.append(y)
    assert torch.equal(torch.cat(pieces, dim=1), whole)
    assert state is not None and torch.equal(state, end)


def test_steps_beyond_what_a_float_holds():
    """Decays that underflow are 0, gates that saturate are 0 or the identity: nothing is NaN."""
    ones = torch.ones(1, 3, 2)
    u, delta, z = ones, ones * 5000, torch.tensor([-1e30, 1e30]).expand(1, 3, 2)
    y, state = selective_scan_compiled(
        u, delta, -torch.ones(2, 1), ones[..., :1], ones[..., :1], None, z
    )
    assert state.tolist() == [[[5000.0], [5000.0]]]
    assert y[0, :, 0].tolist() == [0.0] * 3
    assert y[0, :, 1].tolist() == pytest.approx([5e33] * 3)


@both
@pytest.mark.parametrize("length, taps", [(1, 4), (2, 4), (70, 4), (33, 2), (40, 8)])
def test_convolution(length, taps, dtype, bound):
    x = normal(2, length, 2 * 37).to(dtype)[..., 37:]
    weight, bias, state = normal(37, taps), normal(37), normal(2, 37, taps - 1).to(dtype)
    for b, s, activation in ((bias, state, "silu"), (None, None, None)):
        with force("ref"):
            wanted, end = causal_conv1d(
                x.float(), weight, b, s if s is None else s.float(), activation
            )
        got, after = causal_conv1d_compiled(x, weight, b, s, activation)
        assert got.dtype == after.dtype == dtype and after.is_contiguous()
        assert error(got, wanted) < bound and torch.equal(after.float(), end)


@both
def test_norm_activation_and_rotation(dtype, bound):
    x, weight = normal(2, 35, 24), normal(24)
    with force("ref"):
        assert error(rms_norm_compiled(x, weight, 1e-5, dtype), rms_norm(x, weight, 1e-5)) < bound
    gate, up = (normal(2, 35, 80) * 3).to(dtype).chunk(2, dim=-1)
    wanted = torch.nn.functional.silu(gate.double()) * up.double()
    assert error(gated_compiled(gate, up), wanted) < bound
    heads, cos, sin = normal(2, 35, 3, 22).to(dtype)[..., :20], normal(35, 6), normal(35, 6, seed=1)
    with force("ref"):
        wanted = rotate(heads.float(), cos, sin)
    assert error(rotate_compiled(heads, cos, sin), wanted) < bound


@both
def test_norm_of_a_sum(dtype, bound):
    branch, residual, weight = normal(2, 70, 24).to(dtype), normal(2, 70, 24, seed=1), normal(24)
    y, total = add_rms_norm_compiled(branch, residual, weight, 1e-5, dtype)
    with force("ref"):
        wanted, stream = add_rms_norm(branch.float(), residual, weight, 1e-5)
    assert y.dtype == dtype and error(y, wanted) < bound
    assert total.dtype == torch.float32 and torch.equal(total, stream)


def test_norms_of_sums_are_compiled_without_gradients(monkeypatch):
    monkeypatch.setattr(dispatch, "COMPILED_TOKENS", 1)
    branch, residual, weight = normal(1, 3, 8).requires_grad_(), normal(1, 3, 8), normal(8)
    y, _ = add_rms_norm(branch, residual, weight, 1e-5, torch.float32)
    y.sum().backward()
    assert branch.grad is not None
    with torch.no_grad():
        again, _ = add_rms_norm(branch, residual, weight, 1e-5, torch.float32)
        half, _ = add_rms_norm(branch, residual, weight, 1e-5, torch.bfloat16)
    assert error(again, y.detach()) < 2e-6 and half.dtype == torch.bfloat16


def test_bfloat16_is_rounded_to_the_nearest():
    """Ties to even, as torch rounds; what is not a number stays none."""
    x = torch.tensor([[1.00390625, 1.01171875, -1.0039063, -1.0117187, 3e38, 0.1, math.nan]])
    for value in x.T:
        row = value.expand(1, 1)
        stored = rms_norm_compiled(torch.ones(1, 1), row[0], 0.0, torch.bfloat16)
        torch.testing.assert_close(stored, row.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_long_calls_are_compiled_and_others_are_not(monkeypatch):
    long, short = torch.zeros(2, 256, 8), torch.zeros(2, 255, 8)
    assert compiled(long) and not compiled(short)
    assert not compiled(long.double()) and not compiled(long.half())
    with force("ref"):
        assert not compiled(long)
    monkeypatch.setenv("SAMBA_COMPILED", "off")
    assert not compiled(long)
    monkeypatch.delenv("SAMBA_COMPILED")
    monkeypatch.setattr(dispatch, "_HAS_NUMBA", False)
    assert not compiled(long)


def test_gradients_take_the_plain_path(monkeypatch):
    monkeypatch.setattr(dispatch, "COMPILED_TOKENS", 1)
    inputs = scan_inputs(1, 7, 6, 3, torch.float32)
    u = inputs[0].requires_grad_()  # type: ignore[union-attr]
    y, _ = selective_scan(*inputs)  # type: ignore[arg-type]
    x, _ = causal_conv1d(u, normal(6, 4))
    total = y.sum() + x.sum() + rms_norm(u, torch.ones(6)).sum() + gated(u, u).sum()
    total += rotate(u[:, :, None], torch.ones(7, 2), torch.ones(7, 2)).sum()
    total.backward()
    assert u.grad is not None and u.grad.isfinite().all()


@pytest.mark.parametrize("own", [False, True])
def test_threads_share_the_tasks(monkeypatch, own):
    """On torch's threads, and on threads of its own where torch's cannot be had."""
    if own:
        monkeypatch.setattr(loops, "_team", lambda: loops._own_threads)
    inputs = scan_inputs(2, 50, 300, 4, torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = selective_scan_compiled(*inputs)  # type: ignore[arg-type]
        torch.set_num_threads(3)
        for _ in range(20):
            shared = selective_scan_compiled(*inputs)  # type: ignore[arg-type]
            assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
    finally:
        torch.set_num_threads(before)
