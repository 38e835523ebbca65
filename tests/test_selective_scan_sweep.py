"""The CUDA source of the sweep over a whole length: on the CPU, and on a GPU beside the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_on_cpu import COMPILER, EmulatedKernel
from test_selective_scan import ALL, cast, error, make_inputs
from torch import Tensor

from samba_cli.kernels import selective_scan_cuda
from samba_cli.kernels.selective_scan_cuda import (
    DEFAULT,
    MANY_BLOCKS,
    SOURCES,
    SWEEP,
    Plan,
    macros,
    plan_for,
    read_source,
    scan_forward,
)
from samba_cli.kernels.selective_scan_ref import selective_scan_ref

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
Scan = Callable[[dict[str, Tensor | None], Plan], tuple[Tensor, Tensor]]


def scan(inputs: dict[str, Any], plan: Plan) -> tuple[Tensor, Tensor]:
    segment = -(-inputs["u"].shape[1] // plan.tile) * plan.tile  # the length is not cut
    y, final, kept = scan_forward(*inputs.values(), keep=False, segment=segment, plan=plan)
    assert kept.numel() == 0 and y.dtype == inputs["u"].dtype and final.dtype == torch.float32
    return y, final


def exact(inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    values: list[Any] = [x if x is None else x.double() for x in inputs.values()]
    return selective_scan_ref(*values)


def check(got: tuple[Tensor, Tensor], inputs: dict[str, Any], dtype: torch.dtype) -> None:
    y, final = exact(inputs)
    assert error(got[0], y) < TOLERANCE[dtype] and error(got[1], final) < 1e-5


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cuda_on_cpu")


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, built: Path) -> Scan:
    """`scan` of CPU tensors, the kernels run by one CPU thread."""
    if COMPILER is None or torch.cuda.is_available():
        pytest.skip("compiles the source with g++, where there is no GPU")

    def kernel(name: str, plan: Plan, dtype: torch.dtype, device: Any) -> EmulatedKernel:
        source, size = read_source(*SOURCES[name]), plan.shared_bytes()
        return EmulatedKernel(source, name, macros(plan, dtype), size, built)

    monkeypatch.setattr(selective_scan_cuda, "kernel", kernel)
    monkeypatch.setattr(selective_scan_cuda, "multiprocessors", lambda device: 1)
    return scan


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", [1, 4, 31, 32, 47, 48, 49, 95, 96, 97, 144, 150])
def test_lengths_around_tiles(emulated: Scan, length: int, dtype: torch.dtype) -> None:
    inputs = cast(make_inputs(1, length, 32, 16), dtype)
    check(emulated(inputs, SWEEP), inputs, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("batch, channels", [(1, 1), (2, 7), (1, 33), (2, 40), (1, 72)])
def test_parts_of_a_block(emulated: Scan, batch: int, channels: int, dtype: torch.dtype) -> None:
    inputs = cast(make_inputs(batch, 45, channels, 16), dtype)
    check(emulated(inputs, SWEEP), inputs, dtype)


@pytest.mark.parametrize(
    "missing", [ALL, *({x} for x in sorted(ALL))], ids=lambda x: "-".join(sorted(x))
)
def test_without_optional_inputs(emulated: Scan, missing: frozenset[str]) -> None:
    inputs = cast(make_inputs(1, 70, 12, 16, ALL - missing), torch.float32)
    check(emulated(inputs, SWEEP), inputs, torch.float32)


def test_strided_inputs(emulated: Scan) -> None:
    inputs = cast(make_inputs(2, 40, 24, 16), torch.float32)
    transposed = {k: v.mT.contiguous().mT if v.dim() > 1 else v for k, v in inputs.items()}
    both = {k: torch.cat([v + 1, v], dim=-1)[..., v.shape[-1] :] for k, v in inputs.items()}
    odd = {k: torch.cat([v[..., :3], v], dim=-1)[..., 3:] for k, v in inputs.items()}
    for variant in (transposed, both, odd):
        # vectors are made contiguous before: `selective_scan_triton`
        given = {k: v.contiguous() if v.dim() == 1 else v for k, v in variant.items()}
        check(emulated(given, SWEEP), inputs, torch.float32)


def test_both_sources_agree_and_chunks_too(emulated: Scan) -> None:
    inputs = cast(make_inputs(1, 150, 40, 16), torch.float32)
    y, final = emulated(inputs, SWEEP)
    other = scan_forward(*inputs.values(), keep=False, segment=192, plan=DEFAULT)
    assert error(y, other[0]) < 1e-6 and error(final, other[1]) < 1e-6
    again = emulated(inputs, SWEEP)
    assert torch.equal(y, again[0]) and torch.equal(final, again[1])
    state, parts = inputs["state"], []
    for first, last in ((0, 47), (47, 48), (48, 150)):
        cut = {k: inputs[k][:, first:last] for k in ("u", "delta", "B", "C", "z")}
        part, state = emulated({**inputs, **cut, "state": state}, SWEEP)
        parts.append(part)
    assert error(torch.cat(parts, dim=1), y) < 1e-6 and error(state, final) < 1e-6


def test_it_keeps_no_states_and_cuts_no_length(
    emulated: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = cast(make_inputs(1, 300, 8, 16), torch.float32)
    with pytest.raises(AssertionError):
        scan_forward(*inputs.values(), keep=True, plan=SWEEP)
    with pytest.raises(AssertionError):
        scan_forward(*inputs.values(), keep=False, segment=128, plan=SWEEP)
    monkeypatch.setattr(selective_scan_cuda, "multiprocessors", lambda device: 3)
    y, final, _ = scan_forward(*inputs.values(), keep=False)  # time is cut: the other source
    check((y, final), inputs, torch.float32)


def test_it_takes_the_place_of_one_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selective_scan_cuda, "multiprocessors", lambda device: 132)
    assert SWEEP.channels == DEFAULT.channels
    assert plan_for(1, 4096, False, 0) == plan_for(4, 1024, False, 0) == SWEEP
    assert plan_for(1, 4096, True, 0) == DEFAULT
    for keep in (False, True):
        assert plan_for(1, 1024, keep, 0) == plan_for(8, 1024, keep, 0) == MANY_BLOCKS
    for batch, channels in ((1, 4096), (4, 1024), (1, 2144)):  # lengths that are not cut
        blocks = batch * -(-channels // SWEEP.channels)
        assert selective_scan_cuda.segment_length(1 << 20, blocks, SWEEP, 0) >= 1 << 20


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "batch, length, channels",
    [(1, 1, 64), (2, 7, 100), (1, 32, 4096), (1, 1000, 96), (4, 2049, 1024), (1, 4096, 4096)],
)
def test_gpu_agrees_with_the_other_source(
    batch: int, length: int, channels: int, dtype: torch.dtype
) -> None:
    for present in (ALL, frozenset[str]()):
        inputs = cast(make_inputs(batch, length, channels, 16, present), dtype, "cuda")
        segment = -(-length // 64) * 64
        sweep = scan(inputs, SWEEP)
        other = scan_forward(*inputs.values(), keep=False, segment=segment, plan=DEFAULT)
        assert error(sweep[0], other[0]) < TOLERANCE[dtype] and error(sweep[1], other[1]) < 1e-6
        again = scan(inputs, SWEEP)
        assert torch.equal(sweep[0], again[0]) and torch.equal(sweep[1], again[1])
        check(sweep, inputs, dtype)


@pytest.mark.gpu
@needs_gpu
def test_gpu_reads_slices_and_is_what_long_texts_run() -> None:
    device = torch.cuda.current_device()
    channels = 32 * selective_scan_cuda.multiprocessors(device)
    assert plan_for(1, channels, False, device) == SWEEP
    inputs = cast(make_inputs(1, 500, channels, 16), torch.bfloat16, "cuda")
    joined = torch.cat([inputs["B"][..., :5], inputs["B"], inputs["C"]], dim=-1)
    halves = torch.cat([inputs["u"], inputs["z"]], dim=-1)
    sliced = {**inputs, "B": joined[..., 5:21], "C": joined[..., 21:], "z": halves[..., channels:]}
    y, final, _ = scan_forward(*sliced.values(), keep=False)
    wanted = scan(inputs, SWEEP)
    assert error(y, wanted[0]) < 1e-3 and error(final, wanted[1]) < 1e-6
