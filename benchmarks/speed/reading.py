"""Reading 4K to 1M tokens from an empty state: SAMBA in chunks, the transformer in one pass.

The transformer's time beyond what fits into the time limit is extrapolated from a T + b T^2 through
what was measured, and is marked so.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.speed import llama, models, peers
from benchmarks.speed.rows import Row, Setting
from benchmarks.speed.timing import Wrong, checked, peak_gb, reset_peak, seconds
from samba_cli.model import Model
from samba_cli.model.cuda_graph import read_chunk

CHUNK = 16_384
LENGTHS = [1 << power for power in range(12, 21)]  # 4,096 to 1,048,576
TINY_CHUNK, TINY_LENGTHS = 32, [32, 64, 128]
HEADLINES = [1 << 17, 1 << 20]
EAGER_UNTIL = 1 << 17  # tokens: plain transformers is measured up to here
GOAL = 3.73  # at 128K tokens: what the paper reports, on an A100


@torch.inference_mode()
def measure(how: Setting) -> Iterator[Row]:
    lengths = TINY_LENGTHS if how.tiny else LENGTHS
    model = models.samba(how)
    error = check(model, how)
    ours = {length: samba_reading(model, how, length) for length in lengths}
    del model
    reset_peak(how)
    notes: list[str] = []
    theirs: dict[int, dict[str, float]] = {length: {} for length in lengths}
    peaks: dict[int, float | None] = {}
    with peers.tried("transformers", notes):
        llama_readings(how, lengths, theirs, peaks, notes)
    for length in lengths:
        tokens_per_s, facts = ours[length]
        facts["tokens"] = length
        if length in peaks:
            facts["peak GB of the transformer"] = peaks[length]
        goal = GOAL if length == 1 << 17 else None
        text = f"{length:,} tokens"
        yield Row("reading, SAMBA 1.7B", text, tokens_per_s, "tokens/s", theirs[length], goal,
                  error=error, facts=facts, note="; ".join(notes),
                  headline=length in HEADLINES)  # fmt: skip


def check(model: Model, how: Setting) -> float:
    """Cut into chunks or not, the logits after a text are the same, up to rounding."""
    length = 64 if how.tiny else 8192
    tokens = _tokens(model, length)
    last = torch.tensor([length - 1], device=how.device)
    whole = model(tokens, model.initial_state(), last)
    state, piece, cut = model.initial_state(), whole, length // 2 + 1
    for part in (tokens[:, :cut], tokens[:, cut:]):
        piece = model(part, state, torch.tensor([part.shape[1] - 1], device=how.device))
    return checked({"logits": (piece, whole)}, 5e-2 if how.cuda else 1e-4)


def samba_reading(model: Model, how: Setting, length: int) -> tuple[float, dict[str, object]]:
    """Tokens/s of a whole text, and how even it was and what it took."""
    chunk = min(TINY_CHUNK if how.tiny else CHUNK, length)
    tokens = _tokens(model, chunk)
    nothing = torch.arange(0, device=how.device)
    last = torch.tensor([chunk - 1], device=how.device)
    count = length // chunk
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)] if how.cuda else []

    def read() -> None:
        state = model.initial_state()
        for index in range(count):
            if events:
                events[index].record()
            read_chunk(model, tokens, state, last if index + 1 == count else nothing)
        if events:
            events[count].record()

    reset_peak(how)
    time = seconds(read, how, repeats=5 if length < 1 << 17 else 1, warmups=1)
    facts: dict[str, object] = {"peak GB": peak_gb(how)}
    facts["state MB"] = round(model.initial_state().nbytes / 1e6, 1)
    if events and count >= 16:
        tenth = max(1, count // 10)
        first = events[1].elapsed_time(events[1 + tenth])  # the first chunk fills the windows
        end = events[count - tenth].elapsed_time(events[count])
        facts["last tenth against first"] = round(first / end, 3)
    return length / time, facts


def llama_readings(
    how: Setting, lengths: list[int], rates: dict[int, dict[str, float]],
    peaks: dict[int, float | None], notes: list[str],
) -> None:  # fmt: skip
    """Fill in what the transformer does at each length, as far as time and memory last."""
    plain = llama.Llama(how, compiled=False)
    if not (error := plain.error()) < (5e-2 if how.cuda else 1e-4):
        raise Wrong(f"logits of the transformer, relative error {error:.1e}")
    notes.append(f"the transformer has {plain.parameters / 1e9:.2f}B parameters")
    backend = _fastest_prefill(plain, how, notes)
    for length in [x for x in lengths if x <= EAGER_UNTIL]:
        rates[length]["transformers"] = length / _prefill(plain, how, length)
    del plain
    reset_peak(how)
    name = f"transformers, compiled ({backend})"
    model = llama.Llama(how, compiled=how.cuda)
    model.attend = llama.PREFILL[backend]
    times: dict[int, float] = {}
    for length in lengths:
        if (expected := _extrapolated(times, length)) > how.left() - 10:
            notes.append(f"{length:,} tokens would take it {expected:.0f} s")
            break
        try:
            reset_peak(how)
            times[length] = _prefill(model, how, length, once=expected > 1.5)
        except torch.OutOfMemoryError:
            notes.append(f"{length:,} tokens do not fit it in one pass")
            break
        rates[length][name] = length / times[length]
        peaks[length] = peak_gb(how)
    for length in lengths:
        if length not in times and times:
            rates[length][f"{name}, extrapolated"] = length / _extrapolated(times, length)


def _fastest_prefill(model: llama.Llama, how: Setting, notes: list[str]) -> str:
    """The name of the attention that reads 16K tokens fastest; it is left switched on."""
    length = 64 if how.tiny else 16_384
    times: dict[str, float] = {}
    for name, attend in llama.PREFILL.items():
        model.attend = attend
        try:
            times[name] = _prefill(model, how, length)
        except RuntimeError:  # the device does not have it
            continue
    best = min(times, key=lambda name: times[name])
    model.attend = llama.PREFILL[best]
    made = ", ".join(f"{name} {time * 1e3:.0f} ms" for name, time in times.items())
    notes.append(f"its attention at {length:,} tokens: {made}")
    return best


def _prefill(model: llama.Llama, how: Setting, length: int, once: bool = False) -> float:
    """Seconds from ids to the logits after the last one."""
    ids = torch.randint(model.model.config.vocab_size, (1, length), device=how.device)
    cache = llama.Cache(model, 1, length)

    def run() -> None:
        cache.used = 0
        model.forward(ids, cache)

    return seconds(run, how, repeats=1 if once else 3, warmups=0 if once else 1)


def _extrapolated(times: dict[int, float], length: int) -> float:
    """Seconds at a length by a T + b T^2 through the two longest that were measured."""
    if len(times) < 2:
        return 0.0
    (s, at_s), (t, at_t) = list(times.items())[-2:]
    b = max(0.0, (at_t / t - at_s / s) / (t - s))
    return (at_t / t - b * t) * length + b * length**2


def _tokens(model: Model, count: int) -> Tensor:
    torch.manual_seed(0)
    size = model.description.vocab_size
    return torch.randint(size, (1, count), device=model.device)
