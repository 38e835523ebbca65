"""Causal convolution in Triton: forward, and backward in two passes.

A tile is [BLOCK_T, BLOCK_E] of the row-major input; its K shifted loads hit the cache, so the
kernels move each element about once. Backward pass one turns dy into the gradient before the
activation (dz) and leaves a partial sum of dweight and dbias per tile, which are added up
afterwards in a fixed order; pass two correlates dz with the weights.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _shifted_rows(
    x_ptr, state_ptr, s, e, mask_e, T, first,
    stride_xt, stride_xe, stride_se, stride_sk,
    K: tl.constexpr, HAS_STATE: tl.constexpr,
):  # fmt: skip
    """Inputs at times s [BLOCK_T], which may lie before 0: there they come from the state."""
    inside = (s >= 0) & (s < T)
    rows = tl.load(
        x_ptr + s[:, None] * stride_xt + e[None, :] * stride_xe,
        mask=inside[:, None] & mask_e[None, :],
        other=0.0,
    )
    if HAS_STATE:  # noqa: SIM102 (a constexpr, apart from the value read at run time)
        if first:
            rows += tl.load(
                state_ptr + (s + (K - 1))[:, None] * stride_sk + e[None, :] * stride_se,
                mask=(s < 0)[:, None] & mask_e[None, :],
                other=0.0,
            )
    return rows.to(tl.float32)


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
    e = i_e.to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    t = i_t.to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    mask_e = e < E
    x_ptr += i_b * stride_xb
    state_ptr += i_b * stride_sb

    z = tl.zeros([BLOCK_T, BLOCK_E], dtype=tl.float32)
    if HAS_BIAS:
        z += tl.load(bias_ptr + e, mask=mask_e, other=0.0).to(tl.float32)[None, :]
    for k in tl.static_range(K):
        rows = _shifted_rows(
            x_ptr, state_ptr, t - (K - 1) + k, e, mask_e, T, i_t == 0,
            stride_xt, stride_xe, stride_se, stride_sk, K, HAS_STATE,
        )  # fmt: skip
        z += rows * tl.load(weight_ptr + e * K + k, mask=mask_e, other=0.0).to(tl.float32)[None, :]
    if SILU:
        z = z * tl.sigmoid(z)
    y_ptr += i_b * T * E
    tl.store(
        y_ptr + t[:, None] * E + e[None, :],
        z.to(y_ptr.dtype.element_ty),
        mask=(t < T)[:, None] & mask_e[None, :],
    )

    if i_t == tl.cdiv(T, BLOCK_T) - 1:
        for j in tl.static_range(K - 1):
            s = tl.zeros_like(e) + T - (K - 1) + j
            column = tl.load(
                x_ptr + s * stride_xt + e * stride_xe, mask=mask_e & (s >= 0), other=0.0
            )
            if HAS_STATE:  # fewer than K-1 new inputs: the newest part of the old state stays
                column += tl.load(
                    state_ptr + (s + (K - 1)) * stride_sk + e * stride_se,
                    mask=mask_e & (s < 0),
                    other=0.0,
                )
            tl.store(new_state_ptr + (i_b * E + e) * (K - 1) + j, column, mask=mask_e)


@triton.jit(do_not_specialize=["T"])
def _backward_pre_activation_kernel(
    x_ptr, weight_ptr, bias_ptr, state_ptr, dy_ptr, dz_ptr, partial_ptr,
    T, E,
    stride_xb, stride_xt, stride_xe, stride_sb, stride_se, stride_sk,
    stride_yb, stride_yt, stride_ye,
    K: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_STATE: tl.constexpr, SILU: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    n_e = tl.cdiv(E, BLOCK_E)
    n_t = tl.cdiv(T, BLOCK_T)
    i_e = tl.program_id(0) % n_e
    i_t = tl.program_id(0) // n_e
    i_b = tl.program_id(1).to(tl.int64)
    e = i_e.to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    t = i_t.to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    mask_e = e < E
    mask = (t < T)[:, None] & mask_e[None, :]
    x_ptr += i_b * stride_xb
    state_ptr += i_b * stride_sb

    dz = tl.load(
        dy_ptr + i_b * stride_yb + t[:, None] * stride_yt + e[None, :] * stride_ye,
        mask=mask,
        other=0.0,
    ).to(tl.float32)
    if SILU:
        z = tl.zeros([BLOCK_T, BLOCK_E], dtype=tl.float32)
        if HAS_BIAS:
            z += tl.load(bias_ptr + e, mask=mask_e, other=0.0).to(tl.float32)[None, :]
        for k in tl.static_range(K):
            rows = _shifted_rows(
                x_ptr, state_ptr, t - (K - 1) + k, e, mask_e, T, i_t == 0,
                stride_xt, stride_xe, stride_se, stride_sk, K, HAS_STATE,
            )  # fmt: skip
            w = tl.load(weight_ptr + e * K + k, mask=mask_e, other=0.0).to(tl.float32)
            z += rows * w[None, :]
        gate = tl.sigmoid(z)
        dz = dz * gate * (1.0 + z * (1.0 - gate))
    tl.store(
        dz_ptr + i_b * T * E + t[:, None] * E + e[None, :],
        dz.to(dz_ptr.dtype.element_ty),
        mask=mask,
    )

    # partial [B, n_t, K+1, E]: rows 0..K-1 of dweight, row K of dbias
    partial_ptr += (i_b * n_t + i_t) * (K + 1) * E
    for k in tl.static_range(K):
        rows = _shifted_rows(
            x_ptr, state_ptr, t - (K - 1) + k, e, mask_e, T, i_t == 0,
            stride_xt, stride_xe, stride_se, stride_sk, K, HAS_STATE,
        )  # fmt: skip
        tl.store(partial_ptr + k * E + e, tl.sum(dz * rows, axis=0), mask=mask_e)
    if HAS_BIAS:
        tl.store(partial_ptr + K * E + e, tl.sum(dz, axis=0), mask=mask_e)


@triton.jit(do_not_specialize=["T"])
def _backward_input_kernel(
    dz_ptr, weight_ptr, dfinal_ptr, dx_ptr, dstate_ptr,
    T, E,
    stride_fb, stride_fe, stride_fk,
    K: tl.constexpr, HAS_STATE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    n_e = tl.cdiv(E, BLOCK_E)
    i_e = tl.program_id(0) % n_e
    i_t = tl.program_id(0) // n_e
    i_b = tl.program_id(1).to(tl.int64)
    e = i_e.to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    s = i_t.to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    mask_e = e < E
    dz_ptr += i_b * T * E
    dfinal_ptr += i_b * stride_fb

    dx = tl.zeros([BLOCK_T, BLOCK_E], dtype=tl.float32)
    for k in tl.static_range(K):
        t = s + (K - 1) - k
        dz = tl.load(
            dz_ptr + t[:, None] * E + e[None, :],
            mask=(t < T)[:, None] & mask_e[None, :],
            other=0.0,
        ).to(tl.float32)
        dx += dz * tl.load(weight_ptr + e * K + k, mask=mask_e, other=0.0).to(tl.float32)[None, :]
    if (i_t + 1) * BLOCK_T > T - (K - 1):  # the last K-1 inputs are also the returned state
        j = s - T + (K - 1)
        dx += tl.load(
            dfinal_ptr + j[:, None] * stride_fk + e[None, :] * stride_fe,
            mask=((j >= 0) & (s < T))[:, None] & mask_e[None, :],
            other=0.0,
        ).to(tl.float32)
    tl.store(
        dx_ptr + i_b * T * E + s[:, None] * E + e[None, :],
        dx.to(dx_ptr.dtype.element_ty),
        mask=(s < T)[:, None] & mask_e[None, :],
    )

    if HAS_STATE:  # noqa: SIM102 (a constexpr, apart from the value read at run time)
        if i_t == 0:
            for i in tl.static_range(K - 1):  # state entry i is the input at time i - (K-1)
                j = tl.zeros_like(e) + i - T
                grad = tl.load(
                    dfinal_ptr + j * stride_fk + e * stride_fe, mask=mask_e & (j >= 0), other=0.0
                ).to(tl.float32)
                for k in tl.static_range(i + 1):
                    past_end = (tl.zeros_like(e) + i - k) >= T
                    later = tl.load(dz_ptr + (i - k) * E + e, mask=mask_e & ~past_end, other=0.0)
                    w = tl.load(weight_ptr + e * K + k, mask=mask_e, other=0.0)
                    grad += later.to(tl.float32) * w.to(tl.float32)
                tl.store(
                    dstate_ptr + (i_b * E + e) * (K - 1) + i,
                    grad.to(dstate_ptr.dtype.element_ty),
                    mask=mask_e,
                )


def _blocks(T: int, E: int, rows: int, columns: int) -> tuple[int, int]:
    """Tile of a kernel. Only three heights, so that lengths do not recompile."""
    block_t = 1 if T == 1 else min(16, rows) if T <= 16 else rows
    return block_t, min(columns, triton.next_power_of_2(E))


FORWARD_TILE = (32, 64)
BACKWARD_TILE = (32, 64)
NUM_WARPS = 4


def forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    state: torch.Tensor | None,
    silu: bool,
    tile: tuple[int, int] = FORWARD_TILE,
    num_warps: int = NUM_WARPS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """y [B, T, E] and the new state [B, E, K-1], both contiguous and in x.dtype."""
    batch, T, E = x.shape
    K = weight.shape[1]
    y = torch.empty(batch, T, E, dtype=x.dtype, device=x.device)
    new_state = torch.empty(batch, E, K - 1, dtype=x.dtype, device=x.device)
    block_t, block_e = _blocks(T, E, *tile)
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
    tile: tuple[int, int] = BACKWARD_TILE,
    num_warps: int = NUM_WARPS,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """dx, dweight, dbias and dstate; the last two are empty where there was no such input."""
    batch, T, E = x.shape
    K = weight.shape[1]
    block_t, block_e = _blocks(T, E, *tile)
    n_t = triton.cdiv(T, block_t)
    grid = (n_t * triton.cdiv(E, block_e), batch)
    weight_rows = weight.contiguous()
    dz = torch.empty(batch, T, E, dtype=x.dtype, device=x.device)
    dx = torch.empty_like(dz)
    partial = torch.empty(batch * n_t, K + 1, E, dtype=torch.float32, device=x.device)
    dstate = x.new_empty(0 if state is None else batch, E, K - 1)
    flags = {"K": K, "HAS_STATE": state is not None, "BLOCK_T": block_t, "BLOCK_E": block_e}
    _backward_pre_activation_kernel[grid](
        x, weight_rows, bias, state if state is not None else x, dy, dz, partial,
        T, E, *x.stride(), *(state.stride() if state is not None else (0, 0, 0)), *dy.stride(),
        HAS_BIAS=bias is not None, SILU=silu, **flags, num_warps=num_warps,
    )  # fmt: skip
    _backward_input_kernel[grid](
        dz, weight_rows, dfinal, dx, dstate,
        T, E, *dfinal.stride(), **flags, num_warps=num_warps,
    )  # fmt: skip
    dweight = partial[:, :K].sum(0).t().to(weight.dtype)
    dbias = weight.new_empty(0) if bias is None else partial[:, K].sum(0).to(bias.dtype)
    return dx, dweight.contiguous(), dbias, dstate
