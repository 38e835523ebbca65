"""The same architecture and weights in transformers, in plain PyTorch: what it computes and costs.

Without mamba-ssm and causal-conv1d its Mamba layers run a loop over tokens in Python, its Mamba-2
layers products over blocks whose intermediate values alone take megabytes a token.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from samba_cli.model import Model
from samba_cli.model.architectures import Architecture
from samba_cli.model.checkpoint import _named


class OutOfTime(Exception):
    """A forward pass that was stopped between two layers."""


def same_model(raw: Mapping[str, Any], architecture: Architecture, model: Model) -> Any:
    """transformers' model of this config.json with the weights of `model`, shared where both hold
    them in the same type and shape. Raises ImportError without transformers."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    transformers.logging.set_verbosity_error()
    sizes = {key: value for key, value in raw.items() if key != "model_type"}
    config = transformers.AutoConfig.for_model(raw["model_type"], **sizes)
    # Made on the device: buffers are computed, and what is drawn there at first costs seconds.
    with model.device:
        theirs = transformers.AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    theirs = theirs.eval().requires_grad_(False)
    missing = {id(p) for p in theirs.parameters()}
    for name, ours in _named(model).items():
        place = architecture.stored(name)
        parameter = theirs.get_parameter(place.name)
        missing.discard(id(parameter))
        if place.rows is not None:
            parameter.data[slice(*place.rows)] = ours
        elif parameter.dtype == ours.dtype and parameter.shape == ours.shape:
            parameter.data = ours.data
        else:
            parameter.data.copy_(ours)
    if missing:
        raise ValueError(f"{len(missing)} parameters of transformers' model have no counterpart")
    return theirs


@torch.inference_mode()
def prefill_seconds(theirs: Any, ids: Tensor, limit: float) -> float:
    """Seconds of reading ids [1, T] for the logits after them. Raises OutOfTime past `limit`."""
    with _stopping(theirs, limit):
        start = _now(ids)
        theirs(ids, logits_to_keep=1)
        return _now(ids) - start


@torch.inference_mode()
def decode_tokens_per_second(theirs: Any, ids: Tensor, count: int, limit: float) -> float:
    """Greedy decoding after ids [1, T], the reading of them subtracted."""

    def seconds(new: int) -> float:
        start = _now(ids)
        theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new,
            do_sample=False, pad_token_id=0,
        )  # fmt: skip
        return _now(ids) - start

    with _stopping(theirs, limit):
        seconds(2)
        return count / (seconds(count + 1) - seconds(1))


def _now(like: Tensor) -> float:
    if like.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def _stopping(theirs: Any, limit: float) -> Iterator[None]:
    """Stop a pass before the first layer that would begin after `limit` seconds."""
    end = time.perf_counter() + limit

    def check(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if time.perf_counter() > end:
            raise OutOfTime(f"not done after {limit:.0f} s")

    layers = next(m for m in theirs.modules() if isinstance(m, nn.ModuleList))
    hooks = [layer.register_forward_pre_hook(check) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
