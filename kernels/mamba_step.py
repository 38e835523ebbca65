"""One token of Mamba (Gu & Dao 2023) at batch 1, in the two stages that fuse around `x_proj`.

x, z  = in_proj(norm(residual));  x = silu(conv(x))      mamba_input_step
dt, B, C = x_proj(x)                                     a product of its own: it needs all of x
y = scan(x, dt_proj(dt), A, B, C, D, z)                  mamba_scan_step
"""

from __future__ import annotations

from torch import Tensor

from samba_cli.kernels.dispatch import backend_for
from samba_cli.kernels.mamba_step_ref import (
    InnerNorms,
    mamba_input_step_ref,
    mamba_scan_step_ref,
)


def mamba_input_step(
    x: Tensor,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    norm: tuple[Tensor, float],
    conv_weight: Tensor,
    conv_bias: Tensor | None,
    conv_state: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The input projection after an RMSNorm; its first half through the convolution and silu.

    x [1, 1, D]; weight [2 E, D] floating point, or int8 with scale [2 E] float32; bias [2 E]; norm:
    weight [D] and epsilon; conv_weight [E, K], conv_bias [E]; conv_state [1, E, K - 1], contiguous.
    Returns the convolved x and the gate z, both [1, 1, E] in conv_state's dtype, and the state of
    the convolution after the token, a new tensor.

    Raises ValueError where the shapes do not fit together.
    """
    E, K = conv_weight.shape
    if x.numel() != weight.shape[1] or len(weight) != 2 * E or conv_state.shape != (1, E, K - 1):
        shapes = ", ".join(str(tuple(t.shape)) for t in (x, weight, conv_weight, conv_state))
        raise ValueError(f"x, weight, convolution and its state do not fit together: {shapes}")
    if backend_for(x) != "triton":
        return mamba_input_step_ref(
            x, weight, scale, bias, norm, conv_weight, conv_bias, conv_state
        )
    from samba_cli.kernels import mamba_step_triton

    return mamba_step_triton.input_step(
        x, weight, scale, bias, norm, conv_weight, conv_bias, conv_state
    )


def mamba_scan_step(
    x: Tensor,
    z: Tensor,
    dt_B_C: Tensor,
    dt_weight: Tensor,
    dt_scale: Tensor | None,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    state: Tensor,
    inner: tuple[InnerNorms, float] | None = None,
) -> Tensor:
    """The projection of dt and one token of the selective scan, gated by silu(z).

    x, z [1, 1, E]; dt_B_C [1, 1, R + 2 N]; dt_weight [E, R] floating point, or int8 with dt_scale
    [E] float32; dt_bias, D [E]; A [E, N] float32; state [1, E, N] float32, contiguous: it moves on
    by the token, in place. `inner`: the weights (or None) and the epsilon of RMSNorms over dt, B
    and C. Returns y [1, 1, E] in x's dtype.

    Raises ValueError where the shapes do not fit together.
    """
    E, N = A.shape
    fits = dt_B_C.numel() == dt_weight.shape[1] + 2 * N and state.shape == (1, E, N)
    if x.numel() != E or z.numel() != E or len(dt_weight) != E or not fits:
        shapes = ", ".join(str(tuple(t.shape)) for t in (x, z, dt_B_C, dt_weight, A, state))
        raise ValueError(f"x, z, dt with B and C, dt's weight, A, state do not fit: {shapes}")
    if backend_for(x) != "triton":
        return mamba_scan_step_ref(x, z, dt_B_C, dt_weight, dt_scale, dt_bias, A, D, state, inner)
    from samba_cli.kernels import mamba_step_triton

    return mamba_step_triton.scan_step(
        x, z, dt_B_C, dt_weight, dt_scale, dt_bias, A, D, state, inner
    )
