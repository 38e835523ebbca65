"""The three standard streams: encoding, colour, and pipes that close early."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO


def prepare() -> None:
    """UTF-8 whatever the locale says: a quote from a document must never end the program."""
    if sys.stdin is None:  # closed by whoever started us
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is at the other end; each stream is judged by itself."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # no such stream, or closed
        return False


def wants_color(stream: TextIO) -> bool:
    return (
        not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and is_terminal(stream)
    )


def note(message: str) -> None:
    """One line for the person, on stderr. A closed stderr is no reason to stop."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)


class Status(contextlib.AbstractContextManager):
    """What takes so long, on one line of stderr that a terminal loses when it is over."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet, self._width = quiet, 0
        self._terminal = is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"

    def say(self, text: str, in_pipes: bool = False) -> None:
        """Replace the line. Where stderr is no terminal, only what is for pipes is said."""
        if self._quiet:
            return
        if self._terminal:
            print(text.ljust(self._width), end="\r", file=sys.stderr, flush=True)
            self._width = len(text)
        elif in_pipes:
            note(text)

    def __exit__(self, *_: object) -> None:
        if self._width:
            print(" " * self._width, end="\r", file=sys.stderr, flush=True)


def abandon_stdout() -> None:
    """Nobody reads stdout any more: let the flush at interpreter exit go nowhere, in silence."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    except (OSError, ValueError):
        pass
    finally:
        os.close(nowhere)
