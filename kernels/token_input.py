"""What a token brings to the first layer: its embedding, and the rotation of its position.

Plain PyTorch takes a dozen launches for it, more than a layer.
"""

from __future__ import annotations

from torch import Tensor

from samba_cli.kernels.dispatch import backend_for
from samba_cli.kernels.token_input_ref import token_input_ref, token_rotation_ref


def token_input(
    token: Tensor, table: Tensor, scale: Tensor | None = None, multiplier: float = 1.0
) -> Tensor:
    """The row of one token times the multiplier, in float32.

    token int64 [1, 1]; table [V, D] floating point, or int8 with `scale` [V] float32. Returns
    [1, 1, D]. The token is not checked: it must be below V.

    Raises ValueError for more than one token.
    """
    if token.numel() != 1:
        raise ValueError(f"one token, not {tuple(token.shape)}")
    if backend_for(table) != "triton":
        return token_input_ref(token, table, scale, multiplier)
    from samba_cli.kernels import token_input_triton

    return token_input_triton.embed(token, table, scale, multiplier)


def token_rotation(position: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [1, R] float32 of position x frequency, the angle in float64.

    position int64 [1], frequencies [R] float64 (radians a position), both on one device.
    """
    if backend_for(position) != "triton":
        return token_rotation_ref(position, frequencies)
    from samba_cli.kernels import token_input_triton

    return token_input_triton.rotation(position, frequencies)
