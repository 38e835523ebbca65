"""How far a pull has come, on stderr: a bar on a terminal, else nothing."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from samba_cli import streams

if TYPE_CHECKING:
    from rich.progress import Progress


class PullProgress(AbstractContextManager):
    """Use with `with`, so that the bar goes away."""

    def __init__(self, title: str, quiet: bool = False) -> None:
        self._title, self._bar = title, None
        terminal = streams.is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
        self._wanted = terminal and not quiet

    def begin(self, total: int, there: int) -> None:
        if self._wanted:
            self._bar = _make_bar()
            self._bar.start()
            self._bar.add_task(self._title, total=total, completed=there)

    def arrived(self, count: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _make_bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=8,
    )
