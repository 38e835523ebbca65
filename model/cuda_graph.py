"""The forward of the model as a CUDA graph: one launch where there would be hundreds.

Decoding, and reading with a small model, spend their time in launches. A graph is captured once
for a model, a batch and a number of tokens, and replayed at any position of any state: the state
is copied into its buffers and back, which costs microseconds.

`SAMBA_GRAPHS=off` turns graphs off; `direct` runs what would be captured call by call, on any
device. Without a GPU, for states that grow and where capturing fails, the plain forward runs.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from samba_cli.kernels.likeliest import likeliest
from samba_cli.kernels.likeliest_ref import likeliest_ref
from samba_cli.model.network import Model
from samba_cli.model.state import State
from samba_cli.model.static_state import StaticState

SMALL_MODEL = 600_000_000  # parameters; a chunk of a larger one takes longer than its launches
KEPT = 6  # graphs of a model: each holds its buffers and activations on the device


class Graph:
    """A forward of `length` tokens: to logits for a single one, else to the residual stream.

    Where it `takes` rows, every row goes on from what the row that `rows` names had read.
    """

    def __init__(
        self, model: Model, like: State, length: int, captured: bool, takes: bool = False
    ) -> None:
        self.state = StaticState(like)
        size, device = (like.batch, length), model.device
        self.tokens = torch.zeros(size, dtype=torch.int64, device=device)
        self.rows = torch.arange(like.batch, device=device)
        self._takes = takes
        words = model.description.vocab_size if length == 1 else 0
        self.forbidden = torch.zeros(words, dtype=torch.bool, device=device)  # for `likeliest`
        self._chosen = torch.zeros(like.batch, 1, dtype=torch.int64, pin_memory=captured)
        self._done = torch.cuda.Event() if captured else None
        self._given: int | None = None  # the token that is in `tokens` already
        self.lock = threading.Lock()  # held while a text is in the buffers
        self._position = 0
        self._output: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        if captured:
            self._capture(model)

    def load(self, state: State) -> None:
        self.state.load(state)
        self._position = state.position
        self._given = None

    def store(self, state: State) -> None:
        self.state.store(state, self._position)

    def __call__(self, model: Model, tokens: Tensor) -> Tensor:
        """Read tokens [B, length]. The result is overwritten by the next call."""
        if tokens is not self.tokens:
            self.tokens.copy_(tokens, non_blocking=True)
        self._given = None
        self._position += tokens.shape[1]
        if self._graph is None:
            return self._run(model)
        self._graph.replay()
        assert self._output is not None
        return self._output

    def likeliest(self, model: Model, token: int) -> int:
        """Read one token of one text; the likeliest after it that is not forbidden.

        Where this is the token given next, it is on the device already.
        """
        assert self.tokens.shape == (1, 1)
        if token != self._given:
            self.tokens.fill_(token)
        self._position += 1
        if self._graph is None:
            self._run(model)
        else:
            self._graph.replay()
        self._chosen.copy_(self.tokens, non_blocking=True)
        if self._done is not None:
            self._done.record()
            self._done.synchronize()
        self._given = int(self._chosen.item())
        return self._given

    def _run(self, model: Model) -> Tensor:
        if self._takes:
            self.state.take(self.rows)
        self.state.begin(self.tokens.shape[1])
        out = model.hidden(self.tokens, self.state)
        if self.tokens.shape[1] == 1:
            out = model.logits(out)
            if not self._takes:  # which is for searches that choose for themselves
                likeliest(out[:, -1], self.forbidden, self.tokens)
        self.state.settle()  # at the end: it would stand between kernels that start early
        return out

    def _capture(self, model: Model) -> None:
        stream = torch.cuda.Stream(model.device)
        stream.wait_stream(torch.cuda.current_stream(model.device))
        self.state.position.fill_(self.state.slots)
        with torch.cuda.stream(stream):
            for _ in range(2):  # kernels are compiled and workspaces allocated before the capture
                self._run(model)
        torch.cuda.current_stream(model.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # other threads may parse and copy meanwhile
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._output = self._run(model)
        self._graph = graph


@dataclass
class _Graphs:
    weights: tuple[int, ...] = ()  # the addresses that the graphs read
    # The last used comes last. None: could not be captured
    by_size: OrderedDict[tuple[int, int, bool, bool], Graph | None] = field(
        default_factory=OrderedDict
    )


# Beside the models, not in them: a model can be copied and saved, a graph cannot.
_graphs: WeakKeyDictionary[Model, _Graphs] = WeakKeyDictionary()


def _mode(model: Model) -> Literal["captured", "direct", "off"]:
    wanted = os.environ.get("SAMBA_GRAPHS", "auto")
    if wanted in ("direct", "off"):
        return wanted
    return "captured" if model.device.type == "cuda" else "off"


def graph_for(
    model: Model, state: State, length: int, batch: int | None = None, takes: bool = False
) -> Graph | None:
    """The graph for forwards of this state, or of as many rows like its own as `batch` says.

    None where the plain forward has to do.
    """
    mode = _mode(model)
    if mode == "off" or torch.is_grad_enabled() or not StaticState.possible(state):
        return None
    kept = _graphs.setdefault(model, _Graphs())
    weights = tuple(parameter.data_ptr() for parameter in model.parameters())
    if kept.weights != weights:
        kept.weights, kept.by_size = weights, OrderedDict()
    size = (batch or state.batch, length, mode == "captured", takes)
    if size in kept.by_size:
        kept.by_size.move_to_end(size)
    else:
        while len(kept.by_size) >= KEPT:  # first: what it holds may be what the next one needs
            kept.by_size.popitem(last=False)
        try:
            like = model.initial_state(size[0])
            kept.by_size[size] = Graph(model, like, length, size[2], takes)
        except RuntimeError as error:  # what CUDA and its allocator raise
            kept.by_size[size] = None
            logging.getLogger(__name__).warning(
                "no CUDA graph for %d x %d tokens, going on without: %s", size[0], length, error
            )
    return kept.by_size[size]


class Decoding:
    """Reads one token of each row into a state, by a graph or without one."""

    def __init__(
        self, model: Model, state: State, graph: Graph | None, forbidden: Collection[int]
    ) -> None:
        self._model, self._state, self._graph = model, state, graph
        words = model.description.vocab_size
        self._forbidden = torch.zeros(words, dtype=torch.bool, device=model.device)
        self._forbidden[torch.tensor(sorted(forbidden), dtype=torch.int64)] = True
        if graph is not None:
            graph.forbidden.copy_(self._forbidden)

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens [B, 1] -> logits [B, 1, V], which the next call overwrites."""
        if self._graph is None:
            return self._model(tokens, self._state)
        return self._graph(self._model, tokens)

    def greedily(self, tokens: Tensor) -> Tensor:
        """tokens [B, 1] -> the likeliest after them that are not forbidden, [B, 1] on the device.

        They are there already where they come back, which nobody has to wait for.
        """
        logits = self(tokens)
        if self._graph is not None:
            return self._graph.tokens
        return likeliest_ref(logits[:, -1], self._forbidden)[:, None]

    def likeliest(self, token: int) -> int:
        """Read one token of one text; the likeliest after it that is not forbidden."""
        if self._graph is not None:
            return self._graph.likeliest(self._model, token)
        logits = self._model(torch.tensor([[token]], device=self._model.device), self._state)
        return int(likeliest_ref(logits[0, -1], self._forbidden))


