"""Steps of a beam search: one token of each row, where rows go on from any rows of the step before.

On a GPU a step is a CUDA graph of a fixed number of rows, which begins by taking the rows that it
goes on from; rows that are not needed read anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from samba_cli.model.cuda_graph import Graph, graph_for
from samba_cli.model.fusion import MOST_ROWS
from samba_cli.model.network import Model
from samba_cli.model.state import State

_ROWS = 32  # a graph has a multiple of them, so that few graphs are made


def only(state: State, rows: Sequence[int]) -> State:
    """These rows of a state: the state itself where they are all of its rows, in order."""
    return state if list(rows) == list(range(state.batch)) else state.take(rows)


class Steps:
    """Reads one token of each row. `state` is what was read when the context is left."""

    def __init__(self, model: Model, state: State, graph: Graph | None) -> None:
        self.state = state
        self._model, self._graph = model, graph

    def __call__(self, rows: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Row i reads tokens[i] after what row rows[i] had read before.

        Logits [len(rows), V], which the next call overwrites.
        """
        device = self._model.device
        if self._graph is None:
            self.state = only(self.state, rows)
            ids = torch.tensor(tokens)[:, None].to(device, non_blocking=True)
            return self._model(ids, self.state)[:, -1]
        unused = [0] * (self._graph.tokens.shape[0] - len(rows))
        both = torch.tensor([[*rows, *unused], [*tokens, *unused]]).to(device, non_blocking=True)
        self._graph.rows.copy_(both[0])
        return self._graph(self._model, both[1, :, None])[: len(rows), -1]


@contextmanager
def stepping(model: Model, state: State, rows: Sequence[int], most: int) -> Iterator[Steps]:
    """Go on from these rows of a state, which is not changed, with at most `most` rows.

    `rows` of the first step count from 0 again. The state that is left has the rows of the last
    step, and others behind them where a graph had more.
    """
    size = MOST_ROWS if most <= MOST_ROWS else -(-most // _ROWS) * _ROWS
    graph = graph_for(model, state, 1, batch=size, takes=True)
    if graph is None or not graph.lock.acquire(blocking=False):
        yield Steps(model, state.take(rows), None)
        return
    try:
        padded = state.take([*rows, *[rows[0]] * (size - len(rows))])
        graph.load(padded)
        steps = Steps(model, padded, graph)
        yield steps
        graph.store(padded)
    finally:
        graph.lock.release()
