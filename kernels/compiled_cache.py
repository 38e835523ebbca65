"""Where kernels compiled for a GPU are kept: Triton's own folder, by Triton's own variables."""

from __future__ import annotations

import os
from pathlib import Path


def compiled_cache() -> Path:
    """One folder in it for each kernel, whoever compiled it."""
    home = Path(os.environ.get("TRITON_HOME") or Path.home())
    return Path(os.environ.get("TRITON_CACHE_DIR") or home / ".triton" / "cache")
