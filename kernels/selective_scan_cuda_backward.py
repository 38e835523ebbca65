"""The gradients of the selective scan from their CUDA source, for models with 16 states."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from samba_cli.kernels.cuda_source import Kernel, load_kernel
from samba_cli.kernels.selective_scan_cuda import (
    STATES,
    Plan,
    address,
    macros,
    read_source,
    segment_length,
    strides,
    whole_rows,
)

SOURCES = ("selective_scan_ring.cuh", "selective_scan_backward.cu")
DEFAULT = Plan(lanes=4, warps=4, tile=32, stages=2, resident=2)


def shared_bytes(plan: Plan, dtype: torch.dtype) -> int:
    """The size of `Shared` in selective_scan_backward.cu."""
    sums = 3 * (plan.channels + max(4, 32 // plan.lanes)) + plan.warps * 2 * STATES
    row = 8 * (plan.channels + 2) + 4 * (plan.channels + sums) + 2 * STATES * dtype.itemsize + 16
    states = plan.tile // max(4, plan.lanes) * STATES // plan.lanes * plan.warps * 32
    return plan.stages * (plan.tile * row + 16) + 4 * states


@cache
def kernel(name: str, plan: Plan, dtype: torch.dtype, device: int) -> Kernel:
    source = read_source(*SOURCES)
    return load_kernel(source, name, macros(plan, dtype), device, shared_bytes(plan, dtype))


def scan_backward(
    dy: Tensor,
    dstate: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    kept: Tensor,
    segment: int | None = None,
    plan: Plan = DEFAULT,
) -> tuple[Tensor, ...]:
    """What `selective_scan_triton_backward.scan_backward` returns, from the same arguments."""
    batch, length, channels = u.shape
    device = u.device.index
    B, C = (x if x.stride(2) == 1 else x.contiguous() for x in (B, C))
    blocks = batch * -(-channels // plan.channels)
    segment = segment_length(length, blocks, plan, device) if segment is None else segment
    segments = -(-length // segment)

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=u.device)

    du, ddelta = (empty(*u.shape, dtype=u.dtype) for _ in range(2))
    dz = empty(*(u.shape if z is not None else (0,)), dtype=u.dtype)
    dA = empty(batch, segments, channels, STATES)
    dD, dbias = (empty(batch, segments, channels) for _ in range(2))
    dBC = torch.zeros(batch, length, 2 * STATES, device=u.device)
    dstart = empty(batch, channels, STATES)
    ends = sums = None
    if segments > 1:
        ends = empty(batch, segments, channels, STATES)
        sums = empty(batch, segments, channels)
    given = (u, delta, z, B, C, dy, A, D, delta_bias, kept, dstate)
    made = (du, ddelta, dz, dA, dBC, dD, dbias, dstart, ends, sums)
    whole = whole_rows(u, delta, z, dy) + 2 * whole_rows(B, C) + 4 * whole_rows(du, ddelta)
    arguments = (
        *map(address, given), *map(address, made), length, segment, segments, channels,
        *u.stride(), *delta.stride(), *strides(z), *B.stride()[:2], *C.stride()[:2], *dy.stride(),
        *A.stride(), *strides(dstate), whole,
    )  # fmt: skip
    names = ("scan_back_ends", "scan_back") if segments > 1 else ("scan_back",)
    for name in names:
        kernel(name, plan, u.dtype, device)((blocks, segments), plan.threads, arguments)
    return (
        du,
        ddelta,
        dA.sum((0, 1)),
        dBC[..., :STATES].to(B.dtype, copy=True).contiguous(),
        dBC[..., STATES:].to(C.dtype, copy=True).contiguous(),
        dD.sum((0, 1)) if D is not None else empty(0),
        dz,
        dbias.sum((0, 1)) if delta_bias is not None else empty(0),
        dstart,
    )
