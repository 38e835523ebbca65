"""Memory that is freed and asked for again with every operation of a chunk stays with the process.

By default glibc gives it back to the system, which clears each page when it is touched the next
time: for chunks of thousands of tokens, that takes longer than some of the operations.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
KEPT = 256 << 20  # bytes that may stay free at the end of the heap
LARGEST = 32 << 20  # what comes from the heap, not from a mapping of its own: as far as glibc goes


def keep_freed_memory() -> bool:
    """Whether it could be asked for: of glibc, unless the environment says how it is to be."""
    variables = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    told = any(name in os.environ for name in variables)
    told = told or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or told:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT) and mallopt(_MMAP_THRESHOLD, LARGEST))
