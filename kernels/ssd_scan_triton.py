"""The scan of Mamba-2 in Triton: the forward pass.

Mamba-2 (Dao & Gu 2024, arXiv 2405.21060), section 6, with the states kept on the chip. A program
walks over tokens for one head (or BLOCK_P of its channels), a block of BLOCK_T at a time, with
the state h [P, N] in registers. With l_t = sum of dt A from the start of the block up to t:

    y_t = exp(l_t) h C_t + sum over s <= t of exp(l_t - l_s) dt_s <C_t, B_s> x_s + D x_t
    h   = exp(l_end) h   + sum over s      of exp(l_end - l_s) dt_s x_s B_s^T

which is four matrix products. Time is cut into as many segments as fill the GPU:

    0. dt and l of every token and head (inside the walk they would delay every block);
    1. every segment from a zero state, in parallel: its end state and its sum of dt A (the second
       line only; the last segment needs none);
    2. over segments, in order: start = exp(sum dt A) * start + end;
    3. every segment again from its start state, in parallel: the outputs.

x is read twice, and per token only dt and l are stored; the usual way, a state in memory
for every block, moves several times as much. A few tokens (decoding) take a walk in fp32 instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.dispatch import interpreted
from samba_cli.kernels.selective_scan_triton import softplus

STEPS = 8  # tokens up to which walking is quicker than matrix products, which need 16
STEP_P = 16  # channels of a head that a walking program owns
DECAY_H = 16  # heads of a program that sums decays
CARRY = 1024  # values of a program that carries states over segments
PROGRAMS_PER_SM = 8  # of the scan, two or more at a time
MIN_SEGMENT = 512  # tokens; a state written and read per segment should cost little beside them

LOG2E = tl.constexpr(math.log2(math.e))
# exp2 of this is 0 in fp32. Steeper decays of single tokens would only cost the sums digits.
LEAST_LOG_DECAY = tl.constexpr(-160.0)


@dataclass(frozen=True)
class Blocks:
    """Tile of the chunked kernels: tokens, channels of a head, and the compiler's options."""

    tokens: int
    channels: int
    num_warps: int
    num_stages: int


def chunk_blocks(width: int, n: int, dtype: torch.dtype) -> Blocks:
    """The state takes channels * N / (32 num_warps) registers of a thread, at most 64.

    Two stages of x, B and C at P = 64, N = 128 take 80 KiB of shared memory, so that two programs
    share a multiprocessor of 228 KiB.
    """
    padded, columns = _pad(width), _pad(n)
    if dtype == torch.float32:  # multiply-adds without tensor cores: registers are the limit
        return Blocks(32, min(padded, 32), 8, 1) if columns <= 64 else Blocks(16, 16, 8, 1)
    channels = min(padded, 64)
    return Blocks(64, channels, 4 if channels * columns <= 64 * 128 else 8, 2)


def _pad(size: int) -> int:
    return max(16, triton.next_power_of_2(size))


@triton.jit
def step_size(raw, bias, low, high):
    return tl.minimum(tl.maximum(softplus(raw.to(tl.float32) + bias), low), high)


@triton.jit
def grow(h, x_tile, B_tile, dt, running, whole):
    """h after a block."""
    weight = dt * tl.exp2(whole - running)
    scaled = (x_tile.to(tl.float32) * weight[:, None]).to(x_tile.dtype)
    return tl.dot(tl.trans(scaled), B_tile, h * tl.exp2(whole), input_precision="ieee")


# Lengths and what only scalars use are not specialised on, so that no length recompiles. Strides
# of the tiles are: the compiler must know that they are multiples of 16 bytes to load vectors.
RUNTIME = ["T", "blocks", "span", "d_b", "d_t", "d_h", "low", "high"]


