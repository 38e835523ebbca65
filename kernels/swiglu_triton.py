"""silu(gate) * up in Triton: gate and up are read once, the product is written once."""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["n_rows"])
def _forward_kernel(
    x_ptr, y_ptr, n_rows, width, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    n_columns = tl.cdiv(width, BLOCK)
    i_row = (tl.program_id(0) // n_columns).to(tl.int64)
    rows = i_row * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    columns = (tl.program_id(0) % n_columns) * BLOCK + tl.arange(0, BLOCK)
    mask = (rows < n_rows)[:, None] & (columns < width)[None, :]
    at = rows[:, None] * (2 * width) + columns[None, :]
    gate = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(x_ptr + at + width, mask=mask, other=0.0).to(tl.float32)
    y = gate * tl.sigmoid(gate) * up
    tl.store(
        y_ptr + rows[:, None] * width + columns[None, :], y.to(y_ptr.dtype.element_ty), mask=mask
    )


ROWS, COLUMNS = 8, 256


def forward(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(first half) * second half of the last dimension."""
    gate_up = gate_up.contiguous()
    width = gate_up.shape[-1] // 2
    n_rows = gate_up.numel() // (2 * width)
    y = torch.empty((*gate_up.shape[:-1], width), dtype=gate_up.dtype, device=gate_up.device)
    rows = 1 if n_rows < ROWS else ROWS
    grid = (triton.cdiv(n_rows, rows) * triton.cdiv(width, COLUMNS),)
    _forward_kernel[grid](
        gate_up, y, n_rows, width, BLOCK_ROWS=rows, BLOCK=COLUMNS, num_warps=4
    )  # fmt: skip
    return y
