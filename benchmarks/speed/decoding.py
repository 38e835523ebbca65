"""Decoding: one greedy token after another, at a given depth of text, for one row or a batch.

Every step of every model feeds the likeliest token back on the device, chosen in the same CUDA
graph unless it says otherwise; nobody waits for a token to be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.speed import llama, models, peers
from benchmarks.speed.rows import Row, Setting
from benchmarks.speed.timing import reset_peak, seconds
from samba_cli.model import Model, State
from samba_cli.model.cuda_graph import decoding, read_chunk

STEPS = 64
DEPTHS = [4096, 131_072]  # of both
READ = 1 << 20  # of SAMBA alone, read for this
CHUNK = 16_384


@torch.inference_mode()
def measure(how: Setting) -> Iterator[Row]:
    depths = [64, 128] if how.tiny else DEPTHS
    model = models.samba(how)
    ours = {depth: samba_rate(model, read_state(model, depth, how), how) for depth in depths}
    longest = 256 if how.tiny else READ
    state = read_state(model, longest, how)
    deepest = samba_rate(model, state, how)
    held = round(state.nbytes / 1e6, 1)
    del model, state
    reset_peak(how)
    notes: list[str] = []
    theirs: dict[int, dict[str, float]] = {depth: {} for depth in depths}
    caches: dict[int, float] = {}
    with peers.tried("transformers", notes):
        for compiled in (False, True) if how.cuda else (False,):
            peer = llama.Llama(how, compiled)
            for depth in depths:
                rates = llama_rates(peer, how, 1, depth, graphs=compiled, notes=notes)
                theirs[depth].update(rates)
                caches[depth] = llama.Cache(peer, 1, depth).nbytes / 1e6
    for depth in depths:
        facts = {"state MB": held, "cache MB of the transformer": caches.get(depth)}
        yield Row("decoding, SAMBA 1.7B, batch 1", f"after {depth:,} tokens", ours[depth],
                  "tokens/s", theirs[depth], facts=facts, note="; ".join(notes),
                  headline=depth == DEPTHS[-1])  # fmt: skip
    at = depths[-1]
    yield Row(
        "decoding, SAMBA 1.7B, batch 1", f"after {longest:,} tokens", deepest, "tokens/s",
        {f"{name} after {at:,}": rate for name, rate in theirs[at].items()},
        facts={"state MB": held, "against itself after 4K": round(deepest / ours[depths[0]], 3)},
        note="the transformer after fewer tokens",
    )  # fmt: skip


def read_state(model: Model, tokens: int, how: Setting) -> State:
    """A state that has read so many random tokens."""
    chunk = min(32 if how.tiny else CHUNK, tokens)
    ids = torch.randint(model.description.vocab_size, (1, chunk), device=how.device)
    state, nothing = model.initial_state(), torch.arange(0, device=how.device)
    for _ in range(tokens // chunk):
        read_chunk(model, ids, state, nothing)
    return state


def samba_rate(model: Model, state: State, how: Setting) -> float:
    """Tokens/s of all rows of the state together."""
    token = torch.zeros(state.batch, 1, dtype=torch.int64, device=how.device)
    with decoding(model, state) as step:
        return state.batch / _step_seconds(step.greedily, token, how)


def llama_rates(
    model: llama.Llama, how: Setting, batch: int, depth: int, graphs: bool, notes: list[str]
) -> dict[str, float]:
    """Tokens/s of all rows together: plain as transformers is, or the fastest way with a graph."""
    cache = llama.Cache(model, batch, depth + 1)
    cache.fill(depth)
    token = torch.zeros(batch, 1, dtype=torch.int64, device=how.device)

    def step(ids: Tensor) -> Tensor:
        cache.used = depth  # every step is one at this depth
        return model.forward(ids, cache).argmax(-1, keepdim=True)

    if not graphs:
        model.attend = llama.DECODE["SDPA"]
        return {"transformers": batch / _step_seconds(step, token, how)}
    times: dict[str, float] = {}
    for name, attend in llama.DECODE.items():
        model.attend = attend
        with peers.tried(f"transformers, graph, {name}", notes):
            times[name] = _step_seconds(_captured(step, token), token, how)
    if not times:
        return {}
    best = min(times, key=lambda name: times[name])
    return {f"transformers, compiled, CUDA graph, {best}": batch / times[best]}


def _captured(step: Callable[[Tensor], Tensor], like: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from token ids to the next ones as a CUDA graph, which leaves them in place."""
    ids = like.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(ids)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ids.copy_(step(ids))

    def replay(new: Tensor) -> Tensor:
        if new is not ids:
            ids.copy_(new)
        graph.replay()
        return ids

    return replay


def _step_seconds(step: Callable[[Tensor], Tensor], token: Tensor, how: Setting) -> float:
    """Of one step from ids [B, 1] to the next ones, among many."""
    count = 4 if how.tiny else STEPS

    def run() -> None:
        ids = token
        for _ in range(count):
            ids = step(ids)

    return seconds(run, how, repeats=5, warmups=2) / count
