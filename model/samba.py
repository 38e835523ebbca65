"""SAMBA (Ren et al. 2024, arXiv 2406.07522): Mamba, MLP, sliding-window attention, MLP, repeated.

B batch, T tokens of the chunk, D d_model, E d_inner, N d_state, R dt_rank, K d_conv, W window.

One forward serves training, prefill and decoding: it reads T >= 1 tokens into the state. Cutting
a text into chunks in any way gives the same state and the same logits, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samba_cli.kernels.causal_conv1d import causal_conv1d
from samba_cli.kernels.selective_scan import selective_scan
from samba_cli.kernels.window_attention import window_attention, window_attention_decode
from samba_cli.model.config import SambaConfig
from samba_cli.model.rope import rotate, rotation
from samba_cli.model.state import AttentionState, MambaState, State

Rotation = tuple[Tensor, Tensor]  # cosines and sines, [T, d_head / 2]


class Linear(nn.Linear):
    """Without bias unless asked; computes in the dtype of its input (weights may be fp32)."""

    def __init__(self, d_in: int, d_out: int, bias: bool = False) -> None:
        super().__init__(d_in, d_out, bias)

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, self.weight.to(input.dtype), bias)


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang & Sennrich 2019), computed in float32."""

    def __init__(self, d: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))
        self.eps = eps

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps).to(dtype)


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer 2020)."""

    def __init__(self, config: SambaConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.d_model, config.d_ff)
        self.up_proj = Linear(config.d_model, config.d_ff)
        self.down_proj = Linear(config.d_ff, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Mamba(nn.Module):
    """The selective state-space mixer (Gu & Dao 2023, section 3; names of mamba_ssm)."""

    def __init__(self, config: SambaConfig) -> None:
        super().__init__()
        d_inner = config.d_inner
        self.sizes = [config.dt_rank, config.d_state, config.d_state]
        self.in_proj = Linear(config.d_model, 2 * d_inner)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = Linear(d_inner, sum(self.sizes))
        self.dt_proj = Linear(config.dt_rank, d_inner, bias=True)
        self.A_log = nn.Parameter(torch.empty(d_inner, config.d_state))
        self.D = nn.Parameter(torch.empty(d_inner))
        self.out_proj = Linear(d_inner, config.d_model)

    def forward(self, x: Tensor, state: MambaState, rotation: Rotation) -> Tensor:
        """x [B, T, D] -> [B, T, D]; the state moves on by T tokens."""
        x, z = self.in_proj(x).chunk(2, dim=-1)  # [B, T, E] each
        x, state.conv = causal_conv1d(
            x, self.conv1d.weight.squeeze(1), self.conv1d.bias, state.conv, "silu"
        )
        dt, B, C = self.x_proj(x).split(self.sizes, dim=-1)  # [B, T, R], [B, T, N] twice
        dt = F.linear(dt, self.dt_proj.weight.to(dt.dtype))  # its bias joins before the softplus
        A = -torch.exp(self.A_log.float())
        y, state.ssm = selective_scan(x, dt, A, B, C, self.D, z, self.dt_proj.bias, state.ssm)
        return self.out_proj(y)


class SlidingWindowAttention(nn.Module):
    """Causal attention over the last W positions, RoPE, grouped queries."""

    def __init__(self, config: SambaConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_head, self.d_head = config.n_head, config.n_kv_head, config.d_head
        self.q_proj = Linear(config.d_model, config.n_head * config.d_head)
        self.k_proj = Linear(config.d_model, config.n_kv_head * config.d_head)
        self.v_proj = Linear(config.d_model, config.n_kv_head * config.d_head)
        self.o_proj = Linear(config.n_head * config.d_head, config.d_model)

    def forward(self, x: Tensor, state: AttentionState, rotation: Rotation) -> Tensor:
        """x [B, T, D] -> [B, T, D]; the state moves on by T tokens."""
        q = rotate(self.q_proj(x).unflatten(-1, (self.n_head, self.d_head)), *rotation)
        k = rotate(self.k_proj(x).unflatten(-1, (self.n_kv_head, self.d_head)), *rotation)
        v = self.v_proj(x).unflatten(-1, (self.n_kv_head, self.d_head))
        return self.o_proj(attend(q, k, v, state).flatten(-2))


def _attend(q: Tensor, k: Tensor, v: Tensor, state: AttentionState) -> Tensor:
    """Attention of a chunk to itself and to the window before it; takes the chunk into the ring."""
    if q.shape[1] == 1 and not torch.is_grad_enabled():
        state.write(k, v)
        return window_attention_decode(q, state.keys, state.values, state.count)
    keys, values = state.with_past(k, v)
    y = window_attention(q, keys, values, state.window)
    state.write(k, v)
    return y


# The ring's position is a Python int: compiled, every step would be another program.
attend: Callable[[Tensor, Tensor, Tensor, AttentionState], Tensor]
attend = torch.compiler.disable(_attend)  # type: ignore[assignment]


class Layer(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)); the residual stream is float32."""

    def __init__(self, config: SambaConfig, mixer: Mamba | SlidingWindowAttention) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mixer = mixer
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self,
        x: Tensor,
        state: MambaState | AttentionState,
        rotation: Rotation,
        dtype: torch.dtype,
    ) -> Tensor:
        x = x + self.mixer(self.mixer_norm(x, dtype), state, rotation)
        return x + self.mlp(self.mlp_norm(x, dtype))


