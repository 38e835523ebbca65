"""The hyperparameters of a SAMBA model, read from and written as the native config.json.

The file uses the keys of flash-linear-attention's `samba` model, so that other tools can
read our checkpoints; the fields here use the letters of the papers (Gu & Dao 2023; Ren et
al. 2024, arXiv 2406.07522).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from samba_cli.model.description import (
    AttentionSpec,
    Description,
    LayerSpec,
    MambaSpec,
    MLPSpec,
)


@dataclass(frozen=True)
class SambaConfig:
    """Layers alternate: even ones mix with Mamba, odd ones with sliding-window attention."""

    vocab_size: int
    d_model: int = 512
    n_layer: int = 12  # mixer + MLP pairs: half of them Mamba, half attention
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int = 0  # 0: ceil(d_model / 16)
    d_ff: int = 0  # 0: 8/3 d_model, rounded up to a multiple of 256
    n_head: int = 8
    n_kv_head: int = 2
    window: int = 1024  # keys a query sees, itself included
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        """Derive what is left open. Raises ValueError for sizes that do not fit together."""
        if not self.dt_rank:
            object.__setattr__(self, "dt_rank", math.ceil(self.d_model / 16))
        if not self.d_ff:
            object.__setattr__(self, "d_ff", _mlp_width(self.d_model, 4))
        for name in ("vocab_size", "d_model", "n_layer", "d_state", "d_conv", "expand", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.n_kv_head < 1 or self.n_head % self.n_kv_head:
            raise ValueError(f"{self.n_head} heads do not share {self.n_kv_head} key-value heads")
        if self.d_model % self.n_head or self.d_head % 2:
            raise ValueError(f"d_model {self.d_model} does not give {self.n_head} even-sized heads")

    @property
    def d_inner(self) -> int:
        return self.expand * self.d_model

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_head

    def is_attention(self, layer: int) -> bool:
        return layer % 2 == 1

    def description(self) -> Description:
        mamba = MambaSpec(self.d_inner, self.d_state, self.d_conv, self.dt_rank)
        attention = AttentionSpec(
            self.n_head, self.n_kv_head, self.d_head, self.window, self.rope_theta
        )
        layers = tuple(
            LayerSpec(attention if self.is_attention(i) else mamba, MLPSpec(self.d_ff))
            for i in range(self.n_layer)
        )
        return Description(
            self.vocab_size, self.d_model, layers, self.norm_eps, self.tie_embeddings
        )

    def to_dict(self) -> dict[str, Any]:
        """The native config.json."""
        return {
            "architectures": ["SambaForCausalLM"],
            "model_type": "samba",
            "vocab_size": self.vocab_size,
            "hidden_size": self.d_model,
            "num_hidden_layers": self.n_layer,
            "state_size": self.d_state,
            "conv_kernel": self.d_conv,
            "expand": self.expand,
            "time_step_rank": self.dt_rank,
            "intermediate_size": self.d_ff,
            # flash-linear-attention derives the width from the ratio, in steps of 256
            "hidden_ratio": self.d_ff * 3 / 2 / self.d_model,
            "hidden_act": "swish",
            "norm_eps": self.norm_eps,
            "use_bias": False,
            "use_conv_bias": True,
            "residual_in_fp32": True,
            "tie_word_embeddings": self.tie_embeddings,
            "attn": {
                "layers": [i for i in range(self.n_layer) if self.is_attention(i)],
                "num_heads": self.n_head,
                "num_kv_heads": self.n_kv_head,
                "qkv_bias": False,
                "window_size": self.window,
                "rope_theta": self.rope_theta,
            },
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> SambaConfig:
        """Read a config.json. Raises ValueError naming the key that cannot be used."""
        if raw.get("model_type") != "samba":
            raise ValueError(f"model_type is {raw.get('model_type')!r}, not 'samba'")
        for key, wanted in (("use_bias", False), ("use_conv_bias", True), ("hidden_act", "swish")):
            if raw.get(key, wanted) != wanted:
                raise ValueError(f"{key} = {raw[key]!r} is not built")
        attn = raw.get("attn")
        if not isinstance(attn, dict):
            raise ValueError("attn is missing: a SAMBA model has attention layers")
        try:
            n_layer = int(raw["num_hidden_layers"])
            if list(attn["layers"]) != list(range(1, n_layer, 2)):
                raise ValueError("attn.layers must be every second layer, beginning with 1")
            if attn.get("qkv_bias"):
                raise ValueError("attn.qkv_bias = true is not built")
            d_model = int(raw["hidden_size"])
            rank = raw.get("time_step_rank", "auto")
            return cls(
                vocab_size=int(raw["vocab_size"]),
                d_model=d_model,
                n_layer=n_layer,
                d_state=int(raw.get("state_size", 16)),
                d_conv=int(raw.get("conv_kernel", 4)),
                expand=int(raw.get("expand", 2)),
                dt_rank=0 if rank == "auto" else int(rank),
                d_ff=int(
                    raw.get("intermediate_size") or _mlp_width(d_model, raw.get("hidden_ratio", 4))
                ),
                n_head=int(attn["num_heads"]),
                n_kv_head=int(attn.get("num_kv_heads") or attn["num_heads"]),
                window=int(attn.get("window_size", 2048)),
                rope_theta=float(attn.get("rope_theta", 10_000.0)),
                norm_eps=float(raw.get("norm_eps", 1e-5)),
                tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
            )
        except KeyError as missing:
            raise ValueError(f"{missing.args[0]} is missing") from None
        except TypeError as wrong:
            raise ValueError(f"a value has the wrong type ({wrong})") from None


def _mlp_width(d_model: int, ratio: float) -> int:
    return 256 * math.ceil(int(d_model * ratio * 2 / 3) / 256)
