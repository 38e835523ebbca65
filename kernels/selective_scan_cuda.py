"""The forward pass of the selective scan from its CUDA sources, for models with 16 states.

`selective_scan.cu` and `selective_scan_sweep.cu`, which is faster where it fits, say how they work.
This chooses between them and the sizes, and launches them.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from samba_cli.kernels.cuda_source import Kernel, Unavailable, load_kernel

STATES = 16
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


class Plan(NamedTuple):
    """The macros of the source, see selective_scan_common.cuh, and whether it is the sweep."""

    lanes: int = 8
    warps: int = 8
    tile: int = 64
    stages: int = 2
    resident: int = 1
    packed: int = 1
    sweep: bool = False  # takes a whole length, and keeps no states

    @property
    def channels(self) -> int:
        return self.warps * 32 // self.lanes

    @property
    def threads(self) -> int:
        return self.warps * 32 + self.tile * self.channels // 8

    def shared_bytes(self) -> int:
        """The size of `Shared` in the source; where B and C are packed, it is less."""
        y_row = self.channels + max(4, 32 // self.lanes)
        if self.sweep:
            y_row = self.channels * self.lanes + 4
        tiles = 2 * self.tile * 4 * (2 * self.channels + 4 + 2 * STATES + 4 + y_row)
        return tiles + (self.stages * 16 if self.sweep else 0)


# Measured on an H100 and, the sweep, on an H200 (benchmarks/RESULTS.md, 2026-11-26 and 27). All
# have blocks of 32 channels.
DEFAULT = Plan()
MANY_BLOCKS = Plan(lanes=4, warps=4, tile=32, resident=2, packed=0)
SWEEP = Plan(lanes=4, warps=4, tile=48, packed=0, sweep=True)
SOURCES = {
    "scan": ("selective_scan_forward.cuh", "selective_scan.cu"),
    "scan_ends": ("selective_scan_forward.cuh", "selective_scan.cu"),
    "sweep": ("selective_scan_ring.cuh", "selective_scan_forward.cuh", "selective_scan_sweep.cu"),
}


@cache
def read_source(*names: str) -> str:
    """Files of this folder one after the other, what all share before them."""
    folder = Path(__file__).parent
    files = (folder / name for name in ("selective_scan_common.cuh", *names))
    return "\n".join(file.read_text() for file in files)


def macros(plan: Plan, dtype: torch.dtype) -> dict[str, int]:
    sizes = {k.upper(): v for k, v in plan._asdict().items() if k != "sweep"}
    return sizes | {"TYPE": TYPES[dtype]}


@cache
def kernel(name: str, plan: Plan, dtype: torch.dtype, device: int) -> Kernel:
    source = read_source(*SOURCES[name])
    return load_kernel(source, name, macros(plan, dtype), device, plan.shared_bytes())


def cuda_scan_for(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    z: Tensor | None,
    gradients: bool = False,
) -> bool:
    """Does the CUDA source take these inputs here? `SAMBA_SCAN=auto|cuda|triton` overrides.

    Gradients of float32 inputs stay with Triton, whose sums over long texts are more exact.
    Raises ValueError for an unknown name, or where `cuda` is asked for and cannot run.
    """
    choice = os.environ.get("SAMBA_SCAN", "auto")
    if choice not in ("auto", "cuda", "triton"):
        raise ValueError(f"SAMBA_SCAN must be auto, cuda or triton, not {choice!r}")
    if choice == "triton" or (gradients and u.dtype == torch.float32):
        return False
    same = all(x is None or x.dtype == u.dtype for x in (delta, B, C, z))
    fits = u.is_cuda and A.shape[1] == STATES and same and u.dtype in TYPES
    if fits and _loads(u.dtype, u.device.index):
        return True
    if choice == "cuda":
        raise ValueError(
            "SAMBA_SCAN=cuda needs 16 states, inputs of one dtype (float32, bfloat16 or float16)"
            " and an NVIDIA GPU of compute capability 8.0 or later with NVRTC"
        )
    return False


@cache
def _loads(dtype: torch.dtype, device: int) -> bool:
    if torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    try:
        kernel("scan", DEFAULT, dtype, device)
    except Unavailable as reason:
        warnings.warn(f"The selective scan runs in Triton, not in CUDA: {reason}", stacklevel=2)
        return False
    return True


@cache
def multiprocessors(device: int) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def plan_for(batch: int, channels: int, keep: bool, device: int) -> Plan:
    """SWEEP, or to keep states DEFAULT, where most multiprocessors get one block.

    That walks over the whole length. Where they get more, because there are many sequences or few
    channels, whose length is then cut, two blocks at a time hide what more lanes do within one.
    """
    blocks, places = batch * -(-channels // DEFAULT.channels), multiprocessors(device)
    if not places < 2 * blocks <= 2 * places:
        return MANY_BLOCKS
    return DEFAULT if keep else SWEEP


def segment_length(length: int, blocks: int, plan: Plan, device: int) -> int:
    """Tokens of a time segment, whole tiles: all of them, or as few as fill the device."""
    segments = max(1, plan.resident * multiprocessors(device) // blocks)
    tiles = -(-length // plan.tile)
    return max(-(-tiles // segments), 4) * plan.tile


def whole_rows(*tensors: Tensor | None) -> bool:
    """Can eight channels of every token be read at once, as 16 bytes (32 of float32)?"""
    return all(
        x is None
        or x.stride(2) == 1
        and x.data_ptr() % 16 == 0
        and all(x.stride(i) * x.element_size() % 16 == 0 for i in (0, 1))
        for x in tensors
    )


def address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def strides(x: Tensor | None) -> tuple[int, int, int]:
    return (0, 0, 0) if x is None else x.stride()  # type: ignore[return-value]


def scan_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    state: Tensor | None,
    keep: bool,
    segment: int | None = None,
    plan: Plan | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What `selective_scan_triton.scan_forward` returns, from the same arguments."""
    batch, length, channels = u.shape
    device = u.device.index
    B, C = (x if x.stride(2) == 1 else x.contiguous() for x in (B, C))
    plan = plan or plan_for(batch, channels, keep, device)
    blocks = batch * -(-channels // plan.channels)
    segment = segment_length(length, blocks, plan, device) if segment is None else segment
    segments = -(-length // segment)
    assert not plan.sweep or (segments == 1 and not keep)

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=u.device)

    y = empty(batch, length, channels, dtype=u.dtype)
    final = empty(batch, channels, STATES)
    kept = empty(batch, -(-length // 32) if keep else 0, STATES, channels)
    ends, sums = None, None
    if segments > 1:
        ends = empty(batch, segments, channels, STATES)
        sums = empty(batch, segments, channels)
    arguments = (
        *(address(x) for x in (u, delta, z, B, C, A, D, delta_bias, state, y, final)),
        address(kept) if keep else 0, address(ends), address(sums), length, segment, segments,
        channels, *u.stride(), *delta.stride(), *strides(z), *B.stride()[:2], *C.stride()[:2],
        *A.stride(), *strides(state), whole_rows(u, delta, z, y) + 2 * whole_rows(B, C),
    )  # fmt: skip
    if segments > 1:
        ends_kernel = kernel("scan_ends", plan, u.dtype, device)
        ends_kernel((blocks, segments - 1), plan.threads, arguments)
    name = "sweep" if plan.sweep else "scan"
    kernel(name, plan, u.dtype, device)((blocks, segments), plan.threads, arguments)
    return y, final, kept
