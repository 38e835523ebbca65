"""What Jamba, Bamba and Granite share: their attention, their Mamba-2 keys, their tensor names."""

from __future__ import annotations

from dataclasses import replace

from samba_cli.model.architectures.architecture import Config
from samba_cli.model.description import AttentionSpec, Mamba2Spec

# our parameter name -> theirs
NAMES = (
    (r"^backbone\.embeddings\.", "model.embed_tokens."),
    (r"^backbone\.layers\.", "model.layers."),
    (r"\.mixer_norm\.", ".input_layernorm."),
    (r"\.mixer\.([qkvo]_proj\.)", r".self_attn.\1"),
    (r"\.mixer\.", ".mamba."),
)
FEED_FORWARD = (
    (r"\.mlp_norm\.", ".pre_ff_layernorm."),
    (r"\.mlp\.", ".feed_forward."),
    (r"^backbone\.norm_f\.", "model.final_layernorm."),
)

# What layer_types and layers_block_type call a layer, in older and newer releases.
_ATTENTION = {
    "attention": True, "full_attention": True, "mamba": False, "linear_attention": False
}  # fmt: skip


def attention(config: Config, d_model: int) -> AttentionSpec:
    """Full attention without position embedding. Raises ValueError for what is not built."""
    config.never("sliding_window")
    n_head = config.whole("num_attention_heads")
    n_kv_head = config.whole("num_key_value_heads", n_head)
    if n_head % n_kv_head:
        raise ValueError(
            f"num_attention_heads = {n_head} do not share num_key_value_heads = {n_kv_head}"
        )
    return AttentionSpec(
        n_head=n_head,
        n_kv_head=n_kv_head,
        d_head=config.whole("head_dim", d_model // n_head),
        window=None,
        bias=config.flag("attention_bias", False),
    )


def mamba2(config: Config, d_model: int, norm_eps: float) -> Mamba2Spec:
    """The `mamba_` keys of Bamba and Granite. Raises ValueError for sizes that do not fit."""
    n_head = config.whole("mamba_n_heads", 128)
    d_inner = config.whole("mamba_expand", 2) * d_model
    automatic = config.get("mamba_d_head", "auto") == "auto"
    spec = Mamba2Spec(
        n_head=n_head,
        d_head=max(d_inner // n_head, 1) if automatic else config.whole("mamba_d_head"),
        d_state=config.whole("mamba_d_state", 256),
        n_group=config.whole("mamba_n_groups", 1),
        d_conv=config.whole("mamba_d_conv", 4),
        norm_eps=norm_eps,
        conv_bias=config.flag("mamba_conv_bias", True),
        bias=config.flag("mamba_proj_bias", False),
        dt_limit=config.interval("time_step_limit"),
    )
    return checked(spec, d_inner)


def checked(spec: Mamba2Spec, d_inner: int) -> Mamba2Spec:
    """Raises ValueError where the heads, the groups and the width do not fit together."""
    if spec.d_inner != d_inner:
        raise ValueError(
            f"{spec.n_head} Mamba-2 heads of {spec.d_head} do not make the width {d_inner}"
        )
    if spec.n_head % spec.n_group:
        raise ValueError(f"{spec.n_head} Mamba-2 heads do not share {spec.n_group} groups")
    return spec


def rotating(spec: AttentionSpec, config: Config, fraction: float) -> AttentionSpec:
    """The same with RoPE on a fraction of each head. Raises ValueError for scaled positions."""
    config.never("rope_scaling")
    parameters = config.section("rope_parameters")
    parameters.only("rope_type", "default")
    theta = parameters.number("rope_theta", config.number("rope_theta", 10_000.0))
    fraction = parameters.number("partial_rotary_factor", fraction, most=1.0)
    spec = replace(spec, rope_theta=theta, rope_fraction=fraction)
    if not 0 < spec.d_rotary <= spec.d_head or spec.d_rotary % 2:
        raise ValueError(f"{spec.d_rotary} of the {spec.d_head} dimensions of a head cannot rotate")
    return spec


def attention_layers(config: Config, key: str, n_layer: int) -> list[bool] | None:
    """Which layers attend, from a list of kinds; None without the key. Raises ValueError."""
    if config.get(key) is None:
        return None
    kinds = config.items(key)
    for kind in kinds:
        if not isinstance(kind, str) or kind not in _ATTENTION:
            raise ValueError(f"{key} has {str(kind)[:40]!r}, which is not built")
    if len(kinds) != n_layer:
        raise ValueError(f"{key} has {len(kinds)} layers, num_hidden_layers = {n_layer}")
    return [_ATTENTION[kind] for kind in kinds]
