"""SAMBA checkpoints of the paper's repository (microsoft/Samba, lit_gpt) in our format.

The file is a Lightning Fabric checkpoint: a pickle with the weights under "model". Sizes are read
off the tensors; what no tensor shows (the width of a head, the window) the caller gives, or the
name of a published configuration does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samba_cli.model.checkpoint import save_checkpoint
from samba_cli.model.config import SambaConfig
from samba_cli.model.samba import Samba
from samba_cli.model.weight_files import CheckpointError, pickled, plain


@dataclass(frozen=True)
class LitGPT:
    """What the tensors of a lit_gpt checkpoint do not show."""

    d_head: int = 128
    window: int = 2048  # keys a query sees, itself included


# Of lit_gpt/config.py in microsoft/Samba. Its `nope` variants, which do not rotate, are not built.
KNOWN = {
    "Samba_421M": LitGPT(),
    "Samba_421M_1k_window": LitGPT(window=1024),
    "Samba_421M_512_window": LitGPT(window=512),
    "Samba_421M_mqa": LitGPT(),
    "Samba_421M_gqa2": LitGPT(),
    "Samba_421M_gqa4": LitGPT(),
    "Samba_1.3B": LitGPT(),
}

# What Lightning Fabric, torch.compile and FSDP put before and into the names.
_WRAPPERS = re.compile(r"(^module|(?<![^.])(_forward_module|_orig_mod|_fsdp_wrapped_module))\.")
# their parameter name -> ours; the projections of attention, which are fused, stand apart
_NAMES = (
    (r"^transformer\.wte\.", "backbone.embeddings."),
    (r"^transformer\.ln_f\.", "backbone.norm_f."),
    (r"^transformer\.h\.", "backbone.layers."),
    (r"\.norm_1\.", ".mixer_norm."),
    (r"\.norm_2\.", ".mlp_norm."),
    (r"\.attn\.proj\.", ".mixer.o_proj."),
    (r"\.attn\.", ".mixer."),
    (r"\.mlp\.swiglu\.w1\.", ".mlp.gate_proj."),
    (r"\.mlp\.swiglu\.w2\.", ".mlp.up_proj."),
    (r"\.mlp\.swiglu\.w3\.", ".mlp.down_proj."),
)
_FUSED = re.compile(r"^transformer\.h\.(\d+)\.attn\.attn\.weight$")


def convert_lit_gpt(
    file: Path, tokenizer_file: Path, folder: Path, facts: LitGPT | str = "Samba_421M"
) -> SambaConfig:
    """Write the checkpoint folder of a lit_gpt `.pth`. Raises CheckpointError, and OSError.

    `facts` are what the tensors do not show, or the name of a configuration in KNOWN.
    """
    if isinstance(facts, str):
        if facts not in KNOWN:
            raise CheckpointError(f"{facts!r} is not a known configuration: {', '.join(KNOWN)}")
        facts = KNOWN[facts]
    if not tokenizer_file.is_file():
        raise CheckpointError(f"the tokenizer {tokenizer_file} is missing")
    try:
        tensors = _weights(pickled(file))
        config = _config(tensors, facts)
        renamed = _renamed(tensors, config)
    except CheckpointError:
        raise
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{file} cannot be converted: {reason}") from None
    with torch.device("meta"):
        model = Samba(config)
    _fill(model, renamed, file)
    save_checkpoint(model, folder, tokenizer_file)
    return config


def _weights(checkpoint: Any) -> dict[str, Tensor]:
    """The tensors under "model" without the prefixes of wrappers."""
    if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get("model"), Mapping):
        checkpoint = checkpoint["model"]
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise ValueError("it holds no weights")
    tensors = {_WRAPPERS.sub("", str(name)): tensor for name, tensor in checkpoint.items()}
    for name, tensor in tensors.items():
        if not plain(tensor) or not tensor.is_floating_point():
            raise ValueError(f"{name} is not a tensor of numbers")
        if re.search(r"\.attn\.[qkv]_conv1d\.", name):
            raise ValueError(f"{name} belongs to a variant with convolved queries, not to SAMBA")
    return tensors


def _config(tensors: Mapping[str, Tensor], facts: LitGPT) -> SambaConfig:
    """The sizes, from the first Mamba layer and the first attention layer."""

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in tensors:
            raise ValueError(f"{name} is missing")
        if tensors[name].dim() != dimensions:
            raise ValueError(f"{name} has the shape {list(tensors[name].shape)}")
        return tuple(tensors[name].shape)

    vocab_size, d_model = shape("transformer.wte.weight", 2)
    layers = {int(m[1]) for name in tensors if (m := re.match(r"transformer\.h\.(\d+)\.", name))}
    d_inner, d_state = shape("transformer.h.0.attn.A_log", 2)
    rows, _ = shape("transformer.h.1.attn.attn.weight", 2)
    width = shape("transformer.h.1.attn.proj.weight", 2)[1]
    n_head, rest = divmod(width, facts.d_head)
    n_kv_head, rest_kv = divmod(rows - width, 2 * facts.d_head)
    if rest or rest_kv or d_inner % d_model:
        raise ValueError(f"heads of {facts.d_head} do not fit its attention of {rows} rows")
    head, embedding = shape("lm_head.weight", 2), tensors["transformer.wte.weight"]
    tied = head == (vocab_size, d_model) and torch.equal(tensors["lm_head.weight"], embedding)
    config = SambaConfig(
        vocab_size=vocab_size,
        d_model=d_model,
        n_layer=len(layers),
        d_state=d_state,
        d_conv=shape("transformer.h.0.attn.conv1d.weight", 3)[2],
        expand=d_inner // d_model,
        dt_rank=shape("transformer.h.0.attn.dt_proj.weight", 2)[1],
        d_ff=shape("transformer.h.0.mlp.swiglu.w1.weight", 2)[0],
        n_head=n_head,
        n_kv_head=n_kv_head,
        window=facts.window,
        tie_embeddings=tied,
    )
    if config.d_head != facts.d_head:
        raise ValueError(f"{n_head} heads of {facts.d_head} do not make its width {d_model}")
    return config


def _renamed(tensors: Mapping[str, Tensor], config: SambaConfig) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        fused = _FUSED.match(name)
        if fused:
            prefix = f"backbone.layers.{fused[1]}.mixer."
            for part, weight in zip("qkv", _split(tensor, config), strict=True):
                renamed[f"{prefix}{part}_proj.weight"] = weight
            continue
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    if config.tie_embeddings:
        del renamed["lm_head.weight"]
    return renamed


def _split(fused: Tensor, config: SambaConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Each group of query heads is followed by its key head and its value head."""
    per_group = config.n_head // config.n_kv_head
    groups = fused.view(config.n_kv_head, per_group + 2, config.d_head, config.d_model)
    parts = groups.split([per_group, 1, 1], dim=1)
    q, k, v = (part.reshape(-1, config.d_model) for part in parts)
    return q, k, v


def _fill(model: Samba, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Exactly the parameters of the model, in float32 as the repository trains them."""
    expected = dict(model.named_parameters())
    differing = sorted(expected.keys() ^ tensors.keys())
    if differing:
        what = "lacks" if differing[0] in expected else "has the unknown tensor"
        raise CheckpointError(f"{file} is not a SAMBA checkpoint: it {what} {differing[0]}")
    for name, parameter in expected.items():
        if tensors[name].shape != parameter.shape:
            found, wanted = list(tensors[name].shape), list(parameter.shape)
            raise CheckpointError(f"{file}: {name} has the shape {found}, not {wanted}")
        owner, _, attribute = name.rpartition(".")
        filled = nn.Parameter(tensors[name].float(), requires_grad=False)
        setattr(model.get_submodule(owner), attribute, filled)
    if model.description.tie_embeddings:
        model.lm_head.weight = model.backbone.embeddings.weight
