"""The scan of Mamba-2, with its state going in and out, beside mamba-ssm's Triton kernels.

Limits: the matrix products of blocks of S = 64 tokens, per token and head 2 S (N + P) inside a
block and 4 N P with the state; and x, y, dt, B and C once each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.speed import limits, peers
from benchmarks.speed.rows import Row, Setting
from benchmarks.speed.timing import checked, kernel_ms
from samba_cli.kernels.ssd_scan import ssd_scan
from samba_cli.kernels.ssd_scan_ref import ssd_scan_ref

BLOCK = 64


class Shape(NamedTuple):
    length: int
    heads: int
    width: int
    groups: int
    n: int


SHAPES = [Shape(length, 128, 64, 1, 128) for length in (4096, 16_384, 131_072)]  # Bamba-9B
TINY = [Shape(64, 4, 16, 1, 16)]


@torch.inference_mode()
def measure(how: Setting) -> Iterator[Row]:
    error = check(how)
    for shape in TINY if how.tiny else SHAPES:
        inputs = make_inputs(how, shape)
        ms = kernel_ms(lambda inputs=inputs: ssd_scan(*inputs), how)
        others, notes = {}, []
        with peers.tried("mamba-ssm", notes):
            scan = peers.chunk_scan()

            def run(scan=scan, inputs=inputs) -> tuple[Tensor, Tensor]:
                x, dt, A, B, C, D, bias, state = inputs
                return scan(
                    x, dt, A, B, C, chunk_size=256, D=D, dt_bias=bias, initial_states=state,
                    dt_softplus=True, return_final_states=True,
                )  # fmt: skip

            checked({"y of mamba-ssm": (run()[0], ssd_scan(*inputs)[0])}, 2e-2)
            others["mamba-ssm"] = kernel_ms(run, how)
        yield _row(how, shape, ms, others, error, notes)


def make_inputs(
    how: Setting, shape: Shape
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, dt, A, B, C, D, dt_bias and a state, as a model makes them."""
    torch.manual_seed(0)
    length, heads, width, groups, n = shape

    def normal(*size: int) -> Tensor:
        return torch.randn(size, device=how.device, dtype=how.dtype)

    A = -torch.linspace(1, 16, heads, device=how.device)
    D = torch.ones(heads, device=how.device)
    bias = torch.full((heads,), -3.0, device=how.device)
    x, dt = normal(1, length, heads, width), normal(1, length, heads)
    B, C = normal(1, length, groups, n), normal(1, length, groups, n)
    return x, dt, A, B, C, D, bias, torch.zeros(1, heads, width, n, device=how.device)


def check(how: Setting) -> float:
    """Outputs and state against the reference in float32."""
    inputs = make_inputs(how, Shape(100, 4, 16, 1, 16) if how.tiny else Shape(3000, 8, 64, 1, 128))
    x, dt, A, B, C, D, bias, state = (t.float() for t in inputs)
    wanted = ssd_scan_ref(x, dt, A, B, C, D, bias, state)
    pairs = zip(("y", "state"), zip(ssd_scan(*inputs), wanted, strict=True), strict=True)
    return checked(dict(pairs), 1e-2)


def _row(
    how: Setting, shape: Shape, ms: float, others: dict[str, float], error: float, notes: list[str]
) -> Row:
    length, heads, width, groups, n = shape
    flops = length * heads * (2 * BLOCK * (n + width) + 4 * n * width)
    moved = length * (heads * (2 * width + 1) + 2 * groups * n) * (2 if how.cuda else 4)
    allowed = limits.measured(how)
    shares = {
        "matrix products": flops / allowed.flops / ms * 1e3,
        "bytes": moved / allowed.bytes / ms * 1e3,
    }
    text = f"{length:,} x {heads} heads of {width}, {n} states"
    facts = {"tokens_per_s": round(length / ms * 1e3)}
    return Row("scan of Mamba-2, forward", text, ms, "ms", others, None, shares, error, facts,
               "; ".join(notes))  # fmt: skip
