"""Specification of the greedy choice in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def likeliest_ref(logits: Tensor, forbidden: Tensor) -> Tensor:
    """The first of the largest logits of each row whose token is not forbidden."""
    return logits.masked_fill(forbidden, -torch.inf).argmax(-1)