@contextmanager
def decoding(model: Model, state: State, forbidden: Collection[int] = ()) -> Iterator[Decoding]:
    """Decode from this state; it has moved when the context is left, and not before.

    `forbidden` tokens are those that `likeliest` never gives.
    """
    graph = graph_for(model, state, 1)
    if graph is None or not graph.lock.acquire(blocking=False):
        yield Decoding(model, state, None, forbidden)
        return
    try:
        graph.load(state)
        try:
            yield Decoding(model, state, graph, forbidden)
        finally:
            graph.store(state)
    finally:
        graph.lock.release()


def read_chunk(model: Model, tokens: Tensor, state: State, at: Tensor) -> Tensor:
    """`model(tokens, state, at)` for the chunks of a long text, which are all of one length.

    A small model's chunks are replayed once the windows are full; everything else is read plainly.
    """
    length = tokens.shape[1]
    graph = None
    if length > 1 and state.position >= state.slots and _small(model):
        graph = graph_for(model, state, length)
    if graph is None or not graph.lock.acquire(blocking=False):
        return model(tokens, state, at)
    try:
        graph.load(state)
        hidden = graph(model, tokens)
        graph.store(state)
        return model.logits_at(hidden, at)
    finally:
        graph.lock.release()


def _small(model: Model) -> bool:
    return sum(parameter.numel() for parameter in model.parameters()) < SMALL_MODEL
