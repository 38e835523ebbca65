"""Compiled loops for the CPU: what they are made of, and how they run on torch's own threads.

Numba compiles plain Python loops for the processor at hand, AVX2 as well as AVX-512, and keeps the
result on disk. Where it is not installed, plain PyTorch does the work.

A compiled function takes one pointer, to int64 numbers: a counter first, then addresses, sizes and
strides. Every thread of a team runs it, and draws task numbers from the counter until none is left.
"""

# pyright: reportCallIssue=false
from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload
from numba.np.numpy_support import carray

from samba_cli.kernels.kept_memory import keep_freed_memory

float32, int32 = np.float32, np.int32
LOG2E = float32(1.4426950408889634)
_ONE, _TWO, _ZERO = float32(1), float32(2), float32(0)
EXP2_LEAST = -127.0  # one less than the least exponent of a normal number
EXP2_ROUND = float(3 << 22) + 127  # added, it leaves round(x) + 127 in the last bits
_LEAST, _ROUND = float32(EXP2_LEAST), float32(EXP2_ROUND)
# 2^x on [-1/2, 1/2], relative error 2e-7: Taylor's series with the last term fitted
EXP2 = (0.693147182, 0.240226462, 0.0555032, 0.00961817, 0.00133982)
_C1, _C2, _C3, _C4, _C5 = (float32(c) for c in EXP2)


@intrinsic
def _pointer(context: Any, address: Any, like: Any) -> Any:
    """An address as a pointer to elements of the type of the number `like`."""
    kind = types.CPointer(like)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(kind))

    return kind(types.int64, like), generate


def _cast(source: Any, target: Any, llvm: Any) -> Any:
    @intrinsic
    def cast(context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.bitcast(values[0], llvm)

        return target(source), generate

    return cast


_as_float = _cast(types.int32, types.float32, ir.FloatType())
_as_bits = _cast(types.float32, types.int32, ir.IntType(32))


@intrinsic
def _draw(context: Any, counter: Any) -> Any:
    """Add one to the first number of an array, at once for all threads, and give what it was."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = context.make_array(counter)(context, builder, values[0]).data
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), generate


@intrinsic
def prefetch(context: Any, address: Any) -> Any:
    """Have a cache line fetched that will be read. Any address may be given."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, closest, data = (ir.Constant(word, n) for n in (0, 3, 1))
        builder.call(function, [builder.inttoptr(values[0], pointer), read, closest, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


FIELDS = 40  # numbers that a compiled function is given at most
BFLOAT16, FLOAT32 = np.uint16(0), float32(0)  # what the compiled functions know the dtypes by
C_FUNCTION = types.void(types.CPointer(types.int64))  # the signature of all of them


@cache
def supported(feature: str) -> bool:
    """Whether Numba compiles for a processor with this feature, by LLVM's name for it."""
    target: Any = cpu_target.target_context
    features = target.codegen().magic_tuple()[2]
    return f"+{feature}" in features.split(",")


def compiled_where(feature: str) -> Callable[[Any], Any]:
    """`cfunc` of a job for processors with a feature. Others get None: it could not be compiled."""

    def compile_(function: Any) -> Any:
        return cfunc(C_FUNCTION, cache=True)(function) if supported(feature) else None

    return compile_


@njit(inline="always")
def fields(job):
    """The numbers of a job, from the pointer to them."""
    return carray(job, (FIELDS,))


@njit(inline="always")
def next_task(job):
    """The number of a task that no thread has taken."""
    return _draw(job)


@njit(inline="always")
def next_rows(job, rows, each):
    """The first of a task's rows and the one after its last; from `rows` on there is no task."""
    first = next_task(job) * each
    return first, min(first + each, rows)


@njit(inline="always")
def vector(address, size, like):
    """The `size` numbers at an address, of the type of `like`."""
    return carray(_pointer(address, like), (size,))


@njit(inline="always")
def exp2(x):
    """2^x for x <= 127; 0 from -127 on."""
    x = max(x, _LEAST)
    shifted = x + _ROUND
    f = x - (shifted - _ROUND)
    power = _ONE + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * _C5))))
    return power * _as_float(_as_bits(shifted) << int32(23))


@njit(inline="always")
def silu(x):
    e = exp2(-abs(x) * LOG2E)
    return x * ((_ONE if x >= _ZERO else e) / (_ONE + e))


@njit(inline="always")
def softplus(x):
    """max(x, 0) + log1p(e), e = exp(-|x|), with log1p(e) = 2 atanh(e / (2 + e)) as a series."""
    e = exp2(-abs(x) * LOG2E)
    s = e / (_TWO + e)
    q = s * s
    series = q * (float32(1 / 9) + q * (float32(1 / 11) + q * float32(1 / 13)))
    series = q * (float32(1 / 3) + q * (float32(1 / 5) + q * (float32(1 / 7) + series)))
    return max(x, _ZERO) + _TWO * s * (_ONE + series)


def load(values: Any, i: Any) -> Any:
    """values[i] as float32; bfloat16 is held as its bits, in uint16."""
    raise NotImplementedError


def store(values: Any, i: Any, value: Any) -> None:
    """values[i] = value, rounded to the nearest where it is bfloat16."""
    raise NotImplementedError


@overload(load)
def _load(values, i):
    if values.dtype == types.uint16:
        return lambda values, i: _as_float(int32(values[i]) << int32(16))
    return lambda values, i: values[i]


@overload(store)
def _store(values, i, value):
    if values.dtype == types.uint16:

        def rounded(values, i, value):
            bits = _as_bits(value)
            bits += int32(0x7FFF) + ((bits >> int32(16)) & int32(1))
            values[i] = np.uint16(bits >> int32(16)) if value == value else np.uint16(0x7FC0)

        return rounded

    def plain(values, i, value):
        values[i] = value

    return plain


def span(tensor: torch.Tensor) -> int:
    """Elements from the first to the last of a tensor in memory, whatever its strides."""
    return 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))


def run(function: Any, job: list[int]) -> None:
    """Let every thread that torch uses run the C function (of numba's `cfunc`) on a job.

    What the job points to must stay alive until this returns.
    """
    numbers = np.zeros(FIELDS, np.int64)
    numbers[1 : 1 + len(job)] = job
    _team()(function.address, numbers.ctypes.data, torch.get_num_threads())


@cache
def _team() -> Callable[[int, int, int], None]:
    """Torch's OpenMP has its threads waiting, and they wait busily: others would share the cores
    with them. Where it cannot be found, threads of our own.
    """
    keep_freed_memory()  # here, because this comes before the first chunk, and once
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return _own_threads
    for path in sorted(set(re.findall(r"/\S*/lib(?:gomp|iomp5|omp)\S*\.so\S*", mapped))):
        parallel = getattr(ctypes.CDLL(path), "GOMP_parallel", None)
        if parallel is not None:
            parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            parallel.restype = None
            return lambda function, data, threads: parallel(function, data, threads, 0)
    return _own_threads


def _own_threads(function: int, data: int, threads: int) -> None:
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)  # leaves Python's lock
    others = [threading.Thread(target=call, args=(data,)) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    call(data)
    for thread in others:
        thread.join()
