"""Window attention beside compiled FlexAttention.

FLOPs counted: those of the band only, 4 d for each visible pair of query and key and head, and 2.5
times as many backwards. A single query reads all keys and values once: bytes are its limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.speed import limits, peers
from benchmarks.speed.rows import Row, Setting
from benchmarks.speed.timing import checked, kernel_ms
from samba_cli.kernels.window_attention import window_attention, window_attention_decode
from samba_cli.kernels.window_attention_ref import window_attention_decode_ref, window_attention_ref


class Shape(NamedTuple):
    batch: int
    length: int
    past: int  # keys before the first query
    heads: int
    kv_heads: int
    d_head: int
    window: int

    @property
    def pairs(self) -> int:
        """Visible pairs of query and key, of a head."""
        ramp = max(0, min(self.length, self.window - 1 - self.past))  # see less than the window
        return ramp * self.past + ramp * (ramp + 1) // 2 + (self.length - ramp) * self.window


SHAPES = [
    Shape(1, 16_384, 0, 32, 4, 64, 2048),  # SAMBA 1.7B, a text in one chunk
    Shape(1, 16_384, 2047, 32, 4, 64, 2048),  # and a later chunk
    Shape(64, 2048, 0, 8, 2, 64, 1024),  # the default model in training
]
HEADLINES = SHAPES[:1]
TINY = [Shape(1, 64, 0, 4, 2, 16, 24)]
# batch, slots, query heads, key heads, head dimension: rings, then caches of full attention
DECODES = [
    (1, 2048, 32, 4, 64), (64, 1024, 8, 2, 64), (1, 131_072, 32, 8, 64), (1, 1 << 20, 32, 8, 64)
]  # fmt: skip
TINY_DECODES = [(2, 24, 4, 2, 16)]
REPLAYED = 10  # steps of a graph
GOAL = 1.0


def measure(how: Setting) -> Iterator[Row]:
    for shape in TINY if how.tiny else SHAPES:
        error = check(how, shape)
        with torch.no_grad():
            yield forward(how, shape, error)
        if how.left() > 15:
            yield training(how, shape, error)
    with torch.inference_mode():
        for ring in TINY_DECODES if how.tiny else DECODES:
            yield decode(how, *ring)


def forward(how: Setting, shape: Shape, error: float) -> Row:
    q, k, v = make_inputs(how, shape)
    ms = kernel_ms(lambda: window_attention(q, k, v, shape.window), how)
    others, notes = {}, []
    with peers.tried("FlexAttention", notes):
        attend = flexible(how, shape)
        theirs = [x.transpose(1, 2).contiguous() for x in (q, k, v)]
        result = attend(*theirs).transpose(1, 2)
        checked({"o": (result, window_attention(q, k, v, shape.window))}, 2e-2)
        others["FlexAttention"] = kernel_ms(lambda: attend(*theirs), how)
    return _row("window attention, forward", how, shape, ms, others, 1.0, error, notes)


def training(how: Setting, shape: Shape, error: float) -> Row:
    leaves = [x.requires_grad_() for x in make_inputs(how, shape)]
    do = torch.randn_like(leaves[0])

    def step() -> tuple[Tensor, ...]:
        q, k, v = leaves
        return torch.autograd.grad(window_attention(q, k, v, shape.window), leaves, do)

    ms = kernel_ms(step, how)
    others, notes = {}, []
    with peers.tried("FlexAttention", notes):
        attend = flexible(how, shape)
        theirs = [x.detach().transpose(1, 2).contiguous().requires_grad_() for x in leaves]
        do_theirs = do.transpose(1, 2).contiguous()

        def run() -> tuple[Tensor, ...]:
            return torch.autograd.grad(attend(*theirs), theirs, do_theirs)

        checked({"dq": (run()[0].transpose(1, 2), step()[0])}, 2e-2)
        others["FlexAttention"] = kernel_ms(run, how)
    what = "window attention, forward + backward"
    return _row(what, how, shape, ms, others, 3.5, error, notes)


def decode(how: Setting, batch: int, slots: int, heads: int, kv_heads: int, d: int) -> Row:
    """One query a row, in a CUDA graph as in decoding. Small rings stay in the GPU's cache."""
    q = torch.randn(batch, 1, heads, d, device=how.device).to(how.dtype)
    k, v = (torch.randn(batch, slots, kv_heads, d, device=how.device).to(how.dtype) for _ in "kv")
    count = torch.tensor([slots], device=how.device)

    def steps() -> Tensor:
        for _ in range(REPLAYED - 1):
            window_attention_decode(q, k, v, count)
        return window_attention_decode(q, k, v, count)

    wanted = window_attention_decode_ref(q.float(), k.float(), v.float(), slots)
    error = checked({"o": (steps(), wanted)}, 1e-2)
    run = steps
    if how.cuda:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            steps()
        run = graph.replay
    ms = kernel_ms(run, how) / REPLAYED
    shares = {"bytes": 2 * k.numel() * k.element_size() / limits.measured(how).bytes / ms * 1e3}
    text = f"{batch} x {slots:,} keys, {heads}/{kv_heads} heads of {d}"
    return Row("attention, one query", text, ms, "ms", limits=shares, error=error)


