"""Speed of the selective scan on an NVIDIA GPU, beside its limits and mamba-ssm's kernel.

    python -m benchmarks.kernels_scan

Limits of one H200: 16 exp2 per clock of each of 132 multiprocessors (3.7e12/s; the scan needs N
per channel and token forwards, 2 N backwards) and a copy rate of 4.3 TB/s (8 bytes per channel and
token forwards in bf16: u, delta, z, y; 14 backwards: those with dy for y, and three gradients).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
import triton
from torch import Tensor

from samba_cli.kernels.dispatch import force
from samba_cli.kernels.selective_scan import selective_scan

EXP_PER_SECOND = 132 * 16 * 1.755e9
BYTES_PER_SECOND = 4.3e12


def make_inputs(batch: int, length: int, channels: int, n: int) -> list[Tensor]:
    """u, delta, A, B, C, D, z, delta_bias as a bf16 model makes them, gradients on."""
    torch.manual_seed(0)
    rows = (batch, length, channels)

    def bf16(*shape: int) -> Tensor:
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16)

    A = -torch.arange(1, n + 1, device="cuda", dtype=torch.float32).repeat(channels, 1)
    D = torch.ones(channels, device="cuda")
    bias = torch.full((channels,), -3.0, device="cuda")
    tensors = [bf16(*rows), bf16(*rows), A, bf16(batch, length, n), bf16(batch, length, n)]
    return [x.requires_grad_() for x in (*tensors, D, bf16(*rows), bias)]


def milliseconds(function: Callable[[], object]) -> float:
    return float(triton.testing.do_bench(function, warmup=50, rep=300, return_mode="median"))  # type: ignore[arg-type]


def check() -> None:
    """Outputs and gradients against the reference in fp32, norm-wise."""
    inputs = make_inputs(2, 300, 256, 16)
    results = []
    for backend, dtype in (("triton", None), ("ref", torch.float32)):
        leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in inputs]
        with force(backend):  # type: ignore[arg-type]
            y, state = selective_scan(*leaves)
        (y.float().sin().sum() + state.sum()).backward()
        results.append([y, state, *(x.grad for x in leaves)])
    names = ("y", "state", "du", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias")
    for name, got, wanted in zip(names, *results, strict=True):
        relative = float((got.float() - wanted).norm() / wanted.norm())
        print(f"{name:7s} relative error {relative:.1e}")
        if relative > 1e-2:
            raise SystemExit(f"{name} is wrong")


def report(name: str, ms: float, batch: int, length: int, channels: int, exps: int, size: int):
    values = batch * length * channels
    limits = values * exps / EXP_PER_SECOND * 1e3, values * size / BYTES_PER_SECOND * 1e3
    print(
        f"{name}: {ms:.3f} ms, {batch * length / ms * 1e3:,.0f} tokens/s; "
        f"limits: exp2 {limits[0]:.3f} ms, bytes {limits[1]:.3f} ms"
    )


def mamba_ssm_scan() -> Callable[..., Tensor] | None:
    """mamba-ssm's `selective_scan_fn`, where it and its CUDA extension are installed."""
    try:
        importlib.import_module("selective_scan_cuda")
        return importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except ImportError:
        return None


def compare(name: str, inputs: list[Tensor], ours: float, backward: bool) -> None:
    theirs = mamba_ssm_scan()
    if theirs is None:
        return
    u, delta, A, B, C, D, z, bias = (
        x.detach().mT.contiguous() if x.dim() == 3 else x.detach() for x in inputs
    )
    leaves = [x.requires_grad_(backward) for x in (u, delta, A, B, C, D, z, bias)]

    def step() -> None:
        y = theirs(*leaves, delta_softplus=True)
        if backward:
            torch.autograd.grad(y, leaves, u.detach())

    ms = milliseconds(step)
    print(f"{name}: mamba-ssm {ms:.3f} ms, {ms / ours:.2f} times ours")


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark needs an NVIDIA GPU.")
    print(torch.cuda.get_device_name(), "torch", torch.__version__, "triton", triton.__version__)
    check()
    n = 16
    for length in (16_384, 131_072):
        shape = (1, length, 4096)
        name = f"forward {shape}"
        with torch.no_grad():
            inputs = [x.detach() for x in make_inputs(*shape, n)]
            ms = milliseconds(lambda inputs=inputs: selective_scan(*inputs))
        report(name, ms, *shape, exps=n, size=8)
        compare(name, inputs, ms, backward=False)
    for batch in (32, 64, 128):
        shape = (batch, 2048, 1024)
        inputs = make_inputs(*shape, n)
        dy = torch.randn_like(inputs[0])

        def forward(inputs: list[Tensor] = inputs) -> Tensor:
            return selective_scan(*inputs)[0]

        def step(inputs: list[Tensor] = inputs, dy: Tensor = dy) -> None:
            torch.autograd.grad(forward(inputs), inputs, dy)

        report(f"forward, keeping states {shape}", milliseconds(forward), *shape, exps=n, size=8)
        name = f"forward + backward {shape}"
        ms = milliseconds(step)
        report(name, ms, *shape, exps=3 * n, size=22)
        compare(name, inputs, ms, backward=True)


if __name__ == "__main__":
    main()
