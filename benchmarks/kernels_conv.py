"""Time the causal convolution on a GPU, next to the bandwidth limit and causal-conv1d.

    python benchmarks/kernels_conv.py [--tune]

Checks each shape against the reference first. Bytes counted: x read and y written once in the
forward pass; x and dy read and dx written once in the backward pass.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any

import torch
import triton

from samba_cli.kernels import causal_conv1d_triton as kernel
from samba_cli.kernels.causal_conv1d import causal_conv1d
from samba_cli.kernels.causal_conv1d_ref import causal_conv1d_ref

COPY_TB_PER_S = 4.3  # measured copy bandwidth of an H200
SHAPES = [(1, 4096, 1024), (1, 16384, 1024), (1, 16384, 4096), (1, 131072, 4096), (8, 4096, 1024)]


def median_ms(function: Callable[[], object]) -> float:
    return float(triton.testing.do_bench(function, return_mode="median"))  # type: ignore[arg-type]


def distance(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


def row(name: str, ms: float, n_bytes: int) -> str:
    rate = n_bytes / ms / 1e9
    return f"  {name:<26} {ms:8.4f} ms  {rate:5.2f} TB/s  {rate / COPY_TB_PER_S:4.0%} of copy"


def bench(batch: int, T: int, E: int, tune: bool) -> None:
    x = torch.randn(batch, T, 2 * E, device="cuda", dtype=torch.bfloat16)[..., :E]
    weight, bias = torch.randn(E, 4, device="cuda"), torch.randn(E, device="cuda")
    state = torch.randn(batch, E, 3, device="cuda", dtype=torch.bfloat16)
    dy, dfinal = torch.randn(batch, T, E, device="cuda").bfloat16(), torch.randn_like(state)
    inputs: list[Any] = [t.detach().requires_grad_() for t in (x, weight, bias, state)]
    y, final = causal_conv1d(*inputs)
    grads = torch.autograd.grad([y, final], inputs, [dy, dfinal])
    wide: list[Any] = [t.detach().float().requires_grad_() for t in inputs]
    outs = causal_conv1d_ref(*wide)
    expected = torch.autograd.grad(outs, wide, [dy.float(), dfinal.float()])
    errors = [distance(a, e) for a, e in zip((y, final, *grads), (*outs, *expected), strict=True)]
    assert max(errors) < 1e-2, errors
    moved = 2 * x.numel() * x.element_size()
    print(f"B {batch} T {T} E {E} bf16, largest relative error {max(errors):.1e}")
    print(row("copy", median_ms(lambda: dy.clone()), moved))
    args = (x, weight, bias, state, True)
    print(row("forward", median_ms(lambda: kernel.forward(*args)), moved))
    backward = median_ms(lambda: kernel.backward(dy, dfinal, *args))
    print(row("backward", backward, moved // 2 * 3))
    if tune:
        for tile in [(16, 64), (32, 64), (64, 64), (16, 128), (32, 128), (16, 256), (8, 256)]:
            for warps in (2, 4, 8):
                ms = median_ms(lambda t=tile, w=warps: kernel.forward(*args, t, w))
                print(row(f"forward {tile} {warps} warps", ms, moved))
                ms = median_ms(lambda t=tile, w=warps: kernel.backward(dy, dfinal, *args, t, w))
                print(row(f"backward {tile} {warps} warps", ms, moved // 2 * 3))
    try:
        other = importlib.import_module("causal_conv1d")
    except ImportError:
        return
    channel_last = x.contiguous().transpose(1, 2)
    history = state.transpose(1, 2).contiguous().transpose(1, 2)
    ms = median_ms(
        lambda: other.causal_conv1d_fn(
            channel_last, weight.bfloat16(), bias.bfloat16(), initial_states=history,
            return_final_states=True, activation="silu",
        )
    )  # fmt: skip
    print(row("causal-conv1d forward", ms, moved))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tune", action="store_true", help="time other tiles too")
    tune = parser.parse_args().tune
    print(torch.cuda.get_device_name(), "torch", torch.__version__, "triton", triton.__version__)
    for shape in SHAPES:
        bench(*shape, tune)


if __name__ == "__main__":
    main()
