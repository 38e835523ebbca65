"""The mixer of Mamba-2 (Dao & Gu 2024, arXiv 2405.21060), also Bamba's and Granite's.

B batch, T tokens of the chunk, D d_model, H heads of P channels, G groups, N d_state, K d_conv.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samba_cli.kernels.causal_conv1d import causal_conv1d
from samba_cli.kernels.ssd_scan import ssd_scan
from samba_cli.model.attention import Rotation
from samba_cli.model.description import Mamba2Spec
from samba_cli.model.parts import Linear, Norm, RMSNorm, picked
from samba_cli.model.state import MambaState


class Mamba2(nn.Module):
    """Section 7 of the paper, with the parameter names of mamba_ssm."""

    def __init__(self, d_model: int, spec: Mamba2Spec) -> None:
        super().__init__()
        self.spec = spec
        wide = spec.d_convolved
        self.in_proj = Linear(d_model, spec.d_inner + wide + spec.n_head, spec.bias)
        self.conv1d = nn.Conv1d(wide, wide, spec.d_conv, groups=wide, bias=spec.conv_bias)
        self.dt_bias = nn.Parameter(torch.empty(spec.n_head))
        self.A_log = nn.Parameter(torch.empty(spec.n_head))
        self.D = nn.Parameter(torch.empty(spec.n_head))
        self.norm = RMSNorm(spec.d_inner, spec.norm_eps, groups=spec.n_group)
        self.out_proj = Linear(spec.d_inner, d_model, spec.bias)

    def initial_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> MambaState:
        s = self.spec
        return MambaState(
            torch.zeros(batch, s.d_convolved, s.d_conv - 1, device=device, dtype=dtype),
            torch.zeros(batch, s.n_head, s.d_head, s.d_state, device=device),
        )

    @property
    def output(self) -> Linear:
        return self.out_proj

    def forward(self, x: Tensor, state: MambaState, rotation: Rotation | None) -> Tensor:
        """x [B, T, D] -> [B, T, D]; the state moves on by T tokens."""
        return self.out_proj(self.inner(x, state, rotation))

    def inner(
        self, x: Tensor, state: MambaState, rotation: Rotation | None, at: Tensor | None = None
    ) -> Tensor:
        """`forward` before out_proj, of positions `at` [B, K] alone where given: [B, K, E]."""
        return picked(self._mixed(self.in_proj(x), state), at)

    def step(
        self,
        x: Tensor,
        norm: Norm,
        state: MambaState,
        rotation: Rotation | None,
        multiplier: float,
        dtype: torch.dtype,
    ) -> Tensor:
        """x + multiplier * forward(norm(x)) for one token x [1, 1, D] float32."""
        y = self._mixed(self.in_proj.step(x, norm, dtype=dtype), state)
        return self.out_proj.step(y, None, x, multiplier)

    def _mixed(self, projected: Tensor, state: MambaState) -> Tensor:
        """From in_proj to out_proj: [B, T, ..] -> [B, T, d_inner]."""
        s = self.spec
        z, x, dt = projected.split([s.d_inner, s.d_convolved, s.n_head], dim=-1)
        x, state.conv = causal_conv1d(
            x, self.conv1d.weight.squeeze(1), self.conv1d.bias, state.conv, "silu"
        )
        x, B, C = x.split([s.d_inner, s.n_group * s.d_state, s.n_group * s.d_state], dim=-1)
        y, state.ssm = ssd_scan(
            x.unflatten(-1, (s.n_head, s.d_head)),
            dt,
            -torch.exp(self.A_log.float()),
            B.unflatten(-1, (s.n_group, s.d_state)),
            C.unflatten(-1, (s.n_group, s.d_state)),
            self.D,
            self.dt_bias,
            state.ssm,
            s.dt_limit,
        )
        gated = y.flatten(-2).float() * F.silu(z.float())  # the gate comes before the norm
        return self.norm(gated, x.dtype)
