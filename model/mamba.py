"""The selective state-space mixer of Mamba (Gu & Dao 2023), also Falcon-Mamba's and Jamba's.

B batch, T tokens of the chunk, D d_model, E d_inner, N d_state, R dt_rank, K d_conv.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samba_cli.kernels.causal_conv1d import causal_conv1d
from samba_cli.kernels.mamba_step import mamba_input_step, mamba_scan_step
from samba_cli.kernels.selective_scan import selective_scan
from samba_cli.model.attention import Rotation
from samba_cli.model.description import MambaSpec
from samba_cli.model.fusion import multiplies_rows
from samba_cli.model.parts import Linear, Norm, RMSNorm, picked
from samba_cli.model.state import MambaState


class Mamba(nn.Module):
    """Section 3 of the paper, with the parameter names of mamba_ssm."""

    def __init__(self, d_model: int, spec: MambaSpec) -> None:
        super().__init__()
        self.spec = spec
        self.sizes = [spec.dt_rank, spec.d_state, spec.d_state]
        self.in_proj = Linear(d_model, 2 * spec.d_inner, spec.bias)
        self.conv1d = nn.Conv1d(
            spec.d_inner, spec.d_inner, spec.d_conv, groups=spec.d_inner, bias=spec.conv_bias
        )
        self.x_proj = Linear(spec.d_inner, sum(self.sizes))
        self.dt_proj = Linear(spec.dt_rank, spec.d_inner, bias=True)
        self.A_log = nn.Parameter(torch.empty(spec.d_inner, spec.d_state))
        self.D = nn.Parameter(torch.empty(spec.d_inner))
        self._rates: tuple[Tensor, tuple[int, int], Tensor] | None = None  # A of frozen weights
        self.out_proj = Linear(spec.d_inner, d_model, spec.bias)
        if spec.inner_norm != "none":
            weighted = spec.inner_norm == "weighted"
            self.dt_norm = RMSNorm(spec.dt_rank, spec.inner_norm_eps, weighted)
            self.B_norm = RMSNorm(spec.d_state, spec.inner_norm_eps, weighted)
            self.C_norm = RMSNorm(spec.d_state, spec.inner_norm_eps, weighted)

    def initial_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> MambaState:
        s = self.spec
        return MambaState(
            torch.zeros(batch, s.d_inner, s.d_conv - 1, device=device, dtype=dtype),
            torch.zeros(batch, s.d_inner, s.d_state, device=device),
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
        x, z = self.in_proj(x).chunk(2, dim=-1)  # [B, T, E] each
        x, state.conv = causal_conv1d(
            x, self.conv1d.weight.squeeze(1), self.conv1d.bias, state.conv, "silu"
        )
        dt, B, C = self.x_proj(x).split(self.sizes, dim=-1)  # [B, T, R], [B, T, N] twice
        if self.spec.inner_norm != "none":
            dt, B, C = self.dt_norm(dt, x.dtype), self.B_norm(B, x.dtype), self.C_norm(C, x.dtype)
        dt = self.dt_proj.product(dt)  # its bias joins before the softplus
        A = self._A()
        y, state.ssm = selective_scan(x, dt, A, B, C, self.D, z, self.dt_proj.bias, state.ssm)
        return picked(y, at)

    def step(
        self,
        x: Tensor,
        norm: Norm,
        state: MambaState,
        rotation: Rotation | None,
        multiplier: float,
        dtype: torch.dtype,
    ) -> Tensor:
        """x + multiplier * forward(norm(x)) for one token x [1, 1, D] float32, in four launches.

        The SSM state moves on in place.
        """
        project, dt_proj = self.in_proj, self.dt_proj
        u, z, state.conv = mamba_input_step(
            x, project.weight, project.weight_scale, project.bias, norm,
            self.conv1d.weight.squeeze(1), self.conv1d.bias, state.conv,
        )  # fmt: skip
        inner = None
        if self.spec.inner_norm != "none":
            weights = self.dt_norm.weight, self.B_norm.weight, self.C_norm.weight
            inner = weights, self.spec.inner_norm_eps
        y = mamba_scan_step(
            u, z, self.x_proj.step(u), dt_proj.weight, dt_proj.weight_scale, dt_proj.bias,
            self._A(), self.D, state.ssm, inner,
        )  # fmt: skip
        return self.out_proj.step(y, None, x, multiplier)

    def takes_rows(self, state: object, dtype: torch.dtype) -> bool:
        linears = (self.in_proj, self.x_proj, self.out_proj)
        same = self.dt_proj.weight.dtype == dtype and self.conv1d.kernel_size[0] > 1
        return self.spec.inner_norm == "none" and same and multiplies_rows(linears, dtype)

    def rows_step(self, y: Tensor, state: MambaState, rotation: Rotation | None) -> Tensor:
        """forward(y) for one token of each row, y [B, 1, D], in float32 parts [S, B, 1, D].

        The state moves on in place.
        """
        from samba_cli.kernels.mamba_rows_triton import input_rows, scan_rows
        from samba_cli.kernels.rows_step_triton import cut_linear

        u, z = input_rows(
            y, self.in_proj.weight, self.conv1d.weight.squeeze(1), self.conv1d.bias, state.conv
        )
        y = scan_rows(
            u, z, cut_linear(u, self.x_proj.weight), self.dt_proj.weight, self.dt_proj.bias,
            self._A(), self.D, state.ssm,
        )  # fmt: skip
        return cut_linear(y, self.out_proj.weight)

    def _A(self) -> Tensor:
        """-exp(A_log), [E, N] float32: computed once for weights that stay as they are."""
        A_log = self.A_log
        if torch.compiler.is_compiling() or A_log.requires_grad or A_log.is_inference():
            return -torch.exp(A_log.float())
        version = (A_log.data_ptr(), A_log._version)
        if self._rates is None or self._rates[0] is not A_log or self._rates[1] != version:
            with torch.inference_mode(False), torch.no_grad():
                self._rates = A_log, version, -torch.exp(A_log.float())
        return self._rates[2]
