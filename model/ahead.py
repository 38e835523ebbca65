"""Compiling the kernels of a model side by side, before the first forward compiles them in turn.

Triton compiles a kernel when it is first launched and keeps the result on disk. Most of that time
is spent outside Python, so layers of different kinds are run at the same time, each in a thread,
on zeros. Where everything is on disk already this takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from samba_cli.kernels.likeliest import likeliest
from samba_cli.model.fusion import fused
from samba_cli.model.network import Layer, Model
from samba_cli.model.rope import rotation
from samba_cli.model.static_state import StaticState

_THREADS = 16
_TOKENS = 1024  # the kernels for a chunk are those for any text that is not short


def compile_ahead(model: Model) -> int:
    """Run one layer of each kind, for a chunk and for a token; the number of runs.

    Nothing happens where the layers take no fused form. What fails here is left to the forward
    that needs it, which says why.
    """
    with torch.inference_mode():
        if not fused(model.backbone.embeddings.weight):
            return 0
    runs = _runs(model)
    with ThreadPoolExecutor(min(len(runs), _THREADS)) as pool:
        for result in [pool.submit(_quietly, run, model.device) for run in runs]:
            result.result()
    return len(runs)


def _quietly(run: Callable[[], object], device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)  # each thread has a device of its own
    try:
        with torch.inference_mode():
            run()
    except Exception:
        return


def _runs(model: Model) -> list[Callable[[], object]]:
    kinds: dict[object, int] = {}
    for index, spec in enumerate(model.description.layers):
        kinds.setdefault(spec, index)
    runs: list[Callable[[], object]] = []
    for index in kinds.values():
        runs += [lambda index=index: _mixer(model, index), lambda index=index: _token(model, index)]
    index = next((i for i, spec in enumerate(model.description.layers) if spec.mlp), None)
    if index is not None:
        runs.append(lambda: _mlp(model, index))
    head = torch.zeros(1, 1, model.description.d_model, device=model.device)
    return [*runs, lambda: _choice(model, head), lambda: model.logits(head.expand(-1, 2, -1))]


def _mixer(model: Model, index: int) -> None:
    layer, state = _layer(model, index), model.initial_state()
    _, y = _inputs(model)
    layer.mixer(y, state.layers[index], _rotation(model, state.position, _TOKENS))


def _mlp(model: Model, index: int) -> None:
    layer = _layer(model, index)
    x, y = _inputs(model)
    layer.mixer_norm.after(x, None, model.dtype)
    layer.mixer_norm.after(x, y, model.dtype)
    if layer.mlp is not None:
        layer.mlp(y)


def _choice(model: Model, head: Tensor) -> None:
    logits = model.logits(head)[:, -1]
    forbidden = torch.zeros(logits.shape[1], dtype=torch.bool, device=model.device)
    likeliest(logits, forbidden, torch.zeros(1, 1, dtype=torch.int64, device=model.device))


def _token(model: Model, index: int) -> None:
    """As decoding does it by a graph, where the state allows one."""
    state = model.initial_state()
    x = torch.zeros(1, 1, model.description.d_model, device=model.device)
    if not StaticState.possible(state):
        layers, position = state.layers, state.position
    else:
        static = StaticState(state)
        static.begin(1)
        layers, position = static.layers, static.position
    _layer(model, index).step(x, layers[index], _rotation(model, position, 1), model.dtype)


def _layer(model: Model, index: int) -> Layer:
    layer = model.backbone.layers[index]
    assert isinstance(layer, Layer)
    return layer


def _inputs(model: Model) -> tuple[Tensor, Tensor]:
    """The residual stream of a chunk, and what a norm makes of it."""
    x = torch.zeros(1, _TOKENS, model.description.d_model, device=model.device)
    return x, x.to(model.dtype)


def _rotation(model: Model, position: int | Tensor, length: int) -> tuple[Tensor, Tensor] | None:
    if model.rope is None:
        return None
    theta, width = model.rope
    return rotation(position, length, width, theta, model.device)
