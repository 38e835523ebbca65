"""Muon (Jordan et al. 2024): momentum whose matrix is made near-orthogonal before the step.

Matrices of one shape are stacked, so that the Newton-Schulz iteration of the whole model is a few
batched products instead of thousands of small launches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

# Quintic coefficients of the reference: they push singular values towards 1 quickly, not exactly.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalize(update: Tensor, steps: int = 5) -> Tensor:
    """[M, rows, columns] -> nearest semi-orthogonal matrices, roughly, in bfloat16."""
    x = update.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For 2-D weights. A step has the size of an AdamW step (0.2 sqrt(max side), Liu et al.
    2025), so both optimizers share a learning rate. Weight decay is decoupled.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                for p in params:
                    if "momentum" not in self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                buffers = [self.state[p]["momentum"] for p in params]
                grads = [p.grad for p in params if p.grad is not None]
                momentum, scale = group["momentum"], 0.2 * max(shape) ** 0.5
                for buffer, grad in zip(buffers, grads, strict=True):
                    buffer.lerp_(grad, 1 - momentum)
                nesterov = torch.lerp(torch.stack(grads), torch.stack(buffers), momentum)
                for p, update in zip(params, orthogonalize(nesterov), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update.to(p.dtype), alpha=-group["lr"] * scale)