@triton.jit(do_not_specialize=RUNTIME)
def decay_kernel(
    delta, A, bias, steps, decays,
    T, blocks, low, high, d_b, d_t, d_h,
    H: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_H: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Phase 0: dt and l, each [batch, H, blocks * BLOCK_T]; past the end dt = 0 and l stays."""
    block = (tl.program_id(0) % blocks).to(tl.int64)
    b = (tl.program_id(0) // blocks).to(tl.int64)
    t = block * BLOCK_T + tl.arange(0, BLOCK_T)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    in_h = head < H
    inside = (t < T)[:, None] & in_h[None, :]
    at = t[:, None] * d_t + head[None, :].to(tl.int64) * d_h
    raw = tl.load(delta + b * d_b + at, inside, 0.0)
    rate = tl.load(A + head, in_h, 0.0) * LOG2E
    shift = tl.load(bias + head, in_h, 0.0) if HAS_BIAS else tl.zeros([BLOCK_H], tl.float32)
    dt = tl.where(inside, step_size(raw, shift[None, :], low, high), 0.0)
    running = tl.cumsum(tl.maximum(dt * rate[None, :], LEAST_LOG_DECAY), 0)
    at = (b * H + head[None, :]) * blocks * BLOCK_T + t[:, None]
    tl.store(steps + at, dt, in_h[None, :])
    tl.store(decays + at, running, in_h[None, :])


@triton.jit(do_not_specialize=RUNTIME)
def segment_end_kernel(
    x, steps, decays, B, ends, sums,
    T, blocks, span, x_b, x_t, x_h, B_b, B_t, B_g,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_P: tl.constexpr, N_PAD: tl.constexpr,
):  # fmt: skip
    """Phase 1: ends [batch, segments, H, P, N] and sums of dt A [batch, segments, H], base 2."""
    TILES: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
    pid = tl.program_id(0)
    head = pid // TILES % H
    b = (pid // TILES // H).to(tl.int64)
    s = tl.program_id(1).to(tl.int64)  # int64 from here on: times, rows, addresses
    rows = tl.arange(0, BLOCK_T)
    p = pid % TILES * BLOCK_P + tl.arange(0, BLOCK_P)
    n = tl.arange(0, N_PAD)
    at_row = rows.to(tl.int64)[:, None]
    x_base = x + b * x_b + head.to(tl.int64) * x_h
    B_base = B + b * B_b + (head // GROUP).to(tl.int64) * B_g
    per_token = (b * H + head) * blocks * BLOCK_T

    h = tl.zeros([BLOCK_P, N_PAD], tl.float32)
    total = 0.0
    for block in range(s * span, tl.minimum(s * span + span, blocks)):
        i = block * BLOCK_T
        inside = i + rows < T
        dt = tl.load(steps + per_token + i + rows)
        running = tl.load(decays + per_token + i + rows)
        whole = tl.load(decays + per_token + i + BLOCK_T - 1)
        x_mask = inside[:, None] & (p < P)[None, :]
        x_tile = tl.load(x_base + i * x_t + at_row * x_t + p[None, :], x_mask, 0.0)
        n_mask = inside[:, None] & (n < N)[None, :]
        B_tile = tl.load(B_base + i * B_t + at_row * B_t + n[None, :], n_mask, 0.0)
        h = grow(h, x_tile, B_tile, dt, running, whole)
        total += whole

    at = (b * tl.num_programs(1) + s) * H + head
    end_ptrs = ends + (at * P + p[:, None]) * N + n[None, :]
    tl.store(end_ptrs, h, (p < P)[:, None] & (n < N)[None, :])
    tl.store(sums + at, total)


@triton.jit(do_not_specialize=["segments", *RUNTIME])
def carry_kernel(
    ends, sums, state, starts,
    segments, s_b, s_h, s_p,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
    HAS_STATE: tl.constexpr,
):  # fmt: skip
    """Phase 2: starts [batch, segments, H, P, N] from the ends of all segments but the last."""
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    head = tl.program_id(0) % H
    b = (tl.program_id(0) // H).to(tl.int64)
    inside = at < P * N
    h = tl.zeros([BLOCK], tl.float32)
    if HAS_STATE:
        at_state = (at // N).to(tl.int64) * s_p + at % N
        h = tl.load(state + b * s_b + head.to(tl.int64) * s_h + at_state, inside, 0.0)
    tl.store(starts + (b * segments * H + head) * P * N + at, h, inside)
    for s in range(segments - 1):
        row = (b * (segments - 1) + s) * H + head
        end = tl.load(ends + row * P * N + at, inside, 0.0)
        h = tl.exp2(tl.load(sums + row)) * h + end
        tl.store(starts + ((b * segments + s + 1) * H + head) * P * N + at, h, inside)


@triton.jit(do_not_specialize=RUNTIME)
def chunk_kernel(
    x, steps, decays, B, C, D, start, y, final,
    T, blocks, span, x_b, x_t, x_h, B_b, B_t, B_g, C_b, C_t, C_g, s_b, s_s, s_h, s_p,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_P: tl.constexpr, N_PAD: tl.constexpr,
    HAS_D: tl.constexpr, HAS_START: tl.constexpr,
):  # fmt: skip
    """Phase 3, or the only one: y [batch, T, H, P], and the state after the last token."""
    TILES: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
    pid = tl.program_id(0)
    head = pid // TILES % H
    b = (pid // TILES // H).to(tl.int64)
    s = tl.program_id(1).to(tl.int64)  # int64 from here on: times, rows, addresses
    rows = tl.arange(0, BLOCK_T)
    p = pid % TILES * BLOCK_P + tl.arange(0, BLOCK_P)
    n = tl.arange(0, N_PAD)
    at_row = rows.to(tl.int64)[:, None]
    state_mask = (p < P)[:, None] & (n < N)[None, :]
    group = (head // GROUP).to(tl.int64)
    x_base = x + b * x_b + head.to(tl.int64) * x_h
    B_base = B + b * B_b + group * B_g
    C_base = C + b * C_b + group * C_g
    y_base = y + (b * T * H + head) * P
    per_token = (b * H + head) * blocks * BLOCK_T
    skip = tl.load(D + head) if HAS_D else 0.0
    h = tl.zeros([BLOCK_P, N_PAD], tl.float32)
    if HAS_START:
        at_start = p[:, None].to(tl.int64) * s_p + n[None, :]
        start_base = start + b * s_b + s * s_s + head.to(tl.int64) * s_h
        h = tl.load(start_base + at_start, state_mask, 0.0)

    for block in range(s * span, tl.minimum(s * span + span, blocks)):
        i = block * BLOCK_T
        inside = i + rows < T
        dt = tl.load(steps + per_token + i + rows)
        running = tl.load(decays + per_token + i + rows)
        whole = tl.load(decays + per_token + i + BLOCK_T - 1)
        x_mask = inside[:, None] & (p < P)[None, :]
        x_tile = tl.load(x_base + i * x_t + at_row * x_t + p[None, :], x_mask, 0.0)
        n_mask = inside[:, None] & (n < N)[None, :]
        B_tile = tl.load(B_base + i * B_t + at_row * B_t + n[None, :], n_mask, 0.0)
        C_tile = tl.load(C_base + i * C_t + at_row * C_t + n[None, :], n_mask, 0.0)

        weights = tl.dot(C_tile, tl.trans(B_tile), input_precision="ieee")
        gap = running[:, None] - running[None, :]
        gap = tl.where(rows[:, None] >= rows[None, :], gap, float("-inf"))
        weights *= tl.exp2(gap) * dt[None, :]
        if HAS_D:  # D x_t is one more weight of x_t: adding it to y would take x in registers
            weights = tl.where(rows[:, None] == rows[None, :], weights + skip, weights)
        weights = weights.to(x_tile.dtype)
        out = tl.dot(C_tile, tl.trans(h.to(C_tile.dtype)), input_precision="ieee")
        out *= tl.exp2(running)[:, None]
        out = tl.dot(weights, x_tile, out, input_precision="ieee")
        y_ptrs = y_base + (i + at_row) * H * P + p[None, :]
        tl.store(y_ptrs, out.to(y.dtype.element_ty), x_mask)
        h = grow(h, x_tile, B_tile, dt, running, whole)

    if s == tl.num_programs(1) - 1:
        final_ptrs = final + ((b * H + head) * P + p[:, None]) * N + n[None, :]
        tl.store(final_ptrs, h, state_mask)


@triton.jit(do_not_specialize=RUNTIME)
def step_kernel(
    x, delta, A, B, C, D, bias, state, y, final,
    T, low, high, x_b, x_t, x_h, d_b, d_t, d_h, B_b, B_t, B_g, C_b, C_t, C_g, s_b, s_h, s_p,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_P: tl.constexpr, N_PAD: tl.constexpr,
    HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_STATE: tl.constexpr,
):  # fmt: skip
    """A few tokens one by one: for one, the state is read once and written once."""
    TILES: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
    pid = tl.program_id(0)
    head = pid // TILES % H
    b = (pid // TILES // H).to(tl.int64)
    p = pid % TILES * BLOCK_P + tl.arange(0, BLOCK_P)
    n = tl.arange(0, N_PAD)
    in_p, in_n = p < P, n < N
    state_mask = in_p[:, None] & in_n[None, :]
    group = (head // GROUP).to(tl.int64)
    x_base = x + b * x_b + head.to(tl.int64) * x_h
    d_base = delta + b * d_b + head.to(tl.int64) * d_h
    B_base = B + b * B_b + group * B_g
    C_base = C + b * C_b + group * C_g
    rate = tl.load(A + head) * LOG2E
    shift = tl.load(bias + head) if HAS_BIAS else 0.0
    skip = tl.load(D + head) if HAS_D else 0.0
    h = tl.zeros([BLOCK_P, N_PAD], tl.float32)
    if HAS_STATE:
        at_state = p[:, None].to(tl.int64) * s_p + n[None, :]
        h = tl.load(state + b * s_b + head.to(tl.int64) * s_h + at_state, state_mask, 0.0)
    for i in range(T):
        t = tl.cast(i, tl.int64)
        dt = step_size(tl.load(d_base + t * d_t), shift, low, high)
        x_row = tl.load(x_base + t * x_t + p, in_p, 0.0).to(tl.float32)
        B_row = tl.load(B_base + t * B_t + n, in_n, 0.0).to(tl.float32)
        C_row = tl.load(C_base + t * C_t + n, in_n, 0.0).to(tl.float32)
        h = tl.exp2(dt * rate) * h + (dt * x_row)[:, None] * B_row[None, :]
        out = tl.sum(h * C_row[None, :], axis=1) + skip * x_row
        y_ptrs = y + ((b * T + t) * H + head) * P + p
        tl.store(y_ptrs, out.to(y.dtype.element_ty), in_p)
    tl.store(final + ((b * H + head) * P + p[:, None]) * N + n[None, :], h, state_mask)


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def segment_blocks(blocks: int, walks: int, block: int, device: torch.device) -> int:
    """Blocks of a time segment, such that `walks` times segments fill the device."""
    wanted = PROGRAMS_PER_SM * (_multiprocessors(device) if device.type == "cuda" else 1)
    segments = max(1, min(wanted // walks, blocks * block // MIN_SEGMENT))
    return triton.cdiv(blocks, segments)


def unit_stride(v: Tensor) -> Tensor:
    """The kernels take any strides but in the last dimension, where they load vectors."""
    return v if v.stride(-1) == 1 else v.contiguous()


def scan_forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt_bias: Tensor | None,
    state: Tensor | None,
    low: float,
    high: float,
    span: int | None = None,
    tile: Blocks | None = None,
) -> tuple[Tensor, Tensor]:
    """y and the final state; A, D, dt_bias and state are fp32, the vectors contiguous.

    `span` (blocks of a time segment) and `tile` override the choices made for the device.
    """
    if interpreted() and x.dtype == torch.bfloat16:
        # Triton's interpreter multiplies the bits of bf16 matrices.
        wide = (v.float() for v in (x, dt, A, B, C))
        y, final = scan_forward(*wide, D, dt_bias, state, low, high, span, tile)
        return y.to(x.dtype), final

    batch, length, heads, width = x.shape
    groups, n = B.shape[2:]
    x, B, C = unit_stride(x), unit_stride(B.to(x.dtype)), unit_stride(C.to(x.dtype))
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    final = torch.empty((batch, heads, width, n), dtype=torch.float32, device=x.device)
    bias, has_bias = A if dt_bias is None else dt_bias, dt_bias is not None
    skip, has_skip = A if D is None else D, D is not None
    start = A if state is None else unit_stride(state)
    start_strides = (0, 0, 0) if state is None else start.stride()[:3]
    sizes = {"H": heads, "P": width, "N": n, "GROUP": heads // groups, "N_PAD": _pad(n)}

    if length <= STEPS and tile is None:
        step_kernel[(batch * heads * triton.cdiv(width, STEP_P),)](
            x, dt, A, B, C, skip, bias, start, y, final,
            length, low, high, *x.stride()[:3], *dt.stride(), *B.stride()[:3], *C.stride()[:3],
            *start_strides, HAS_D=has_skip, HAS_BIAS=has_bias, HAS_STATE=state is not None,
            BLOCK_P=STEP_P, num_warps=4, **sizes,
        )  # fmt: skip
        return y, final

    tile = tile or chunk_blocks(width, n, x.dtype)
    blocks = triton.cdiv(length, tile.tokens)
    walks = batch * heads * triton.cdiv(width, tile.channels)
    span = span or segment_blocks(blocks, walks, tile.tokens, x.device)
    segments = triton.cdiv(blocks, span)
    sizes |= {"BLOCK_T": tile.tokens, "BLOCK_P": tile.channels}
    sizes |= {"num_warps": tile.num_warps, "num_stages": tile.num_stages}

    per_token = (batch, heads, blocks * tile.tokens)
    steps = torch.empty(per_token, dtype=torch.float32, device=x.device)
    decays = torch.empty(per_token, dtype=torch.float32, device=x.device)
    decay_kernel[(batch * blocks, triton.cdiv(heads, DECAY_H))](
        dt, A, bias, steps, decays, length, blocks, low, high, *dt.stride(),
        H=heads, BLOCK_T=tile.tokens, BLOCK_H=DECAY_H, HAS_BIAS=has_bias, num_warps=4,
    )  # fmt: skip
    if segments > 1:
        shape = (batch, segments - 1, heads)
        sums = torch.empty(shape, dtype=torch.float32, device=x.device)
        ends = torch.empty((*shape, width, n), dtype=torch.float32, device=x.device)
        starts = torch.empty((batch, segments, *final.shape[1:]), device=x.device)
        segment_end_kernel[(walks, segments - 1)](
            x, steps, decays, B, ends, sums,
            length, blocks, span, *x.stride()[:3], *B.stride()[:3], **sizes,
        )  # fmt: skip
        carry_kernel[(batch * heads, triton.cdiv(width * n, CARRY))](
            ends, sums, start, starts, segments, *start_strides,
            H=heads, P=width, N=n, BLOCK=CARRY, HAS_STATE=state is not None, num_warps=4,
        )  # fmt: skip
        start, start_strides = starts, starts.stride()[:4]
    else:
        start_strides = (start_strides[0], 0, *start_strides[1:])
    chunk_kernel[(walks, segments)](
        x, steps, decays, B, C, skip, start, y, final,
        length, blocks, span, *x.stride()[:3], *B.stride()[:3], *C.stride()[:3], *start_strides,
        HAS_D=has_skip, HAS_START=state is not None or segments > 1, **sizes,
    )  # fmt: skip
    return y, final
