"""The program itself in a process of its own: its clock, and the memory that it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.environment import ROOT

# Runs in the measured process: the program, then what the kernel and the device say.
PROBE = """
import resource, sys, json
from samba_cli.__main__ import main
code = 0
try:
    main()
except SystemExit as leaving:
    code = leaving.code or 0
own, parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
import torch
gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
print(json.dumps({"code": code, "rss": own.ru_maxrss * 1024, "parts": parts.ru_maxrss * 1024,
                  "gpu": gpu}), file=sys.stderr)
"""


class Failed(Exception):
    """The program ended otherwise than it should."""


@dataclass(frozen=True)
class Ran:
    seconds: float  # from the start of the process to its end
    output: str
    messages: str  # what it said on stderr
    peak_rss: int  # bytes, of the process
    peak_parts: int  # bytes, of the largest process that it started
    peak_gpu: int | None  # bytes


def home(folder: Path) -> dict[str, str]:
    """An environment in which the program keeps everything in `folder`."""
    places = {f"XDG_{kind}_HOME": str(folder / kind) for kind in ("DATA", "STATE", "CONFIG")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **places, "PYTHONPATH": path}


def run(arguments: list[str], environment: Mapping[str, str], limit: float) -> Ran:
    """`samba ARGUMENTS`. Raises Failed, with what it said, and where `limit` seconds are over."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, *arguments],
            env=environment, capture_output=True, text=True, timeout=max(1.0, limit), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failed(f"samba {arguments[0]} was not done within {limit:.0f} s") from None
    seconds = time.perf_counter() - start
    messages, _, last = done.stderr.rstrip().rpartition("\n")
    try:
        values = json.loads(last)
    except ValueError:
        values = {"code": done.returncode}
    if values["code"] != 0:
        raise Failed(f"samba {arguments[0]} ended with {values['code']}: {done.stderr[-300:]}")
    return Ran(seconds, done.stdout, messages, values["rss"], values["parts"], values["gpu"])
