"""The models that are measured: SAMBA 1.7B and the transformer of its size from the same paper.

Ren et al. 2024, arXiv 2406.07522: both have width 2048, 24 layers of mixer and MLP, MLPs of 8,192,
32 query and 4 key-value heads of 64. Weights are random: no figure here depends on their values.
"""

from __future__ import annotations

import torch

from benchmarks.random_models import random_model
from benchmarks.speed.rows import Setting
from samba_cli.model import Model, SambaConfig

SAMBA_1_7B = SambaConfig(
    vocab_size=50_304, d_model=2048, n_layer=24, d_ff=8192, n_head=32, n_kv_head=4, window=2048
)
SAMBA_TINY = SambaConfig(
    vocab_size=96, d_model=64, n_layer=2, d_ff=128, n_head=4, n_kv_head=2, window=32
)


def samba(how: Setting) -> Model:
    """As a checkpoint is loaded for reading."""
    config = SAMBA_TINY if how.tiny else SAMBA_1_7B
    with torch.inference_mode(False):  # as it is loaded: what follows from the weights is kept
        model = random_model(config.description(), torch.device(how.device), how.dtype)
        return model.join() if how.cuda else model


def llama_sizes(how: Setting) -> dict[str, int]:
    """What transformers' LlamaConfig calls the same sizes."""
    config = SAMBA_TINY if how.tiny else SAMBA_1_7B
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layer,
        "intermediate_size": config.d_ff,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.d_head,
        "max_position_embeddings": 1 << 21,
    }
