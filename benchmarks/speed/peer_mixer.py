"""A Mamba mixer on the kernels of mamba-ssm and causal-conv1d, with the parameters of ours.

As their own module lays it out (tokens last), so that nothing is copied between their kernels. It
reads each sequence from an empty state: their scan cannot begin from another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed import peers
from samba_cli.model.mamba import Mamba
from samba_cli.model.parts import picked
from samba_cli.model.state import MambaState

Conv = Callable[[Tensor, Tensor, Tensor], Tensor]  # x [B, E, T], weight [E, K], bias [E]
Scan = Callable[..., Tensor]  # u, delta, A, B, C, D, z, delta_bias, all [B, .., T]


@contextmanager
def mixing(forward: Callable[..., Tensor]) -> Iterator[None]:
    """Every Mamba layer uses this instead of its own forward, out_proj included."""

    def inner(
        self: Mamba, x: Tensor, state: MambaState, rotation: object, at: Tensor | None = None
    ) -> Tensor:
        return picked(forward(self, x, state, rotation), at)

    before = Mamba.inner, Mamba.output
    Mamba.inner, Mamba.output = inner, property(lambda self: _unchanged)  # type: ignore[method-assign, assignment]
    torch.compiler.reset()
    try:
        yield
    finally:
        Mamba.inner, Mamba.output = before  # type: ignore[method-assign]
        torch.compiler.reset()


def _unchanged(y: Tensor) -> Tensor:
    return y


def ways() -> dict[str, Callable[..., Tensor]]:
    """The ways in which their kernels can stand in a compiled model. Raises peers.Missing."""
    scan, inner, conv = peers.selective_scan(), peers.mamba_inner(), peers.causal_conv1d()

    break_before: Any = torch.compiler.disable  # and after: it runs between two graphs
    broken_scan = break_before(partial(scan, delta_softplus=True))
    broken_conv = break_before(partial(conv, activation="silu"))
    broken_inner = break_before(inner)

    def fused(self: Mamba, x: Tensor, state: MambaState, rotation: object) -> Tensor:
        bias = self.conv1d.bias
        assert bias is not None
        weights = (self.conv1d.weight, bias, self.x_proj.weight, self.dt_proj.weight,
                   self.out_proj.weight)  # fmt: skip
        return broken_inner(
            _projected(self, x), *(w.to(x.dtype) for w in weights), None,
            -torch.exp(self.A_log.float()), None, None, self.D.float(),
            delta_bias=self.dt_proj.bias.float(), delta_softplus=True,
        )  # fmt: skip

    return {
        "mamba-ssm and causal-conv1d as operators": _mixer(*_operators()),
        "mamba_inner_fn": fused,
        "mamba-ssm and causal-conv1d between graphs": _mixer(broken_conv, broken_scan),
    }


def _projected(mixer: Mamba, x: Tensor) -> Tensor:
    """in_proj of x [B, T, D] -> [B, 2 E, T], tokens last in memory too."""
    batch, length, width = x.shape
    weight = mixer.in_proj.weight.to(x.dtype)
    return (weight @ x.reshape(-1, width).mT).view(-1, batch, length).transpose(0, 1)


def _mixer(conv: Conv, scan: Scan) -> Callable[..., Tensor]:
    def forward(self: Mamba, x: Tensor, state: MambaState, rotation: object) -> Tensor:
        batch, length, _ = x.shape
        u, z = _projected(self, x).chunk(2, dim=1)  # [B, E, T] each
        weight, bias = self.conv1d.weight.squeeze(1), self.conv1d.bias
        u = conv(u, weight.to(x.dtype), bias.to(x.dtype))  # type: ignore[union-attr]
        rows = u.permute(0, 2, 1).reshape(batch * length, -1)
        dt, B, C = F.linear(rows, self.x_proj.weight.to(x.dtype)).split(self.sizes, dim=-1)
        dt = self.dt_proj.weight.to(x.dtype) @ dt.mT
        dt = dt.view(-1, batch, length).transpose(0, 1)
        B, C = (t.view(batch, length, -1).mT.contiguous() for t in (B, C))
        A, bias = -torch.exp(self.A_log.float()), self.dt_proj.bias.float()
        y = scan(u, dt, A, B, C, self.D.float(), z, bias)
        return F.linear(y.mT, self.out_proj.weight.to(x.dtype))

    return forward


@cache
def _operators() -> tuple[Conv, Scan]:
    """Their kernels as operators that torch.compile sees, so that it need not stop before them."""
    import causal_conv1d_cuda  # type: ignore[import-not-found]
    import selective_scan_cuda  # type: ignore[import-not-found]

    @torch.library.custom_op("peer::conv", mutates_args=())
    def conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = torch.empty_like(x)
        causal_conv1d_cuda.causal_conv1d_fwd(x, weight, bias, None, None, out, None, True)
        return out

    @conv.register_fake
    def _(x, weight, bias):
        return torch.empty_like(x)

    @torch.library.custom_op("peer::conv_backward", mutates_args=())
    def conv_backward(
        x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dx = torch.empty_like(x)
        dweight = torch.zeros_like(weight, dtype=torch.float32)
        dbias = torch.zeros_like(bias, dtype=torch.float32)
        dy = dy if dy.stride(2) == 1 else dy.contiguous()
        causal_conv1d_cuda.causal_conv1d_bwd(
            x, weight, bias, dy, None, None, None, dx, dweight, dbias, None, True
        )
        return dx, dweight.to(weight.dtype), dbias.to(bias.dtype)

    @conv_backward.register_fake
    def _(x, weight, bias, dy):
        return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)

    conv.register_autograd(
        lambda ctx, dy: conv_backward(*ctx.saved_tensors, dy),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )

    @torch.library.custom_op("peer::scan", mutates_args=())
    def scan(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        z: Tensor,
        bias: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        B, C = B[:, None], C[:, None]
        out, kept, gated = selective_scan_cuda.fwd(u, delta, A, B, C, D, z, bias, True)
        return gated, out, kept

    @scan.register_fake
    def _(u, delta, A, B, C, D, z, bias):
        batch, channels, length = u.shape
        blocks = (length + 2047) // 2048
        kept = A.new_empty(batch, channels, blocks, 2 * A.shape[1])
        return torch.empty_like(z), torch.empty_like(delta), kept

    @torch.library.custom_op("peer::scan_backward", mutates_args=())
    def scan_backward(
        dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor,
        bias: Tensor, out: Tensor, kept: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        dy = dy if dy.stride(-1) == 1 else dy.contiguous()
        du, ddelta, dA, dB, dC, dD, dbias, dz = selective_scan_cuda.bwd(
            u, delta, A, B[:, None], C[:, None], D, z, bias, dy, kept, out, None, True, False
        )
        return du, ddelta, dA, dB.squeeze(1), dC.squeeze(1), dD, dz, dbias

    @scan_backward.register_fake
    def _(dy, u, delta, A, B, C, D, z, bias, out, kept):
        return tuple(torch.empty_like(x) for x in (u, delta, A, B, C, D, z, bias))

    def keep(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs, output[1], output[2])

    def differentiate(ctx, dy, *_):
        return scan_backward(dy, *ctx.saved_tensors)

    scan.register_autograd(differentiate, setup_context=keep)
    return conv, lambda *inputs: scan(*inputs)[0]
