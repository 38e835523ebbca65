"""RMSNorm in Triton, with the residual addition fused in: one read and one write per element."""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["n_rows"])
def _forward_kernel(
    x_ptr, residual_ptr, weight_ptr, y_ptr, sum_ptr,
    n_rows, D, eps,
    ADD: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    d = tl.arange(0, BLOCK_D)
    mask = (rows < n_rows)[:, None] & (d < D)[None, :]
    at = rows[:, None] * D + d[None, :]
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    if ADD:
        x += tl.load(residual_ptr + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(sum_ptr + at, x, mask=mask)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, axis=1) / D + eps)
    weight = tl.load(weight_ptr + d, mask=d < D, other=0.0).to(tl.float32)
    y = x * scale[:, None] * weight[None, :]
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=mask)


TILE_ELEMENTS = 4096  # of one program, as whole rows


def forward(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    out_dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The norm, and the fp32 sum (the norm again where there is no residual)."""
    D = x.shape[-1]
    x, weight = x.contiguous(), weight.contiguous()
    n_rows = x.numel() // D
    y = torch.empty(x.shape, dtype=out_dtype, device=x.device)
    total = y if residual is None else torch.empty(x.shape, dtype=torch.float32, device=x.device)
    if n_rows == 0:  # no position of a chunk whose logits are wanted
        return y, total
    block_d = triton.next_power_of_2(D)
    block_rows = 1 if n_rows < 128 else max(1, TILE_ELEMENTS // block_d)
    _forward_kernel[(triton.cdiv(n_rows, block_rows),)](
        x, x if residual is None else residual.contiguous(), weight, y, total,
        n_rows, D, eps,
        ADD=residual is not None, BLOCK_ROWS=block_rows, BLOCK_D=block_d,
        num_warps=4 if block_d <= TILE_ELEMENTS else 8,
    )  # fmt: skip
    return y, total