def make_inputs(how: Setting, shape: Shape) -> list[Tensor]:
    torch.manual_seed(0)
    q = torch.randn(shape.batch, shape.length, shape.heads, shape.d_head, device=how.device)
    k, v = (
        torch.randn(
            shape.batch, shape.past + shape.length, shape.kv_heads, shape.d_head, device=how.device
        )
        for _ in "kv"
    )
    return [x.to(how.dtype) for x in (q, k, v)]


def check(how: Setting, shape: Shape) -> float:
    """Outputs and gradients against the reference, on a length that a dense mask can hold."""
    short = shape._replace(batch=1, length=min(shape.length, 1500))
    inputs = [x.requires_grad_() for x in make_inputs(how, short)]
    wide = [x.detach().float().requires_grad_() for x in inputs]
    out = window_attention(inputs[0], inputs[1], inputs[2], shape.window)
    expected = window_attention_ref(wide[0], wide[1], wide[2], shape.window)
    do = torch.randn_like(out)
    grads = torch.autograd.grad(out, inputs, do)
    wanted = torch.autograd.grad(expected, wide, do.float())
    pairs = zip((out, *grads), (expected, *wanted), strict=True)
    return checked(dict(zip(("o", "dq", "dk", "dv"), pairs, strict=True)), 1e-2)


def flexible(how: Setting, shape: Shape):
    """FlexAttention compiled for this band: its own block-sparse mask, default options."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def visible(b, h, query, key):
        return (shape.past + query >= key) & (shape.past + query - key < shape.window)

    mask = create_block_mask(
        visible, None, None, shape.length, shape.past + shape.length, device=how.device
    )
    attend = torch.compile(flex_attention) if how.cuda else flex_attention
    return lambda q, k, v: attend(q, k, v, block_mask=mask, enable_gqa=True)


def _row(
    what: str, how: Setting, shape: Shape, ms: float, others: dict[str, float], work: float,
    error: float, notes: list[str],
) -> Row:  # fmt: skip
    flops = work * 4.0 * shape.batch * shape.heads * shape.d_head * shape.pairs
    rate = flops / ms * 1e3
    text = (
        f"{shape.batch} x {shape.length:,} after {shape.past:,}, window {shape.window:,}, "
        f"{shape.heads}/{shape.kv_heads} heads of {shape.d_head}"
    )
    shares = {"matrix products": rate / limits.measured(how).flops}
    facts = {"band_tflop_per_s": round(rate / 1e12, 1)}
    return Row(what, text, ms, "ms", others, GOAL, shares, error, facts, "; ".join(notes),
               shape in HEADLINES)  # fmt: skip
