"""`samba` as flash-linear-attention saves it, against a plain reading of the paper's equations."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from samba_cli.model import load_checkpoint

V, D, LAYERS, HEADS, KV_HEADS, WINDOW, N, K, RANK = 96, 32, 4, 4, 2, 8, 8, 4, 2
EPS, THETA, FF, INNER, HEAD = 1e-5, 10_000.0, 256, 64, 8
CONFIG = {
    "architectures": ["SambaForCausalLM"], "model_type": "samba", "vocab_size": V,
    "hidden_size": D, "state_size": N, "num_hidden_layers": LAYERS, "norm_eps": EPS,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "expand": 2, "conv_kernel": K,
    "use_bias": False, "use_conv_bias": True, "hidden_act": "swish", "initializer_range": 0.02,
    "residual_in_fp32": False, "time_step_rank": "auto", "time_step_scale": 1.0,
    "max_position_embeddings": 2048, "hidden_ratio": 4, "rescale_prenorm_residual": False,
    "use_cache": True, "fuse_norm": True, "fuse_swiglu": True, "tie_word_embeddings": False,
    "attn": {
        "layers": [1, 3], "num_heads": HEADS, "num_kv_heads": KV_HEADS, "qkv_bias": False,
        "window_size": WINDOW, "rope_theta": THETA,
    },
}  # fmt: skip


def weights() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.embeddings.weight": (V, D),
        "backbone.norm_f.weight": (D,),
        "lm_head.weight": (V, D),
    }
    mamba = {
        "A_log": (INNER, N), "D": (INNER,), "conv1d.weight": (INNER, 1, K),
        "conv1d.bias": (INNER,), "in_proj.weight": (2 * INNER, D),
        "x_proj.weight": (RANK + 2 * N, INNER), "dt_proj.weight": (INNER, RANK),
        "dt_proj.bias": (INNER,), "out_proj.weight": (D, INNER),
    }  # fmt: skip
    attention = {
        "q_proj.weight": (D, D), "k_proj.weight": (KV_HEADS * HEAD, D),
        "v_proj.weight": (KV_HEADS * HEAD, D), "o_proj.weight": (D, D),
    }  # fmt: skip
    mlp = {"gate_proj.weight": (FF, D), "up_proj.weight": (FF, D), "down_proj.weight": (D, FF)}
    for i in range(LAYERS):
        layer = f"backbone.layers.{i}."
        shapes |= {layer + "mixer_norm.weight": (D,), layer + "mlp_norm.weight": (D,)}
        shapes |= {layer + "mixer." + n: s for n, s in (attention if i % 2 else mamba).items()}
        shapes |= {layer + "mlp." + n: s for n, s in mlp.items()}
    generator = torch.Generator().manual_seed(2)

    def random(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1 or "conv1d" in name or "A_log" in name:
            return 0.5 * noise + ("norm" in name)
        return noise / math.sqrt(shape[-1])

    return {name: random(name, shape) for name, shape in shapes.items()}


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight


def mamba(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """One sequence [T, D], token by token."""
    x, z = (x @ w["in_proj.weight"].T).split(INNER, dim=-1)
    padded = torch.cat([torch.zeros(K - 1, INNER), x])
    taps = w["conv1d.weight"][:, 0]
    x = torch.stack([(padded[t : t + K].T * taps).sum(-1) for t in range(len(x))])
    x = F.silu(x + w["conv1d.bias"])
    dt, B, C = (x @ w["x_proj.weight"].T).split([RANK, N, N], dim=-1)
    dt = F.softplus(dt @ w["dt_proj.weight"].T + w["dt_proj.bias"])
    h, outputs = torch.zeros(INNER, N), []
    for t in range(len(x)):
        decay = torch.exp(-dt[t, :, None] * w["A_log"].exp())
        h = decay * h + (dt[t] * x[t])[:, None] * B[t]
        outputs.append(h @ C[t] + w["D"] * x[t])
    return (torch.stack(outputs) * F.silu(z)) @ w["out_proj.weight"].T


def rotated(x: Tensor) -> Tensor:
    """[T, heads, HEAD], as complex numbers of the first half and the second."""
    rates = THETA ** (-torch.arange(0, HEAD, 2) / HEAD)
    angles = torch.arange(len(x))[:, None] * rates
    turned = torch.complex(*x.split(HEAD // 2, dim=-1)) * torch.polar(
        torch.ones_like(angles), angles
    ).unsqueeze(1)
    return torch.cat([turned.real, turned.imag], dim=-1)


def attention(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    q, k, v = (
        (x @ w[f"{name}_proj.weight"].T).unflatten(-1, (-1, HEAD)) for name in ("q", "k", "v")
    )
    q, k, outputs = rotated(q), rotated(k), []
    for t in range(len(x)):
        seen = slice(max(0, t - WINDOW + 1), t + 1)
        for head in range(HEADS):
            group = head // (HEADS // KV_HEADS)
            scores = (k[seen, group] @ q[t, head]) / math.sqrt(HEAD)
            outputs.append(scores.softmax(0) @ v[seen, group])
    return torch.stack(outputs).view(len(x), D) @ w["o_proj.weight"].T


def reference(tokens: Tensor, w: dict[str, Tensor]) -> Tensor:
    x = w["backbone.embeddings.weight"][tokens]
    for i in range(LAYERS):
        prefix = f"backbone.layers.{i}."
        part = {n.removeprefix(prefix): t for n, t in w.items() if n.startswith(prefix)}
        own = {n.removeprefix("mixer."): t for n, t in part.items()}
        mixer = attention if i % 2 else mamba
        x = x + mixer(norm(x, part["mixer_norm.weight"]), own)
        y = norm(x, part["mlp_norm.weight"])
        gate, up = (y @ part[f"mlp.{n}_proj.weight"].T for n in ("gate", "up"))
        x = x + (F.silu(gate) * up) @ part["mlp.down_proj.weight"].T
    return norm(x, w["backbone.norm_f.weight"]) @ w["lm_head.weight"].T


@torch.inference_mode()
@pytest.mark.parametrize("cuts", [[], [1, 5, 6, 19], list(range(1, 30))])
def test_logits_equal_the_equations(tmp_path: Path, cuts: list[int]):
    tensors = weights()
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, tmp_path / "model.safetensors")
    model = load_checkpoint(tmp_path)
    tokens = torch.randint(V, (30,), generator=torch.Generator().manual_seed(0))
    state, edges = model.initial_state(), [0, *cuts, 30]
    ours = torch.cat(
        [model(tokens[None, a:b], state) for a, b in zip(edges, edges[1:], strict=False)], dim=1
    )
    expected = reference(tokens, tensors)
    assert ((ours[0] - expected).norm() / expected.norm()).item() < 1e-4
