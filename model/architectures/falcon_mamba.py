"""`falcon_mamba`: Mamba with RMSNorm without weights on dt, B and C.

Zuo et al. 2024, arXiv 2410.05355. Read off transformers 5.23, models/falcon_mamba.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from samba_cli.model.architectures import mamba
from samba_cli.model.architectures.architecture import Architecture, Config
from samba_cli.model.description import LayerSpec, MambaSpec


def read(raw: Mapping[str, Any]) -> Architecture:
    """Raises ValueError naming the key that cannot be used."""
    config = Config(raw)
    plain = mamba.read({**raw, "expand": 1})
    mixer = plain.description.layers[0].mixer
    assert isinstance(mixer, MambaSpec)
    mixer = replace(
        mixer,
        # `expand` of the published config.json does not fit the weights
        d_inner=config.whole("intermediate_size"),
        inner_norm="plain",
        inner_norm_eps=config.number("mixer_rms_eps", 1e-6),
    )
    layers = (LayerSpec(mixer),) * len(plain.description.layers)
    return replace(
        plain, model_type="falcon_mamba", description=replace(plain.description, layers=layers)
    )
