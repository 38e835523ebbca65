"""Kernels compiled ahead: in the interpreter, every kernel that reading and decoding launch."""

import pytest
import torch
from test_fusion import mixed

from samba_cli.kernels.dispatch import force
from samba_cli.model import Model, ahead
from samba_cli.model.ahead import compile_ahead
from samba_cli.model.cuda_graph import decoding
from samba_cli.model.network import Layer


@pytest.fixture
def launched(monkeypatch):
    """The kernels that were launched, by name."""
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    if torch.cuda.is_available():
        pytest.skip("runs in Triton's interpreter")
    names: set[tuple[str, str]] = set()
    launch = interpreter.InterpretedFunction.__getitem__

    def noting(self, grid):
        names.add((self.fn.__module__, self.fn.__name__))
        return launch(self, grid)

    monkeypatch.setattr(interpreter.InterpretedFunction, "__getitem__", noting)
    return names


@pytest.fixture
def model() -> Model:
    return mixed("cpu").join()


def test_reading_and_decoding_find_their_kernels_compiled(launched, model, monkeypatch):
    monkeypatch.setenv("SAMBA_GRAPHS", "direct")
    monkeypatch.setattr(ahead, "_TOKENS", 20)
    monkeypatch.setattr(ahead, "_THREADS", 1)  # the interpreter serves one at a time
    with force("triton"):
        assert compile_ahead(model) == 2 * 4 + 3  # layers of four kinds, an MLP, the head twice
        before = set(launched)
        launched.clear()
        tokens = torch.zeros(1, 20, dtype=torch.long)
        with torch.inference_mode():
            state = model.initial_state()
            model(tokens, state, torch.tensor([3, 19]))
            with decoding(model, state) as step:
                step(tokens[:, :1])
    missing = {name for _, name in launched - before}
    assert launched and missing <= {"_embed_kernel", "_position_kernel", "_combine_kernel"}


def test_on_a_cpu_there_is_nothing_to_compile(model):
    assert compile_ahead(model) == 0


def test_what_fails_is_left_to_the_forward(model, monkeypatch):
    def fail(self, *args):
        raise RuntimeError("no room")

    monkeypatch.setattr(Layer, "step", fail)
    with force("triton"):
        assert compile_ahead(model) > 0
