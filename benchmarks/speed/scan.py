"""The selective scan, with its state going in and out, beside mamba-ssm's kernel.

Limits: one exponential per channel, token and state forwards and two more backwards; in bfloat16
8 bytes per channel and token forwards (u, delta, z read, y written), 14 more backwards (those with
dy for y, and three gradients).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.speed import limits, peers
from benchmarks.speed.rows import Row, Setting
from benchmarks.speed.timing import checked, kernel_ms
from samba_cli.kernels.dispatch import force
from samba_cli.kernels.selective_scan import selective_scan

N = 16
FORWARD = [((1, 16_384, 4096), 2.5), ((1, 131_072, 4096), 2.5), ((1, 16_384, 1024), None)]
TRAINING = [((32, 2048, 1024), 1.3), ((64, 2048, 1024), 1.3), ((1, 16_384, 4096), 1.3)]
HEADLINES = [FORWARD[1][0], TRAINING[0][0]]
TINY = (1, 64, 32)


def make_inputs(how: Setting, batch: int, length: int, channels: int) -> list[Tensor]:
    """u, delta, A, B, C, D, z, delta_bias as a bf16 model makes them, gradients on."""
    torch.manual_seed(0)
    rows = (batch, length, channels)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=how.device, dtype=how.dtype)

    A = -torch.arange(1, N + 1, device=how.device, dtype=torch.float32).repeat(channels, 1)
    D = torch.ones(channels, device=how.device)
    bias = torch.full((channels,), -3.0, device=how.device)
    tensors = [normal(*rows), normal(*rows), A, normal(batch, length, N), normal(batch, length, N)]
    return [x.requires_grad_() for x in (*tensors, D, normal(*rows), bias)]


def measure(how: Setting) -> Iterator[Row]:
    error = check(how)
    for shape, goal in [(TINY, None)] if how.tiny else FORWARD:
        with torch.no_grad():
            yield forward(how, shape, goal, error)
    for shape, goal in [(TINY, None)] if how.tiny else TRAINING:
        yield training(how, shape, goal, error)


def check(how: Setting) -> float:
    """Outputs, state and gradients against the reference in float32."""
    inputs = make_inputs(how, 2, 40 if how.tiny else 300, 32 if how.tiny else 256)
    results = []
    for reference in (False, True):
        leaves = [x.detach().to(torch.float32 if reference else x.dtype) for x in inputs]
        for leaf in leaves:
            leaf.requires_grad_()
        with force("ref" if reference else "triton" if how.cuda else "torch"):
            y, state = selective_scan(*leaves)
        (y.float().sin().sum() + state.sum()).backward()
        results.append([y, state, *(x.grad for x in leaves)])
    names = ("y", "state", "du", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias")
    pairs = dict(zip(names, zip(*results, strict=True), strict=True))
    return checked({name: (got, wanted) for name, (got, wanted) in pairs.items()}, 1e-2)


def theirs_of(inputs: list[Tensor], grad: bool) -> list[Tensor]:
    """The same inputs laid out as mamba-ssm wants them: [batch, channels, length], contiguous."""
    laid = [x.detach().mT.contiguous() if x.dim() == 3 else x.detach().clone() for x in inputs]
    return [x.requires_grad_(grad) for x in laid]


def forward(how: Setting, shape: tuple[int, int, int], goal: float | None, error: float) -> Row:
    inputs = [x.detach() for x in make_inputs(how, *shape)]
    state = torch.randn(shape[0], shape[2], N, device=how.device)
    ms = kernel_ms(lambda: selective_scan(*inputs, state=state), how)
    others, notes = {}, ["ours reads a state too, which theirs cannot"]
    with peers.tried("mamba-ssm", notes):
        scan = peers.selective_scan()
        u, delta, A, B, C, D, z, bias = theirs_of(inputs, grad=False)

        def run() -> tuple[Tensor, Tensor]:
            return scan(u, delta, A, B, C, D, z, bias, delta_softplus=True, return_last_state=True)

        (y, last), (wanted, final) = run(), selective_scan(*inputs)
        checked({"y of mamba-ssm": (y.mT, wanted), "its last state": (last, final)}, 2e-2)
        others["mamba-ssm"] = kernel_ms(run, how)
    return _row("selective scan, forward", how, shape, ms, others, goal, (N, 8), error, notes)


def training(how: Setting, shape: tuple[int, int, int], goal: float | None, error: float) -> Row:
    inputs = make_inputs(how, *shape)
    dy = torch.randn_like(inputs[0])

    def step() -> tuple[Tensor, ...]:
        return torch.autograd.grad(selective_scan(*inputs)[0], inputs, dy)

    ms = kernel_ms(step, how)
    others, notes = {}, []
    with peers.tried("mamba-ssm", notes):
        scan = peers.selective_scan()
        leaves, dy_theirs = theirs_of(inputs, grad=True), dy.mT.contiguous()

        def run() -> tuple[Tensor, ...]:
            u, delta, A, B, C, D, z, bias = leaves
            y = scan(u, delta, A, B, C, D, z, bias, delta_softplus=True)
            return torch.autograd.grad(y, leaves, dy_theirs)

        du, wanted = run()[0], step()[0]
        checked({"du of mamba-ssm": (du.mT, wanted)}, 2e-2)
        others["mamba-ssm"] = kernel_ms(run, how)
    name = "selective scan, forward + backward"
    return _row(name, how, shape, ms, others, goal, (3 * N, 22), error, notes)


def _row(
    what: str, how: Setting, shape: tuple[int, int, int], ms: float, others: dict[str, float],
    goal: float | None, per_value: tuple[int, int], error: float, notes: list[str],
) -> Row:  # fmt: skip
    batch, length, channels = shape
    values, allowed = batch * length * channels, limits.measured(how)
    shares = {
        "exponentials": values * per_value[0] / allowed.exponentials / ms * 1e3,
        "bytes": values * per_value[1] / allowed.bytes / ms * 1e3,
    }
    text = f"{batch} x {length:,} x {channels:,}, {N} states"
    facts = {"tokens_per_s": round(batch * length / ms * 1e3)}
    return Row(what, text, ms, "ms", others, goal, shares, error, facts, "; ".join(notes),
               shape in HEADLINES)  # fmt: skip
