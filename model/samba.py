"""SAMBA (Ren et al. 2024, arXiv 2406.07522): Mamba, MLP, window attention, MLP, repeated."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from samba_cli.model.attention import Attention
from samba_cli.model.config import SambaConfig
from samba_cli.model.mamba import Mamba
from samba_cli.model.network import Model
from samba_cli.model.parts import SwiGLU


class Samba(Model):
    """The architecture that we train: a `Model` that knows its hyperparameters."""

    def __init__(self, config: SambaConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(config.description(), dtype)
        self.config = config

    @torch.no_grad()
    def initialise(self, seed: int) -> Samba:
        """Fresh weights, drawn as in the paper's repository (microsoft/Samba, lit_gpt/model.py)."""
        generator = torch.Generator().manual_seed(seed)
        c = self.config

        def uniform(like: Tensor, bound: float) -> Tensor:
            return (torch.rand(like.shape, generator=generator) * 2 - 1).mul_(bound)

        for module in self.modules():
            if isinstance(module, nn.Embedding):
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * 0.02)
            elif isinstance(module, nn.Linear) and module is not self.lm_head:
                module.weight.copy_(uniform(module.weight, 1 / math.sqrt(module.in_features)))
            elif isinstance(module, nn.Conv1d):
                module.weight.copy_(uniform(module.weight, 1 / math.sqrt(c.d_conv)))
                module.bias.zero_()  # type: ignore[union-attr]
        for module in self.modules():
            if isinstance(module, Mamba):
                module.A_log.copy_(torch.arange(1, c.d_state + 1).log().expand(c.d_inner, -1))
                module.D.fill_(1.0)
                module.dt_proj.weight.copy_(uniform(module.dt_proj.weight, c.dt_rank**-0.5))
                low, high = math.log(1e-3), math.log(1e-1)
                dt = torch.rand(c.d_inner, generator=generator) * (high - low) + low
                dt = dt.exp().clamp(min=1e-4)
                # the inverse of softplus, so that softplus(bias) = dt at the start
                module.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))
        scale = 1 / math.sqrt(2 * c.n_layer)  # each layer adds to the residual stream twice
        for module in self.modules():
            if isinstance(module, Mamba):
                module.out_proj.weight.mul_(scale)
            elif isinstance(module, Attention):
                module.o_proj.weight.mul_(scale)
            elif isinstance(module, SwiGLU):
                module.down_proj.weight.mul_(scale)
        if not c.tie_embeddings:
            self.lm_head.weight.copy_(
                torch.randn(self.lm_head.weight.shape, generator=generator) * 0.02
            )
        return self
