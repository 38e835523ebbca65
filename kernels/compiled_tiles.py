"""What attention on a CPU is made of: products of small tiles, and a softmax over their rows.

Both are written for the vector registers, not left to the compiler to find: sums of a tile stay in
registers, and it would make a row's maximum one element at a time. Sizes are in words of four
bytes: a float32, or two bfloat16 that follow each other along the summed dimension, whose products
one instruction adds in pairs (AVX-512 BF16). Addresses are int64. Sums are float32.
"""

# pyright: reportCallIssue=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from samba_cli.kernels.compiled import EXP2, EXP2_LEAST, EXP2_ROUND

ROWS, COLUMNS = 4, 64  # of a tile: 16 of 32 registers hold sums, so one may wait for five others
LEAST = -1e30  # a score that is not seen: finite, so that no difference of two is NaN
_LANES = 16  # of a register of AVX-512
_STEPS = range(0, COLUMNS, _LANES)


class _BFloat(ir.Type):
    """The type that llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_WORD, _INDEX, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
_FLOATS, _WORDS = ir.VectorType(_FLOAT, _LANES), ir.VectorType(_WORD, _LANES)
_HALVES, _PAIRS = ir.VectorType(_BFloat(), _LANES), ir.VectorType(_BFloat(), 2 * _LANES)


def _all(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [value] * _LANES)


def _place(builder: Any, base: Any, offset: Any, kind: ir.Type, size: int = 4) -> Any:
    """A pointer to what lies `offset` elements of `size` bytes after an address."""
    if isinstance(offset, int):
        offset = ir.Constant(_INDEX, offset)
    address = builder.add(base, builder.mul(offset, ir.Constant(_INDEX, size)))
    return builder.inttoptr(address, kind.as_pointer())


def _spread(builder: Any, value: Any) -> Any:
    """One value in all lanes."""
    nothing = ir.Constant(ir.VectorType(value.type, _LANES), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(_WORDS, [0] * _LANES))


def _loop(builder: Any, count: Any, carried: Sequence[Any], body: Callable[..., list[Any]]) -> Any:
    """carried = body(k, carried) for k in 0 .. count - 1, count >= 1; what was carried last."""
    before, loop = builder.block, builder.append_basic_block("loop")
    after = builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, held = builder.phi(_INDEX), [builder.phi(value.type) for value in carried]
    following = body(k, held)
    next_k = builder.add(k, ir.Constant(_INDEX, 1))
    for phi, first, later in zip(
        [k, *held], [ir.Constant(_INDEX, 0), *carried], [next_k, *following], strict=True
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, count), loop, after)
    builder.position_at_end(after)
    return following


def _call(builder: Any, name: str, result: ir.Type, *values: Any) -> Any:
    signature = ir.FunctionType(result, [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, values)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, "llvm.fma.v16f32", _FLOATS, a, b, c)


def _product(pairs: bool, fresh: bool) -> Any:
    """C[r, c] (+)= sum over k < count of A[r, k] B[k, c]; `fresh` takes C to be zero."""

    def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
        kind = _PAIRS if pairs else _FLOATS
        a, b = builder.bitcast(a, kind), builder.bitcast(b, kind)
        if not pairs:
            return _fma(builder, a, b, c)
        return _call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, c, a, b)

    @intrinsic
    def product(context: Any, c: Any, c_row: Any, a: Any, a_row: Any, b: Any, b_row: Any,
                count: Any) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            c, c_row, a, a_row, b, b_row, count = values

            def at(row: int, step: Any, offset: Any) -> Any:
                return builder.add(builder.mul(ir.Constant(_INDEX, row), step), offset)

            def multiply(k: Any, sums: list[Any]) -> list[Any]:
                start, following = builder.mul(k, b_row), []
                right = [
                    builder.load(
                        _place(builder, b, builder.add(start, ir.Constant(_INDEX, s)), _WORDS),
                        align=4,
                    )
                    for s in _STEPS
                ]
                for row in range(ROWS):
                    word = builder.load(_place(builder, a, at(row, a_row, k), _WORD))
                    left = _spread(builder, word)
                    for v, value in enumerate(right):
                        held = sums[row * len(right) + v]
                        following.append(multiply_add(builder, left, value, held))
                return following

            places = [
                _place(builder, c, at(row, c_row, ir.Constant(_INDEX, s)), _FLOATS)
                for row in range(ROWS) for s in _STEPS
            ]  # fmt: skip
            sums = [_all(0.0) if fresh else builder.load(p, align=4) for p in places]
            for p, value in zip(places, _loop(builder, count, sums, multiply), strict=True):
                builder.store(value, p, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), generate

    return product


@intrinsic
def largest(context: Any, row: Any, tiles: Any) -> Any:
    """The largest of tiles * COLUMNS scores, LEAST at least; of NaN it knows nothing."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        row, tiles = values

        def compare(tile: Any, most: list[Any]) -> list[Any]:
            start = builder.mul(tile, ir.Constant(_INDEX, COLUMNS))
            following = []
            for s, so_far in zip(_STEPS, most, strict=True):
                place = _place(builder, row, builder.add(start, ir.Constant(_INDEX, s)), _FLOATS)
                score = builder.load(place, align=4)
                above = builder.fcmp_ordered(">", score, so_far)
                following.append(builder.select(above, score, so_far))
            return following

        most = _loop(builder, tiles, [_all(LEAST)] * len(_STEPS), compare)
        whole = most[0]
        for value in most[1:]:
            whole = builder.select(builder.fcmp_ordered(">", value, whole), value, whole)
        return _call(builder, "llvm.vector.reduce.fmax.v16f32", _FLOAT, whole)

    return types.float32(types.int64, types.int64), generate


