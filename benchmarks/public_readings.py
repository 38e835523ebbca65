"""How quickly a model reads at a depth, and how quickly it decodes: random ids, batch 1."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from samba_cli.model import Model
from samba_cli.model.description import AttentionSpec, Description, Mamba2Spec, MambaSpec
from samba_cli.model.generation import Sampling, generate
from samba_cli.model.state import CacheState, State

PEAK_FLOPS = 790e12  # bf16 matrix products, measured on an H200
BLOCK = 64  # tokens of a block of the Mamba-2 scan
DECODED_ROOM = 256


def token_flops(description: Description, tokens: int) -> float:
    """Floating-point operations of matrix products a token, the mean over a text of so many.

    The head is left out: reading wants no logits. Mamba-1's recurrence has no products.
    """
    d, total = description.d_model, 0.0
    for layer in description.layers:
        match layer.mixer:
            case MambaSpec() as m:
                total += 2 * m.d_inner * (3 * d + 2 * m.dt_rank + 2 * m.d_state)
            case Mamba2Spec() as m:
                total += 2 * d * (2 * m.d_inner + m.d_convolved + m.n_head)
                total += m.n_head * (2 * BLOCK * (m.d_state + m.d_head) + 4 * m.d_head * m.d_state)
            case AttentionSpec() as a:
                total += 4 * d * a.d_head * (a.n_head + a.n_kv_head)
                total += 4 * a.n_head * a.d_head * tokens / 2
        total += 0 if layer.mlp is None else 6 * d * layer.mlp.d_ff
    return total


def limit_tokens_per_s(description: Description, tokens: int) -> float:
    return PEAK_FLOPS / token_flops(description, tokens)


@dataclass(frozen=True)
class Chunk:
    start: int
    size: int
    seconds: float


class Reading:
    """A text of random ids, read in chunks into one state until a time budget is spent."""

    def __init__(self, model: Model, chunk: int, seconds: float) -> None:
        self.model = model
        self.chunk = chunk
        self.budget = seconds
        self.generator = torch.Generator(model.device).manual_seed(5)
        self.chunks: list[Chunk] = []
        self.finite = torch.ones((), dtype=torch.bool, device=model.device)
        self.state = model.initial_state()
        for _ in range(2):  # warm: kernels are compiled and chosen
            self._read(chunk)
        self.state = model.initial_state()

    @property
    def spent(self) -> float:
        return sum(chunk.seconds for chunk in self.chunks)

    def until(self, tokens: int) -> None:
        """Read on to so many tokens in all, or until the budget is spent: one chunk at least."""
        with torch.inference_mode():
            self.state.reserve(tokens + DECODED_ROOM)
        while self.state.position < tokens and (not self.chunks or self.spent < self.budget):
            start = self.state.position
            size = min(self.chunk, tokens - start)
            self.chunks.append(Chunk(start, size, self._read(size)))

    def done(self, tokens: int) -> bool:
        return self.state.position >= tokens

    def facts(self, tokens: int, limit: float) -> dict[str, Any]:
        """Of what was read; `limit` in tokens/s is the one of the whole length."""
        read = self.state.position
        speed = read / self.spent
        fixed, grown = _state_bytes(self.state)
        facts: dict[str, Any] = {
            "tokens": tokens,
            "tokens_per_s": round(speed),
            "first_tenth_tokens_per_s": self._speed(0, read // 10),
            "last_tenth_tokens_per_s": self._speed(read - read // 10, read),
            "seconds": round(self.spent, 2),
            "limit_tokens_per_s": round(limit),
            "state_fixed_mb": round(fixed / 1e6, 2),
            "state_grown_mb": round(grown / 1e6, 2),
            "finite": bool(self.finite),
        }
        if self.done(tokens):
            return facts | {"share_of_limit": round(speed / limit, 3)}
        return facts | {"tokens_read": read}

    def at_depth(self, tokens: int) -> dict[str, Any]:
        """The last two chunks of a text of so many tokens, behind a cache that random keys and
        values fill up; a state of fixed size stays as it is."""
        read = self.state.position
        depth = max(read, tokens - 2 * self.chunk)
        with torch.inference_mode():
            for layer in self.state.layers:
                if isinstance(layer, CacheState):
                    for cache in (layer.keys, layer.values):
                        cache[:, read:depth].normal_(generator=self.generator)
                    layer.position = depth
            self.state.position = depth
        last = []
        while (start := self.state.position) < tokens:
            size = min(self.chunk, tokens - start)
            last.append(Chunk(start, size, self._read(size)))
        seconds = self.spent + sum(chunk.seconds for chunk in last)
        seconds += _between([*self.chunks, *last], read, depth)
        fixed, grown = _state_bytes(self.state)
        return {
            "position": self.state.position,
            "tokens_really_read": read + sum(chunk.size for chunk in last),
            "tokens_per_s": _speed(last),
            "extrapolated_tokens_per_s": round(tokens / seconds),
            "extrapolated_share_of_limit": round(
                tokens / seconds / limit_tokens_per_s(self.model.description, tokens), 3
            ),
            "state_fixed_mb": round(fixed / 1e6, 2),
            "state_grown_mb": round(grown / 1e6, 2),
            "finite": bool(self.finite),
        }

    def _speed(self, start: int, stop: int) -> int:
        """Over the chunks that reach into start .. stop."""
        return _speed([c for c in self.chunks if c.start < stop and c.start + c.size > start])

    @torch.inference_mode()
    def _read(self, size: int) -> float:
        """Seconds of one chunk, with the logits after it."""
        model, shape = self.model, (1, size)
        ids = torch.randint(
            model.description.vocab_size, shape, device=model.device, generator=self.generator
        )
        at = torch.tensor([size - 1], device=model.device)
        start = _now(model)
        logits = model(ids, self.state, at)
        seconds = _now(model) - start
        self.finite &= torch.isfinite(logits).all()
        return seconds


def decode_tokens_per_second(model: Model, state: State, prompt: int, count: int) -> float:
    """Greedy decoding behind a state, after reading `prompt` more tokens."""
    tokens = iter(generate(model, state, [1] * prompt, Sampling(count + 2, temperature=0.0)))
    for _ in range(2):  # the prompt, and one step that compiles
        next(tokens)
    start = _now(model)
    made = sum(1 for _ in tokens)
    return made / (_now(model) - start)


def _now(model: Model) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _speed(chunks: list[Chunk]) -> int:
    return round(sum(c.size for c in chunks) / sum(c.seconds for c in chunks))


def _between(chunks: list[Chunk], start: int, stop: int) -> float:
    """Seconds of the tokens start .. stop by a line through the seconds a token of the chunks."""
    middles = [c.start + c.size / 2 for c in chunks]
    slope, base = np.polyfit(middles, [c.seconds / c.size for c in chunks], 1)
    return float((base + slope * (start + stop) / 2) * (stop - start))


def _state_bytes(state: State) -> tuple[int, int]:
    """Bytes of constant size, and bytes that grew with the text."""
    grown = sum(
        tensor.numel() * tensor.element_size()
        for layer in state.layers
        if isinstance(layer, CacheState)
        for tensor in layer.tensors().values()
    )
    return state.nbytes - grown, grown
