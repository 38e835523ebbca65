"""What several parts do with files: tell their content apart, and hold them for one process."""

from __future__ import annotations

import os
from pathlib import Path


def sha256(path: Path) -> str:
    """The hash of the whole file, in hexadecimal. Raises OSError."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(path: Path) -> int | None:
    """Hold a file for this process until the handle is closed.

    Raises BlockingIOError where another process holds it, OSError where it cannot be locked.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two processes at once are not kept apart
        return None
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle
