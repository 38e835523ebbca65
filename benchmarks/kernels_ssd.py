"""Speed of the scan of Mamba-2, beside its limits and mamba-ssm's kernels.

    python -m benchmarks.kernels_ssd [--device cpu]

Limits of one H200: 790 TFLOP/s of bf16 matrix products and a copy rate of 4.3 TB/s. The products
are those of blocks of S = 64 tokens: per token and head 2 S (N + P) inside a block and 4 N P with
the state. The bytes are x, y, dt, B and C once each. On a CPU it only shows times.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from samba_cli.kernels.dispatch import force
from samba_cli.kernels.ssd_scan import ssd_scan
from samba_cli.kernels.ssd_scan_ref import ssd_scan_ref

FLOPS_PER_SECOND = 790e12
BYTES_PER_SECOND = 4.3e12
BLOCK = 64
GPU_SHAPES = [(length, 128, 64, 1, 128) for length in (1, 4096, 16_384, 131_072)]
CPU_SHAPES = [(length, 8, 64, 1, 64) for length in (1, 256, 2048)]


def make_inputs(
    length: int, heads: int, width: int, groups: int, n: int, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, dt, A, B, C, D, dt_bias and a state, as a bf16 model (on a CPU: fp32) makes them."""
    torch.manual_seed(0)
    io = torch.bfloat16 if device == "cuda" else torch.float32

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=io)

    A = -torch.linspace(1, 16, heads, device=device)
    D, bias = torch.ones(heads, device=device), torch.full((heads,), -3.0, device=device)
    x, dt = normal(1, length, heads, width), normal(1, length, heads)
    B, C = normal(1, length, groups, n), normal(1, length, groups, n)
    return x, dt, A, B, C, D, bias, torch.zeros(1, heads, width, n, device=device)


def milliseconds(function: Callable[[], object], device: str) -> float:
    if device == "cuda":
        import triton.testing

        return float(triton.testing.do_bench(function, warmup=50, rep=300, return_mode="median"))  # type: ignore[arg-type]
    function()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def check(device: str) -> None:
    """Outputs against the reference in fp32, norm-wise."""
    inputs = make_inputs(3000, 8, 64, 1, 128, device)
    x, dt, A, B, C, D, bias, state = (v.float() for v in inputs)
    wanted = ssd_scan_ref(x, dt, A, B, C, D, bias, state)
    for name, got, right in zip(("y", "state"), ssd_scan(*inputs), wanted, strict=True):
        relative = float((got.float() - right).norm() / right.norm())
        print(f"{name:5s} relative error {relative:.1e}")
        if relative > 1e-2:
            raise SystemExit(f"{name} is wrong")


def report(ms: float, shape: tuple[int, int, int, int, int], device: str, size: int) -> None:
    length, heads, width, groups, n = shape
    flops = length * heads * (2 * BLOCK * (n + width) + 4 * n * width)
    moved = length * (heads * (2 * width + 1) + 2 * groups * n) * size
    if length == 1:  # the state, read and written
        flops, moved = heads * width * n * 5, heads * width * n * 8
    line = (
        f"T {length:,}, H {heads}, P {width}, G {groups}, N {n}: {ms:.3f} ms, "
        f"{length / ms * 1e3:,.0f} tokens/s, {flops / ms / 1e9:.2f} TFLOP/s, "
        f"{moved / ms / 1e6:.1f} GB/s"
    )
    if device == "cuda":
        limits = flops / FLOPS_PER_SECOND * 1e3, moved / BYTES_PER_SECOND * 1e3
        line += (
            f"; {ms / limits[0]:.1f} times the limit of products ({limits[0]:.3f} ms), "
            f"{ms / limits[1]:.1f} times that of bytes ({limits[1]:.3f} ms)"
        )
    print(line)


def compare(inputs: tuple[Tensor, ...], ours: float) -> None:
    """mamba-ssm's `mamba_chunk_scan_combined`, where it is installed."""
    try:
        module = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
    except ImportError:
        return
    x, dt, A, B, C, D, bias, state = inputs

    def theirs() -> object:
        return module.mamba_chunk_scan_combined(
            x, dt, A, B, C, chunk_size=256, D=D, dt_bias=bias, initial_states=state,
            dt_softplus=True, return_final_states=True,
        )  # fmt: skip

    ms = milliseconds(theirs, "cuda")
    print(f"  mamba-ssm {ms:.3f} ms, {ms / ours:.2f} times ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    device = parser.parse_args().device
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("No NVIDIA GPU is here; measure the CPU with --device cpu.")
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} cores"
    print(name, "torch", torch.__version__)
    with torch.no_grad(), force("triton" if device == "cuda" else "torch"):
        check(device)
        for shape in GPU_SHAPES if device == "cuda" else CPU_SHAPES:
            inputs = make_inputs(*shape, device)
            ms = milliseconds(lambda inputs=inputs: ssd_scan(*inputs), device)
            report(ms, shape, device, inputs[0].element_size())
            if device == "cuda":
                compare(inputs, ms)


if __name__ == "__main__":
    main()
