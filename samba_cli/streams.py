"""The three standard streams: encoding, colour, and pipes that close early."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO


def prepare() -> None:
    """UTF-8 whatever the locale says: a quote from a document must never end the program."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is at the other end; each stream is judged by itself."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # no such stream, or closed
        return False


def wants_color(stream: TextIO, no_color: bool = False) -> bool:
    return (
        not no_color
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
        and is_terminal(stream)
    )


def note(message: str) -> None:
    """One line for the person, on stderr. A closed stderr is no reason to stop."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)


def abandon_stdout() -> None:
    """Nobody reads stdout any more: let the flush at interpreter exit go nowhere, in silence."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    except (OSError, ValueError):
        pass
    finally:
        os.close(nowhere)
