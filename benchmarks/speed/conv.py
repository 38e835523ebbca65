"""The causal convolution with its state, beside causal-conv1d.

Limit: x read and y written once forwards; x and dy read and dx written once backwards.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.speed import limits, peers
from benchmarks.speed.rows import Row, Setting
from benchmarks.speed.timing import checked, kernel_ms
from samba_cli.kernels.causal_conv1d import causal_conv1d
from samba_cli.kernels.causal_conv1d_ref import causal_conv1d_ref

Shape = tuple[int, int, int]  # batch, tokens, channels
FORWARD: list[Shape] = [(1, 16_384, 4096), (1, 131_072, 4096), (1, 16_384, 1024)]
TRAINING: list[Shape] = [(64, 2048, 1024), (1, 16_384, 4096)]
HEADLINES = [FORWARD[1], TRAINING[0]]
TINY: list[Shape] = [(2, 64, 32)]
GOAL = 1.0


def measure(how: Setting) -> Iterator[Row]:
    error = check(how)
    for shape in TINY if how.tiny else FORWARD:
        with torch.no_grad():
            yield forward(how, shape, error)
    for shape in TINY if how.tiny else TRAINING:
        yield training(how, shape, error)


def make_inputs(how: Setting, shape: Shape) -> list[Tensor]:
    """x as the left half of a wider tensor, as in the model; weight, bias, state."""
    torch.manual_seed(0)
    batch, length, channels = shape
    x = torch.randn(batch, length, 2 * channels, device=how.device, dtype=how.dtype)
    weight = torch.randn(channels, 4, device=how.device)
    state = torch.randn(batch, channels, 3, device=how.device, dtype=how.dtype)
    return [x[..., :channels], weight, torch.randn(channels, device=how.device), state]


def check(how: Setting) -> float:
    """Outputs, state and gradients against the reference in float32."""
    inputs = [x.detach().requires_grad_() for x in make_inputs(how, (2, 300, 64))]
    y, final = causal_conv1d(*inputs)  # pyright: ignore[reportArgumentType]
    dy, dfinal = torch.randn_like(y), torch.randn_like(final)
    grads = torch.autograd.grad([y, final], inputs, [dy, dfinal])
    wide = [x.detach().float().requires_grad_() for x in inputs]
    outs = causal_conv1d_ref(*wide)  # pyright: ignore[reportArgumentType]
    expected = torch.autograd.grad(outs, wide, [dy.float(), dfinal.float()])
    names = ("y", "state", "dx", "dweight", "dbias", "dstate")
    pairs = zip((y, final, *grads), (*outs, *expected), strict=True)
    return checked(dict(zip(names, pairs, strict=True)), 1e-2)


def forward(how: Setting, shape: Shape, error: float) -> Row:
    x, weight, bias, state = make_inputs(how, shape)
    ms = kernel_ms(lambda: causal_conv1d(x, weight, bias, state), how)
    others, notes = {}, []
    with peers.tried("causal-conv1d", notes):
        conv = peers.causal_conv1d()
        # states need channels last there, as the model has them
        last, w, b = x.contiguous().mT, weight.to(how.dtype), bias.to(how.dtype)
        history = state.mT.contiguous().mT

        def run() -> tuple[Tensor, Tensor]:
            return conv(last, w, b, initial_states=history, return_final_states=True,
                        activation="silu")  # fmt: skip

        wanted = causal_conv1d(x, w, b, state)
        checked({"y of causal-conv1d": (run()[0].mT, wanted[0])}, 2e-2)
        others["causal-conv1d"] = kernel_ms(run, how)
    return _row("convolution, forward", how, shape, ms, others, 2, error, notes)


def training(how: Setting, shape: Shape, error: float) -> Row:
    x, weight, bias, _ = make_inputs(how, shape)
    inputs = [t.detach().requires_grad_() for t in (x, weight, bias)]
    dy = torch.randn(shape, device=how.device, dtype=how.dtype)

    def step() -> tuple[Tensor, ...]:
        return torch.autograd.grad(causal_conv1d(inputs[0], inputs[1], inputs[2])[0], inputs, dy)

    ms = kernel_ms(step, how)
    others, notes = {}, []
    with peers.tried("causal-conv1d", notes):
        conv = peers.causal_conv1d()
        w, b = weight.to(how.dtype).requires_grad_(), bias.to(how.dtype).requires_grad_()
        for name, laid in {
            "causal-conv1d, channels last": lambda t: t.contiguous().mT,
            "causal-conv1d, tokens last": lambda t: t.mT.contiguous(),
        }.items():
            leaf, dy_theirs = laid(x).detach().requires_grad_(), laid(dy)

            def run(leaf: Tensor = leaf, dy_theirs: Tensor = dy_theirs) -> tuple[Tensor, ...]:
                y = conv(leaf, w, b, activation="silu")
                return torch.autograd.grad(y, [leaf, w, b], dy_theirs)

            others[name] = kernel_ms(run, how)
    return _row("convolution, forward + backward", how, shape, ms, others, 5, error, notes)


def _row(
    what: str, how: Setting, shape: Shape, ms: float, others: dict[str, float], passes: int,
    error: float, notes: list[str],
) -> Row:  # fmt: skip
    batch, length, channels = shape
    moved = passes * batch * length * channels * (2 if how.cuda else 4)
    shares = {"bytes": moved / limits.measured(how).bytes / ms * 1e3}
    text = f"{batch} x {length:,} x {channels:,}, 4 taps"
    return Row(what, text, ms, "ms", others, GOAL, shares, error, note="; ".join(notes),
               headline=shape in HEADLINES)  # fmt: skip
