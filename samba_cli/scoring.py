"""Many short prompts through the model at once: what scores passages.

What comes out for a row does not depend on the rows beside it: padding stands on the right, where
nothing reads it. What all rows begin with is read once and the state copied for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os.path import commonprefix

import numpy as np
import torch
from torch import Tensor

from samba_cli.model.description import Description, Mamba2Spec, MambaSpec
from samba_cli.model.network import Model
from samba_cli.model.state import State
from samba_cli.transfer import sent

# A batch: so many tokens, padding included, and about so many bytes beside the weights.
_BATCH_TOKENS, _BATCH_TOKENS_ACCELERATOR = {"cpu": 4096}, 65536
_BATCH_BYTES, _BATCH_BYTES_ACCELERATOR = {"cpu": 1 << 30}, 2 << 30
_BATCH_SHARE = 32  # the bytes are such a part of a GPU's memory where that is more
# Tokens saved that are worth one more pass of the model.
_WORTH_SHARING, _WORTH_SHARING_ACCELERATOR = {"cpu": 64}, 8192


@torch.inference_mode()
def last_logits(
    rows: Sequence[list[int]], count: int, model: Model
) -> Iterator[tuple[list[int], Tensor]]:
    """Read rows of token ids, each from a fresh state, some at a time.

    Yields the numbers of B rows and the logits [B, count, V] (float32) after each of their last
    `count` tokens; every row comes once. Raises ValueError for a row of fewer tokens.
    """
    if count < 1 or any(len(row) < count for row in rows):
        raise ValueError(f"every row needs at least {max(count, 1)} tokens")
    shared = _shared(rows, count, model)
    before = _read(rows[0][:shared], model) if shared else None
    for batch in _batches([len(row) - shared for row in rows], shared, count, model):
        rest = [rows[row][shared:] for row in batch]
        width = max(map(len, rest))
        tokens = np.zeros((len(rest), width), dtype=np.int64)
        for i, row in enumerate(rest):
            tokens[i, : len(row)] = row
        ends = np.array([[len(row)] for row in rest])
        at = sent(torch.from_numpy(ends + np.arange(-count, 0)), model.device)
        state = before.expand(len(batch)) if before else model.initial_state(len(batch))
        state.reserve(shared + width)
        yield batch, model(sent(torch.from_numpy(tokens), model.device), state, at=at)


def _shared(rows: Sequence[list[int]], count: int, model: Model) -> int:
    """Tokens that all rows begin with, where reading them once is worth it; else 0."""
    if len(rows) < 2:
        return 0
    # What logits are wanted of stays in the rows.
    shared = min(len(commonprefix(list(rows))), min(map(len, rows)) - count)
    worth = _WORTH_SHARING.get(model.device.type, _WORTH_SHARING_ACCELERATOR)
    return shared if shared * (len(rows) - 1) >= worth else 0


def _read(ids: list[int], model: Model) -> State:
    state, tokens = model.initial_state(), torch.tensor([ids], device=model.device)
    model(tokens, state, at=tokens.new_empty(0))
    return state


def _batches(lengths: list[int], shared: int, count: int, model: Model) -> list[list[int]]:
    """Row numbers in batches of similar length, each within the bounds of the device."""
    kind = model.device.type
    most_tokens = _BATCH_TOKENS.get(kind, _BATCH_TOKENS_ACCELERATOR)
    most_bytes = _BATCH_BYTES.get(kind, _BATCH_BYTES_ACCELERATOR)
    if kind == "cuda":
        memory = torch.cuda.get_device_properties(model.device).total_memory
        most_bytes = max(most_bytes, memory // _BATCH_SHARE)
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        width = lengths[row]  # of the batch: its longest row comes last
        one = _row_bytes(model.description, width, shared, count, model.dtype.itemsize)
        rows = len(batches[-1]) + 1 if batches else 0
        if rows and rows * width <= most_tokens and rows * one <= most_bytes:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _row_bytes(model: Description, width: int, shared: int, count: int, itemsize: int) -> int:
    """About what a row of a batch takes at the most: its state, old and new, the widest
    activations of a layer, and the logits with their softmax."""
    fixed, growth = model.state_bytes(itemsize)
    state = 2 * fixed + growth * (shared + width)
    activations = width * (4 * 4 * model.d_model + 3 * itemsize * _widest(model))
    return state + activations + 3 * 4 * count * model.vocab_size


def _widest(model: Description) -> int:
    widths = [model.d_model]
    for layer in model.layers:
        mixer = layer.mixer
        if isinstance(mixer, Mamba2Spec):
            widths.append(mixer.d_inner + mixer.d_convolved)
        elif isinstance(mixer, MambaSpec):
            widths.append(2 * mixer.d_inner)
        else:
            widths.append((mixer.n_head + 2 * mixer.n_kv_head) * mixer.d_head)
        widths.append(2 * layer.mlp.d_ff if layer.mlp else 0)
    return max(widths)