def _exponentials(pairs: bool) -> Any:
    """weights = exp2(scale * (scores - most)) over tiles * COLUMNS scores; their float32 sum.

    No score is above `most`, so that no weight is above 1, however large the scores.
    """

    def exp2(builder: Any, x: Any) -> Any:
        """As in `compiled`; NaN stays NaN."""
        x = builder.select(builder.fcmp_ordered(">", _all(EXP2_LEAST), x), _all(EXP2_LEAST), x)
        shifted = builder.fadd(x, _all(EXP2_ROUND))
        f = builder.fsub(x, builder.fsub(shifted, _all(EXP2_ROUND)))
        power = _all(EXP2[-1])
        for factor in EXP2[-2::-1]:
            power = _fma(builder, f, power, _all(factor))
        power = _fma(builder, f, power, _all(1.0))
        bits = builder.bitcast(shifted, _WORDS)
        bits = builder.shl(bits, ir.Constant(_WORDS, [23] * _LANES))
        return builder.fmul(power, builder.bitcast(bits, _FLOATS))

    @intrinsic
    def exponentials(context: Any, row: Any, weights: Any, tiles: Any, scale: Any,
                     most: Any) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            row, weights, tiles, scale, most = values
            scale, most = _spread(builder, scale), _spread(builder, most)

            def step(tile: Any, sums: list[Any]) -> list[Any]:
                start = builder.mul(tile, ir.Constant(_INDEX, COLUMNS))
                following = []
                for s, total in zip(_STEPS, sums, strict=True):
                    at = builder.add(start, ir.Constant(_INDEX, s))
                    score = builder.load(_place(builder, row, at, _FLOATS), align=4)
                    weight = exp2(builder, builder.fmul(builder.fsub(score, most), scale))
                    following.append(builder.fadd(total, weight))
                    if pairs:
                        weight = builder.fptrunc(weight, _HALVES)
                    size = 2 if pairs else 4
                    place = _place(builder, weights, at, weight.type, size)
                    builder.store(weight, place, align=size)
                return following

            sums = _loop(builder, tiles, [_all(0.0)] * len(_STEPS), step)
            whole = sums[0]
            for value in sums[1:]:
                whole = builder.fadd(whole, value)
            for half in (8, 4, 2, 1):  # in pairs: added in order, one would wait for the other
                moved = ir.Constant(_WORDS, [(i + half) % _LANES for i in range(_LANES)])
                whole = builder.fadd(whole, builder.shuffle_vector(whole, whole, moved))
            return builder.extract_element(whole, ir.Constant(_WORD, 0))

        floats, ints = [types.float32] * 2, [types.int64] * 3
        return types.float32(*ints, *floats), generate

    return exponentials


product_float32, add_product_float32 = _product(False, True), _product(False, False)
product_bfloat16, add_product_bfloat16 = _product(True, True), _product(True, False)
exponentials_float32, exponentials_bfloat16 = _exponentials(False), _exponentials(True)
