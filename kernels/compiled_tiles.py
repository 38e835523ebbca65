"""What attention on a CPU is made of: products of small tiles, and a softmax over their rows.

Both are written for the vector registers, not left to the compiler to find: sums of a tile stay in
registers, and it would make a row's maximum one element at a time. Sizes are in words of four
bytes: a float32, or two bfloat16 that follow each other along the summed dimension, whose products
one instruction adds in pairs (AVX-512 BF16). Addresses are int64. Sums are float32.
"""

# pyright: reportCallIssue=false
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from samba_cli.kernels.compiled_vectors import (
    FLOAT,
    FLOATS,
    HALVES,
    LANES,
    PAIRS,
    WORD,
    WORDS,
    call,
    everywhere,
    exp2,
    index,
    loop_over,
    multiply_add,
    place_of,
    spread,
)

ROWS, COLUMNS = 4, 64  # of a tile: 16 of 32 registers hold sums, so one may wait for five others
LEAST = -1e30  # a score that is not seen: finite, so that no difference of two is NaN
_STEPS = range(0, COLUMNS, LANES)


def _product(pairs: bool, fresh: bool) -> Any:
    """C[r, c] (+)= sum over k < count of A[r, k] B[k, c]; `fresh` takes C to be zero."""

    def add_to(c: Any, a: Any, b: Any, builder: Any) -> Any:
        kind = PAIRS if pairs else FLOATS
        a, b = builder.bitcast(a, kind), builder.bitcast(b, kind)
        if not pairs:
            return multiply_add(builder, a, b, c)
        return call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, c, a, b)

    @intrinsic
    def product(context: Any, c: Any, c_row: Any, a: Any, a_row: Any, b: Any, b_row: Any,
                count: Any) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            c, c_row, a, a_row, b, b_row, count = values

            def at(row: int, step: Any, offset: Any) -> Any:
                return builder.add(builder.mul(index(row), step), offset)

            def multiply(k: Any, sums: list[Any]) -> list[Any]:
                start, following = builder.mul(k, b_row), []
                right = [
                    builder.load(
                        place_of(builder, b, builder.add(start, index(s)), WORDS),
                        align=4,
                    )
                    for s in _STEPS
                ]
                for row in range(ROWS):
                    word = builder.load(place_of(builder, a, at(row, a_row, k), WORD))
                    left = spread(builder, word)
                    for v, value in enumerate(right):
                        held = sums[row * len(right) + v]
                        following.append(add_to(held, left, value, builder))
                return following

            places = [
                place_of(builder, c, at(row, c_row, index(s)), FLOATS)
                for row in range(ROWS) for s in _STEPS
            ]  # fmt: skip
            sums = [everywhere(0.0) if fresh else builder.load(p, align=4) for p in places]
            for p, value in zip(places, loop_over(builder, count, sums, multiply), strict=True):
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
            start = builder.mul(tile, index(COLUMNS))
            following = []
            for s, so_far in zip(_STEPS, most, strict=True):
                place = place_of(builder, row, builder.add(start, index(s)), FLOATS)
                score = builder.load(place, align=4)
                above = builder.fcmp_ordered(">", score, so_far)
                following.append(builder.select(above, score, so_far))
            return following

        most = loop_over(builder, tiles, [everywhere(LEAST)] * len(_STEPS), compare)
        whole = most[0]
        for value in most[1:]:
            whole = builder.select(builder.fcmp_ordered(">", value, whole), value, whole)
        return call(builder, "llvm.vector.reduce.fmax.v16f32", FLOAT, whole)

    return types.float32(types.int64, types.int64), generate


def _exponentials(pairs: bool) -> Any:
    """weights = exp2(scale * (scores - most)) over tiles * COLUMNS scores; their float32 sum.

    No score is above `most`, so that no weight is above 1, however large the scores.
    """

    @intrinsic
    def exponentials(context: Any, row: Any, weights: Any, tiles: Any, scale: Any,
                     most: Any) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            row, weights, tiles, scale, most = values
            scale, most = spread(builder, scale), spread(builder, most)

            def step(tile: Any, sums: list[Any]) -> list[Any]:
                start = builder.mul(tile, index(COLUMNS))
                following = []
                for s, total in zip(_STEPS, sums, strict=True):
                    at = builder.add(start, index(s))
                    score = builder.load(place_of(builder, row, at, FLOATS), align=4)
                    weight = exp2(builder, builder.fmul(builder.fsub(score, most), scale))
                    following.append(builder.fadd(total, weight))
                    if pairs:
                        weight = builder.fptrunc(weight, HALVES)
                    size = 2 if pairs else 4
                    place = place_of(builder, weights, at, weight.type, size)
                    builder.store(weight, place, align=size)
                return following

            sums = loop_over(builder, tiles, [everywhere(0.0)] * len(_STEPS), step)
            whole = sums[0]
            for value in sums[1:]:
                whole = builder.fadd(whole, value)
            for half in (8, 4, 2, 1):  # in pairs: added in order, one would wait for the other
                moved = ir.Constant(WORDS, [(i + half) % LANES for i in range(LANES)])
                whole = builder.fadd(whole, builder.shuffle_vector(whole, whole, moved))
            return builder.extract_element(whole, ir.Constant(WORD, 0))

        floats, ints = [types.float32] * 2, [types.int64] * 3
        return types.float32(*ints, *floats), generate

    return exponentials


product_float32, add_product_float32 = _product(False, True), _product(False, False)
product_bfloat16, add_product_bfloat16 = _product(True, True), _product(True, False)
exponentials_float32, exponentials_bfloat16 = _exponentials(False), _exponentials(True)
