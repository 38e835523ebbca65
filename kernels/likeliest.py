"""The likeliest token of each row: greedy decoding without a look at the host."""

from __future__ import annotations

from torch import Tensor

from samba_cli.kernels.dispatch import backend_for
from samba_cli.kernels.likeliest_ref import likeliest_ref


def likeliest(logits: Tensor, forbidden: Tensor, out: Tensor) -> None:
    """Write the index of the largest logit of each row, the first of several, into `out`.

    logits [B, V] float32, its rows contiguous; forbidden [V] bool: tokens that are never taken, at
    least one is not among them; out [B, 1] int64.

    Raises ValueError where the shapes do not fit together.
    """
    B, V = logits.shape
    if forbidden.shape != (V,) or out.shape != (B, 1):
        shapes = ", ".join(str(tuple(t.shape)) for t in (logits, forbidden, out))
        raise ValueError(f"logits, forbidden tokens and output do not fit together: {shapes}")
    if backend_for(logits) != "triton":
        out.copy_(likeliest_ref(logits, forbidden)[:, None])
        return
    from samba_cli.kernels import likeliest_triton

    likeliest_triton.choose(logits, forbidden, out)
