"""Every way the program can end badly, as one sentence and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from samba_cli import __version__, errors
from samba_cli.folders import log_file

INTERRUPTED, CLOSED_PIPE = 130, 141
_LONGEST = 2000  # characters of a sentence: two long paths and what is said of them

_KINDS: dict[int, str] = {
    1: "fault",
    2: "usage",
    3: "unreadable",
    4: "model",
    5: "not-in-document",
    6: "partly-read",
    7: "device",
    INTERRUPTED: "interrupted",
}


@dataclass(frozen=True)
class Failure:
    """What is said and how the program ends. Codes: docs/exit-codes.md."""

    code: int
    message: str

    @property
    def kind(self) -> str:
        return _KINDS.get(self.code, "fault")


class Interrupted(errors.SambaError):
    """Ctrl-C in the middle of a read; the message says what was kept."""

    code = INTERRUPTED


def failure(error: BaseException, arguments: Sequence[str]) -> Failure:
    """What to say about `error`. A fault of ours is written to the log with its traceback."""
    if isinstance(error, errors.SambaError):
        return Failure(error.code, _sentence(str(error)))
    if isinstance(error, KeyboardInterrupt):
        return Failure(INTERRUPTED, "interrupted")
    if _out_of_memory(error):
        return Failure(
            errors.DeviceError.code,
            "out of memory; try --device cpu, --quantize int8, a smaller model, or, where the "
            "state grows, --window N",
        )
    if isinstance(error, OSError) and error.strerror:
        what = "cannot write the output" if error.filename is None else error.filename
        return Failure(1, f"{what}: {error.strerror}")
    return Failure(1, _fault(error, arguments))


def _sentence(text: str) -> str:
    """One line of bounded length, whatever names of a stranger's files are part of it."""
    line = "".join(c if c.isprintable() else " " for c in text).rstrip(".")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # an error of torch means that torch is there
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _fault(error: BaseException, arguments: Sequence[str]) -> str:
    name = type(error).__name__
    path = log_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as log:
            log.write(f"samba {__version__} on Python {sys.version}\n")
            log.write(f"arguments: {list(arguments)}\n\n")
            log.writelines(traceback.format_exception(error))
    except OSError:
        return f"a fault in samba ({name}); set SAMBA_DEBUG=1 to see the details"
    return f"a fault in samba ({name}); the details are in {path}"
