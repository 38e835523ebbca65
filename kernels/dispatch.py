"""Which implementation of a kernel runs: Triton on a GPU, plain PyTorch elsewhere.

`SAMBA_KERNELS=auto|triton|torch|ref` and `force(...)` override the choice. Triton takes
CPU tensors only under its interpreter (`TRITON_INTERPRET=1`). On a CPU some operations have loops
that Numba compiles, for the many tokens of a chunk; `SAMBA_COMPILED=off` keeps to plain PyTorch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal

import torch

Backend = Literal["triton", "torch", "ref"]
_forced: list[Backend] = []  # innermost last; a plain list, because torch.compile can read it
_HAS_TRITON = find_spec("triton") is not None
_HAS_NUMBA = find_spec("numba") is not None
# From so many tokens compiled loops are worth it: loading them takes as long as reading hundreds.
# It goes by the call alone, so that a text is read the same after a pause.
COMPILED_TOKENS = 512


def triton_available() -> bool:
    return _HAS_TRITON


def interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def backend_for(tensor: torch.Tensor) -> Backend:
    """The backend for an operation on this tensor.

    Raises ValueError for an unknown name, or where Triton is asked for and cannot run.
    """
    choice = _forced[-1] if _forced else os.environ.get("SAMBA_KERNELS", "auto")
    if choice in ("torch", "ref"):
        return choice
    can_triton = triton_available() and (tensor.is_cuda or interpreted())
    if choice == "triton":
        if not can_triton:
            raise ValueError("Triton kernels need an NVIDIA GPU, or TRITON_INTERPRET=1")
        return "triton"
    if choice != "auto":
        raise ValueError(f"SAMBA_KERNELS must be auto, triton, torch or ref, not {choice!r}")
    return "triton" if tensor.is_cuda and can_triton else "torch"


def compiled(x: torch.Tensor) -> bool:
    """Whether a compiled loop takes this call, x [B, T, ..]: many tokens on a CPU."""
    return compiles(x) and x.dim() > 2 and x.shape[0] * x.shape[1] >= COMPILED_TOKENS


def compiles(x: torch.Tensor) -> bool:
    """Whether there can be compiled loops for this tensor: on the backend "torch" of a CPU."""
    if torch.compiler.is_compiling() or not _HAS_NUMBA or x.device.type != "cpu":
        return False
    if x.dtype not in (torch.float32, torch.bfloat16):
        return False
    return os.environ.get("SAMBA_COMPILED") != "off" and backend_for(x) == "torch"


@contextlib.contextmanager
def force(backend: Backend) -> Iterator[None]:
    """Run everything inside on one backend, whatever the environment says."""
    _forced.append(backend)
    try:
        yield
    finally:
        _forced.pop()
