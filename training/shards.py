"""Reading and writing the compressed JSON-lines shards that hold text and tasks."""

from __future__ import annotations

import io
import json
import lzma
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def read_shard(path: Path) -> Iterator[Record]:
    """The records of a `.jsonl`, `.jsonl.xz` or `.jsonl.zst` file, one at a time.

    Raises ValueError for another suffix.
    """
    if path.name.endswith(".jsonl"):
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    elif path.name.endswith(".jsonl.xz"):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    elif path.name.endswith(".jsonl.zst"):
        yield from map(json.loads, _zstd_lines(path))
    else:
        raise ValueError(f"{path}: not a .jsonl, .jsonl.xz or .jsonl.zst file")


def _zstd_lines(path: Path) -> Iterator[str]:
    try:
        import zstandard
    except ImportError:  # a machine without the package often has the program
        command = ["zstd", "-dc", "--long=27", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
            assert process.stdout is not None
            yield from process.stdout
        if process.returncode:
            raise OSError(f"{path}: zstd ended with status {process.returncode}") from None
        return
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file)
        yield from io.TextIOWrapper(reader, encoding="utf-8")


def shards(folder: Path, pattern: str = "*.jsonl*") -> list[Path]:
    """The shards of a folder in name order. Raises FileNotFoundError where there is none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"{folder}: no shard matches {pattern}")
    return found


def write_shard(path: Path, records: Iterable[Record]) -> int:
    """Write a `.jsonl` or `.jsonl.xz` shard; returns the number of records."""
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        lzma.open(path, "wt", encoding="utf-8", preset=9)
        if path.suffix == ".xz"
        else path.open("w", encoding="utf-8")
    ) as lines:
        for record in records:
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count
