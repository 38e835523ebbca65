"""Products with one vector in Triton.

A few programs on each multiprocessor walk over blocks of whole rows, several blocks under way to
shared memory while one is multiplied; by compilers that can do it (`INSIDE`) the first are so
before the vector is there. The vector, normed or not, is loaded once and stays in registers.
Everything is summed in float32.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.dependent_launch import begin, options, wait


@dataclass(frozen=True)
class Tile:
    """What a program multiplies at a time, and how: rows, warps, blocks under way or in use."""

    rows: int
    num_warps: int
    stages: int
    programs: int  # in all

    def launch(self, x: Tensor) -> dict[str, Any]:
        """The constants STAGES and INSIDE and the launch options."""
        return {
            "STAGES": self.stages, "INSIDE": INSIDE, "num_warps": self.num_warps, **options(x)
        }  # fmt: skip


# What decodes a model of 1.7B fastest on an H100 (benchmarks/RESULTS.md, 2026-11-26) and an H200
# (2026-11-27). To have more blocks fetched to L2 before the vector is there was slower.
BLOCK_BYTES = 16384
STAGES = 6
PROGRAMS = 2  # of a multiprocessor, with such blocks; of smaller ones as many as hold as much
MOST_PROGRAMS = 4
# Is the vector awaited in the loop, beside the first block? Triton 3.6 starts loads of the loop
# before that. Triton 3.9 starts none ahead in a loop that waits (3.7 and 3.8 were not tried), so
# there it is awaited before the loop.
INSIDE = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _shared_bytes(device: torch.device) -> int:
    """Of shared memory that one program can have: the limit that Triton itself checks."""
    properties = triton.runtime.driver.active.utils.get_device_properties(device.index)
    return properties["max_shared_mem"]


def scratch_bytes(columns: int) -> int:
    """Of shared memory, at most, that a program takes beside its blocks.

    Weights of 16 bits need 16 to 304 bytes; the vector changes hands there where they are int8, in
    Triton 3.6: 1 to 8 KB, 16 of 16,384 columns.
    """
    return max(columns, 1024)


def stages_that_fit(
    block_bytes: int, columns: int, shared_bytes: int, programs: int = PROGRAMS
) -> int:
    """As many as leave room for all programs of a multiprocessor, or 2, if at least one has room.

    The block that is multiplied is in registers: shared memory holds one less. 1 is for none.
    """
    scratch = scratch_bytes(columns)
    for count in range(STAGES, 2, -1):
        if programs * ((count - 1) * block_bytes + scratch) <= shared_bytes:
            return count
    return 2 if block_bytes + scratch <= shared_bytes else 1


def tile(weight: Tensor, least_rows: int = 1) -> Tile:
    """For a weight [M, K], `least_rows` or a multiple of it at a time."""
    M, K = weight.shape
    columns = triton.next_power_of_2(K)
    row_bytes = columns * weight.element_size()
    places = _multiprocessors(weight.device) if weight.is_cuda else 2
    rows = max(least_rows, BLOCK_BYTES // row_bytes)
    while rows > least_rows and _idle(M, rows, PROGRAMS * places) > 0.1:
        rows //= 2
    shared = _shared_bytes(weight.device) if weight.is_cuda else 1 << 30
    programs, stages = PROGRAMS, 0
    for programs in (_programs(rows, row_bytes), PROGRAMS):
        stages = stages_that_fit(rows * row_bytes, columns, shared, programs)
        if stages >= 4:  # else fewer programs have more under way
            break
    num_warps = min(16, max(4, columns // 1024))
    blocks = triton.cdiv(triton.cdiv(M, rows), programs * places)  # of a program
    # Shared memory for more blocks than a program has would never be filled, and the next kernel,
    # which starts early to load its first blocks, would find no room. Of a few, half are enough.
    stages = min(stages, blocks + 1, max(4, blocks // 2 + 1))
    return Tile(rows, num_warps, stages, min(programs * places, triton.cdiv(M, rows)))


def _programs(rows: int, row_bytes: int) -> int:
    """Of a multiprocessor: as many as have about as much under way as PROGRAMS with whole blocks.

    One more where a block is a single row: all its warps then wait for each other at every block.
    """
    if rows == 1 and row_bytes >= BLOCK_BYTES:
        return PROGRAMS + 1
    return min(max(PROGRAMS * BLOCK_BYTES // (rows * row_bytes), PROGRAMS), MOST_PROGRAMS)


def _idle(M: int, rows: int, programs: int) -> float:
    """The share of the time that programs wait for those with a block more."""
    return 1 - M / (rows * programs * triton.cdiv(triton.cdiv(M, rows), programs))


@triton.jit
def block_of_rows(weight, r, in_r, K: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows r [R] of weight [M, K]: [R, COLUMNS], zeros beyond K."""
    k = tl.arange(0, COLUMNS)
    inside = in_r[:, None]
    if K < COLUMNS:
        inside = inside & (k < K)[None, :]
    return tl.load(weight + r.to(tl.int64)[:, None] * K + k[None, :], inside, 0.0)


@triton.jit
def awaited_vector(
    x, norm, eps, K: tl.constexpr, COLUMNS: tl.constexpr, NORM: tl.constexpr, EARLY: tl.constexpr
):
    """norm(x), [COLUMNS] float32 with zeros beyond K, when the kernels before are done."""
    k = tl.arange(0, COLUMNS)
    wait(EARLY)
    v = tl.load(x + k, k < K, 0.0).to(tl.float32)
    if NORM:
        v *= 1.0 / tl.sqrt(tl.sum(v * v, axis=0) / K + eps)
        v *= tl.load(norm + k, k < K, 0.0).to(tl.float32)
    return v


