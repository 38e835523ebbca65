"""The CUDA source of the selective scan: on the CPU, thread by thread, and on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_on_cpu import COMPILER, EmulatedKernel
from test_selective_scan import (
    ALL,
    cast,
    check_all,
    error,
    make_inputs,
    outputs_and_gradients,
)
from torch import Tensor

from samba_cli.kernels import cuda_source, selective_scan_cuda, selective_scan_cuda_backward
from samba_cli.kernels.cuda_source import Unavailable
from samba_cli.kernels.dispatch import force, triton_available
from samba_cli.kernels.selective_scan import selective_scan
from samba_cli.kernels.selective_scan_cuda import (
    DEFAULT,
    MANY_BLOCKS,
    SOURCES,
    Plan,
    cuda_scan_for,
    macros,
    plan_for,
    read_source,
)

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="compiles the source with g++")
needs_operator = pytest.mark.skipif(
    not triton_available() or torch.cuda.is_available(), reason="runs beside Triton's interpreter"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
PLANS = [pytest.param(DEFAULT, id="default"), pytest.param(MANY_BLOCKS, id="many blocks")]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cuda_on_cpu")


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, built: Path) -> None:
    """CUDA's side of the operators on CPU tensors, the kernels run by one CPU thread."""
    backward = selective_scan_cuda_backward.shared_bytes

    def forward_kernel(name: str, plan: Plan, dtype: torch.dtype, device: Any) -> EmulatedKernel:
        source, size = read_source(*SOURCES[name]), plan.shared_bytes()
        return EmulatedKernel(source, name, macros(plan, dtype), size, built)

    def backward_kernel(name: str, plan: Plan, dtype: torch.dtype, device: Any) -> EmulatedKernel:
        source = read_source(*selective_scan_cuda_backward.SOURCES)
        size = backward(plan, dtype)
        return EmulatedKernel(source, name, macros(plan, dtype), size, built)

    monkeypatch.setattr(selective_scan_cuda, "kernel", forward_kernel)
    monkeypatch.setattr(selective_scan_cuda_backward, "kernel", backward_kernel)
    monkeypatch.setattr(selective_scan_cuda, "multiprocessors", lambda device: 3)
    operators = pytest.importorskip("samba_cli.kernels.selective_scan_op")
    monkeypatch.setattr(operators, "cuda_scan_for", lambda *inputs, **options: True)


@needs_compiler
@needs_operator
@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("batch", "length", "channels"), [(1, 1, 32), (2, 65, 40), (1, 300, 8)])
def test_outputs_and_gradients(
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    length: int,
    channels: int,
    plan: Plan,
    dtype: torch.dtype,
) -> None:
    monkeypatch.setattr(selective_scan_cuda, "plan_for", lambda *sizes: plan)
    inputs = make_inputs(batch, length, channels, 16)
    check_all(inputs, dtype, "triton", "cpu", TOLERANCE[dtype])


@needs_compiler
@needs_operator
@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(
    "missing", [ALL, *({x} for x in sorted(ALL))], ids=lambda x: "-".join(sorted(x))
)
def test_without_optional_inputs(missing: frozenset[str]) -> None:
    check_all(make_inputs(1, 40, 12, 16, ALL - missing), torch.float32, "triton", "cpu", 1e-5)


@needs_compiler
@needs_operator
@pytest.mark.usefixtures("emulated")
def test_strided_inputs() -> None:
    inputs = cast(make_inputs(2, 40, 24, 16), torch.float32)
    wanted = outputs_and_gradients(inputs, "ref")
    transposed = {k: v.mT.contiguous().mT if v.dim() > 1 else v for k, v in inputs.items()}
    sliced = {k: torch.cat([v + 1, v], dim=-1)[..., v.shape[-1] :] for k, v in inputs.items()}
    odd = {k: torch.cat([v[..., :3], v], dim=-1)[..., 3:] for k, v in inputs.items()}
    for variant in (transposed, sliced, odd):
        got = outputs_and_gradients({k: v.detach() for k, v in variant.items()}, "triton")
        assert max(error(got[k], v) for k, v in wanted.items()) < 1e-5


@needs_compiler
@needs_operator
@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("plan", [Plan(lanes=4, warps=4, tile=32), Plan(lanes=8, warps=4, tile=32)])
def test_plans_and_time_segments_change_nothing(plan: Plan) -> None:
    inputs = cast(make_inputs(1, 100, 20, 16), torch.float32)
    values: list[Any] = list(inputs.values())
    dy, dstate = torch.ones_like(inputs["u"]), torch.ones(1, 20, 16)
    forward, backward = selective_scan_cuda, selective_scan_cuda_backward
    whole = forward.scan_forward(*values, keep=True, segment=128)
    grads = backward.scan_backward(dy, dstate, *values[:8], whole[2], segment=128)
    cut = forward.scan_forward(*values, keep=True, segment=32, plan=plan)
    assert all(error(a, b) < 1e-6 for a, b in zip(cut, whole, strict=True))
    plan = plan._replace(stages=2)
    cut_grads = backward.scan_backward(dy, dstate, *values[:8], whole[2], segment=32, plan=plan)
    assert all(error(a, b) < 1e-5 for a, b in zip(cut_grads, grads, strict=True))


def test_plans_follow_the_blocks_of_a_multiprocessor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selective_scan_cuda, "multiprocessors", lambda device: 132)
    assert DEFAULT.channels == MANY_BLOCKS.channels
    plans = {shape: plan_for(*shape, True, 0) for shape in ((1, 4096), (4, 1024), (1, 2144))}
    assert all(plan == DEFAULT for plan in plans.values())
    plans = {shape: plan_for(*shape, True, 0) for shape in ((1, 1024), (8, 1024), (1, 2112))}
    assert all(plan == MANY_BLOCKS for plan in plans.values())


