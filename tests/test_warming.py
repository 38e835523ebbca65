"""`doctor --warm`: the loops of a CPU; elsewhere every kernel and graph a command would use."""

import json
from pathlib import Path

import pytest
from cli import QUESTION, run
from conftest import make_checkpoint

from samba_cli import chunk_size, warming
from samba_cli.config import load_settings
from samba_cli.kernels import selective_scan_triton
from samba_cli.kernels.dispatch import force
from samba_cli.session import Session, open_session


@pytest.fixture
def session(home: Path) -> Session:
    return open_session(load_settings({}), quiet=True)


def test_the_loops_of_a_cpu(home: Path, monkeypatch) -> None:
    checks = {c["name"]: c for c in json.loads(run("doctor", "--warm", "--json").stdout)["checks"]}
    assert checks["warm"]["status"] == "ok"
    assert checks["warm"]["detail"].startswith("the loops for this CPU are compiled, ready in ")
    monkeypatch.setenv("SAMBA_COMPILED", "off")
    checks = {c["name"]: c for c in json.loads(run("doctor", "--warm", "--json").stdout)["checks"]}
    assert checks["warm"]["detail"] == "nothing to do: on this CPU nothing is compiled"
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


def test_a_warm_model_has_every_kernel_of_an_answer(home: Path, monkeypatch, tmp_path) -> None:
    """In the interpreter: the kernels launched to read, score and answer were launched before."""
    from triton.runtime.interpreter import InterpretedFunction

    launched: set[tuple[str, str]] = set()
    launch = InterpretedFunction.__getitem__

    def noting(self, grid):
        launched.add((self.fn.__module__, self.fn.__name__))
        return launch(self, grid)

    small = make_checkpoint(tmp_path / "small", n_layer=2, window=32)
    monkeypatch.setenv("SAMBA_MODEL", str(small))
    monkeypatch.setenv("SAMBA_DTYPE", "fp32")  # the interpreter does not multiply bfloat16
    monkeypatch.setattr(InterpretedFunction, "__getitem__", noting)
    monkeypatch.setattr(selective_scan_triton, "MIN_SEGMENT", 32)
    monkeypatch.setattr(warming, "_LENGTHS", (1, 17, 80))
    monkeypatch.setattr(warming, "_BATCHES", (2,))
    for name in ("CPU", "CPU_BFLOAT16"):
        monkeypatch.setattr(chunk_size, name, 32)
    monkeypatch.setenv("SAMBA_GRAPHS", "direct")
    with force("triton"):
        warming.warm(open_session(load_settings({}), quiet=True))
        warm, launched = launched, set()
        Path("note.txt").write_text("The notice period is thirty days.")
        assert run("ask", QUESTION, "note.txt", "--max-tokens", 2).code == 0
    assert launched and launched <= warm
