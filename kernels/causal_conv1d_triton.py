"""Causal convolution in Triton for up to four taps: each element is moved once.

A program owns BLOCK_E channels and walks BLOCK_T steps of time, four rows at a time: while it works
on four rows the next four are under way, and the three before them stay in registers. The backward
walk is the same: the gradient of an input is complete K-1 steps after it, so that dx is written
with that lag, and a program walks on past its block as far as its last inputs reach. Each program
leaves a partial sum of dweight and dbias, which are added up afterwards in a fixed order.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _channels(e, E, inside):
    """Which of the channels e [BLOCK_E] to touch: those that exist, if the row is inside."""
    return e < tl.where(inside, E, 0)


@triton.jit
def _row(ptr, t, inside, e, E, stride_t, stride_e):
    """Row t [BLOCK_E] as it is stored; zeros where it is not inside."""
    return tl.load(ptr + t * stride_t + e * stride_e, mask=_channels(e, E, inside), other=0.0)


@triton.jit
def _past(
    x_ptr, state_ptr, t, T, e, E, stride_xt, stride_xe, stride_se, stride_sk,
    K: tl.constexpr, HAS_STATE: tl.constexpr,
):  # fmt: skip
    """Row t [BLOCK_E] in fp32, from the state where t lies before 0."""
    row = _row(x_ptr, t, (t >= 0) & (t < T), e, E, stride_xt, stride_xe).to(tl.float32)
    if HAS_STATE:
        kept = (t < 0) & (t >= -(K - 1))
        newest = state_ptr + (K - 1) * stride_sk
        row += _row(newest, t, kept, e, E, stride_sk, stride_se).to(tl.float32)
    return row


@triton.jit
def _taps(weight_ptr, bias_ptr, e, mask_e, K: tl.constexpr, HAS_BIAS: tl.constexpr):
    """Weights [BLOCK_E] of x_t, x_{t-1}, x_{t-2}, x_{t-3} (zeros beyond K) and the bias, fp32."""
    none = tl.zeros(e.shape, tl.float32)
    w0 = tl.load(weight_ptr + e * K + (K - 1), mask=mask_e, other=0.0).to(tl.float32)
    w1 = tl.load(weight_ptr + e * K + (K - 2), mask=mask_e, other=0.0).to(tl.float32)
    w2, w3, bias = none, none, none
    if K > 2:
        w2 = tl.load(weight_ptr + e * K + (K - 3), mask=mask_e, other=0.0).to(tl.float32)
    if K > 3:
        w3 = tl.load(weight_ptr + e * K, mask=mask_e, other=0.0).to(tl.float32)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + e, mask=mask_e, other=0.0).to(tl.float32)
    return w0, w1, w2, w3, bias


@triton.jit
def _filtered(x0, x1, x2, x3, w0, w1, w2, w3, bias, K: tl.constexpr):
    """The convolution at one step: x0 is the newest input."""
    z = bias + w0 * x0 + w1 * x1
    if K > 2:
        z += w2 * x2
    if K > 3:
        z += w3 * x3
    return z


@triton.jit(do_not_specialize=["T"])
def _forward_kernel(
    x_ptr, weight_ptr, bias_ptr, state_ptr, y_ptr, new_state_ptr,
    T, E,
    stride_xb, stride_xt, stride_xe, stride_sb, stride_se, stride_sk,
    K: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_STATE: tl.constexpr, SILU: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    n_e = tl.cdiv(E, BLOCK_E)
    i_e = tl.program_id(0) % n_e
    i_t = tl.program_id(0) // n_e
    i_b = tl.program_id(1).to(tl.int64)
    t0 = i_t.to(tl.int64) * BLOCK_T
    left = (T - t0).to(tl.int32)  # rows from here to the end; rows are counted from t0 below
    e = i_e * BLOCK_E + tl.arange(0, BLOCK_E)
    mask_e = e < E
    x_ptr += i_b * stride_xb
    state_ptr += i_b * stride_sb
    w0, w1, w2, w3, bias = _taps(weight_ptr, bias_ptr, e, mask_e, K, HAS_BIAS)
    zero = tl.zeros([BLOCK_E], tl.float32)
    p1, p2, p3 = zero, zero, zero  # the inputs one, two and three steps before
    p1 = _past(
        x_ptr, state_ptr, t0 - 1, T, e, E, stride_xt, stride_xe, stride_se, stride_sk, K, HAS_STATE
    )  # noqa: E501
    if K > 2:
        p2 = _past(
            x_ptr,
            state_ptr,
            t0 - 2,
            T,
            e,
            E,
            stride_xt,
            stride_xe,
            stride_se,
            stride_sk,
            K,
            HAS_STATE,
        )  # noqa: E501
    if K > 3:
        p3 = _past(
            x_ptr,
            state_ptr,
            t0 - 3,
            T,
            e,
            E,
            stride_xt,
            stride_xe,
            stride_se,
            stride_sk,
            K,
            HAS_STATE,
        )  # noqa: E501
    x_block = x_ptr + t0 * stride_xt
    y_block = y_ptr + (i_b * T + t0) * E
    most = tl.minimum(left, BLOCK_T)
    c0 = _row(x_block, 0, most > 0, e, E, stride_xt, stride_xe)
    c1 = _row(x_block, 1, most > 1, e, E, stride_xt, stride_xe)
    c2 = _row(x_block, 2, most > 2, e, E, stride_xt, stride_xe)
    c3 = _row(x_block, 3, most > 3, e, E, stride_xt, stride_xe)
    for i in range(0, BLOCK_T, 4):
        n0 = _row(x_block, i + 4, i + 4 < most, e, E, stride_xt, stride_xe)
        n1 = _row(x_block, i + 5, i + 5 < most, e, E, stride_xt, stride_xe)
        n2 = _row(x_block, i + 6, i + 6 < most, e, E, stride_xt, stride_xe)
        n3 = _row(x_block, i + 7, i + 7 < most, e, E, stride_xt, stride_xe)
        x0, x1 = c0.to(tl.float32), c1.to(tl.float32)
        x2, x3 = c2.to(tl.float32), c3.to(tl.float32)
        z0 = _filtered(x0, p1, p2, p3, w0, w1, w2, w3, bias, K)
        z1 = _filtered(x1, x0, p1, p2, w0, w1, w2, w3, bias, K)
        z2 = _filtered(x2, x1, x0, p1, w0, w1, w2, w3, bias, K)
        z3 = _filtered(x3, x2, x1, x0, w0, w1, w2, w3, bias, K)
        if SILU:
            z0, z1 = z0 * tl.sigmoid(z0), z1 * tl.sigmoid(z1)
            z2, z3 = z2 * tl.sigmoid(z2), z3 * tl.sigmoid(z3)
        kind = y_ptr.dtype.element_ty
        tl.store(y_block + (i + 0) * E + e, z0.to(kind), mask=_channels(e, E, i + 0 < most))
        tl.store(y_block + (i + 1) * E + e, z1.to(kind), mask=_channels(e, E, i + 1 < most))
        tl.store(y_block + (i + 2) * E + e, z2.to(kind), mask=_channels(e, E, i + 2 < most))
        tl.store(y_block + (i + 3) * E + e, z3.to(kind), mask=_channels(e, E, i + 3 < most))
        p1, p2, p3 = x3, x2, x1
        c0, c1, c2, c3 = n0, n1, n2, n3

    if left <= BLOCK_T:  # the last block: the newest K-1 inputs are the new state
        for j in tl.static_range(K - 1):
            column = _past(
                x_ptr, state_ptr, T.to(tl.int64) - (K - 1) + j, T, e, E,
                stride_xt, stride_xe, stride_se, stride_sk, K, HAS_STATE,
            )  # fmt: skip
            tl.store(
                new_state_ptr + (i_b * E + e) * (K - 1) + j,
                column.to(new_state_ptr.dtype.element_ty),
                mask=mask_e,
            )


@triton.jit
def _before_activation(
    x0, x1, x2, x3, dy, w0, w1, w2, w3, bias, K: tl.constexpr, SILU: tl.constexpr
):
    """The gradient before the activation, from that after it."""
    dz = dy.to(tl.float32)
    if SILU:
        z = _filtered(x0, x1, x2, x3, w0, w1, w2, w3, bias, K)
        gate = tl.sigmoid(z)
        dz = dz * gate * (1.0 + z * (1.0 - gate))
    return dz


@triton.jit(do_not_specialize=["T"])
def _backward_kernel(
    x_ptr, weight_ptr, bias_ptr, state_ptr, dy_ptr, dfinal_ptr, dx_ptr, dstate_ptr, partial_ptr,
    T, E,
    stride_xb, stride_xt, stride_xe, stride_sb, stride_se, stride_sk,
    stride_yb, stride_yt, stride_ye, stride_fb, stride_fe, stride_fk,
    K: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_STATE: tl.constexpr, SILU: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    n_e = tl.cdiv(E, BLOCK_E)
    n_t = tl.cdiv(T, BLOCK_T)
    i_e = tl.program_id(0) % n_e
    i_t = tl.program_id(0) // n_e
    i_b = tl.program_id(1).to(tl.int64)
    t0 = i_t.to(tl.int64) * BLOCK_T
    left = (T - t0).to(tl.int32)
    e = i_e * BLOCK_E + tl.arange(0, BLOCK_E)
    mask_e = e < E
    x_ptr += i_b * stride_xb
    state_ptr += i_b * stride_sb
    dfinal_ptr += i_b * stride_fb
    w0, w1, w2, w3, bias = _taps(weight_ptr, bias_ptr, e, mask_e, K, HAS_BIAS)
    zero = tl.zeros([BLOCK_E], tl.float32)
    p1, p2, p3 = zero, zero, zero
    p1 = _past(
        x_ptr, state_ptr, t0 - 1, T, e, E, stride_xt, stride_xe, stride_se, stride_sk, K, HAS_STATE
    )  # noqa: E501
    if K > 2:
        p2 = _past(
            x_ptr,
            state_ptr,
            t0 - 2,
            T,
            e,
            E,
            stride_xt,
            stride_xe,
            stride_se,
            stride_sk,
            K,
            HAS_STATE,
        )  # noqa: E501
    if K > 3:
        p3 = _past(
            x_ptr,
            state_ptr,
            t0 - 3,
            T,
            e,
            E,
            stride_xt,
            stride_xe,
            stride_se,
            stride_sk,
            K,
            HAS_STATE,
        )  # noqa: E501
    x_block = x_ptr + t0 * stride_xt
    dy_block = dy_ptr + i_b * stride_yb + t0 * stride_yt
    dx_block = dx_ptr + (i_b * T + t0) * E
    most = tl.minimum(left, BLOCK_T + (K - 1))
    # the gradients before the activation of the steps before; three zeros, not one three times:
    # Triton would take q3, which becomes q1, for the same value and not carry it
    q1 = tl.zeros([BLOCK_E], tl.float32)
    q2 = tl.zeros([BLOCK_E], tl.float32)
    q3 = tl.zeros([BLOCK_E], tl.float32)
    v0, v1, v2, v3, v_bias = zero, zero, zero, zero, zero  # of w0 to w3, summed over this block
    c0 = _row(x_block, 0, most > 0, e, E, stride_xt, stride_xe)
    c1 = _row(x_block, 1, most > 1, e, E, stride_xt, stride_xe)
    g0 = _row(dy_block, 0, most > 0, e, E, stride_yt, stride_ye)
    g1 = _row(dy_block, 1, most > 1, e, E, stride_yt, stride_ye)
    for i in range(0, BLOCK_T + 4, 2):
        n0 = _row(x_block, i + 2, i + 2 < most, e, E, stride_xt, stride_xe)
        n1 = _row(x_block, i + 3, i + 3 < most, e, E, stride_xt, stride_xe)
        h0 = _row(dy_block, i + 2, i + 2 < most, e, E, stride_yt, stride_ye)
        h1 = _row(dy_block, i + 3, i + 3 < most, e, E, stride_yt, stride_ye)
        x0, x1 = c0.to(tl.float32), c1.to(tl.float32)
        d0 = _before_activation(x0, p1, p2, p3, g0, w0, w1, w2, w3, bias, K, SILU)
        d1 = _before_activation(x1, x0, p1, p2, g1, w0, w1, w2, w3, bias, K, SILU)
        if i < BLOCK_T:  # what comes after is the next block's, and only its inputs reach back
            v0 += d0 * x0 + d1 * x1
            v1 += d0 * p1 + d1 * x0
            v2 += d0 * p2 + d1 * p1
            v3 += d0 * p3 + d1 * p2
            v_bias += d0 + d1
        # x_s meets w0 at step s and the last tap at step s + K-1, which is this one
        if K == 2:
            dx0, dx1 = w0 * q1 + w1 * d0, w0 * d0 + w1 * d1
        elif K == 3:
            dx0 = w0 * q2 + w1 * q1 + w2 * d0
            dx1 = w0 * q1 + w1 * d0 + w2 * d1
        else:
            dx0 = w0 * q3 + w1 * q2 + w2 * q1 + w3 * d0
            dx1 = w0 * q2 + w1 * q1 + w2 * d0 + w3 * d1
        s = i - (K - 1)
        end = left - (K - 1)  # inputs from here on are also the returned state
        if s + 1 >= end:
            returned = dfinal_ptr - end.to(tl.int64) * stride_fk
            dx0 += _row(returned, s, (s >= end) & (s < left), e, E, stride_fk, stride_fe).to(
                tl.float32
            )  # noqa: E501
            dx1 += _row(
                returned, s + 1, (s + 1 >= end) & (s + 1 < left), e, E, stride_fk, stride_fe
            ).to(tl.float32)  # noqa: E501
        kind = dx_ptr.dtype.element_ty
        own0 = (s >= 0) & (s < BLOCK_T) & (s < left)
        own1 = (s >= -1) & (s + 1 < BLOCK_T) & (s + 1 < left)
        tl.store(dx_block + s * E + e, dx0.to(kind), mask=_channels(e, E, own0))
        tl.store(dx_block + (s + 1) * E + e, dx1.to(kind), mask=_channels(e, E, own1))
        if HAS_STATE:  # noqa: SIM102 (a constexpr, apart from the value read at run time)
            if (i_t == 0) & (s < 0):  # state entry k is the input at time k - (K-1)
                to = dstate_ptr + (i_b * E + e) * (K - 1) + i
                tl.store(to, dx0.to(kind), mask=mask_e)
                tl.store(to + 1, dx1.to(kind), mask=_channels(e, E, s + 1 < 0))
        p1, p2, p3 = x1, x0, p1
        q1, q2, q3 = d1, d0, q1
        c0, c1, g0, g1 = n0, n1, h0, h1

    # partial [B, n_t, K+1, E]: rows 0..K-1 of dweight, row K of dbias
    partial_ptr += (i_b * n_t + i_t) * (K + 1) * E + e
    tl.store(partial_ptr + (K - 1) * E, v0, mask=mask_e)
    tl.store(partial_ptr + (K - 2) * E, v1, mask=mask_e)
    if K > 2:
        tl.store(partial_ptr + (K - 3) * E, v2, mask=mask_e)
    if K > 3:
        tl.store(partial_ptr, v3, mask=mask_e)
    if HAS_BIAS:
        tl.store(partial_ptr + K * E, v_bias, mask=mask_e)


def _blocks(T: int, E: int, rows: int, columns: int) -> tuple[int, int]:
    """Steps and channels of a program. Only three heights, so that lengths do not recompile."""
    height = 4 if T <= 4 else 32 if T <= 32 else rows
    return height, min(columns, triton.next_power_of_2(E))


# Steps and channels, measured on an H200 with one warp: fewer registers beat wider rows.
FORWARD_BLOCK = (64, 128)
BACKWARD_BLOCK = (128, 128)
NUM_WARPS = 1


def forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    state: torch.Tensor | None,
    silu: bool,
    block: tuple[int, int] = FORWARD_BLOCK,
    num_warps: int = NUM_WARPS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """y [B, T, E] and the new state [B, E, K-1], both contiguous and in x.dtype."""
    batch, T, E = x.shape
    K = weight.shape[1]
    y = torch.empty(batch, T, E, dtype=x.dtype, device=x.device)
    new_state = torch.empty(batch, E, K - 1, dtype=x.dtype, device=x.device)
    block_t, block_e = _blocks(T, E, *block)
    grid = (triton.cdiv(T, block_t) * triton.cdiv(E, block_e), batch)
    _forward_kernel[grid](
        x, weight.contiguous(), bias, state if state is not None else x, y, new_state,
        T, E, *x.stride(), *(state.stride() if state is not None else (0, 0, 0)),
        K=K, HAS_BIAS=bias is not None, HAS_STATE=state is not None, SILU=silu,
        BLOCK_T=block_t, BLOCK_E=block_e, num_warps=num_warps,
    )  # fmt: skip
    return y, new_state


def backward(
    dy: torch.Tensor,
    dfinal: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    state: torch.Tensor | None,
    silu: bool,
    block: tuple[int, int] = BACKWARD_BLOCK,
    num_warps: int = NUM_WARPS,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """dx, dweight, dbias and dstate; the last two are empty where there was no such input."""
    batch, T, E = x.shape
    K = weight.shape[1]
    block_t, block_e = _blocks(T, E, *block)
    n_t = triton.cdiv(T, block_t)
    grid = (n_t * triton.cdiv(E, block_e), batch)
    dx = torch.empty(batch, T, E, dtype=x.dtype, device=x.device)
    partial = torch.empty(batch * n_t, K + 1, E, dtype=torch.float32, device=x.device)
    dstate = x.new_empty(0 if state is None else batch, E, K - 1)
    _backward_kernel[grid](
        x, weight.contiguous(), bias, state if state is not None else x, dy, dfinal, dx, dstate,
        partial, T, E, *x.stride(), *(state.stride() if state is not None else (0, 0, 0)),
        *dy.stride(), *dfinal.stride(),
        K=K, HAS_BIAS=bias is not None, HAS_STATE=state is not None, SILU=silu,
        BLOCK_T=block_t, BLOCK_E=block_e, num_warps=num_warps,
    )  # fmt: skip
    dweight = partial[:, :K].sum(0).t().to(weight.dtype)
    dbias = weight.new_empty(0) if bias is None else partial[:, K].sum(0).to(bias.dtype)
    return dx, dweight.contiguous(), dbias, dstate