@triton.jit
def _linear_kernel(
    x, norm, weight, scale, bias, residual, y, M, eps, multiplier,
    K: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr, STAGES: tl.constexpr,
    INSIDE: tl.constexpr, NORM: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr,
    ADD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    begin(EARLY)
    first = tl.program_id(0)
    v = tl.zeros([COLUMNS], tl.float32)
    if not INSIDE:
        v = awaited_vector(x, norm, eps, K, COLUMNS, NORM, EARLY)
    for block in tl.range(first, tl.cdiv(M, ROWS), tl.num_programs(0), num_stages=STAGES):
        r = block * ROWS + tl.arange(0, ROWS)
        in_r = r < M
        w = block_of_rows(weight, r, in_r, K, COLUMNS)
        if INSIDE:  # noqa: SIM102 (a constexpr, apart from what is known at run time)
            if block == first:
                v = awaited_vector(x, norm, eps, K, COLUMNS, NORM, EARLY)
        add = tl.zeros([ROWS], tl.float32)
        if ADD:  # noqa: SIM102 (a constexpr, apart from the value read at run time)
            # Always true, and only here for the compiler: it starts loads of the loop itself some
            # blocks ahead, before the wait, and leaves those in a branch where they are.
            if M > 0:
                add = tl.load(residual + r, in_r, 0.0).to(tl.float32)
        out = tl.sum(w.to(tl.float32) * v[None, :], axis=1)
        if SCALE:
            out *= tl.load(scale + r, in_r, 0.0)
        if BIAS:
            out += tl.load(bias + r, in_r, 0.0).to(tl.float32)
        tl.store(y + r, (add + out * multiplier).to(y.dtype.element_ty), in_r)


@triton.jit
def _swiglu_kernel(
    x, norm, weight, scale, y, F, eps,
    K: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr, STAGES: tl.constexpr,
    INSIDE: tl.constexpr, NORM: tl.constexpr, SCALE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """ROWS / 2 rows of gate and as many of up: a row is beside its partner."""
    begin(EARLY)
    first = tl.program_id(0)
    v = tl.zeros([COLUMNS], tl.float32)
    if not INSIDE:
        v = awaited_vector(x, norm, eps, K, COLUMNS, NORM, EARLY)
    i = tl.arange(0, ROWS)
    for block in tl.range(first, tl.cdiv(2 * F, ROWS), tl.num_programs(0), num_stages=STAGES):
        f = block * (ROWS // 2) + i // 2
        in_f = f < F
        r = f + (i % 2) * F
        w = block_of_rows(weight, r, in_f, K, COLUMNS)
        if INSIDE:  # noqa: SIM102
            if block == first:
                v = awaited_vector(x, norm, eps, K, COLUMNS, NORM, EARLY)
        both = tl.sum(w.to(tl.float32) * v[None, :], axis=1)
        if SCALE:
            both *= tl.load(scale + r, in_f, 0.0)
        gate, up = tl.split(tl.reshape(both, [ROWS // 2, 2]))
        out = gate * tl.sigmoid(gate) * up
        f = block * (ROWS // 2) + tl.arange(0, ROWS // 2)
        tl.store(y + f, out.to(y.dtype.element_ty), f < F)


def linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    norm: tuple[Tensor, float] | None,
    residual: Tensor | None,
    multiplier: float,
    out_dtype: torch.dtype | None,
    tiled: Tile | None = None,
) -> Tensor:
    """Same contract as `gemv`."""
    M, K = weight.shape
    tiled = tiled or tile(weight)
    out_dtype = torch.float32 if residual is not None else out_dtype or x.dtype
    y = torch.empty((*x.shape[:-1], M), dtype=out_dtype, device=x.device)
    norm_weight, eps = norm or (x, 0.0)
    _linear_kernel[(tiled.programs,)](
        x.contiguous(), norm_weight, weight.contiguous(), x if scale is None else scale,
        x if bias is None else bias, x if residual is None else residual.contiguous(), y,
        M, eps, multiplier,
        K=K, COLUMNS=triton.next_power_of_2(K), ROWS=tiled.rows, NORM=norm is not None,
        SCALE=scale is not None, BIAS=bias is not None, ADD=residual is not None,
        **tiled.launch(x),
    )  # fmt: skip
    return y


def swiglu(
    x: Tensor,
    gate_up: Tensor,
    scale: Tensor | None,
    norm: tuple[Tensor, float] | None,
    out_dtype: torch.dtype | None,
    tiled: Tile | None = None,
) -> Tensor:
    """Same contract as `gemv_swiglu`."""
    F, K = gate_up.shape[0] // 2, gate_up.shape[1]
    tiled = tiled or tile(gate_up, least_rows=2)
    y = torch.empty((*x.shape[:-1], F), dtype=out_dtype or x.dtype, device=x.device)
    norm_weight, eps = norm or (x, 0.0)
    _swiglu_kernel[(tiled.programs,)](
        x.contiguous(), norm_weight, gate_up.contiguous(), x if scale is None else scale, y,
        F, eps,
        K=K, COLUMNS=triton.next_power_of_2(K), ROWS=tiled.rows, NORM=norm is not None,
        SCALE=scale is not None, **tiled.launch(x),
    )  # fmt: skip
    return y
