"""Programmatic dependent launch: a kernel starts while the ones before it still run.

In a chain of short kernels the start and the end of each leave the memory idle. On NVIDIA GPUs from
Hopper on, a kernel launched with `options(x)` may start as soon as all programs of the one before
it have (CUDA C++ programming guide, "Programmatic Dependent Launch and Synchronization"). It then
loads its weights, which nothing in the chain writes, and calls `wait` before it touches anything
that an earlier kernel makes. Every kernel of a chain waits, so when one has waited, all before it
are done.
"""

# Triton's types do not know what its language does to a function.
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from samba_cli.kernels.dispatch import interpreted


@triton.jit
def begin(EARLY: tl.constexpr):
    """Let the next kernel of the chain start, where this one was launched EARLY."""
    if EARLY:
        gdc_launch_dependents()


@triton.jit
def wait(EARLY: tl.constexpr):
    """Until all kernels before this one are done."""
    if EARLY:
        gdc_wait()


@cache
def _possible(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (9, 0)


def options(x: torch.Tensor) -> dict[str, Any]:
    """Launch options and the constant EARLY for a kernel of a chain on x's device."""
    early = x.is_cuda and not interpreted() and _possible(x.device)
    return {"EARLY": True, "launch_pdl": True} if early else {"EARLY": False}
