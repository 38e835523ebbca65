"""The kernels that others ship, where they are installed: mamba-ssm and causal-conv1d.

`PYTHONPATH=FOLDER python -m benchmarks.speed` finds them in a folder. Only two functions are
needed: mamba_ssm may have been installed without the models that its `__init__` imports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module, metadata
from typing import Any

Function = Callable[..., Any]


class Missing(Exception):
    """A peer that is not there, and why."""


@cache
def _function(module: str, name: str) -> Function:
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # compiled extensions fail to load in many ways
        raise Missing(f"{module.partition('.')[0]}: {type(error).__name__}: {error}") from error


@contextmanager
def tried(name: str, notes: list[str]) -> Iterator[None]:
    """A peer that is missing, fails or is wrong costs its own figure, not ours: it is noted."""
    try:
        yield
    except Missing as missing:
        notes.append(str(missing))
    except Exception as problem:  # compilers and extensions raise anything
        notes.append(f"{name}: {type(problem).__name__}: {str(problem)[:200]}")


def selective_scan() -> Function:
    """mamba-ssm's `selective_scan_fn`: Gu & Dao's CUDA kernel. Raises Missing."""
    _function("selective_scan_cuda", "fwd")
    return _function("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn")


def mamba_inner() -> Function:
    """mamba-ssm's `mamba_inner_fn`: convolution, projections and scan in one. Raises Missing."""
    selective_scan()
    return _function("mamba_ssm.ops.selective_scan_interface", "mamba_inner_fn")


def chunk_scan() -> Function:
    """mamba-ssm's `mamba_chunk_scan_combined`: the scan of Mamba-2 in Triton. Raises Missing."""
    return _function("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined")


def causal_conv1d() -> Function:
    """causal-conv1d's `causal_conv1d_fn`. Raises Missing."""
    return _function("causal_conv1d", "causal_conv1d_fn")


def version(name: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
    try:
        return getattr(import_module(name.replace("-", "_")), "__version__", None)
    except Exception:
        return None
