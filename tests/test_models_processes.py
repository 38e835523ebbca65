"""Pulls that are killed or find no room, and commands that must not touch the network."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cli import ROOT, finish, run, start
from conftest import write_byte_tokenizer
from hub import ID, Hub, big_pull, left
from test_dependencies import imports, python_files
from test_lit_gpt import lit_gpt_weights

from samba_cli.model import Samba, SambaConfig


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_pull_goes_on(hub: Hub, store: Path, ending: signal.Signals) -> None:
    part = big_pull(hub, store)
    hub.pause = 1.0
    process = start("models", "pull", "someone/big")
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 0):
        assert process.poll() is None and time.monotonic() < deadline, finish(process).stderr
        time.sleep(0.02)
    second = run("models", "pull", "someone/big")
    assert second.code == 4
    assert "another samba is pulling" in second.sentence
    process.send_signal(ending)
    result = finish(process)
    if ending == signal.SIGINT:
        assert result.code == 130
        assert result.sentence.endswith("go on with: samba models pull someone/big")
    came = part.stat().st_size
    assert 0 < came < 4_000_000
    listed = run("models", "ls")
    assert "big" not in listed.stdout
    assert "the pull of big was interrupted" in listed.stderr
    hub.pause = 0.0
    hub.requests.clear()
    assert run("models", "pull", "someone/big").code == 0
    assert ("GET", f"bytes={came}-") in [(m, r) for m, p, r in hub.requests if "/large/" in p]
    assert left(store) == ["big"]
    assert run("models", "show", "big", "--verify").code == 0


def test_a_disk_that_fills_up(hub: Hub, store: Path) -> None:
    """The file system refuses to write on, as a full disk does."""
    big_pull(hub, store)

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    result = finish(start("models", "pull", "someone/big", preexec_fn=small_files))
    assert result.code == 4
    assert "no room left" in result.sentence
    assert "samba models pull someone/big" in result.sentence
    assert run("models", "ls", "--json").json["interrupted"] == ["big"]
    assert left(store) == ["big.partial"]
    assert (store / "big.partial" / "model.safetensors.part").stat().st_size == 1_000_000
    assert run("models", "rm", "big", "--yes").code == 0
    assert left(store) == []
    assert run("models", "pull", "someone/big").code == 0


def test_a_disk_that_fills_up_while_converting(home: Path) -> None:
    write_byte_tokenizer(home / "tokenizer.json")
    config = SambaConfig(288, d_model=128, n_layer=2, d_ff=400, n_head=1, n_kv_head=1)
    torch.save({"model": lit_gpt_weights(Samba(config).initialise(seed=3))}, home / "m.pth")
    arguments = ("models", "convert", "m.pth", "--tokenizer", "tokenizer.json", "-o", "there")

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    result = finish(start(*arguments, preexec_fn=small_files))
    assert result.code == 4, result.stderr
    assert "cannot write there: " in result.sentence
    assert [path.name for path in home.iterdir() if "there" in path.name] == []
    assert run(*arguments).code == 0


def test_offline_mode_is_respected(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = finish(start("models", "pull", ID))
    assert result.code == 4
    assert "HF_HUB_OFFLINE" in result.sentence
    assert hub.requests == []


OFFLINE = """
import runpy, sys
tried = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        tried.append((event, arguments))
sys.addaudithook(hook)
for line in sys.stdin.read().splitlines():
    sys.argv = ["samba", *line.split()]
    try:
        runpy.run_module("samba_cli", run_name="__main__")
    except SystemExit as end:
        print("DONE", line, end.code or 0)
print("TRIED", tried, [m for m in sys.modules if m.startswith(("huggingface_hub", "httpx"))])
"""


def test_only_pull_uses_the_network(hub: Hub, tiny_checkpoint: Path, tmp_path: Path) -> None:
    hub.add("someone/mine", {p.name: p.read_bytes() for p in tiny_checkpoint.iterdir()})
    assert run("models", "pull", "someone/mine").code == 0
    hub.requests.clear()
    (tmp_path / "contract.txt").write_text("The notice period is thirty days.\n")
    commands = [
        "models ls", "models show mine --verify", "models default mine", "models default",
        "ask notice? contract.txt", "summarize contract.txt", "read contract.txt --as book",
        "append book contract.txt", "ask notice? --memory book", "memory show book", "doctor",
        "models default samba", "models rm mine --yes",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], input="\n".join(commands), text=True,
        capture_output=True, env={**environment, "SAMBA_DEVICE": "cpu"}, check=True,
    )  # fmt: skip
    for command in commands:
        assert f"DONE {command} 0" in done.stdout, done.stdout + done.stderr
    assert "TRIED [] []" in done.stdout
    assert hub.requests == []


def test_only_one_module_knows_the_network() -> None:
    network = {"huggingface_hub", "socket", "ssl", "http", "urllib", "requests", "httpx", "httpx2"}
    users = {
        str(path.relative_to(ROOT))
        for folder in ("samba_cli", "model", "kernels", "prompts")
        for path in python_files(folder)
        for module in imports(path)
        if module.partition(".")[0] in network and not module.startswith("urllib.parse")
    }
    assert users == {"samba_cli/hub.py"}
    importers = {
        path.name
        for path in python_files("samba_cli")
        for module in imports(path)
        if module.startswith("samba_cli.hub.")
    }
    assert importers == {"pulling.py"}
