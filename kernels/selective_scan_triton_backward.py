"""Gradients of the selective scan in Triton.

With x_t = C_t dy_t the state's gradient runs backwards in time, dh_t = x_t + a_{t+1} dh_{t+1},
a_t = exp(dt_t A). All gradients but two need either h or dh alone:

    dC_t = sum_E dy_t h_t       dz_t: y_t again       (h, forwards)
    dB_t = sum_E dh_t dt_t u_t  du_t, half of ddt_t   (dh, backwards)

The decay's gradient w_t = dh_t a_t h_{t-1} (ddt_t += sum_N A w_t, dA += sum_T dt_t w_t) needs
both, in the same order, which would mean to store or recompute h while walking backwards. But
writing dh_t h_t in its two ways gives w_t = w_{t+1} + x_t h_t - dh_t dt_t B_t u_t: a running sum
of two terms of which each needs one of them. It starts afresh, exactly, at every chunk's end,
w = dh h of the state between chunks, so rounding does not build up. (Where exp(dt A) underflows,
dA is rounding noise around zero instead of zero: nothing depends on such an A.)

So a program takes a chunk forwards from the state that the forward pass kept, then backwards,
and goes on to the chunk before. Per token and state: 2 exp2 and 2 * 9 floating-point
instructions, plus the sums of dB and dC over the channels of the tile (shuffles, 5 per value of a
32-channel warp, then one atomic addition per tile). Nothing of size [T, E, N] is ever stored.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.selective_scan_triton import (
    CHUNK,
    carry_kernel,
    scan_rate,
    segment_length,
    sigmoid,
    softplus,
    unit_stride,
)

BLOCK_E = 32  # channels of a program
NUM_WARPS = 1
SPREAD = True  # the states of a channel over 4 threads, or all in one
PROGRAMS_PER_SM = 12

LN2 = tl.constexpr(math.log(2.0))

RUNTIME = ["T", "segment", "unit", "u_b", "u_t", "u_e", "d_b", "d_t", "d_e", "z_b", "z_t", "z_e"]
RUNTIME += ["B_b", "C_b", "o_b", "o_t", "o_e"]


@triton.jit(do_not_specialize=RUNTIME)
def segment_gradient_kernel(
    delta, z, A, C, bias, dout, ends, sums,
    T, segment, E, unit, d_b, d_t, d_e, z_b, z_t, z_e, C_b, C_t, o_b, o_t, o_e,
    N: tl.constexpr, N_PAD: tl.constexpr, BLOCK: tl.constexpr, SPREAD: tl.constexpr,
    HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Every segment backwards from a zero gradient: what leaves it at its start, and sum of dt."""
    tiles = tl.cdiv(E, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    e = (tl.program_id(0) % tiles) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N_PAD)
    s = tl.program_id(1).to(tl.int64)  # int64 from here on: times, rows, addresses
    in_e, in_n = e < E, n < N
    in_ne = in_n[:, None] & in_e[None, :]
    e64 = e.to(tl.int64)
    offsets = n[:, None].to(tl.int64) * E + e64[None, :] * (1 if SPREAD else unit)

    d_ptrs = delta + b * d_b + e64 * d_e
    z_ptrs = z + b * z_b + e64 * z_e
    o_ptrs = dout + b * o_b + e64 * o_e
    C_row = C + b * C_b
    rate = tl.load(A + offsets, in_ne, 0.0)
    bias_e = tl.load(bias + e, in_e, 0.0) if HAS_BIAS else 0.0
    g = tl.zeros([N_PAD, BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    first = s * segment
    last = tl.minimum(first + segment, T)
    for i in range(last - first):
        t = last - 1 - i
        dt = softplus(tl.load(d_ptrs + t * d_t, in_e, 0.0).to(tl.float32) + bias_e)
        dy = tl.load(o_ptrs + t * o_t, in_e, 0.0).to(tl.float32)
        C_t_row = tl.load(C_row + t * C_t + n, in_n, 0.0).to(tl.float32)
        if HAS_Z:
            gate = tl.load(z_ptrs + t * z_t, in_e, 0.0).to(tl.float32)
            dy *= gate * sigmoid(gate)
        total += dt
        g = tl.exp2(dt[None, :] * rate) * (g + C_t_row[:, None] * dy[None, :])
    at = b * tl.num_programs(1) + s
    tl.store(ends + at * N * E + offsets, g, in_ne)
    tl.store(sums + at * E + e, total, in_e)


@triton.jit(do_not_specialize=RUNTIME)
def scan_backward_kernel(
    u, delta, z, A, B, C, D, bias, kept, dout, grad_state, scratch,
    du, ddelta, dz, dA, dB, dC, dD, dbias,
    T, segment, E, unit, u_b, u_t, u_e, d_b, d_t, d_e, z_b, z_t, z_e, B_b, B_t, C_b, C_t,
    o_b, o_t, o_e,
    N: tl.constexpr, N_PAD: tl.constexpr, BLOCK: tl.constexpr, SPREAD: tl.constexpr,
    CHUNK: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """All gradients of one segment. grad_state [batch, segments, N, E] is the gradient of the
    state after each segment, and of the state before it on return. dA [batch, segments, N, E],
    dD and dbias [batch, segments, E] are partial sums; dB and dC [batch, T, N] are added to.
    """
    tiles = tl.cdiv(E, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    e = (tl.program_id(0) % tiles) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N_PAD)
    s = tl.program_id(1).to(tl.int64)  # int64 from here on: times, rows, addresses
    in_e, in_n = e < E, n < N
    in_ne = in_n[:, None] & in_e[None, :]
    e64 = e.to(tl.int64)
    offsets = n[:, None].to(tl.int64) * E + e64[None, :] * (1 if SPREAD else unit)

    u_ptrs = u + b * u_b + e64 * u_e
    d_ptrs = delta + b * d_b + e64 * d_e
    z_ptrs = z + b * z_b + e64 * z_e
    o_ptrs = dout + b * o_b + e64 * o_e
    out_ptrs = b * T * E + e64
    B_row = B + b * B_b
    C_row = C + b * C_b
    dB_row = dB + b * T * N + n
    dC_row = dC + b * T * N + n
    program = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + s
    scratch_ptrs = scratch + program * CHUNK * BLOCK + tl.arange(0, BLOCK)
    kept_ptrs = kept + b * tl.cdiv(T, CHUNK) * N * E + offsets

    at = b * tl.num_programs(1) + s
    rate = tl.load(A + offsets, in_ne, 0.0)
    bias_e = tl.load(bias + e, in_e, 0.0) if HAS_BIAS else 0.0
    D_e = tl.load(D + e, in_e, 0.0) if HAS_D else 0.0
    g = tl.load(grad_state + at * N * E + offsets, in_ne, 0.0)
    dA_sum = tl.zeros([N_PAD, BLOCK], tl.float32)
    dD_sum = tl.zeros([BLOCK], tl.float32)
    dbias_sum = tl.zeros([BLOCK], tl.float32)

    segment_end = tl.minimum((s + 1) * segment, T)
    chunks = tl.cdiv(segment_end - s * segment, CHUNK)
    for k in range(chunks):
        first = s * segment + (chunks - 1 - k) * CHUNK
        last = tl.minimum(first + CHUNK, segment_end)

        # Forwards: h, and what needs it.
        h = tl.load(kept_ptrs + (first // CHUNK) * N * E, in_ne, 0.0)
        elapsed = tl.zeros([BLOCK], tl.float32)  # sum of dt since the chunk's start
        t = first
        u_next = tl.load(u_ptrs + t * u_t, in_e, 0.0)
        d_next = tl.load(d_ptrs + t * d_t, in_e, 0.0)
        o_next = tl.load(o_ptrs + t * o_t, in_e, 0.0)
        z_next = tl.load(z_ptrs + t * z_t, in_e, 0.0) if HAS_Z else u_next
        B_next = tl.load(B_row + t * B_t + n, in_n, 0.0)
        C_next = tl.load(C_row + t * C_t + n, in_n, 0.0)
        for i in range(first, last):
            x = u_next.to(tl.float32)
            dt = softplus(d_next.to(tl.float32) + bias_e)
            dy = o_next.to(tl.float32)
            gate = z_next.to(tl.float32)
            B_now = B_next.to(tl.float32)
            C_now = C_next.to(tl.float32)
            t = tl.minimum(i + 1, last - 1)
            u_next = tl.load(u_ptrs + t * u_t, in_e, 0.0)
            d_next = tl.load(d_ptrs + t * d_t, in_e, 0.0)
            o_next = tl.load(o_ptrs + t * o_t, in_e, 0.0)
            z_next = tl.load(z_ptrs + t * z_t, in_e, 0.0) if HAS_Z else u_next
            B_next = tl.load(B_row + t * B_t + n, in_n, 0.0)
            C_next = tl.load(C_row + t * C_t + n, in_n, 0.0)

            elapsed += dt
            h = tl.exp2(dt[None, :] * rate) * h + (dt * x)[None, :] * B_now[:, None]
            out = h * C_now[:, None]
            if HAS_Z:
                y = tl.sum(out, axis=0)
                if HAS_D:
                    y += D_e * x
                sig = sigmoid(gate)
                dgate = dy * y * sig * (1.0 + gate * (1.0 - sig))
                row = out_ptrs + i * E
                tl.store(dz + row, dgate.to(dz.dtype.element_ty), in_e)
                dy *= gate * sig
            dD_sum += dy * x
            dA_sum += (elapsed * dy)[None, :] * out
            tl.store(scratch_ptrs + (i - first) * BLOCK, dy * tl.sum(rate * out, axis=0))
            dC_now = tl.sum(h * dy[None, :], axis=1)
            tl.atomic_add(dC_row + i * N, dC_now, in_n, sem="relaxed")

        # Between chunks: g is the gradient of h here.
        w = g * h
        dA_sum += elapsed[None, :] * w
        decay_sum = tl.sum(rate * w, axis=0)
        tl.debug_barrier()  # the scratch rows above are read below

        # Backwards: dh, and what needs it.
        t = last - 1
        u_next = tl.load(u_ptrs + t * u_t, in_e, 0.0)
        d_next = tl.load(d_ptrs + t * d_t, in_e, 0.0)
        o_next = tl.load(o_ptrs + t * o_t, in_e, 0.0)
        z_next = tl.load(z_ptrs + t * z_t, in_e, 0.0) if HAS_Z else u_next
        B_next = tl.load(B_row + t * B_t + n, in_n, 0.0)
        C_next = tl.load(C_row + t * C_t + n, in_n, 0.0)
        p_next = tl.load(scratch_ptrs + (last - 1 - first) * BLOCK)
        for j in range(last - first):
            i = last - 1 - j
            x = u_next.to(tl.float32)
            pre = d_next.to(tl.float32) + bias_e
            dy = o_next.to(tl.float32)
            gate = z_next.to(tl.float32)
            B_now = B_next.to(tl.float32)
            C_now = C_next.to(tl.float32)
            p_now = p_next
            before = tl.maximum(i - 1, first)
            t = before
            u_next = tl.load(u_ptrs + t * u_t, in_e, 0.0)
            d_next = tl.load(d_ptrs + t * d_t, in_e, 0.0)
            o_next = tl.load(o_ptrs + t * o_t, in_e, 0.0)
            z_next = tl.load(z_ptrs + t * z_t, in_e, 0.0) if HAS_Z else u_next
            B_next = tl.load(B_row + t * B_t + n, in_n, 0.0)
            C_next = tl.load(C_row + t * C_t + n, in_n, 0.0)
            p_next = tl.load(scratch_ptrs + (before - first) * BLOCK)

            dt = softplus(pre)
            if HAS_Z:
                dy *= gate * sigmoid(gate)
            dtu = dt * x
            dh = g + C_now[:, None] * dy[None, :]
            back = dh * B_now[:, None]
            ddtu = tl.sum(back, axis=0)
            decay_sum += p_now - dtu * tl.sum(rate * back, axis=0)
            dA_sum -= (elapsed * dtu)[None, :] * back
            elapsed -= dt
            ddt = (x * ddtu + decay_sum * LN2) * sigmoid(pre)
            dbias_sum += ddt
            dx = dt * ddtu
            if HAS_D:
                dx += D_e * dy
            row = out_ptrs + i * E
            tl.store(ddelta + row, ddt.to(ddelta.dtype.element_ty), in_e)
            tl.store(du + row, dx.to(du.dtype.element_ty), in_e)
            dB_now = tl.sum(dh * dtu[None, :], axis=1)
            tl.atomic_add(dB_row + i * N, dB_now, in_n, sem="relaxed")
            g = tl.exp2(dt[None, :] * rate) * dh
        tl.debug_barrier()  # before the next chunk overwrites the scratch rows

    tl.store(grad_state + at * N * E + offsets, g, in_ne)
    tl.store(dA + at * N * E + offsets, dA_sum, in_ne)
    if HAS_D:
        tl.store(dD + at * E + e, dD_sum, in_e)
    if HAS_BIAS:
        tl.store(dbias + at * E + e, dbias_sum, in_e)


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
) -> tuple[Tensor, ...]:
    """Gradients of (u, delta, A, B, C, D, z, delta_bias, state), empty for a missing input.

    `kept` is what `scan_forward(..., keep=True)` returned; `segment` overrides, as there.
    """
    batch, length, channels = u.shape
    n = A.shape[1]
    B_rows, C_rows = unit_stride(B), unit_stride(C)
    rate = scan_rate(A)
    segment = min(segment or segment_length(u, BLOCK_E, PROGRAMS_PER_SM), length)
    segments = triton.cdiv(length, segment)
    tiles = triton.cdiv(channels, BLOCK_E) * batch
    sizes = {"N": n, "N_PAD": triton.next_power_of_2(n), "BLOCK": BLOCK_E}
    sizes |= {"SPREAD": SPREAD, "num_warps": NUM_WARPS}
    flags = {"HAS_Z": z is not None, "HAS_BIAS": delta_bias is not None}
    gate = u if z is None else z
    bias = rate if delta_bias is None else delta_bias

    def scratch(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=u.device)

    grad_state = scratch(batch, segments, n, channels)
    if segments > 1:
        sums = scratch(batch, segments, channels)
        segment_gradient_kernel[(tiles, segments)](
            delta, gate, rate, C_rows, bias, dy, grad_state, sums,
            length, segment, channels, 1, *delta.stride(), *gate.stride(), *C_rows.stride()[:2],
            *dy.stride(), **flags, **sizes,
        )  # fmt: skip
        s_b, s_e, s_n = (0, 0, 0) if dstate is None else dstate.stride()
        carry_kernel[(tiles,)](
            rate, grad_state, sums, rate if dstate is None else dstate, rate,
            segments, channels, 1, s_b, s_n, s_e,
            HAS_STATE=dstate is not None, REVERSE=True, **sizes,
        )  # fmt: skip
    elif dstate is None:
        grad_state.zero_()
    else:
        grad_state[:, 0].copy_(dstate.transpose(1, 2))

    du, ddelta = (torch.empty(u.shape, dtype=x.dtype, device=u.device) for x in (u, delta))
    dz = torch.empty(u.shape if z is not None else (0,), dtype=gate.dtype, device=u.device)
    dA = scratch(batch, segments, n, channels)
    dB, dC = (torch.zeros_like(x, dtype=torch.float32).contiguous() for x in (B, C))
    dD = scratch(batch, segments, channels if D is not None else 0)
    dbias = scratch(batch, segments, channels if delta_bias is not None else 0)
    scan_backward_kernel[(tiles, segments)](
        u, delta, gate, rate, B_rows, C_rows, rate if D is None else D, bias, kept, dy, grad_state,
        scratch(tiles * segments, CHUNK, BLOCK_E), du, ddelta, dz, dA, dB, dC, dD, dbias,
        length, segment, channels, 1, *u.stride(), *delta.stride(), *gate.stride(),
        *B_rows.stride()[:2], *C_rows.stride()[:2], *dy.stride(),
        CHUNK=CHUNK, HAS_D=D is not None, **flags, **sizes,
    )  # fmt: skip
    return (
        du,
        ddelta,
        dA.sum((0, 1)).t().contiguous(),
        dB.to(B.dtype),
        dC.to(C.dtype),
        dD.sum((0, 1)),
        dz,
        dbias.sum((0, 1)),
        grad_state[:, 0].transpose(1, 2).contiguous(),
    )
