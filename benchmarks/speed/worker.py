"""One part in a process of its own: what breaks or hangs there stops nothing else.

The worker writes each row as a line of JSON as soon as it is measured; the caller reads what is
there when the process has ended, or has been ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.speed.result import Measured
from benchmarks.speed.rows import Row

# Each part's module and the seconds it may take on a GPU.
PARTS: dict[str, tuple[str, int]] = {
    "scan": ("scan", 90),
    "ssd": ("ssd", 60),
    "conv": ("conv", 60),
    "attention": ("attention", 120),
    "reading": ("reading", 200),
    "decoding": ("decoding", 90),
    "batch": ("batch", 150),
    "default": ("default", 60),
    "endtoend": ("endtoend", 180),
    "training": ("training", 240),
    "cpu": ("cpu", 120),
}
GRACE = 20  # seconds beyond the deadline that a part gets to end by itself
TAIL = 600  # characters of an error that are kept


def work(part: str, device: str, tiny: bool, seconds: float, commit: str | None, out: Path) -> None:
    """Measure one part; lines to `out`. Runs in the worker."""
    start = time.monotonic()
    with open(out, "a", encoding="utf-8") as file:

        def say(kind: str, value: Any) -> None:
            print(json.dumps({kind: value}, default=float), file=file, flush=True)

        try:
            from benchmarks.speed import environment
            from benchmarks.speed.rows import Setting

            how = Setting("cuda" if device == "cuda" else "cpu", tiny, start + seconds)
            say("environment", environment.describe(how, commit))
            for row in import_module(f"benchmarks.speed.{PARTS[part][0]}").measure(how):
                say("row", row.as_json())
        except BaseException as problem:
            traceback.print_exc()
            say("problem", f"{type(problem).__name__}: {problem}"[:TAIL])
            raise SystemExit(1) from problem


def measure(part: str, device: str, tiny: bool, seconds: float, commit: str | None) -> Measured:
    """Run one part in a new process and take what it measured."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows"
        command = [sys.executable, "-m", "benchmarks.speed", "--worker", part, "--device", device]
        command += ["--seconds", str(seconds), "--out", str(out)]
        command += ["--tiny"] if tiny else []
        command += ["--commit", commit] if commit else []
        # its output is for the person at the screen; a group of its own, so that all of it ends
        process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
        problem = ""
        try:
            code = process.wait(seconds + GRACE)
            if code:
                how = f"signal {-code}" if code < 0 else f"code {code}"
                problem = f"the process ended with {how}"
        except subprocess.TimeoutExpired:
            problem = f"not done within {seconds + GRACE:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return _taken(out, problem, time.monotonic() - start)


def _taken(out: Path, problem: str, seconds: float) -> Measured:
    measured = Measured(problem=problem, seconds=seconds)
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    for line in lines:
        try:
            ((kind, value),) = json.loads(line).items()
        except ValueError:  # the process was ended in the middle of its last line
            continue
        if kind == "row":
            measured.rows.append(Row.from_json(value))
        elif kind == "environment":
            measured.environment = value
        else:
            measured.problem = value
    return measured