def inputs_of(dtype: torch.dtype, states: int) -> list[Any]:
    x = cast(make_inputs(1, 2, 8, states), dtype)
    return [x["u"], x["delta"], x["A"], x["B"], x["C"], x["z"]]


def test_the_cpu_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not cuda_scan_for(*inputs_of(torch.float32, 16))
    monkeypatch.setenv("SAMBA_SCAN", "cuda")
    with pytest.raises(ValueError, match="SAMBA_SCAN=cuda needs 16 states"):
        cuda_scan_for(*inputs_of(torch.float32, 16))
    monkeypatch.setenv("SAMBA_SCAN", "fast")
    with pytest.raises(ValueError, match="auto, cuda or triton"):
        cuda_scan_for(*inputs_of(torch.float32, 16))


def test_without_a_compiler_triton_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise Unavailable("libnvrtc.so.13 is not installed")

    monkeypatch.setattr(selective_scan_cuda, "load_kernel", missing)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    selective_scan_cuda._loads.cache_clear()
    with pytest.warns(UserWarning, match="runs in Triton, not in CUDA: libnvrtc"):
        assert not selective_scan_cuda._loads(torch.bfloat16, 0)
    selective_scan_cuda._loads.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not selective_scan_cuda._loads(torch.bfloat16, 0)
    selective_scan_cuda._loads.cache_clear()


class FakeNvrtc:
    """Gives the version and one program's machine code, and counts compilations."""

    compiled = 0

    def nvrtcVersion(self, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = 13, 0
        return 0


def test_machine_code_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cuda_source, "_nvrtc", FakeNvrtc)
    made: list[list[str]] = []

    def compile_(nvrtc: object, source: str, options: list[str]) -> bytes:
        made.append(options)
        return source.encode()

    monkeypatch.setattr(cuda_source, "_compile", compile_)
    for _ in range(2):
        assert cuda_source.machine_code_of("source", {"N": 1}, (9, 0)) == b"source"
    assert len(made) == 1 and "--gpu-architecture=sm_90" in made[0] and "-DN=1" in made[0]
    for source, defined, capability in (("other", {"N": 1}, (9, 0)), ("source", {"N": 2}, (9, 0))):
        cuda_source.machine_code_of(source, defined, capability)
    assert len(made) == 3
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").write_text("no folder")
    assert cuda_source.machine_code_of("source", {"N": 1}, (9, 0)) == b"source"


def test_a_pytorch_without_cuda_has_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    cuda_source._nvrtc.cache_clear()
    with pytest.raises(Unavailable, match="built without CUDA"):
        cuda_source.machine_code_of("", {}, (9, 0))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    ("batch", "length", "channels"), [(1, 1, 64), (2, 7, 100), (1, 1000, 96), (4, 4096, 1024)]
)
def test_gpu_agrees_with_the_reference(
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    length: int,
    channels: int,
    plan: Plan,
    dtype: torch.dtype,
) -> None:
    monkeypatch.setenv("SAMBA_SCAN", "cuda")
    monkeypatch.setattr(selective_scan_cuda, "plan_for", lambda *sizes: plan)
    inputs = make_inputs(batch, length, channels, 16)
    check_all(inputs, dtype, "triton", "cuda", TOLERANCE[dtype])
    with torch.no_grad(), force("triton"):  # float32 without gradients is CUDA's too
        y, state = selective_scan(**cast(inputs, dtype, "cuda"))
    exact: dict[str, Any] = {k: v.double() for k, v in cast(inputs, dtype, "cuda").items()}
    with torch.no_grad(), force("ref"):
        wanted = selective_scan(**exact)
    assert error(y, wanted[0]) < TOLERANCE[dtype] and error(state, wanted[1]) < 1e-5
    bare = make_inputs(batch, length, channels, 16, frozenset())
    check_all(bare, dtype, "triton", "cuda", TOLERANCE[dtype])


@pytest.mark.gpu
@needs_gpu
def test_gpu_reads_the_slices_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = cast(make_inputs(2, 500, 256, 16), torch.bfloat16, "cuda")
    joined = torch.cat([inputs["B"][..., :5], inputs["B"], inputs["C"]], dim=-1)
    halves = torch.cat([inputs["u"], inputs["z"]], dim=-1)
    sliced = {**inputs, "B": joined[..., 5:21], "C": joined[..., 21:], "z": halves[..., 256:]}
    results = []
    for choice, given in (("triton", inputs), ("cuda", sliced)):
        monkeypatch.setenv("SAMBA_SCAN", choice)
        with torch.no_grad(), force("triton"):
            results.append(selective_scan(**given))
    for got, wanted in zip(*results, strict=True):
        assert error(got, wanted) < 1e-3


@pytest.mark.gpu
@needs_gpu
def test_gpu_runs_from_other_threads_and_in_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setenv("SAMBA_SCAN", "cuda")
    inputs = cast(make_inputs(1, 256, 64, 16), torch.bfloat16, "cuda")
    results: list[Tensor] = []

    def scan() -> None:
        with torch.no_grad():
            results.append(selective_scan(**inputs)[0])

    scan()
    thread = threading.Thread(target=scan)
    thread.start()
    thread.join()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        scan()
    graph.replay()
    torch.cuda.synchronize()
    assert len(results) == 3 and all(torch.equal(x, results[0]) for x in results)
