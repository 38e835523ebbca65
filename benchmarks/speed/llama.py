"""The peer that remembers every token: a Llama-3-style model of transformers, as fast as it gets.

Its own layers run, with three things done for it: the cache is one block of memory that is never
copied, attention takes the fastest backend that the device has, and norms, MLPs and the rotation
are compiled. Its decoding step can be captured as a CUDA graph, as ours is.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.speed.models import llama_sizes
from benchmarks.speed.rows import Setting
from benchmarks.speed.timing import distance
from samba_cli.kernels.window_attention import window_attention_decode

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # [B, H, T, d], [B, H_kv, S, d] twice


def _flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)


def _cudnn(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)


def _default(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)


def _packed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One query: heads that share keys become queries of one head, so that keys are read once."""
    groups = q.unflatten(1, (k.shape[1], -1)).squeeze(3)
    return F.scaled_dot_product_attention(groups, k, v).flatten(1, 2).unsqueeze(2)


def _ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One query: the decoding kernel of this project, over all keys."""
    keys, values = k.transpose(1, 2), v.transpose(1, 2)
    return window_attention_decode(q.transpose(1, 2), keys, values, k.shape[2]).transpose(1, 2)


PREFILL: dict[str, Attend] = {"SDPA flash": _flash, "SDPA cuDNN": _cudnn, "SDPA": _default}
DECODE: dict[str, Attend] = {
    "SDPA": _default, "SDPA over grouped heads": _packed, "our decoding kernel": _ours
}  # fmt: skip


class Cache:
    """Keys and values of every layer, [B, H_kv, room, d]: written in place, never copied."""

    def __init__(self, llama: Llama, batch: int, room: int) -> None:
        c = llama.model.config
        shape = (batch, c.num_key_value_heads, room, c.head_dim)
        like = llama.model.lm_head.weight
        self.layers = [
            (like.new_empty(shape), like.new_empty(shape)) for _ in range(c.num_hidden_layers)
        ]
        self.used = 0  # tokens

    def update(self, k: Tensor, v: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """What transformers' attention calls: take the new ones, give all."""
        end = self.used + k.shape[2]
        keys, values = self.layers[layer]
        keys[:, :, self.used : end], values[:, :, self.used : end] = k, v
        return keys[:, :, :end], values[:, :, :end]

    def fill(self, tokens: int) -> None:
        """As if so many tokens had been read: random keys and values."""
        for pair in self.layers:
            for tensor in pair:
                tensor[:, :, :tokens].normal_()
        self.used = tokens

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for pair in self.layers for t in pair)


class Llama:
    """transformers' LlamaForCausalLM with random weights."""

    def __init__(self, how: Setting, compiled: bool) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM, logging
        from transformers.models.llama import modeling_llama

        logging.set_verbosity_error()
        self.attend: Attend = _default
        AttentionInterface.register("speed", self._attention)
        config = LlamaConfig(**llama_sizes(how), attn_implementation="speed")  # type: ignore[arg-type]
        with torch.device(how.device):
            model: Any = LlamaForCausalLM(config)
        self.model = model.to(how.dtype).eval().requires_grad_(False)
        # transformers calls it `cache` from 5.24 on
        taken = inspect.signature(modeling_llama.LlamaDecoderLayer.forward).parameters
        self._cache_name = "cache" if "cache" in taken else "past_key_values"
        if compiled:
            turn = modeling_llama.apply_rotary_pos_emb
            modeling_llama.apply_rotary_pos_emb = torch.compile(turn, dynamic=True)
            for module in model.modules():
                if isinstance(module, (modeling_llama.LlamaRMSNorm, modeling_llama.LlamaMLP)):
                    module.compile(dynamic=True)

    def _attention(
        self, module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **_: Any
    ) -> tuple[Tensor, None]:
        assert mask is None
        return self.attend(q, k, v).transpose(1, 2), None

    def error(self) -> float:
        """Distance of our way of calling it from transformers' own, after reading and a step."""
        weight = self.model.lm_head.weight
        ids = torch.randint(len(weight), (1, 65), device=weight.device)
        cache = Cache(self, 1, 65)
        self.forward(ids[:, :64], cache)
        logits = self.forward(ids[:, 64:], cache)
        self.model.set_attn_implementation("sdpa")
        wanted = self.model(ids, logits_to_keep=1).logits[:, -1]
        self.model.set_attn_implementation("speed")
        return distance(logits, wanted)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def forward(self, ids: Tensor, cache: Cache) -> Tensor:
        """ids [B, T] read after what the cache holds -> the logits after the last, [B, V].

        T > 1 only with an empty cache: SDPA masks from the first key.
        """
        assert ids.shape[1] == 1 or not cache.used
        body = self.model.model
        x = body.embed_tokens(ids)
        places = torch.arange(cache.used, cache.used + ids.shape[1], device=ids.device)[None]
        turns = body.rotary_emb(x, position_ids=places)
        held = {self._cache_name: cache}
        for layer in body.layers:
            x = layer(x, attention_mask=None, position_embeddings=turns, **held)
        cache.used += ids.shape[1]
        return self.model.lm_head(body.norm(x[:, -1]))
