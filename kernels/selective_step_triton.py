"""One token of the selective scan in Triton: decoding.

A walk over one token needs neither segments nor a transposed A, so this is one launch where the
scan and what prepares it are several.
"""

# Triton's types know neither launch options nor what its language does to a function.
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from samba_cli.kernels.selective_scan_triton import LOG2E, sigmoid, softplus

STRIDES = ["u_b", "d_b", "z_b", "B_b", "C_b", "s_b"]


@triton.jit(do_not_specialize=STRIDES)
def _step_kernel(
    u, delta, z, A, B, C, D, bias, state, y, final,
    E, u_b, u_e, d_b, d_e, z_b, z_e, A_e, A_n, B_b, B_n, C_b, C_n, s_b, s_e, s_n,
    N: tl.constexpr, N_PAD: tl.constexpr, BLOCK: tl.constexpr,
    HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_STATE: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1).to(tl.int64)
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N_PAD)
    in_e, in_n = e < E, n < N
    mask = in_e[:, None] & in_n[None, :]
    x = tl.load(u + b * u_b + e * u_e, in_e, 0.0).to(tl.float32)
    dt = tl.load(delta + b * d_b + e * d_e, in_e, 0.0).to(tl.float32)
    if HAS_BIAS:
        dt += tl.load(bias + e, in_e, 0.0)
    dt = softplus(dt)
    rate = tl.load(A + e[:, None] * A_e + n[None, :] * A_n, mask, 0.0) * LOG2E
    B_n_row = tl.load(B + b * B_b + n * B_n, in_n, 0.0).to(tl.float32)
    C_n_row = tl.load(C + b * C_b + n * C_n, in_n, 0.0).to(tl.float32)
    h = (dt * x)[:, None] * B_n_row[None, :]
    if HAS_STATE:
        at = state + b * s_b + e[:, None] * s_e + n[None, :] * s_n
        h += tl.exp2(dt[:, None] * rate) * tl.load(at, mask, 0.0)
    out = tl.sum(h * C_n_row[None, :], axis=1)
    if HAS_D:
        out += tl.load(D + e, in_e, 0.0) * x
    if HAS_Z:
        gate = tl.load(z + b * z_b + e * z_e, in_e, 0.0).to(tl.float32)
        out *= gate * sigmoid(gate)
    tl.store(y + b * E + e, out.to(y.dtype.element_ty), in_e)
    tl.store(final + (b * E + e[:, None]) * N + n[None, :], h, mask)


BLOCK_E = 32  # channels of a program


def step(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    state: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Same contract as `selective_scan` for T = 1, without gradients; A, D, bias, state fp32."""
    batch, _, channels = u.shape
    n = A.shape[1]
    y = torch.empty((batch, 1, channels), dtype=u.dtype, device=u.device)
    final = torch.empty((batch, channels, n), dtype=torch.float32, device=u.device)
    gate = u if z is None else z
    before = final if state is None else state
    _step_kernel[(triton.cdiv(channels, BLOCK_E), batch)](
        u, delta, gate, A, B, C, A if D is None else D, A if delta_bias is None else delta_bias,
        before, y, final,
        channels, u.stride(0), u.stride(2), delta.stride(0), delta.stride(2),
        gate.stride(0), gate.stride(2), *A.stride(), B.stride(0), B.stride(2),
        C.stride(0), C.stride(2), *before.stride(),
        N=n, N_PAD=triton.next_power_of_2(n), BLOCK=BLOCK_E, HAS_D=D is not None,
        HAS_Z=z is not None, HAS_BIAS=delta_bias is not None, HAS_STATE=state is not None,
        num_warps=4,
    )  # fmt: skip
    return y, final
