"""From a state and a prompt to new tokens: prefill, then decode one token at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samba_cli.model.cuda_graph import decoding
from samba_cli.model.network import Model
from samba_cli.model.state import State

# Tokens of all rows that a forward reads, where there are several.
_TOGETHER_CPU, _TOGETHER_ACCELERATOR = 1024, 65536


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The defaults are greedy."""

    max_tokens: int = 256
    temperature: float = 0.0  # 0: always the likeliest token
    top_p: float = 1.0  # keep the likeliest tokens that together reach this probability
    repetition_penalty: float = 1.0  # > 1 makes tokens generated before less likely (CTRL, 2019)
    no_repeat_ngram: int = 0  # n > 0: no n tokens in a row are generated twice
    seed: int = 0

    @property
    def likeliest(self) -> bool:
        """Is it always the likeliest token, whatever was generated before?"""
        return self.temperature <= 0 and self.repetition_penalty == 1 and not self.no_repeat_ngram


@torch.inference_mode()
def prefill(model: Model, state: State, tokens: Sequence[int], chunk: int | None = None) -> Tensor:
    """Read tokens into a state of batch 1; the logits after the last one, [V] float32.

    Raises ValueError where there is nothing to read.
    """
    if not tokens:
        raise ValueError("prefill needs at least one token")
    chunk = chunk or (1024 if model.device.type == "cpu" else 8192)
    ids = torch.tensor([list(tokens)], device=model.device)
    return read_rows(model, state, ids, chunk)[0]


def read_rows(model: Model, state: State, ids: Tensor, chunk: int | None = None) -> Tensor:
    """Read ids [B, T], T > 0, into a state of batch B; the logits [B, V] float32 after them.

    `chunk` tokens of each row at a time; None: as suits the device.
    """
    if chunk is None:
        together = _TOGETHER_CPU if model.device.type == "cpu" else _TOGETHER_ACCELERATOR
        chunk = max(together // len(ids), 1)
    logits = torch.empty(0)
    for start in range(0, ids.shape[1], chunk):
        part = ids[:, start : start + chunk]
        last = torch.tensor([part.shape[1] - 1], device=model.device)
        at = last if start + chunk >= ids.shape[1] else last[:0]
        logits = model(part, state, at=at)
    return logits[:, -1]


@torch.inference_mode()
def generate(
    model: Model,
    state: State,
    prompt: Sequence[int],
    sampling: Sampling,
    stop: Collection[int] = (),
    banned: Collection[int] = (),
) -> Iterator[int]:
    """Read the prompt into the state, then yield tokens until a stop token or the maximum.

    The state moves with what is read and generated (fork it first to keep it); it is to be used
    again only when the iterator is exhausted or closed. The last token yielded and the stop token,
    which is not yielded, are not read into it; `banned` tokens are never chosen.
    """
    generator = torch.Generator(device="cpu").manual_seed(sampling.seed)
    logits = prefill(model, state, prompt)
    made: list[int] = []
    forbidden = torch.tensor(sorted(banned), dtype=torch.long, device=model.device)
    chosen = -1  # what the device has chosen already, where it alone can
    with decoding(model, state, banned) as step:
        while len(made) < sampling.max_tokens:
            if made and sampling.likeliest:
                token = chosen
            else:
                logits = logits.index_fill(0, forbidden, -torch.inf) if len(forbidden) else logits
                token = choose(logits, made, sampling, generator)
            if token in stop:
                return
            made.append(token)
            yield token
            if len(made) == sampling.max_tokens:
                return
            if sampling.likeliest:
                chosen = step.likeliest(token)
            else:
                logits = step(torch.tensor([[token]]).to(model.device, non_blocking=True))[0, -1]


def choose(logits: Tensor, made: Sequence[int], how: Sampling, generator: torch.Generator) -> int:
    """The next token from logits [V], given the tokens generated so far."""
    if made and how.repetition_penalty != 1.0:
        seen = torch.tensor(sorted(set(made)), device=logits.device)
        values = logits[seen]
        penalised = torch.where(
            values > 0, values / how.repetition_penalty, values * how.repetition_penalty
        )
        logits = logits.index_copy(0, seen, penalised)
    if blocked := completes_ngram(made, how.no_repeat_ngram):
        logits = logits.index_fill(0, torch.tensor(blocked, device=logits.device), -torch.inf)
    if how.temperature <= 0:
        return int(logits.argmax())
    return int(_sample(logits.double() / how.temperature, how.top_p, generator))


def _sample(logits: Tensor, top_p: float, generator: torch.Generator) -> Tensor:
    """A token drawn on the logits' device: by one number from the generator, whatever the device.

    The place where the sum of the probabilities, likeliest first, passes that number.
    """
    probabilities, order = logits.softmax(-1).sort(descending=True, stable=True)
    mass = probabilities.cumsum(0)
    if top_p < 1.0:
        outside = mass - probabilities >= top_p  # the likeliest always stays
        mass = probabilities.masked_fill(outside, 0.0).cumsum(0)
    drawn = torch.rand((), dtype=torch.float64, generator=generator).item()
    place = torch.searchsorted(mass, mass[-1:] * drawn, right=True)
    return order[place.clamp(max=len(order) - 1)]


def completes_ngram(made: Sequence[int], n: int) -> list[int]:
    """Tokens that would complete an n-gram that was generated before."""
    if n < 1 or len(made) < n:
        return []
    tail = tuple(made[len(made) - n + 1 :])
    return sorted(
        {made[i + n - 1] for i in range(len(made) - n + 1) if tuple(made[i : i + n - 1]) == tail}
    )
