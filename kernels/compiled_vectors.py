"""Vector registers by name, for the loops that a compiler would make in another way.

Pieces of LLVM's code, made while Numba compiles a function that calls an intrinsic. A register
holds LANES float32; where the processor's are shorter, LLVM takes several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from samba_cli.kernels.compiled import EXP2, EXP2_LEAST, EXP2_ROUND

LANES = 16


class BFloat(ir.Type):
    """The type that llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


WORD, INDEX, FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
FLOATS, WORDS = ir.VectorType(FLOAT, LANES), ir.VectorType(WORD, LANES)
HALVES, PAIRS = ir.VectorType(BFloat(), LANES), ir.VectorType(BFloat(), 2 * LANES)


def everywhere(value: float) -> ir.Constant:
    return ir.Constant(FLOATS, [value] * LANES)


def index(value: int) -> ir.Constant:
    return ir.Constant(INDEX, value)


def place_of(builder: Any, base: Any, offset: Any, kind: ir.Type, size: int = 4) -> Any:
    """A pointer to what lies `offset` elements of `size` bytes after an address."""
    address = builder.add(base, builder.mul(offset, index(size)))
    return builder.inttoptr(address, kind.as_pointer())


def spread(builder: Any, value: Any) -> Any:
    """One value in all lanes."""
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(WORDS, [0] * LANES))


def loop_over(
    builder: Any, count: Any, carried: Sequence[Any], body: Callable[..., list[Any]]
) -> Any:
    """carried = body(k, carried) for k in 0 .. count - 1, count >= 1; what was carried last."""
    before, loop = builder.block, builder.append_basic_block("loop")
    after = builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, held = builder.phi(INDEX), [builder.phi(value.type) for value in carried]
    following = body(k, held)
    next_k = builder.add(k, index(1))
    for phi, first, later in zip(
        [k, *held], [index(0), *carried], [next_k, *following], strict=True
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, count), loop, after)
    builder.position_at_end(after)
    return following


def call(builder: Any, name: str, result: ir.Type, *values: Any) -> Any:
    signature = ir.FunctionType(result, [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, values)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once where that is as fast."""
    return call(builder, "llvm.fmuladd.v16f32", FLOATS, a, b, c)


def exp2(builder: Any, x: Any) -> Any:
    """As in `compiled`; NaN stays NaN."""
    least = everywhere(EXP2_LEAST)
    x = builder.select(builder.fcmp_ordered(">", least, x), least, x)
    shifted = builder.fadd(x, everywhere(EXP2_ROUND))
    f = builder.fsub(x, builder.fsub(shifted, everywhere(EXP2_ROUND)))
    power = everywhere(EXP2[-1])
    for factor in EXP2[-2::-1]:
        power = multiply_add(builder, f, power, everywhere(factor))
    power = multiply_add(builder, f, power, everywhere(1.0))
    bits = builder.bitcast(shifted, WORDS)
    bits = builder.shl(bits, ir.Constant(WORDS, [23] * LANES))
    return builder.fmul(power, builder.bitcast(bits, FLOATS))
