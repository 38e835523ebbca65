"""Many texts generated side by side on copies of one state.

A step of decoding takes about as long for many rows as for one: the weights are read once for all
of them. Every row of a batch stands at the same position, and nothing is padded into a state: rows
whose prompt is longer read on, token by token, while the others already write. As long as nobody
writes, all read together, to the end of the shortest prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from samba_cli.model.cuda_graph import decoding
from samba_cli.model.generation import Sampling, choose, read_rows
from samba_cli.model.network import Model
from samba_cli.model.state import State

Take = Callable[[int, int], bool]  # (row, token) -> whether the row goes on


class _Row:
    """One text: its prompt, what was made, and what must not come next."""

    def __init__(self, number: int, prompt: Sequence[int], sampling: Sampling) -> None:
        self.number, self.prompt = number, list(prompt)
        self.made: list[int] = []
        self.generator = torch.Generator(device="cpu").manual_seed(sampling.seed)
        self._n = sampling.no_repeat_ngram
        self._followers: dict[tuple[int, ...], list[int]] = {}  # of each n - 1 tokens

    def token(self, place: int) -> int:
        """What it reads at a place counted from the beginning of the prompt."""
        length = len(self.prompt)
        return self.prompt[place] if place < length else self.made[place - length]

    def append(self, token: int) -> None:
        if self._n > 0 and len(self.made) >= self._n - 1:
            self._followers.setdefault(self._tail(), []).append(token)
        self.made.append(token)

    def blocked(self) -> list[int]:
        """Tokens that would complete an n-gram a second time."""
        return self._followers.get(self._tail(), []) if self._n > 0 else []

    def _tail(self) -> tuple[int, ...]:
        return tuple(self.made[len(self.made) - self._n + 1 :])


@torch.inference_mode()
def generate_batch(
    model: Model,
    state: State,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    take: Take,
    stop: Collection[int] = (),
    banned: Collection[int] = (),
) -> None:
    """Generate after each prompt what `generate` gives after it alone, up to rounding.

    `state` of batch 1 is what every prompt continues; it is not changed. `take` gets the tokens of
    a row as they come and ends the row by returning False; stop tokens and the maximum end it too.
    Raises ValueError for an empty prompt.
    """
    if not all(prompts):
        raise ValueError("a prompt needs at least one token")
    if not prompts or sampling.max_tokens < 1:
        return
    rows = state.expand(len(prompts))
    rows.reserve(state.position + max(map(len, prompts)) + sampling.max_tokens)
    run = _Run(model, rows, prompts, sampling, take, stop, banned)
    while run.going:
        run.read_together()
        run.write()


class _Run:
    def __init__(
        self, model: Model, state: State, prompts: Sequence[Sequence[int]], sampling: Sampling,
        take: Take, stop: Collection[int], banned: Collection[int],
    ) -> None:  # fmt: skip
        self.model, self.state, self.sampling, self.take = model, state, sampling, take
        self.stop = frozenset(stop)
        self.banned = torch.tensor(sorted(banned), dtype=torch.long, device=model.device)
        self.rows = [_Row(i, prompt, sampling) for i, prompt in enumerate(prompts)]
        self.going = set(range(len(self.rows)))  # numbers of rows, of those not finished
        self.place = 0  # tokens that every row has read
        # Without a graph, which is made for a number of rows, finished rows can be left out.
        self.drops = model.device.type == "cpu"

    @property
    def writing(self) -> list[int]:
        """Places in the batch of the rows that have read their prompts and are not finished."""
        return [
            i for i, row in enumerate(self.rows)
            if row.number in self.going and len(row.prompt) <= self.place
        ]  # fmt: skip

    def read_together(self) -> None:
        """Read on to the end of the shortest prompt, which nobody has passed, and choose there."""
        if self.drops and len(self.going) < len(self.rows):
            kept = [i for i, row in enumerate(self.rows) if row.number in self.going]
            self.state, self.rows = self.state.take(kept), [self.rows[i] for i in kept]
        if self.writing:
            return
        end = min(len(row.prompt) for row in self.rows if row.number in self.going)
        logits = read_rows(self.model, self.state, self._tokens(end))
        self.place = end
        self._choose(logits)

    def write(self) -> None:
        """Decode while anybody writes; without a graph, until a row is finished."""
        with decoding(self.model, self.state) as step:
            count = len(self.going)
            while self.writing and not (self.drops and len(self.going) < count):
                logits = step(self._tokens(self.place + 1))
                self.place += 1
                self._choose(logits[:, -1])

    def _tokens(self, end: int) -> Tensor:
        """What all rows read next, up to `end`; finished rows read anything."""
        places = range(self.place, end)
        ids = [
            [row.token(p) for p in places] if row.number in self.going else [0] * len(places)
            for row in self.rows
        ]
        return torch.tensor(ids).to(self.model.device, non_blocking=True)

    def _choose(self, logits: Tensor) -> None:
        """The next token of every row that writes, from the logits [B, V] of the batch."""
        places = self.writing
        if not places:
            return
        for i, token in zip(places, self._chosen(logits, places), strict=True):
            row = self.rows[i]
            ended = token in self.stop
            if not ended:
                row.append(token)
                ended = not self.take(row.number, token)
            if ended or len(row.made) >= self.sampling.max_tokens:
                self.going.discard(row.number)

    def _chosen(self, logits: Tensor, places: list[int]) -> list[int]:
        how = self.sampling
        if len(self.banned):
            logits = logits.index_fill(1, self.banned, -torch.inf)
        if how.temperature > 0 or how.repetition_penalty != 1.0:
            rows = [self.rows[i] for i in places]
            return [
                choose(logits[i], row.made, how, row.generator)
                for i, row in zip(places, rows, strict=True)
            ]
        blocked = [(i, token) for i in places for token in self.rows[i].blocked()]
        if blocked:
            where = torch.tensor(blocked, device=logits.device).unbind(1)
            logits = logits.index_put(where, logits.new_tensor(-torch.inf))
        best = logits.argmax(-1).tolist()
        return [best[i] for i in places]