class Backbone(nn.Module):
    def __init__(self, config: SambaConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(
            Layer(
                config, SlidingWindowAttention(config) if config.is_attention(i) else Mamba(config)
            )
            for i in range(config.n_layer)
        )
        self.norm_f = RMSNorm(config.d_model, config.norm_eps)


class Samba(nn.Module):
    """The language model. `dtype` is what the layers compute in; the SSM state stays fp32."""

    def __init__(self, config: SambaConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.dtype = dtype
        self.fingerprint = ""  # SHA-256 of the weights file, where it came from one
        self.backbone = Backbone(config)
        self.lm_head = Linear(config.d_model, config.vocab_size)
        if config.tie_embeddings:
            self.lm_head.weight = self.backbone.embeddings.weight

    @property
    def device(self) -> torch.device:
        return self.backbone.embeddings.weight.device

    def initial_state(self, batch: int = 1) -> State:
        """The state before the first token."""
        c, kw = self.config, {"device": self.device, "dtype": self.dtype}
        layers: list[MambaState | AttentionState] = []
        for i in range(c.n_layer):
            if c.is_attention(i):
                shape = (batch, c.window, c.n_kv_head, c.d_head)
                layers.append(AttentionState(torch.zeros(shape, **kw), torch.zeros(shape, **kw)))
            else:
                ssm = torch.zeros(batch, c.d_inner, c.d_state, device=self.device)
                layers.append(MambaState(torch.zeros(batch, c.d_inner, c.d_conv - 1, **kw), ssm))
        return State(layers, model_fingerprint=self.fingerprint)

    def hidden(self, tokens: Tensor, state: State) -> Tensor:
        """Read tokens [B, T] into the state; the residual stream before norm_f, [B, T, D]."""
        rotations = rotation(
            state.position, tokens.shape[1], self.config.d_head, self.config.rope_theta, self.device
        )
        x = self.backbone.embeddings(tokens).float()
        for layer, part in zip(self.backbone.layers, state.layers, strict=True):
            x = layer(x, part, rotations, self.dtype)
        state.position += tokens.shape[1]
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """[.., D] -> [.., V] float32."""
        return self.lm_head(self.backbone.norm_f(hidden, self.dtype)).float()

    def forward(self, tokens: Tensor, state: State, at: Tensor | None = None) -> Tensor:
        """Read tokens [B, T] into the state, in place, and return logits.

        `at` [K] or [B, K] picks the positions of the chunk whose logits are wanted ([B, K, V]; an
        empty one means reading only); without it all come: [B, T, V].
        """
        x = self.hidden(tokens, state)
        if at is not None:
            at = at.expand(len(x), -1) if at.dim() == 1 else at
            x = x.gather(1, at[..., None].expand(-1, -1, x.shape[-1]))
        return self.logits(x)

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
            elif isinstance(module, SlidingWindowAttention):
                module.o_proj.weight.mul_(scale)
            elif isinstance(module, SwiGLU):
                module.down_proj.weight.mul_(scale)
        if not c.tie_embeddings:
            self.lm_head.weight.copy_(
                torch.randn(self.lm_head.weight.shape, generator=generator) * 0.02
            )
        return self
