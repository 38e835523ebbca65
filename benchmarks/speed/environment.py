"""Where a result comes from: commit, hardware, versions, and what the device measures there."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import limits, peers
from benchmarks.speed.rows import Setting

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "triton", "transformers", "mamba-ssm", "causal-conv1d")


def describe(how: Setting, commit: str | None) -> dict[str, Any]:
    """What a reader needs to judge a figure, or to repeat it."""
    allowed = limits.measured(how)
    described: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or _commit(),
        "device": torch.cuda.get_device_name() if how.cuda else _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda if how.cuda else None,
        **{name: peers.version(name) for name in PACKAGES},
        "limits": {
            "matrix products, TFLOP/s": round(allowed.flops / 1e12, 2),
            "copy, TB/s": round(allowed.bytes / 1e12, 3),
            "exponentials, 1e12/s": round(allowed.exponentials / 1e12, 3),
        },
    }
    if how.cuda:
        properties = torch.cuda.get_device_properties(0)
        described["multiprocessors"] = properties.multi_processor_count
        described["memory_gb"] = round(properties.total_memory / 1e9)
    return described


def _commit() -> str:
    """The commit of this tree, marked where files differ from it."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return run.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.machine()
