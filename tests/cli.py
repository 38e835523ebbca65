"""Running `samba` in tests: in this process, where torch is there already, or in one of its own."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from samba_cli.__main__ import main

ROOT = Path(__file__).parent.parent
QUESTION = "What is the notice period?"


@dataclass(frozen=True)
class Result:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def sentence(self) -> str:
        """The one sentence of an error."""
        sentences = [line for line in self.stderr.splitlines() if line.startswith("samba: ")]
        assert len(sentences) == 1, self.stderr
        assert "Traceback" not in self.stderr
        return sentences[0].removeprefix("samba: ")


class Stream(io.TextIOWrapper):
    """A standard stream: a pipe, as in a script, or a terminal."""

    terminal = False

    def isatty(self) -> bool:
        return self.terminal


def run(*arguments: object, stdin: bytes = b"", terminal: str = "") -> Result:
    """`samba ARGUMENTS` in this process; `terminal` names a stream that is one."""
    given = {"stdin": stdin, "stdout": b"", "stderr": b""}
    streams = {name: Stream(io.BytesIO(data), encoding="utf-8") for name, data in given.items()}
    if terminal:
        streams[terminal].terminal = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["samba", *map(str, arguments)])
        patch.setenv("NO_COLOR", os.environ.get("NO_COLOR", ""))  # --no-color sets it
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        code = main()
        texts = []
        for name in ("stdout", "stderr"):
            streams[name].flush()
            texts.append(streams[name].buffer.getvalue().decode("utf-8"))  # type: ignore[attr-defined]
    return Result(code, *texts)


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """`samba ARGUMENTS` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "samba_cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, **options,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], timeout: float = 120) -> Result:
    stdout, stderr = process.communicate(timeout=timeout)
    return Result(process.returncode, stdout, stderr)
