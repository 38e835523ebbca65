"""Does a call need a gradient? Without one the kernels are launched directly, past autograd."""

from __future__ import annotations

import torch


def needs_grad(*tensors: torch.Tensor | None) -> bool:
    """True where autograd records and one of these tensors wants a gradient."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
