"""Time window attention on a GPU, next to the arithmetic limit and compiled FlexAttention.

    python benchmarks/kernels_attention.py [--tune]

Checks each shape against the reference first. FLOPs counted: those of the band only, 4 d for
each visible pair of query and key and head, and 2.5 times that in the backward pass.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable

import torch
import triton
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from samba_cli.kernels import window_attention_triton as kernel
from samba_cli.kernels import window_attention_triton_backward as backward_kernel
from samba_cli.kernels.window_attention import window_attention, window_attention_decode
from samba_cli.kernels.window_attention_ref import window_attention_decode_ref, window_attention_ref

MATMUL_TFLOP_PER_S = 790  # measured bf16 matrix product of an H200
COPY_TB_PER_S = 4.3  # measured copy bandwidth of an H200
# batch, T, past, query heads, key heads, head dimension, window; the last sees every key
SHAPES = [
    (1, 16384, 0, 32, 4, 64, 2048),
    (1, 4096, 2047, 32, 4, 64, 2048),
    (1, 4096, 1023, 8, 2, 64, 1024),
    (8, 2048, 0, 8, 2, 64, 1024),
    (1, 16384, 0, 16, 4, 128, 2048),
    (1, 4096, 28672, 32, 8, 64, 32768),
]


def median_ms(function: Callable[[], object]) -> float:
    return float(triton.testing.do_bench(function, return_mode="median"))  # type: ignore[arg-type]


def distance(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


def band_pairs(T: int, past: int, window: int) -> int:
    """Visible pairs of query and key."""
    ramp = max(0, min(T, window - 1 - past))  # queries that see fewer than `window` keys
    return ramp * past + ramp * (ramp + 1) // 2 + (T - ramp) * window


def row(name: str, ms: float, flops: float, note: str = "") -> str:
    rate = flops / ms / 1e9
    share = rate / MATMUL_TFLOP_PER_S
    return f"  {name:<34} {ms:8.4f} ms  {rate:6.1f} TFLOP/s  {share:4.0%} of matmul  {note}"


def check(batch: int, past: int, H: int, H_kv: int, d: int, window: int) -> float:
    """Largest relative error over output and gradients, on a length a dense mask can hold."""
    T = 1500
    q = torch.randn(batch, T, H, d, device="cuda").bfloat16()
    k, v = (torch.randn(batch, past + T, H_kv, d, device="cuda").bfloat16() for _ in "kv")
    do = torch.randn_like(q)
    inputs = [t.requires_grad_() for t in (q, k, v)]
    wq, wk, wv = wide = [t.detach().float().requires_grad_() for t in inputs]
    out, expected = window_attention(q, k, v, window), window_attention_ref(wq, wk, wv, window)
    grads = torch.autograd.grad(out, inputs, do)
    expected_grads = torch.autograd.grad(expected, wide, do.float())
    pairs = zip((out, *grads), (expected, *expected_grads), strict=True)
    worst = max(distance(a, e) for a, e in pairs)
    assert worst < 1e-2, worst
    return worst


def flex(T: int, past: int, window: int):
    def visible(b, h, query, key):
        return (past + query >= key) & (past + query - key < window)

    mask = create_block_mask(visible, None, None, T, past + T, device="cuda")
    compiled = torch.compile(flex_attention)
    return lambda q, k, v: compiled(q, k, v, block_mask=mask, enable_gqa=True)


def bench(batch: int, T: int, past: int, H: int, H_kv: int, d: int, window: int, tune: bool):
    worst = check(batch, past, H, H_kv, d, window)
    q = torch.randn(batch, T, H, d, device="cuda").bfloat16()
    k, v = (torch.randn(batch, past + T, H_kv, d, device="cuda").bfloat16() for _ in "kv")
    do, scale = torch.randn_like(q), 1 / math.sqrt(d)
    flops = 4.0 * batch * H * d * band_pairs(T, past, window)
    print(f"B {batch} T {T} past {past} heads {H}/{H_kv} d {d} window {window} bf16, "
          f"largest relative error {worst:.1e}")  # fmt: skip
    heads = [t.transpose(1, 2).contiguous().requires_grad_() for t in (q, k, v)]
    attend = flex(T, past, window)
    with torch.no_grad():
        flex_ms = median_ms(lambda: attend(*heads))
    print(row("FlexAttention forward", flex_ms, flops))
    ms = median_ms(lambda: kernel.forward(q, k, v, window, scale))
    print(row("forward", ms, flops, f"{flex_ms / ms:.2f} x FlexAttention"))
    ms = median_ms(lambda: kernel.forward(q, k, v, window, scale, sinks=4))
    print(row("forward with 4 sinks", ms, flops))
    flex_out, flex_do = attend(*heads), do.transpose(1, 2).contiguous()
    flex_ms = median_ms(lambda: torch.autograd.grad(flex_out, heads, flex_do, retain_graph=True))
    print(row("FlexAttention backward", flex_ms, 2.5 * flops))
    o, lse = kernel.forward(q, k, v, window, scale)
    saved = (do, q, k, v, o, lse, window, scale)
    ms = median_ms(lambda: backward_kernel.backward(*saved))
    print(row("backward", ms, 2.5 * flops, f"{flex_ms / ms:.2f} x FlexAttention"))
    if tune:
        candidates = itertools.product((64, 128), (32, 64, 128), (4, 8), (1, 2, 3, 4))
        for blocks in itertools.starmap(kernel.Blocks, candidates):
            name = f"{blocks.queries}x{blocks.keys} w{blocks.num_warps} s{blocks.num_stages}"
            calls = {
                "forward": (lambda b=blocks: kernel.forward(q, k, v, window, scale, 0, b), 1.0),
                "dq": (lambda b=blocks: backward_kernel.backward(*saved, over_queries=b), 2.5),
                "dk dv": (lambda b=blocks: backward_kernel.backward(*saved, over_keys=b), 2.5),
            }
            for which, (call, work) in calls.items():
                try:
                    print(row(f"{which} {name}", median_ms(call), work * flops))
                except triton.runtime.errors.OutOfResources:
                    print(f"  {which} {name}: too large")


def bench_decode(batch: int, W: int, H: int, H_kv: int, d: int) -> None:
    """Time per replayed step. A small ring stays in the cache, and may beat the copy."""
    q = torch.randn(batch, 1, H, d, device="cuda").bfloat16()
    keys, values = (torch.randn(batch, W, H_kv, d, device="cuda").bfloat16() for _ in "kv")
    count = torch.tensor([W], device="cuda")
    out = window_attention_decode(q, keys, values, count)
    worst = distance(out, window_attention_decode_ref(q.float(), keys.float(), values.float(), W))
    assert worst < 1e-2, worst
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            window_attention_decode(q, keys, values, count)
    ms = median_ms(graph.replay) / 10
    rate = 2 * keys.numel() * keys.element_size() / ms / 1e9
    print(f"decode B {batch} W {W} heads {H}/{H_kv} d {d}: {ms * 1e3:.1f} us in a graph, "
          f"{rate:.2f} TB/s, {rate / COPY_TB_PER_S:.0%} of copy")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tune", action="store_true", help="time other blocks, first shape only")
    tune = parser.parse_args().tune
    print(torch.cuda.get_device_name(), "torch", torch.__version__, "triton", triton.__version__)
    for i, shape in enumerate(SHAPES):
        bench(*shape, tune=tune and i == 0)
    for shape in [
        (1, 1024, 8, 2, 64), (1, 2048, 32, 4, 64), (64, 1024, 8, 2, 64),
        (1, 131072, 32, 8, 64), (1, 1048576, 32, 8, 64), (1, 1048576, 20, 1, 128),
    ]:  # fmt: skip
        bench_decode(*shape)


if __name__ == "__main__":
    main()
