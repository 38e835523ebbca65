"""The selective scan of Mamba with its state as an input and an output."""

from __future__ import annotations

from torch import Tensor

from samba_cli.kernels.dispatch import backend_for
from samba_cli.kernels.selective_scan_cpu import selective_scan_cpu
from samba_cli.kernels.selective_scan_ref import selective_scan_ref


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Read T tokens into the state of a diagonal, input-dependent linear recurrence.

        dt_t = softplus(delta_t + delta_bias)
        h_t  = exp(dt_t * A) * h_{t-1} + dt_t * B_t * u_t
        y_t  = (<C_t, h_t> + D * u_t) * silu(z_t)

    Args:
        u, delta, z: [batch, T, E], any strides, T >= 1; z may be None (no gate).
        A: [E, N] fp32, negative. B, C: [batch, T, N]. D, delta_bias: [E] fp32 or None.
        state: [batch, E, N] fp32, the h before the first token, or None for zeros.

    Returns y [batch, T, E] in u's dtype and the state after the last token, a new fp32 tensor.
    Cutting T into several calls gives the same result. Computes in fp32 and is differentiable
    in every input, on every backend. Raises ValueError when shapes do not fit together.

    Mamba (Gu & Dao 2023), equation 2 and algorithm 2.
    """
    batch, length, channels = u.shape
    if length < 1 or A.shape[0] != channels or B.shape != (batch, length, A.shape[1]):
        raise ValueError(
            f"u {tuple(u.shape)}, A {tuple(A.shape)} and B {tuple(B.shape)} must be "
            "[batch, T >= 1, E], [E, N] and [batch, T, N]"
        )
    backend = backend_for(u)
    if backend == "ref":
        return selective_scan_ref(u, delta, A, B, C, D, z, delta_bias, state)
    if backend == "torch":
        return selective_scan_cpu(u, delta, A, B, C, D, z, delta_bias, state)
    # Triton is not installed everywhere, and is slow to import.
    from samba_cli.kernels.selective_scan_op import selective_scan_triton

    return selective_scan_triton(u, delta, A, B, C, D, z, delta_bias, state)
