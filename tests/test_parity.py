"""The whole model against independent implementations: transformers' Mamba mixer and Mistral layer.

Mistral's decoder layer is RMSNorm, sliding-window attention with RoPE and grouped queries, RMSNorm,
SwiGLU: the attention half of SAMBA. Both run in one pass, on random weights, in float32.
"""

from typing import Any

import pytest
import torch

from samba_cli.model import Samba, SambaConfig

transformers = pytest.importorskip("transformers")

CONFIG = SambaConfig(
    vocab_size=97, d_model=64, n_layer=4, d_state=8, d_ff=96, n_head=4, n_kv_head=2, window=16
)


def mistral_parts():
    from transformers.models.mistral.configuration_mistral import MistralConfig
    from transformers.models.mistral.modeling_mistral import (
        MistralDecoderLayer,
        MistralMLP,
        MistralRMSNorm,
        MistralRotaryEmbedding,
    )

    c = CONFIG
    sizes: dict[str, Any] = dict(
        hidden_size=c.d_model,
        intermediate_size=c.d_ff,
        num_hidden_layers=1,
        head_dim=c.d_head,
        num_attention_heads=c.n_head,
        num_key_value_heads=c.n_kv_head,
        rms_norm_eps=c.norm_eps,
        sliding_window=c.window,
        rope_theta=c.rope_theta,
        attn_implementation="eager",
    )
    config = MistralConfig(**sizes)
    return config, MistralDecoderLayer, MistralMLP, MistralRMSNorm, MistralRotaryEmbedding


def copy(target: torch.nn.Module, prefix: str, weights: dict[str, torch.Tensor], **renamed: str):
    wanted = {}
    for name in target.state_dict():
        ours = name
        for theirs, own in renamed.items():
            ours = ours.replace(theirs, own)
        wanted[name] = weights[prefix + ours]
    target.load_state_dict(wanted)


@torch.inference_mode()
def test_logits_equal_the_independent_model():
    from transformers.models.mamba.configuration_mamba import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    c = CONFIG
    model = Samba(c).initialise(seed=5).eval()
    weights = dict(model.state_dict())
    tokens = torch.randint(c.vocab_size, (2, 50), generator=torch.Generator().manual_seed(0))

    mistral, DecoderLayer, MLP, Norm, Rotary = mistral_parts()
    mamba = MambaConfig(
        hidden_size=c.d_model,
        state_size=c.d_state,
        conv_kernel=c.d_conv,
        expand=c.expand,
        time_step_rank=c.dt_rank,
        num_hidden_layers=1,
        use_bias=False,
        use_conv_bias=True,
    )
    age = torch.arange(50)[:, None] - torch.arange(50)
    mask = torch.zeros(50, 50).masked_fill((age < 0) | (age >= c.window), float("-inf"))
    positions = torch.arange(50)[None]

    x = weights["backbone.embeddings.weight"][tokens]
    for i in range(c.n_layer):
        prefix = f"backbone.layers.{i}."
        if c.is_attention(i):
            layer = DecoderLayer(mistral, layer_idx=0).eval()
            copy(
                layer,
                prefix,
                weights,
                self_attn="mixer",
                input_layernorm="mixer_norm",
                post_attention_layernorm="mlp_norm",
            )
            x = layer(
                x,
                attention_mask=mask[None, None],
                position_ids=positions,
                position_embeddings=Rotary(mistral)(x, positions),
            )
            x = x[0] if isinstance(x, tuple) else x
        else:
            mixer, mlp = MambaMixer(mamba, layer_idx=0).eval(), MLP(mistral).eval()
            norms = [Norm(c.d_model, c.norm_eps) for _ in range(2)]
            copy(mixer, prefix + "mixer.", weights)
            copy(mlp, prefix + "mlp.", weights)
            copy(norms[0], prefix + "mixer_norm.", weights)
            copy(norms[1], prefix + "mlp_norm.", weights)
            x = x + mixer(norms[0](x))
            x = x + mlp(norms[1](x))
    norm = Norm(c.d_model, c.norm_eps)
    copy(norm, "backbone.norm_f.", weights)
    expected = norm(x) @ weights["backbone.embeddings.weight"].T

    ours = model(tokens, model.initial_state(2))
    assert ((ours - expected).norm() / expected.norm()).item() < 1e-4
