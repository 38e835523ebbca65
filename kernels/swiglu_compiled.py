"""The activation of a SwiGLU block as one compiled loop."""

from __future__ import annotations

import torch
from numba import cfunc, njit

from samba_cli.kernels.compiled import (
    BFLOAT16,
    C_FUNCTION,
    FLOAT32,
    fields,
    load,
    next_rows,
    run,
    silu,
    span,
    store,
    vector,
)

ROWS = 16  # of a task


@njit(error_model="numpy", fastmath={"contract"})
def _gate(job, like):
    rows, width = job[1], job[2]
    gate = vector(job[3], job[4], like)
    up = vector(job[6], job[7], like)
    y = vector(job[9], rows * width, like)
    while True:
        first, stop = next_rows(job, rows, ROWS)
        if first >= rows:
            return
        for row in range(first, stop):
            gates, ups = gate[row * job[5] :], up[row * job[8] :]
            out = y[row * width :]
            for f in range(width):
                store(out, f, silu(load(gates, f)) * load(ups, f))


@cfunc(C_FUNCTION, cache=True)
def _gate_float32(job):
    _gate(fields(job), FLOAT32)


@cfunc(C_FUNCTION, cache=True)
def _gate_bfloat16(job):
    _gate(fields(job), BFLOAT16)


def gated_compiled(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, [..., F] each, in one dtype: float32 or bfloat16."""
    width = gate.shape[-1]
    y = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    rows = [t.reshape(-1, width) for t in (gate, up)]  # no copy of a half of a joint product
    rows = [t if t.stride(1) == 1 or width == 1 else t.contiguous() for t in rows]
    job = [len(rows[0]), width]
    for t in rows:
        job += [t.data_ptr(), span(t), t.stride(0)]
    job.append(y.data_ptr())
    run(_gate_bfloat16 if gate.dtype == torch.bfloat16 else _gate_float32, job)
    return y
