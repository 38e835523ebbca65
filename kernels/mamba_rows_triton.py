"""One token of Mamba of each of a few rows in Triton: the input with the convolution, and the scan.

See `rows_step_triton`. B rows (texts), E channels, N states of a channel, R numbers that dt comes
from, K inputs of a product, S parts.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.dependent_launch import ask_for, begin, options, wait
from samba_cli.kernels.rows_step_triton import BATCH, COLUMNS, ROWS, STAGES, ahead, product
from samba_cli.kernels.selective_scan_triton import LOG2E, sigmoid, softplus


@triton.jit(do_not_specialize=["B"])
def _input_kernel(
    x, weight, conv_weight, conv_bias, conv_state, out, gate, B, E,
    K: tl.constexpr, EVEN: tl.constexpr, TAPS: tl.constexpr, CONV_BIAS: tl.constexpr,
    ROWS: tl.constexpr, BATCH: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr,
    AHEAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The rows of x are convolved, those of z are not. The convolution moves on in place."""
    begin(EARLY)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    r = tl.minimum(rows, 2 * E - 1)
    ask_for(weight, r, 0, K, K - 1, AHEAD, EARLY)
    wait(EARLY)
    y = product(x, weight, r, 0, B, K, K, EVEN, ROWS, BATCH, COLUMNS, STAGES)
    now = y.to(out.dtype.element_ty)  # what the convolution of a chunk would see
    b = tl.arange(0, BATCH)
    in_b = (b < B)[None, :]
    at = b[None, :] * E + rows[:, None]
    if tl.program_id(0) * ROWS < E:
        convolved = rows < E
        inside = convolved[:, None] & in_b
        past = conv_state + at.to(tl.int64) * (TAPS - 1)
        last = tl.load(conv_weight + rows * TAPS + (TAPS - 1), convolved, 0.0).to(tl.float32)
        mixed = now.to(tl.float32) * last[:, None]
        if CONV_BIAS:
            mixed += tl.load(conv_bias + rows, convolved, 0.0).to(tl.float32)[:, None]
        for j in tl.static_range(TAPS - 1):
            before = tl.load(past + j, inside, 0.0)
            tap = tl.load(conv_weight + rows * TAPS + j, convolved, 0.0).to(tl.float32)
            mixed += before.to(tl.float32) * tap[:, None]
            tl.debug_barrier()  # threads that hold the same element have read it
            if j > 0:
                tl.store(past + (j - 1), before, inside)
        tl.store(past + (TAPS - 2), now, inside)
        tl.store(out + at, (mixed * sigmoid(mixed)).to(out.dtype.element_ty), inside)
    if (tl.program_id(0) + 1) * ROWS > E:
        tl.store(gate + at - E, now, ((rows >= E) & (rows < 2 * E))[:, None] & in_b)


@triton.jit(do_not_specialize=["B"])
def _scan_kernel(
    x, z, parts, dt_weight, dt_bias, A, D, state, y, B, E, S,
    R: tl.constexpr, R_PAD: tl.constexpr, N: tl.constexpr, N_PAD: tl.constexpr,
    S_PAD: tl.constexpr, BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """BLOCK channels of a row. The state, read before waiting, moves on in place."""
    begin(EARLY)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(1)
    i, n, s = tl.arange(0, R_PAD), tl.arange(0, N_PAD), tl.arange(0, S_PAD)
    in_e, in_i, in_n = e < E, i < R, n < N
    mask = in_e[:, None] & in_n[None, :]
    at = e[:, None] * N + n[None, :]
    here = state + row.to(tl.int64) * E * N + at
    w = tl.load(dt_weight + e[:, None] * R + i[None, :], in_e[:, None] & in_i[None, :], 0.0)
    rate = tl.load(A + at, mask, 0.0) * LOG2E
    h = tl.load(here, mask, 0.0)
    bias = tl.load(dt_bias + e, in_e, 0.0).to(tl.float32)
    skip = tl.load(D + e, in_e, 0.0).to(tl.float32)
    wait(EARLY)

    line = parts + (s * B + row)[:, None] * (R + 2 * N)
    in_s = (s < S)[:, None]
    low = tl.sum(tl.load(line + i[None, :], in_s & in_i[None, :], 0.0), axis=0)
    B_row = tl.sum(tl.load(line + R + n[None, :], in_s & in_n[None, :], 0.0), axis=0)
    C_row = tl.sum(tl.load(line + R + N + n[None, :], in_s & in_n[None, :], 0.0), axis=0)
    dt = softplus(tl.sum(w.to(tl.float32) * low[None, :], axis=1) + bias)
    x_e = tl.load(x + row * E + e, in_e, 0.0).to(tl.float32)
    h = tl.exp2(dt[:, None] * rate) * h + (dt * x_e)[:, None] * B_row[None, :]
    out = tl.sum(h * C_row[None, :], axis=1) + skip * x_e
    gate = tl.load(z + row * E + e, in_e, 0.0).to(tl.float32)
    out *= gate * sigmoid(gate)
    tl.store(y + row * E + e, out.to(y.dtype.element_ty), in_e)
    tl.debug_barrier()  # threads that hold the same element have read it
    tl.store(here, h, mask)


def input_rows(
    x: Tensor, weight: Tensor, conv_weight: Tensor, conv_bias: Tensor | None, conv_state: Tensor
) -> tuple[Tensor, Tensor]:
    """x [B, 1, K] through weight [2 E, K]; its first half through the convolution and silu.

    conv_weight [E, TAPS]; conv_state [B, E, TAPS - 1], contiguous, moves on in place. Returns the
    convolved x and the gate z, both [B, 1, E] in conv_state's dtype.
    """
    (E, taps), B, K = conv_weight.shape, len(x), weight.shape[1]
    assert B <= BATCH
    out = torch.empty((B, 1, E), dtype=conv_state.dtype, device=x.device)
    gate = torch.empty_like(out)
    _input_kernel[(triton.cdiv(2 * E, ROWS),)](
        x.contiguous(), weight.contiguous(), conv_weight.contiguous(),
        x if conv_bias is None else conv_bias, conv_state, out, gate, B, E,
        K=K, EVEN=K % COLUMNS == 0, TAPS=taps, CONV_BIAS=conv_bias is not None, ROWS=ROWS,
        BATCH=BATCH, COLUMNS=COLUMNS, STAGES=STAGES, AHEAD=ahead(K), num_warps=4,
        **options(x),
    )  # fmt: skip
    return out, gate


BLOCK_E = 32  # channels of a program


def scan_rows(
    x: Tensor, z: Tensor, parts: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor,
    state: Tensor,
) -> Tensor:  # fmt: skip
    """One token of the selective scan of each row, gated by silu(z).

    x, z [B, 1, E]; parts [S, B, 1, R + 2 N] float32, whose sum is dt (before its projection), B and
    C; dt_weight [E, R]; dt_bias, D [E]; A [E, N]; state [B, E, N] float32, contiguous, moves on in
    place. Returns y [B, 1, E].
    """
    (E, N), R, rows, S = A.shape, dt_weight.shape[1], len(x), len(parts)
    y = torch.empty_like(x)
    _scan_kernel[(triton.cdiv(E, BLOCK_E), rows)](
        x, z, parts, dt_weight.contiguous(), dt_bias, A.contiguous(), D, state, y, rows, E, S,
        R=R, R_PAD=triton.next_power_of_2(R), N=N, N_PAD=triton.next_power_of_2(N),
        S_PAD=triton.next_power_of_2(S), BLOCK=BLOCK_E, num_warps=4, **options(x),
    )  # fmt: skip
    return y
