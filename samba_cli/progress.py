"""How far a read has come, on stderr: a bar on a terminal, else lines at -v, else nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samba_cli.results import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


def total_size(paths: Sequence[str | Path]) -> int | None:
    """Bytes of all paths; None when one of them is no plain file (a folder, a pipe)."""
    total = 0
    for path in paths:
        if str(path) == "-" or not os.path.isfile(path):
            return None
        total += os.path.getsize(path)
    return total or None


class ReadProgress:
    """Call it with each Progress. Use with `with`, so that the bar goes away."""

    def __init__(self, verbose: bool = False, quiet: bool = False) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._lines = verbose and not quiet
        self._told = 0
        self._wanted = not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> ReadProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, progress: Progress) -> None:
        if self._wanted:
            self._draw(progress)
        elif self._lines:
            self._print(progress)

    def _draw(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = _make_bar()
            self._bar.start()
            self._task = self._bar.add_task("reading", total=None, left="", speed="", tokens="")
        assert self._task is not None
        share = fraction(progress)
        self._bar.update(
            self._task,
            total=None if share is None else 1.0,
            completed=share or 0.0,
            tokens=f"{progress.tokens:,} tokens",
            speed=f"{progress.tokens_per_second:,.0f} tok/s",
            left=time_left(progress, share, self._bar.tasks[0].elapsed or 0.0),
        )

    def _print(self, progress: Progress) -> None:
        share = fraction(progress)
        if share is None or int(share * 10) <= self._told:
            return
        self._told = int(share * 10)
        speed = f"{progress.tokens_per_second:,.0f} tok/s"
        print(
            f"{self._told * 10}%: {progress.tokens:,} tokens, {speed}", file=sys.stderr, flush=True
        )


def fraction(progress: Progress) -> float | None:
    """The share of the input that was read, 0 to 1; None while it is unknown."""
    if progress.finished:
        return 1.0
    if not progress.bytes_total or progress.bytes_done is None:
        return None
    return min(progress.bytes_done / progress.bytes_total, 0.99)


def time_left(progress: Progress, share: float | None, elapsed: float) -> str:
    """`1:05 left`, or nothing while it cannot be told."""
    if not share or share < 0.01 or progress.finished:
        return ""
    seconds = int(elapsed * (1 - share) / share)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    clock = f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"
    return f"{clock} left"


def _make_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[tokens]}"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=8,
    )
