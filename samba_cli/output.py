"""Where a result goes: stdout, or a file that is whole or not there."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from samba_cli.errors import SambaError, UsageError


def check_output(path: Path | None) -> None:
    """Find out before an hour of reading whether the result can be written. Raises UsageError."""
    if path is None or str(path) == "-":
        return
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder")
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission to write in {folder}")


def emit(text: str, path: Path | None) -> None:
    """Print the text, or write it as UTF-8. Raises SambaError where the file cannot be written."""
    text = text.rstrip("\n") + "\n"
    if path is None or str(path) == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        path = path.resolve()  # a link stays a link
        if path.exists() and not path.is_file():  # /dev/null, a named pipe: nothing to replace
            path.write_text(text, encoding="utf-8", errors="replace")
        else:
            write_atomically(path, text)
    except OSError as error:
        raise SambaError(f"cannot write {path}: {error.strerror}") from error


def write_atomically(path: Path, text: str) -> None:
    """Write a temporary file beside `path` and rename it. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(path))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _mode(path: Path) -> int:
    """The permissions of the file that is replaced, else what any new file gets."""
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
