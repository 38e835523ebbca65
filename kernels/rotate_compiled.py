"""The rotary embedding as one compiled loop."""

from __future__ import annotations

import torch
from numba import cfunc, njit

from samba_cli.kernels.compiled import (
    BFLOAT16,
    C_FUNCTION,
    FLOAT32,
    fields,
    load,
    next_task,
    run,
    span,
    store,
    vector,
)

ROWS = 32  # tokens of a task


@njit(error_model="numpy", fastmath={"contract"})
def _turn(job, like):
    batch, length, heads, width, half = job[1], job[2], job[3], job[4], job[5]
    x = vector(job[6], job[7], like)
    cos = vector(job[11], length * half, FLOAT32)
    sin = vector(job[12], length * half, FLOAT32)
    y = vector(job[13], batch * length * heads * width, like)
    blocks = (length + ROWS - 1) // ROWS
    while True:
        task = next_task(job)
        if task >= batch * blocks:
            return
        b, first = task // blocks, (task % blocks) * ROWS
        for t in range(first, min(first + ROWS, length)):
            cosines, sines = cos[t * half :], sin[t * half :]
            for h in range(heads):
                head = x[b * job[8] + t * job[9] + h * job[10] :]
                out = y[((b * length + t) * heads + h) * width :]
                ahead, out_ahead = head[half:], out[half:]
                for r in range(half):
                    one, other = load(head, r), load(ahead, r)
                    store(out, r, one * cosines[r] - other * sines[r])
                    store(out_ahead, r, other * cosines[r] + one * sines[r])
                for r in range(2 * half, width):
                    store(out, r, load(head, r))


@cfunc(C_FUNCTION, cache=True)
def _turn_float32(job):
    _turn(fields(job), FLOAT32)


@cfunc(C_FUNCTION, cache=True)
def _turn_bfloat16(job):
    _turn(fields(job), BFLOAT16)


def rotate_compiled(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Same contract as `rotate`, without gradients; x in float32 or bfloat16."""
    x = x if x.stride(3) == 1 or x.shape[3] == 1 else x.contiguous()
    cos, sin = cos.float().contiguous(), sin.float().contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    job = [*x.shape, cos.shape[1], x.data_ptr(), span(x), *x.stride()[:3]]
    job += [tensor.data_ptr() for tensor in (cos, sin, y)]
    run(_turn_bfloat16 if x.dtype == torch.bfloat16 else _turn_float32, job)
    return y
