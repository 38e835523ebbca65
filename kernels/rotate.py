"""The rotary position embedding (Su et al. 2021) of queries or keys.

Where autograd or torch.compile is at work this is the plain formula; reading and generation have
kernels.
"""

from __future__ import annotations

import torch

from samba_cli.kernels.dispatch import backend_for, compiled
from samba_cli.kernels.grad_mode import needs_grad
from samba_cli.kernels.rotate_ref import rotate_ref


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the first 2 R dimensions of each head by halves (the NeoX pairing), in float32.

    x [B, T, H, d] with any strides; cos, sin [T, R] float32 with 2 R <= d. Returns [B, T, H, d] in
    x's dtype, a new tensor.

    Raises ValueError where the shapes do not fit together.
    """
    if cos.shape != sin.shape or len(cos) != x.shape[1] or 2 * cos.shape[1] > x.shape[3]:
        shapes = ", ".join(str(tuple(t.shape)) for t in (x, cos, sin))
        raise ValueError(f"heads, cosines and sines do not fit together: {shapes}")
    if compiled(x) and not needs_grad(x):
        from samba_cli.kernels.rotate_compiled import rotate_compiled

        return rotate_compiled(x, cos, sin)
    if torch.compiler.is_compiling() or needs_grad(x) or backend_for(x) != "triton":
        return rotate_ref(x, cos, sin)
    from samba_cli.kernels import rotate_triton

    return rotate_triton.forward(x, cos, sin)
