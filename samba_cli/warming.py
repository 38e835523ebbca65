"""Doing once what the first command would wait for: compiling the kernels of a model.

What is compiled is kept on disk, for every command after this one: for a GPU where Triton keeps
its own, for a CPU by Numba. CUDA graphs live in a process only: they are captured to see that they
can be, and that nothing is left to compile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samba_cli.session import Session
from samba_cli.units import count_text

if TYPE_CHECKING:
    from samba_cli.model import Model

# The kernels come in a few heights, by the tokens of a forward; and the shortest chunk has none.
_LENGTHS = (1, 2, 16, 17, 64, 65, 257, 1024)
_BATCHES = (1, 2, 16)  # texts side by side, as passages are scored
_DECODED = 4  # tokens


@dataclass(frozen=True)
class Warmed:
    """What there was to do."""

    seconds: float
    compiled: int = 0  # kernels that were not on disk before
    folder: Path | None = None  # where those of a GPU are kept
    loops: bool = False  # those of a CPU were compiled, or loaded

    @property
    def sentence(self) -> str:
        if self.loops:
            return f"the loops for this CPU are compiled, ready in {self.seconds:.1f} s"
        if self.folder is None:
            return "nothing to do: on this CPU nothing is compiled"
        new = f"{count_text(self.compiled)} kernels compiled" if self.compiled else "nothing new"
        return f"{new} in {self.seconds:.1f} s, kept in {self.folder}"


def warm(session: Session) -> Warmed:
    """Run every kind of forward that reading, scoring and answering make. Text plays no part."""
    import torch

    from samba_cli.kernels.compiled_cache import compiled_cache
    from samba_cli.kernels.dispatch import backend_for, compiles

    start = time.monotonic()
    model = session.model
    here = torch.empty(0, dtype=model.dtype, device=model.device)
    if backend_for(here) != "triton":
        if not compiles(here):
            return Warmed(0.0)
        _chunk_and_token(model)
        return Warmed(time.monotonic() - start, loops=True)
    folder = compiled_cache()
    before = _kernels(folder)
    _read(model)
    _score(model)
    _write(model)
    return Warmed(time.monotonic() - start, _kernels(folder) - before, folder)


def _chunk_and_token(model: Model) -> None:
    """All loops of a CPU: those for many tokens, and those for one."""
    import torch

    from samba_cli.kernels.dispatch import COMPILED_TOKENS

    state = model.initial_state()
    with torch.inference_mode():
        for length in (COMPILED_TOKENS, 1):
            model(torch.zeros(1, length, dtype=torch.long), state, torch.zeros(1, dtype=torch.long))


def _read(model: Model) -> None:
    """Chunks until a graph serves them, and a ragged end of each height."""
    import torch

    from samba_cli.chunk_size import chunk_tokens
    from samba_cli.model.cuda_graph import read_chunk

    with torch.inference_mode():
        chunk, state = chunk_tokens(model), model.initial_state()
        tokens = torch.zeros(1, chunk, dtype=torch.long, device=model.device)
        marks = torch.tensor([0, chunk - 1], device=model.device)
        while state.position < state.slots:
            read_chunk(model, tokens, state, marks)
        read_chunk(model, tokens, state, marks)
        for length in _LENGTHS:
            for ragged in (model.initial_state(), state.fork()):
                model(tokens[:, :length], ragged, marks[:1])
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)


def _score(model: Model) -> None:
    from samba_cli.scoring import last_logits

    for batch in _BATCHES:
        for length in _LENGTHS:
            for _, logits in last_logits([[0] * length] * batch, 1, model):
                logits.sum().item()


def _write(model: Model) -> None:
    """An answer as it is made, from states before and after the windows are full."""
    from samba_cli.choosing import WIDTH
    from samba_cli.model.generation import Sampling, generate
    from samba_cli.model.generation_beam import Beam, beam_search

    for length in (2, _LENGTHS[-1]):
        how = Sampling(max_tokens=_DECODED, no_repeat_ngram=8)
        for _ in generate(model, model.initial_state(), [0] * length, how, banned={1}):
            pass
        beams = [Beam(WIDTH, _DECODED), Beam(1, _DECODED)]
        beam_search(model, model.initial_state(), [[0] * length], beams, banned={1})


def _kernels(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*/*.cubin"))
