"""Beam search: of all texts a model could write after a prompt, about the likeliest few.

A step reads the last token of every text kept and keeps the likeliest of what may follow, among
all of them. A text ends where a stop token is among the likeliest to follow it, and counts with
what that costs. Prompts of any lengths are searched side by side, each with as many beams as
wanted: all rows stand at one place, and a prompt that is longer reads on, as one row, while others
already write.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samba_cli.model.beam_steps import only, stepping
from samba_cli.model.generation import completes_ngram, read_rows
from samba_cli.model.network import Model
from samba_cli.model.state import State

Best = list[tuple[float, int]]  # log-probability and token, likeliest first


@dataclass(frozen=True)
class Beam:
    """How to search. A width of 1 is greedy."""

    width: int = 8  # texts kept at every step, and given back at most
    max_tokens: int = 256
    no_repeat_ngram: int = 0  # n > 0: no n tokens in a row come twice in a text


@dataclass(frozen=True)
class Hypothesis:
    """A text, without the stop token that ended it."""

    tokens: tuple[int, ...]
    log_probability: float  # nats: the sum over its tokens, the stop token included
    ended: bool = True  # by a stop token; False: it reached the maximum


@torch.inference_mode()
def beam_search(
    model: Model,
    state: State,
    prompts: Sequence[Sequence[int]],
    beams: Sequence[Beam],
    stop: Collection[int] = (),
    banned: Collection[int] = (),
) -> list[list[list[Hypothesis]]]:
    """For each prompt and each of the beams the finished texts, best first, at most its width.

    `state` of batch 1 is what every prompt continues; it is not changed. `banned` tokens are never
    chosen; the probabilities of the others stay what they are beside them. A text with the maximum
    of tokens is finished without a stop token. A width of 1 gives what greedy `generate` gives.
    Raises ValueError for an empty prompt.
    """
    if not all(prompts):
        raise ValueError("a prompt needs at least one token")
    if not prompts:
        return []
    ends = frozenset(stop)
    texts = [_Text(prompt, [_Search(beam, ends) for beam in beams]) for prompt in prompts]
    rows = state.expand(len(prompts))
    rows.reserve(state.position + max(map(len, prompts)) + max(b.max_tokens for b in beams))
    _Run(model, rows, texts, stop, banned).run()
    return [[search.finished() for search in text.searches] for text in texts]


@dataclass(frozen=True)
class _Live:
    tokens: tuple[int, ...]
    total: float


class _Search:
    """One beam of one prompt: the texts that go on, and those that are finished."""

    def __init__(self, beam: Beam, stop: frozenset[int]) -> None:
        self.beam, self._stop = beam, stop
        self.live = [_Live((), 0.0)] if beam.max_tokens > 0 else []
        self._done: list[Hypothesis] = []

    def advance(self, best: Sequence[Best]) -> list[int]:
        """Take what may follow each live text; which of them each one now live continues."""
        more: list[tuple[float, int, int, int]] = []
        for i, (text, following) in enumerate(zip(self.live, best, strict=True)):
            for rank, (value, token) in enumerate(following):
                if value == -torch.inf:
                    break
                total = text.total + value
                if token not in self._stop:
                    more.append((-total, i, rank, token))
                elif rank < self.beam.width:
                    self._done.append(Hypothesis(text.tokens, total))
        kept = sorted(more)[: self.beam.width]  # ties: by place, so that nothing is left to chance
        live = [_Live((*self.live[i].tokens, token), -minus) for minus, i, _, token in kept]
        if live and len(live[0].tokens) >= self.beam.max_tokens:
            self._done += [Hypothesis(one.tokens, one.total, ended=False) for one in live]
            live = []
        self._done = self.finished()
        full = len(self._done) == self.beam.width
        if full and live and live[0].total <= self._done[-1].log_probability:
            live = []  # whatever they are continued with makes them less likely still
        self.live = live
        return [i for _, i, _, _ in kept][: len(live)]

    def finished(self) -> list[Hypothesis]:
        order = sorted(self._done, key=lambda one: -one.log_probability)
        return order[: self.beam.width]


class _Text:
    """A prompt and the searches after it. While it is read it is one row, for all of them."""

    def __init__(self, prompt: Sequence[int], searches: list[_Search]) -> None:
        self.prompt, self.searches = list(prompt), searches
        self.writes = False

    @property
    def rows(self) -> int:
        return sum(len(search.live) for search in self.searches) if self.writes else 1

    @property
    def goes_on(self) -> bool:
        return any(search.live for search in self.searches)

    def next(self, place: int) -> list[int]:
        """What each of its rows reads at a place counted from the beginning of the prompt."""
        if not self.writes:
            return [self.prompt[place]]
        return [text.tokens[-1] for search in self.searches for text in search.live]

    def blocked(self) -> list[tuple[int, int]]:
        """(row, token) that would repeat tokens in a row."""
        if not self.writes:
            return []  # nothing written yet repeats nothing
        live = [(search.beam, text) for search in self.searches for text in search.live]
        return [
            (row, token) for row, (beam, text) in enumerate(live)
            for token in completes_ngram(text.tokens, beam.no_repeat_ngram)
        ]  # fmt: skip

    def advance(self, best: Sequence[Best]) -> list[int]:
        """Write a token; which of its rows each one now live continues."""
        sources: list[int] = []
        row = 0
        for search in self.searches:
            count = len(search.live)
            sources += [row + i for i in search.advance(best[row : row + count])]
            row += count if self.writes else 0  # all begin after the prompt's one row
        self.writes = True
        return sources


class _Run:
    def __init__(
        self, model: Model, state: State, texts: Sequence[_Text], stop: Collection[int],
        banned: Collection[int],
    ) -> None:  # fmt: skip
        self.model, self.state, self.device = model, state, model.device
        self.going = list(texts)  # their rows follow each other
        self.rows = list(range(len(texts)))  # the row of the state that each goes on from
        self.most = sum(search.beam.width for text in texts for search in text.searches)
        self.place = 0  # tokens that every row has read
        self.banned = torch.tensor(sorted(banned), dtype=torch.long, device=self.device)
        widest = max((search.beam.width for t in texts for search in t.searches), default=1)
        # Whichever of them are stop tokens, as many others as a beam can keep are among these.
        self.looked_at = min(widest + len(stop), model.description.vocab_size)

    def run(self) -> None:
        self.rows = [i for i, text in enumerate(self.going) if text.goes_on]
        self.going = [text for text in self.going if text.goes_on]
        while self.going:
            self._read_together()
            self._write()

    def _read_together(self) -> None:
        """Read on to the end of the shortest prompt, and begin to write there."""
        self.state = only(self.state, self.rows)
        end = min(len(text.prompt) for text in self.going)
        ids = torch.tensor([text.prompt[self.place : end] for text in self.going])
        self.place = end
        self._advance(read_rows(self.model, self.state, ids.to(self.device)))

    def _write(self) -> None:
        """Read one token of each row at a time while any text is written."""
        if not self._writing:
            return
        with stepping(self.model, self.state, self.rows, self.most) as step:
            self.rows = list(range(len(self.rows)))
            while self._writing:
                tokens = [token for text in self.going for token in text.next(self.place)]
                self.place += 1
                self._advance(step(self.rows, tokens))
        self.state = step.state

    @property
    def _writing(self) -> bool:
        return any(text.writes for text in self.going)

    def _advance(self, logits: Tensor) -> None:
        """Take what may follow every row: which rows go on, and from which."""
        best = self._best(logits)
        sources: list[int] = []
        row = 0
        for text in self.going:
            count = text.rows
            reads = self.place < len(text.prompt)
            own = [0] if reads else text.advance(best[row : row + count])
            sources += [row + i for i in own]
            row += count
        self.rows = sources
        self.going = [text for text in self.going if text.goes_on]

    def _best(self, logits: Tensor) -> list[Best]:
        """The likeliest tokens after every row, with one transfer for all of them."""
        values = logits.log_softmax(-1).index_fill(1, self.banned, -torch.inf)
        blocked: list[tuple[int, int]] = []
        row = 0
        for text in self.going:
            blocked += [(row + i, token) for i, token in text.blocked()]
            row += text.rows
        if blocked:
            where = torch.tensor(blocked, device=self.device).unbind(1)
            values = values.index_put(where, values.new_tensor(-torch.inf))
        top = values.topk(self.looked_at)
        both = torch.stack([top.values.double(), top.indices.double()], -1).tolist()
        return [[(value, int(token)) for value, token in some] for some in both]
