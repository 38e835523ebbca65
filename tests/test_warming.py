"""`doctor --warm`: nothing on a CPU; elsewhere every kernel and graph that a command would use."""

import json
from pathlib import Path

import pytest
from cli import QUESTION, run

from samba_cli import chunk_size, warming
from samba_cli.config import load_settings
from samba_cli.kernels.dispatch import force
from samba_cli.model.cuda_graph import graph_for
from samba_cli.session import Session, open_session


@pytest.fixture
def session(home: Path) -> Session:
    return open_session(load_settings({}), quiet=True)


def test_a_cpu_needs_no_warming(home: Path) -> None:
    checks = {c["name"]: c for c in json.loads(run("doctor", "--warm", "--json").stdout)["checks"]}
    assert checks["warm"]["status"] == "ok"
    assert checks["warm"]["detail"] == "nothing to do: on a CPU nothing is compiled"
    assert "warm" not in {c["name"] for c in json.loads(run("doctor", "--json").stdout)["checks"]}


def test_what_is_compiled_is_counted(session, monkeypatch, tmp_path) -> None:
    """A forward that leaves two kernels on disk, as Triton does."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "kept"))

    def read(model: object) -> None:
        for name in "ab":
            (tmp_path / "kept" / name).mkdir(parents=True)
            (tmp_path / "kept" / name / "kernel.cubin").touch()

    for name in ("_score", "_write"):
        monkeypatch.setattr(warming, name, lambda model: None)
    monkeypatch.setattr(warming, "_read", read)
    with force("triton"):
        warmed = warming.warm(session)
    assert warmed.compiled == 2
    assert warmed.sentence.startswith("2 kernels compiled in ")
    assert warmed.sentence.endswith(f"kept in {tmp_path / 'kept'}")


def test_a_warm_model_has_every_kernel_of_an_answer(session, monkeypatch) -> None:
    """In the interpreter: the kernels launched for `ask` were all launched before."""
    from triton.runtime.interpreter import InterpretedFunction

    launched: set[tuple[str, str]] = set()
    call = InterpretedFunction.__getitem__

    def noting(self, grid):
        launched.add((self.fn.__module__, self.fn.__name__))
        return call(self, grid)

    monkeypatch.setattr(InterpretedFunction, "__getitem__", noting)
    monkeypatch.setattr(warming, "_LENGTHS", (1, 17))
    monkeypatch.setattr(warming, "_BATCHES", (2,))
    for name in ("CPU", "CPU_BFLOAT16"):
        monkeypatch.setattr(chunk_size, name, 128)
    monkeypatch.setenv("SAMBA_GRAPHS", "direct")
    with force("triton"):
        warming.warm(session)
        import torch

        with torch.inference_mode():
            state = session.model.initial_state()
            kept = [graph_for(session.model, state, length) for length in (1, 128)]
        warm, launched = launched, set()
        assert run("ask", QUESTION, "contract.txt", "--max-tokens", 2).code == 0
    assert kept[0] is not None and kept[1] is not None
    assert launched and launched <= warm
