"""One token of Mamba in Triton: the input projection with the convolution, and dt with the scan."""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.dependent_launch import begin, options, wait
from samba_cli.kernels.gemv_triton import Tile, awaited_vector, block_of_rows, tile
from samba_cli.kernels.mamba_step_ref import InnerNorms
from samba_cli.kernels.selective_scan_triton import LOG2E, sigmoid, softplus


@triton.jit
def _input_kernel(
    x, norm, weight, scale, bias, conv_weight, conv_bias, conv_state, out, gate, after, E, eps,
    D: tl.constexpr, COLUMNS: tl.constexpr, K: tl.constexpr, K_PAD: tl.constexpr,
    ROWS: tl.constexpr, STAGES: tl.constexpr, INSIDE: tl.constexpr,
    SCALE: tl.constexpr, BIAS: tl.constexpr, CONV_BIAS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The rows of x are convolved, those of z are not. A convolution's past is all but its last."""
    begin(EARLY)
    first = tl.program_id(0)
    v = tl.zeros([COLUMNS], tl.float32)
    if not INSIDE:
        v = awaited_vector(x, norm, eps, D, COLUMNS, True, EARLY)
    k = tl.arange(0, K_PAD)
    for block in tl.range(first, tl.cdiv(2 * E, ROWS), tl.num_programs(0), num_stages=STAGES):
        r = block * ROWS + tl.arange(0, ROWS)
        in_r, convolved = r < 2 * E, r < E
        w = block_of_rows(weight, r, in_r, D, COLUMNS)
        past = convolved[:, None] & (k < K - 1)[None, :]
        at = r[:, None] * (K - 1) + k[None, :]
        before = tl.load(conv_state + at, past, 0.0)
        taps = tl.load(conv_weight + r[:, None] * K + k[None, :], past, 0.0).to(tl.float32)
        last = tl.load(conv_weight + r * K + (K - 1), convolved, 0.0).to(tl.float32)
        if INSIDE:  # noqa: SIM102
            if block == first:
                v = awaited_vector(x, norm, eps, D, COLUMNS, True, EARLY)
        y = tl.sum(w.to(tl.float32) * v[None, :], axis=1)
        if SCALE:
            y *= tl.load(scale + r, in_r, 0.0)
        if BIAS:
            y += tl.load(bias + r, in_r, 0.0).to(tl.float32)
        now = y.to(out.dtype.element_ty)  # what the convolution of a chunk would see
        mixed = tl.sum(before.to(tl.float32) * taps, axis=1) + now.to(tl.float32) * last
        if CONV_BIAS:
            mixed += tl.load(conv_bias + r, convolved, 0.0).to(tl.float32)
        tl.store(out + r, (mixed * sigmoid(mixed)).to(out.dtype.element_ty), convolved)
        # not in place: a barrier in the loop would keep the compiler from starting loads ahead
        tl.store(after + at - 1, before, past & (k > 0)[None, :])
        tl.store(after + r * (K - 1) + (K - 2), now, convolved)
        tl.store(gate + r - E, now, in_r & (r >= E))


def input_step(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    norm: tuple[Tensor, float],
    conv_weight: Tensor,
    conv_bias: Tensor | None,
    conv_state: Tensor,
    tiled: Tile | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Same contract as `mamba_input_step`."""
    E, K = conv_weight.shape
    tiled = tiled or tile(weight)
    out = torch.empty((1, 1, E), dtype=conv_state.dtype, device=x.device)
    gate, after = torch.empty_like(out), torch.empty_like(conv_state)
    D = weight.shape[1]
    _input_kernel[(tiled.programs,)](
        x.contiguous(), norm[0], weight.contiguous(), x if scale is None else scale,
        x if bias is None else bias, conv_weight.contiguous(),
        x if conv_bias is None else conv_bias, conv_state, out, gate, after, E, norm[1],
        D=D, COLUMNS=triton.next_power_of_2(D), K=K, K_PAD=triton.next_power_of_2(K - 1),
        ROWS=tiled.rows, SCALE=scale is not None, BIAS=bias is not None,
        CONV_BIAS=conv_bias is not None, **tiled.launch(x),
    )  # fmt: skip
    return out, gate, after


@triton.jit
def _normed(x, weight, at, inside, size, eps, NORM: tl.constexpr, WEIGHTED: tl.constexpr):
    if NORM:
        x *= 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / size + eps)
        if WEIGHTED:
            x *= tl.load(weight + at, inside, 0.0).to(tl.float32)
    return x


@triton.jit
def _scan_kernel(
    x, z, dt_B_C, dt_weight, dt_scale, dt_bias, A, D, state, y, dt_norm, B_norm, C_norm, E, eps,
    R: tl.constexpr, R_PAD: tl.constexpr, N: tl.constexpr, N_PAD: tl.constexpr,
    BLOCK: tl.constexpr, SCALE: tl.constexpr, NORM: tl.constexpr, WEIGHTED: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """BLOCK channels. The state is loaded before waiting: only the last token's step wrote it."""
    begin(EARLY)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    i, n = tl.arange(0, R_PAD), tl.arange(0, N_PAD)
    in_e, in_i, in_n = e < E, i < R, n < N
    mask = in_e[:, None] & in_n[None, :]
    at = e[:, None] * N + n[None, :]
    w = tl.load(dt_weight + e[:, None] * R + i[None, :], in_e[:, None] & in_i[None, :], 0.0)
    rate = tl.load(A + at, mask, 0.0) * LOG2E
    h = tl.load(state + at, mask, 0.0)
    bias = tl.load(dt_bias + e, in_e, 0.0).to(tl.float32)
    skip = tl.load(D + e, in_e, 0.0).to(tl.float32)
    wait(EARLY)

    low = tl.load(dt_B_C + i, in_i, 0.0).to(tl.float32)
    B_row = tl.load(dt_B_C + R + n, in_n, 0.0).to(tl.float32)
    C_row = tl.load(dt_B_C + R + N + n, in_n, 0.0).to(tl.float32)
    low = _normed(low, dt_norm, i, in_i, R, eps, NORM, WEIGHTED)
    B_row = _normed(B_row, B_norm, n, in_n, N, eps, NORM, WEIGHTED)
    C_row = _normed(C_row, C_norm, n, in_n, N, eps, NORM, WEIGHTED)
    dt = tl.sum(w.to(tl.float32) * low[None, :], axis=1)
    if SCALE:
        dt *= tl.load(dt_scale + e, in_e, 0.0)
    dt = softplus(dt + bias)
    x_e = tl.load(x + e, in_e, 0.0).to(tl.float32)
    h = tl.exp2(dt[:, None] * rate) * h + (dt * x_e)[:, None] * B_row[None, :]
    out = tl.sum(h * C_row[None, :], axis=1) + skip * x_e
    gate = tl.load(z + e, in_e, 0.0).to(tl.float32)
    out *= gate * sigmoid(gate)
    tl.store(y + e, out.to(y.dtype.element_ty), in_e)
    tl.debug_barrier()  # threads that hold the same element have read it
    tl.store(state + at, h, mask)


BLOCK_E = 32  # channels of a program


def scan_step(
    x: Tensor,
    z: Tensor,
    dt_B_C: Tensor,
    dt_weight: Tensor,
    dt_scale: Tensor | None,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    state: Tensor,
    inner: tuple[InnerNorms, float] | None,
    block: int = BLOCK_E,
) -> Tensor:
    """Same contract as `mamba_scan_step`."""
    E, N = A.shape
    R = dt_weight.shape[1]
    y = torch.empty((1, 1, E), dtype=x.dtype, device=x.device)
    (dt_norm, B_norm, C_norm), eps = inner or ((None, None, None), 0.0)
    weighted = dt_norm is not None and B_norm is not None and C_norm is not None
    _scan_kernel[(triton.cdiv(E, block),)](
        x.contiguous(), z.contiguous(), dt_B_C.contiguous(), dt_weight.contiguous(),
        x if dt_scale is None else dt_scale, dt_bias, A.contiguous(), D, state, y,
        dt_norm if weighted else x, B_norm if weighted else x, C_norm if weighted else x, E, eps,
        R=R, R_PAD=triton.next_power_of_2(R), N=N, N_PAD=triton.next_power_of_2(N), BLOCK=block,
        SCALE=dt_scale is not None, NORM=inner is not None, WEIGHTED=weighted,
        num_warps=4, **options(x),
    )  # fmt: skip
    return y
