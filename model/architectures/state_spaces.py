"""Mamba and Mamba-2 as state-spaces/mamba writes them: a config.json without a model_type.

Its keys and defaults are those of mamba_ssm/models/config_mamba.py and mamba_ssm/modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samba_cli.model.architectures.architecture import Architecture, Config, renamed
from samba_cli.model.architectures.hybrid import checked
from samba_cli.model.description import Description, LayerSpec, Mamba2Spec, MambaSpec

STORED = renamed((r"^backbone\.embeddings\.", "backbone.embedding."), (r"\.mixer_norm\.", ".norm."))
_EPS = 1e-5

# Keys of ssm_cfg that change how weights start or which kernel runs, not what is computed.
_IRRELEVANT = {
    "layer", "dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "A_init_range",
    "conv_init", "chunk_size", "use_fast_path", "use_mem_eff_path", "layer_idx",
}  # fmt: skip
_SIZES = {"d_state", "d_conv", "expand", "conv_bias", "bias"}


def written_by(raw: Mapping[str, Any]) -> bool:
    """Whether a config.json is of this kind."""
    return {"d_model", "n_layer", "vocab_size"} <= raw.keys()


def read(raw: Mapping[str, Any]) -> Architecture:
    """Raises ValueError naming the key that cannot be used."""
    config = Config(raw)
    config.only("rms_norm", True)
    config.never("attn_layer_idx", "attn_cfg")
    if config.get("d_intermediate", 0) != 0:
        raise ValueError(f"d_intermediate = {raw['d_intermediate']!r} is not built, only 0")
    ssm, d_model = config.section("ssm_cfg"), config.whole("d_model")
    kind = ssm.only("layer", "Mamba1", "Mamba2")
    mixer = _mamba(ssm, d_model) if kind == "Mamba1" else _mamba2(ssm, d_model)
    multiple = config.whole("pad_vocab_size_multiple", 8)
    description = Description(
        vocab_size=-(-config.whole("vocab_size") // multiple) * multiple,
        d_model=d_model,
        layers=(LayerSpec(mixer),) * config.layers("n_layer"),
        norm_eps=_EPS,
        tie_embeddings=config.flag("tie_embeddings", True),
    )
    return Architecture("mamba" if kind == "Mamba1" else "mamba2", description, STORED)


def _mamba(ssm: Config, d_model: int) -> MambaSpec:
    _known(ssm, {"dt_rank"})
    return MambaSpec(
        d_inner=ssm.whole("expand", 2) * d_model,
        d_state=ssm.whole("d_state", 16),
        d_conv=ssm.whole("d_conv", 4),
        dt_rank=ssm.rank("dt_rank", d_model),
        conv_bias=ssm.flag("conv_bias", True),
        bias=ssm.flag("bias", False),
    )


def _mamba2(ssm: Config, d_model: int) -> Mamba2Spec:
    _known(ssm, {"headdim", "ngroups", "dt_limit", "rmsnorm", "norm_before_gate", "D_has_hdim"})
    ssm.only("rmsnorm", True)
    ssm.only("norm_before_gate", False)
    ssm.only("D_has_hdim", False)
    d_inner, d_head = ssm.whole("expand", 2) * d_model, ssm.whole("headdim", 64)
    spec = Mamba2Spec(
        n_head=max(d_inner // d_head, 1),
        d_head=d_head,
        d_state=ssm.whole("d_state", 128),
        n_group=ssm.whole("ngroups", 1),
        d_conv=ssm.whole("d_conv", 4),
        norm_eps=_EPS,
        conv_bias=ssm.flag("conv_bias", True),
        bias=ssm.flag("bias", False),
        dt_limit=ssm.interval("dt_limit"),
    )
    return checked(spec, d_inner)


def _known(ssm: Config, more: set[str]) -> None:
    foreign = ssm.raw.keys() - _IRRELEVANT - _SIZES - more
    ssm.never(*sorted(foreign))
