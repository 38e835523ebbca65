"""The selective scan in Triton: the forward pass.

One program holds the states of BLOCK_E channels in registers, [N, BLOCK_E]: a thread owns whole
channels, so the sum over N crosses no threads. It walks over tokens, loading one token ahead.
Per token and state that is 1 exp2 and 4 floating-point instructions (dt A, dt u B, h, y) plus
the conversion of B and C shared by the channels of a thread; at 16 exp2 per clock against 128
others the special function unit is the limit, and everything else fits beside it.

Where batch and channels fill the GPU, one such walk is all. Otherwise time is cut into segments:

    1. every segment from a zero state, in parallel: its end state and its sum of dt;
    2. over segments, in order: start = exp(A * sum dt) * start + end;
    3. every segment again from its start state, in parallel: the outputs.

That doubles the exp2, so it is done only when it wins more than twice the parallelism.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_E = 64  # channels of a program
NUM_WARPS = 1
SPREAD = True  # the states of a channel over 4 threads, or all in one
PROGRAMS_PER_SM = 12  # what fills a multiprocessor
CHUNK = 32  # tokens between the states that the forward keeps for the backward
MIN_SEGMENT = 128  # tokens; a multiple of CHUNK

LOG2E = tl.constexpr(math.log2(math.e))


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp2(-x * LOG2E))


@triton.jit
def softplus(x):
    """max(x, 0) + log1p(e), e = exp(-|x|), with log1p(e) = 2 atanh(e / (2 + e)) as a series.

    The series argument is at most 1/3, so six terms are exact to 2e-7 of the value. A logarithm
    of 1 + e would lose the small steps (dt is often 1e-3) to cancellation.
    """
    e = tl.exp2(-tl.abs(x) * LOG2E)
    s = e / (2.0 + e)
    q = s * s
    series = 1.0 + q * (
        1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + q * (1.0 / 13)))))
    )
    return tl.maximum(x, 0.0) + 2.0 * s * series


# Lengths and strides change from call to call: specialising on them would only recompile. Not
# knowing the channel stride also keeps the compiler from vectorising over channels, which would
# spread the states of a channel over threads.
RUNTIME = ["T", "segment", "unit", "u_b", "u_t", "u_e", "d_b", "d_t", "d_e", "z_b", "z_t", "z_e"]
RUNTIME += ["B_b", "C_b", "s_b", "s_s", "s_n", "s_e"]


@triton.jit(do_not_specialize=RUNTIME)
def segment_end_kernel(
    u, delta, A, B, bias, ends, sums,
    T, segment, E, unit, u_b, u_t, u_e, d_b, d_t, d_e, B_b, B_t,
    N: tl.constexpr, N_PAD: tl.constexpr, BLOCK: tl.constexpr, SPREAD: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Pass 1: ends [batch, segments, N, E] and sums of dt [batch, segments, E]."""
    tiles = tl.cdiv(E, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    e = (tl.program_id(0) % tiles) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N_PAD)
    s = tl.program_id(1).to(tl.int64)  # int64 from here on: times, rows, addresses
    in_e, in_n = e < E, n < N
    in_ne = in_n[:, None] & in_e[None, :]
    offsets = n[:, None].to(tl.int64) * E + e[None, :] * (1 if SPREAD else unit)

    u_ptrs = u + b * u_b + e.to(tl.int64) * u_e
    d_ptrs = delta + b * d_b + e.to(tl.int64) * d_e
    B_row = B + b * B_b
    rate = tl.load(A + offsets, in_ne, 0.0)
    bias_e = tl.load(bias + e, in_e, 0.0) if HAS_BIAS else 0.0
    h = tl.zeros([N_PAD, BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)

    first = s * segment
    last = tl.minimum(first + segment, T)
    t = first
    u_next = tl.load(u_ptrs + t * u_t, in_e, 0.0)
    d_next = tl.load(d_ptrs + t * d_t, in_e, 0.0)
    B_next = tl.load(B_row + t * B_t + n, in_n, 0.0)
    for i in range(first, last):
        u_now, d_now, B_now = u_next, d_next, B_next
        t = tl.minimum(i + 1, last - 1)
        u_next = tl.load(u_ptrs + t * u_t, in_e, 0.0)
        d_next = tl.load(d_ptrs + t * d_t, in_e, 0.0)
        B_next = tl.load(B_row + t * B_t + n, in_n, 0.0)
        dt = softplus(d_now.to(tl.float32) + bias_e)
        total += dt
        decay = tl.exp2(dt[None, :] * rate)
        h = decay * h + (dt * u_now.to(tl.float32))[None, :] * B_now.to(tl.float32)[:, None]

    at = b * tl.num_programs(1) + s
    tl.store(ends + at * N * E + offsets, h, in_ne)
    tl.store(sums + at * E + e, total, in_e)


@triton.jit(do_not_specialize=["segments", *RUNTIME])
def carry_kernel(
    A, ends, sums, state, final,
    segments, E, unit, s_b, s_n, s_e,
    N: tl.constexpr, N_PAD: tl.constexpr, BLOCK: tl.constexpr, SPREAD: tl.constexpr,
    HAS_STATE: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Pass 2, in place: `ends` holds what enters each segment afterwards.

    In reverse it carries the gradient of the state from the last segment to the first.
    """
    tiles = tl.cdiv(E, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    e = (tl.program_id(0) % tiles) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N_PAD)
    in_e = e < E
    in_ne = (n < N)[:, None] & in_e[None, :]
    offsets = n[:, None].to(tl.int64) * E + e[None, :] * (1 if SPREAD else unit)
    rate = tl.load(A + offsets, in_ne, 0.0)
    h = tl.zeros([N_PAD, BLOCK], tl.float32)
    if HAS_STATE:
        at_state = n[:, None].to(tl.int64) * s_n + e[None, :].to(tl.int64) * s_e
        h = tl.load(state + b * s_b + at_state, in_ne, 0.0)
    for i in range(segments):
        s = (segments - 1 - i) if REVERSE else i
        at = b * segments + s
        end_ptrs = ends + at * N * E + offsets
        end = tl.load(end_ptrs, in_ne, 0.0)
        total = tl.load(sums + at * E + e, in_e, 0.0)
        tl.store(end_ptrs, h, in_ne)
        h = tl.exp2(total[None, :] * rate) * h + end
    if not REVERSE:
        at_final = (b * E + e[None, :]) * N + n[:, None]
        tl.store(final + at_final, h, in_ne)


@triton.jit(do_not_specialize=RUNTIME)
def scan_kernel(
    u, delta, z, A, B, C, D, bias, start, y, final, kept,
    T, segment, E, unit, u_b, u_t, u_e, d_b, d_t, d_e, z_b, z_t, z_e, B_b, B_t, C_b, C_t,
    s_b, s_s, s_n, s_e,
    N: tl.constexpr, N_PAD: tl.constexpr, BLOCK: tl.constexpr, SPREAD: tl.constexpr,
    CHUNK: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_START: tl.constexpr, FINAL: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """Pass 3, or the only one: y [batch, T, E], and h before every CHUNK tokens if KEEP."""
    tiles = tl.cdiv(E, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    e = (tl.program_id(0) % tiles) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N_PAD)
    s = tl.program_id(1).to(tl.int64)  # int64 from here on: times, rows, addresses
    in_e, in_n = e < E, n < N
    in_ne = in_n[:, None] & in_e[None, :]
    offsets = n[:, None].to(tl.int64) * E + e[None, :] * (1 if SPREAD else unit)

    e64 = e.to(tl.int64)
    u_ptrs = u + b * u_b + e64 * u_e
    d_ptrs = delta + b * d_b + e64 * d_e
    z_ptrs = z + b * z_b + e64 * z_e
    y_ptrs = y + b * T * E + e64
    B_row = B + b * B_b
    C_row = C + b * C_b
    kept_ptrs = kept + b * tl.cdiv(T, CHUNK) * N * E + offsets
    rate = tl.load(A + offsets, in_ne, 0.0)
    bias_e = tl.load(bias + e, in_e, 0.0) if HAS_BIAS else 0.0
    D_e = tl.load(D + e, in_e, 0.0) if HAS_D else 0.0
    h = tl.zeros([N_PAD, BLOCK], tl.float32)
    if HAS_START:
        at_start = n[:, None].to(tl.int64) * s_n + e64[None, :] * s_e
        h = tl.load(start + b * s_b + s * s_s + at_start, in_ne, 0.0)

    first = s * segment
    last = tl.minimum(first + segment, T)
    t = first
    u_next = tl.load(u_ptrs + t * u_t, in_e, 0.0)
    d_next = tl.load(d_ptrs + t * d_t, in_e, 0.0)
    z_next = tl.load(z_ptrs + t * z_t, in_e, 0.0) if HAS_Z else u_next
    B_next = tl.load(B_row + t * B_t + n, in_n, 0.0)
    C_next = tl.load(C_row + t * C_t + n, in_n, 0.0)
    for i in range(first, last):
        u_now, d_now, z_now, B_now, C_now = u_next, d_next, z_next, B_next, C_next
        t = tl.minimum(i + 1, last - 1)
        u_next = tl.load(u_ptrs + t * u_t, in_e, 0.0)
        d_next = tl.load(d_ptrs + t * d_t, in_e, 0.0)
        z_next = tl.load(z_ptrs + t * z_t, in_e, 0.0) if HAS_Z else u_next
        B_next = tl.load(B_row + t * B_t + n, in_n, 0.0)
        C_next = tl.load(C_row + t * C_t + n, in_n, 0.0)
        if KEEP and i % CHUNK == 0:
            tl.store(kept_ptrs + (i // CHUNK) * N * E, h, in_ne)

        dt = softplus(d_now.to(tl.float32) + bias_e)
        x = u_now.to(tl.float32)
        decay = tl.exp2(dt[None, :] * rate)
        h = decay * h + (dt * x)[None, :] * B_now.to(tl.float32)[:, None]
        out = tl.sum(h * C_now.to(tl.float32)[:, None], axis=0)
        if HAS_D:
            out += D_e * x
        if HAS_Z:
            gate = z_now.to(tl.float32)
            out *= gate * sigmoid(gate)
        tl.store(y_ptrs + i * E, out.to(y.dtype.element_ty), in_e)

    if FINAL:
        tl.store(final + (b * E + e64[None, :]) * N + n[:, None], h, in_ne)


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def segment_length(u: Tensor, block: int, programs_per_sm: int = PROGRAMS_PER_SM) -> int:
    """Tokens of a time segment: all of them, or as few as fill the device."""
    batch, length, channels = u.shape
    wanted = programs_per_sm * (_multiprocessors(u.device) if u.is_cuda else 1)
    segments = wanted / (batch * triton.cdiv(channels, block))
    if segments <= 2:
        return length
    return max(triton.cdiv(triton.cdiv(length, math.ceil(segments)), CHUNK) * CHUNK, MIN_SEGMENT)


def unit_stride(x: Tensor) -> Tensor:
    """B and C are read a row of N at a time; they are small, so copying them costs little."""
    return x if x.stride(-1) == 1 else x.contiguous()


def scan_rate(A: Tensor) -> Tensor:
    """A for exp2, as [N, E]."""
    return (A.float() * math.log2(math.e)).t().contiguous()


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
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the final state, and with `keep` the states [batch, ceil(T / CHUNK), N, E] before chunks.

    `segment` (tokens, a multiple of CHUNK or all) overrides the choice made for the device.
    """
    batch, length, channels = u.shape
    n = A.shape[1]
    B, C = unit_stride(B), unit_stride(C)
    rate = scan_rate(A)
    y = torch.empty((batch, length, channels), dtype=u.dtype, device=u.device)
    final = torch.empty((batch, channels, n), dtype=torch.float32, device=u.device)
    chunks = triton.cdiv(length, CHUNK) if keep else 0
    kept = torch.empty((batch, chunks, n, channels), dtype=torch.float32, device=u.device)
    segment = min(segment or segment_length(u, BLOCK_E), length)
    segments = triton.cdiv(length, segment)
    tiles = triton.cdiv(channels, BLOCK_E) * batch
    sizes = {"N": n, "N_PAD": triton.next_power_of_2(n), "BLOCK": BLOCK_E}
    sizes |= {"SPREAD": SPREAD, "num_warps": NUM_WARPS}
    has_bias = delta_bias is not None
    gate = u if z is None else z

    start = state
    start_strides = (0, 0, 0, 0)
    if state is not None:
        start_strides = (state.stride(0), 0, state.stride(2), state.stride(1))
    if segments > 1:
        start = torch.empty((batch, segments, n, channels), dtype=torch.float32, device=u.device)
        sums = torch.empty((batch, segments, channels), dtype=torch.float32, device=u.device)
        segment_end_kernel[(tiles, segments)](
            u, delta, rate, B, delta_bias if has_bias else rate, start, sums,
            length, segment, channels, 1, *u.stride(), *delta.stride(), *B.stride()[:2],
            HAS_BIAS=has_bias, **sizes,
        )  # fmt: skip
        carry_kernel[(tiles,)](
            rate, start, sums, rate if state is None else state, final,
            segments, channels, 1, start_strides[0], start_strides[2], start_strides[3],
            HAS_STATE=state is not None, REVERSE=False, **sizes,
        )  # fmt: skip
        start_strides = start.stride()
    scan_kernel[(tiles, segments)](
        u, delta, gate, rate, B, C, rate if D is None else D,
        rate if delta_bias is None else delta_bias, rate if start is None else start,
        y, final, kept,
        length, segment, channels, 1, *u.stride(), *delta.stride(), *gate.stride(),
        *B.stride()[:2], *C.stride()[:2], *start_strides,
        CHUNK=CHUNK, HAS_D=D is not None, HAS_Z=z is not None, HAS_BIAS=has_bias,
        HAS_START=start is not None, FINAL=segments == 1, KEEP=keep, **sizes,
    )  # fmt: skip
    return y, final, kept
