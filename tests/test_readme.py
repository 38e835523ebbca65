"""The README's commands work as printed, with the model that ships."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
# What needs the network or a file of the reader's.
ELSEWHERE = re.findall(r"^\$ samba (.*)$", README, re.MULTILINE)
PROGRAM = [line for line in COMMANDS if re.search(r"(^|\| )samba ", line)]


def test_the_two_commands_are_there():
    assert "pip install ." in COMMANDS
    assert "bash tests/run" in COMMANDS
    assert "bash tests/run" in (ROOT / ".ci" / "run").read_text()
    assert len(PROGRAM) >= 8


def test_every_file_it_links_to_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("line", ELSEWHERE)
def test_what_needs_the_network_makes_sense(line, monkeypatch):
    """Understood, and stopped only where the model or file would have to be there."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    result = run(*shlex.split(line))
    assert result.code == 4, result.stderr
    missing = ("there is no model", "there is no file", "cannot reach 127.0.0.1")
    assert any(words in result.sentence.lower() for words in missing), result.stderr


def test_the_program_lines_run(tmp_path):
    """One shell runs them all in order, as a reader would; none may fail or be silent."""
    wrapper = tmp_path / "bin" / "samba"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m samba_cli "$@"\n')
    wrapper.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{wrapper.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    for line in PROGRAM:
        run = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert run.returncode == 0, f"{line}\n{run.stderr}"
        assert run.stdout.strip() or line.startswith(("samba read", "samba append")), line
        assert "Traceback" not in run.stderr
