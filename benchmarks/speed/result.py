"""A result file: the rows of each part with where and how they were measured."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed.rows import Row

FORMAT = "samba-speed-1"


@dataclass
class Measured:
    """One part as it ended: parts measured in different runs can stand in one file."""

    rows: list[Row] = field(default_factory=list)
    problem: str = ""  # why it is not whole; empty where it is
    seconds: float = 0.0
    environment: dict[str, Any] = field(default_factory=dict)


Result = dict[str, Measured]  # by the name of the part


def load(path: Path) -> Result:
    """Raises ValueError for a file of another kind."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.get("format") != FORMAT:
        raise ValueError(f"{path} is not a result of benchmarks.speed")
    return {
        name: Measured(
            [Row.from_json(row) for row in part["rows"]],
            part["problem"], part["seconds"], part["environment"],
        )
        for name, part in values["parts"].items()
    }  # fmt: skip


def save(result: Result, path: Path) -> None:
    """Written whole or not at all: a run that is killed leaves the last state of the file."""
    parts = {
        name: {
            "problem": part.problem,
            "seconds": round(part.seconds, 1),
            "environment": part.environment,
            "rows": [row.as_json() for row in part.rows],
        }
        for name, part in result.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    text = json.dumps({"format": FORMAT, "parts": parts}, indent=1, default=float)
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, path)


def merge(results: Sequence[Result]) -> Result:
    """Later ones count where a part was measured twice, unless they have no rows of it."""
    merged: Result = {}
    for result in results:
        for name, part in result.items():
            if part.rows or name not in merged:
                merged[name] = part
    return merged
