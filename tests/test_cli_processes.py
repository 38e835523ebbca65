"""What only a process of its own shows: start-up, closed pipes, Ctrl-C, a killed read."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli import QUESTION, ROOT, finish, run, start

pytestmark = pytest.mark.usefixtures("home")
HEAVY = [
    "torch", "triton", "numpy", "pydantic", "pypdf", "pypdfium2", "tokenizers", "safetensors",
    "rich", "prompt_toolkit", "huggingface_hub", "httpx2",
]  # fmt: skip


def test_quick_commands_import_nothing_heavy() -> None:
    program = (
        "import runpy, sys\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    sys.argv = ['samba', *line.split()]\n"
        "    try: runpy.run_module('samba_cli', run_name='__main__')\n"
        "    except SystemExit as end: assert end.code in (0, None), (line, end.code)\n"
        f"    print('HEAVY', line, [m for m in {HEAVY} if m in sys.modules])\n"
    )
    commands = [
        "--version", "--help", "ask --help", "memory list", "prompts list", "config path",
        "models --help", "models ls", "models show samba", "models default",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program], input="\n".join(commands), text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    found = re.findall(r"^HEAVY (.*) \[(.*)\]$", done.stdout, re.M)
    assert found == [(command, "") for command in commands], done.stderr


def test_version_needs_no_typer() -> None:
    program = (
        "import sys; sys.argv = ['samba', '--version']\n"
        "from samba_cli.__main__ import main\n"
        "main(); print('typer' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    version, typer = done.stdout.splitlines()
    assert re.fullmatch(r"samba \d+\.\d+\.\d+", version)
    assert typer == "False"
    assert f'version = "{version.split()[1]}"' in (ROOT / "pyproject.toml").read_text()


def test_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"_SAMBA_COMPLETE": "complete_bash", "COMP_WORDS": "samba su", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "samba_cli"], text=True, capture_output=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.stdout.split() == ["summarize"]
    # typer looks for the shell among the parents, of which a detached run has none
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    shown = finish(start("--show-completion", "bash"))
    assert shown.code == 0
    assert "complete" in shown.stdout


@pytest.mark.parametrize("arguments", [("--help",), ("prompts", "show", "answer")])
def test_closed_pipe(arguments: tuple[str, ...]) -> None:
    process = start(*arguments)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=60)
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk_and_no_streams() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "samba_cli", "prompts", "show", "answer"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert done.returncode == 1
    assert done.stderr == "samba: cannot write the output: No space left on device\n"
    closed = 'exec "$@" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", closed, "sh", *command], env=environment).returncode == 0


def test_killed_and_interrupted_reads_resume(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9, then Ctrl-C, then to the end: the state is that of one undisturbed read."""
    monkeypatch.setenv("SAMBA_CHECKPOINT_SECONDS", "0.1")
    lines = [f"Line {i}: the notice period of flat {i} is {i % 90 + 1} days.\n" for i in range(400)]
    (home / "long.txt").write_text("".join(lines))
    arguments = ("ask", QUESTION, "long.txt", "--json", "--verbose")

    def until(process: subprocess.Popen[str], pattern: str) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if re.search(pattern, line):
                return
        raise AssertionError(f"{pattern} was never said; exit code {process.wait()}")

    process = start(*arguments)
    until(process, r"^\d+%: \d")
    process.send_signal(signal.SIGKILL)
    finish(process)

    process = start(*arguments)
    until(process, "resuming after")
    until(process, r"^\d+%: \d")
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    assert stopped.code == 130
    assert "the same command goes on from there" in stopped.sentence
    assert stopped.json["error"]["kind"] == "interrupted"

    resumed, whole = run(*arguments), run(*arguments)
    assert resumed.code == whole.code == 0
    assert "before the interruption" in resumed.stderr
    assert "resuming" not in whole.stderr  # the finished read left nothing behind
    assert resumed.json["state"]["id"] == whole.json["state"]["id"]
    assert resumed.json["coverage"]["tokens"] == whole.json["coverage"]["tokens"]
