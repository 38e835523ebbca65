"""The rotary embedding in Triton: every element is read once and written once."""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["n_rows", "T"])
def _forward_kernel(
    x_ptr, cos_ptr, sin_ptr, y_ptr,
    n_rows, T, H, D, R, stride_xb, stride_xt, stride_xh, stride_xd,
    BLOCK_ROWS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_REST: tl.constexpr,
):  # fmt: skip
    """A row is one head at one time; the pair of dimension i < R is i + R."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    h = rows % H
    t = (rows // H) % T
    b = rows // H // T
    inside = (rows < n_rows)[:, None]
    x_rows = x_ptr + (b * stride_xb + t * stride_xt + h * stride_xh)[:, None]
    y_rows = y_ptr + (rows * D)[:, None]

    i = tl.arange(0, BLOCK_R)[None, :]
    mask = inside & (i < R)
    cos = tl.load(cos_ptr + (t * R)[:, None] + i, mask=mask, other=0.0)
    sin = tl.load(sin_ptr + (t * R)[:, None] + i, mask=mask, other=0.0)
    first = tl.load(x_rows + i * stride_xd, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(x_rows + (i + R) * stride_xd, mask=mask, other=0.0).to(tl.float32)
    dtype = y_ptr.dtype.element_ty
    tl.store(y_rows + i, (first * cos - second * sin).to(dtype), mask=mask)
    tl.store(y_rows + i + R, (second * cos + first * sin).to(dtype), mask=mask)

    if BLOCK_REST > 0:  # dimensions that the model does not rotate
        j = 2 * R + tl.arange(0, BLOCK_REST)[None, :]
        mask = inside & (j < D)
        tl.store(y_rows + j, tl.load(x_rows + j * stride_xd, mask=mask), mask=mask)


TILE_PAIRS = 1024  # of one program


def forward(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [B, T, H, d] rotated, contiguous."""
    batch, T, H, d = x.shape
    half = cos.shape[1]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    n_rows = batch * T * H
    block = triton.next_power_of_2(half)
    rows = 1 if n_rows < 128 else max(1, TILE_PAIRS // block)
    rest = d - 2 * half
    _forward_kernel[(triton.cdiv(n_rows, rows),)](
        x, cos.contiguous(), sin.contiguous(), y,
        n_rows, T, H, d, half, *x.stride(),
        BLOCK_ROWS=rows, BLOCK_R=block, BLOCK_REST=triton.next_power_of_2(rest) if rest else 0,
        num_warps=4 if rows > 1 else 1,
    )  # fmt: skip
    return y
