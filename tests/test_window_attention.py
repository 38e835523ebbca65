"""Window attention: every backend against the specification, and chunk invariance."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.kernels.dispatch import Backend, force
from samba_cli.kernels.window_attention import window_attention, window_attention_decode

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
WINDOW = 24


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).float().norm() / expected.float().norm().clamp(min=1.0))


def example(T: int, past: int, H: int, H_kv: int, d: int, *, batch=2, dtype=torch.float32,
            device="cpu") -> list[Any]:  # fmt: skip
    generator = torch.Generator().manual_seed(T * 1000 + past)
    shapes = [(batch, T, H, d), (batch, past + T, H_kv, d), (batch, past + T, H_kv, d)]
    return [torch.randn(s, generator=generator).to(device, dtype) for s in shapes]


def results(
    backend: Backend, inputs: Any, window: int | None, scale: float | None = None, sinks: int = 0
) -> list[torch.Tensor]:
    """The output and the gradients of q, k and v."""
    q, k, v = inputs = [t.detach().requires_grad_() for t in inputs]
    with force(backend):
        out = window_attention(q, k, v, window, scale, sinks)
    do = torch.randn(out.shape, generator=torch.Generator().manual_seed(7)).to(out)
    return [out.detach(), *torch.autograd.grad(out, inputs, do)]


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("window, sinks", [(6, 0), (None, 0), (6, 4), (3, 12), (6, 40)])
def test_reference_is_masked_attention(window: int | None, sinks: int, scale: float | None) -> None:
    q, k, v = example(17, 9, 4, 2, 8)
    with force("ref"):
        actual = window_attention(q, k, v, window, scale, sinks)
    at = torch.arange(9, 26)[:, None]
    keys = torch.arange(26)
    mask = keys <= at
    if window is not None:
        mask &= (keys > at - window) | (keys < sinks)
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
    assert error(actual, expected.transpose(1, 2)) < 1e-5


@pytest.mark.parametrize("backend", ["torch", "triton"])
@settings(deadline=None, max_examples=10)
@given(
    T=st.integers(1, 70),
    past=st.integers(0, 90),
    window=st.none() | st.integers(1, 60),
    sinks=st.integers(0, 70),
    scale=st.none() | st.floats(0.01, 2.0),
    heads=st.sampled_from([(1, 1), (2, 1)]),
)
def test_sinks_and_full_attention_equal_the_reference(
    backend: Backend, T: int, past: int, window: int | None, sinks: int, scale: float | None,
    heads: tuple[int, int],
) -> None:  # fmt: skip
    inputs = example(T, past, *heads, 16, batch=1)
    actual, expected = (results(b, inputs, window, scale, sinks) for b in (backend, "ref"))
    assert max(map(error, actual, expected)) < 1e-5
    with torch.no_grad(), force(backend):
        q, k, v = inputs
        assert error(window_attention(q, k, v, window, scale, sinks), expected[0]) < 1e-5


@pytest.mark.parametrize("window, sinks", [(1, 3), (20, 16), (20, 33), (None, 3)])
@pytest.mark.parametrize("queries, keys", [(16, 16), (32, 16), (16, 32)])
def test_triton_sinks_over_many_small_blocks(
    window: int | None, sinks: int, queries: int, keys: int
) -> None:
    from samba_cli.kernels.window_attention_triton import Blocks, forward
    from samba_cli.kernels.window_attention_triton_backward import backward

    blocks = Blocks(queries, keys, 4, 2)
    for past in (0, 37):  # without a past the first queries are among the sinks
        q, k, v = example(70, past, 2, 1, 16, batch=1)
        expected = results("ref", (q, k, v), window, 0.3, sinks)
        do = torch.randn(q.shape, generator=torch.Generator().manual_seed(7))
        out, lse = forward(q, k, v, window, 0.3, sinks, blocks)
        grads = backward(do, q, k, v, out, lse, window, 0.3, sinks, blocks, blocks)
        assert max(map(error, (out, *grads), expected)) < 1e-5


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("past", [0, 3000])
@torch.no_grad()
def test_full_attention_of_a_long_chunk_on_a_cpu(
    past: int, dtype: torch.dtype, bound: float
) -> None:
    q, k, v = example(700, past, 2, 1, 32, batch=2, dtype=dtype)
    with force("ref"):
        expected = window_attention(q.float(), k.float(), v.float(), None)
    with force("torch"):
        assert error(window_attention(q, k, v, None), expected) < bound
        strided = k.transpose(2, 3).contiguous().transpose(2, 3)
        assert error(window_attention(q, strided, v, None), expected) < bound


@pytest.mark.parametrize("past", [0, 1, 5, WINDOW - 1, WINDOW])
@pytest.mark.parametrize("T", [1, 2, 3, 5, 17, 64, 65])
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_backends_equal_the_reference(backend: Backend, T: int, past: int) -> None:
    heads = [(2, 1), (2, 2)] if T == 5 else [(2, 1)]
    for H, H_kv in heads:
        inputs = example(T, past, H, H_kv, 16, batch=1)
        q, k, v = inputs
        actual, expected = (results(b, inputs, WINDOW) for b in (backend, "ref"))
        assert max(map(error, actual, expected)) < 1e-5
        with torch.no_grad(), force(backend):
            assert error(window_attention(q, k, v, WINDOW), expected[0]) < 1e-5


@pytest.mark.parametrize("window", [1, 7, 33, 200])
@pytest.mark.parametrize("queries, keys", [(16, 16), (32, 16), (16, 32)])
def test_triton_over_many_small_blocks(window: int, queries: int, keys: int) -> None:
    """Small blocks, so that far edge, interior and diagonal of the band all occur."""
    from samba_cli.kernels.window_attention_triton import Blocks, forward
    from samba_cli.kernels.window_attention_triton_backward import backward

    q, k, v = example(70, 37, 2, 1, 16, batch=1)
    blocks, scale = Blocks(queries, keys, 4, 2), 1 / math.sqrt(16)
    expected = results("ref", (q, k, v), window)
    do = torch.randn(q.shape, generator=torch.Generator().manual_seed(7))
    out, lse = forward(q, k, v, window, scale, blocks=blocks)
    grads = backward(do, q, k, v, out, lse, window, scale, 0, blocks, blocks)
    assert max(map(error, (out, *grads), expected)) < 1e-5


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("window, sinks", [(None, 0), (20, 0), (20, 18), (500, 3)])
@torch.no_grad()
def test_triton_with_and_without_tensor_descriptors(
    monkeypatch: pytest.MonkeyPatch, window: int | None, sinks: int, described: bool
) -> None:
    """With strides as the program gives them: parts of a joint product, and of a larger cache."""
    from samba_cli.kernels import window_attention_triton as kernel

    monkeypatch.setattr(kernel, "DESCRIBED_DTYPES", (torch.float32,) if described else ())
    generator = torch.Generator().manual_seed(5)
    q, _, _ = torch.randn(2, 26, 8, 16, generator=generator).tensor_split((4, 6), dim=2)
    k, v = torch.randn(2, 2, 60, 2, 16, generator=generator)[:, :, :47]
    assert (kernel._described(k, 16) is not None) == described
    with force("ref"):
        expected = window_attention(q, k, v, window, 0.3, sinks)
    for rows, keys in ((16, 16), (32, 32)):
        out, lse = kernel.forward(q, k, v, window, 0.3, sinks, kernel.Blocks(rows, keys, 4, 2))
        assert error(out, expected) < 1e-5
        assert torch.isfinite(lse).all()


def test_descriptors_are_for_aligned_keys_alone() -> None:
    from samba_cli.kernels import window_attention_triton as kernel

    keys = torch.zeros(2, 9, 3, 16, dtype=torch.bfloat16)
    assert kernel._described(keys, 16) is not None
    assert kernel._described(keys[:1, :, :1], 16) is not None
    assert kernel._described(keys.float(), 16) is None
    assert kernel._described(keys[:1].expand(2, -1, -1, -1), 16) is None
    assert (
        kernel._described(torch.zeros(1000, dtype=torch.bfloat16)[1:65].view(1, 2, 2, 16), 16)
        is None
    )
    assert [kernel.heads_of_a_tile(n) for n in (1, 2, 3, 4, 5, 6, 8, 20)] == [
        1,
        2,
        1,
        4,
        1,
        2,
        8,
        4,
    ]


@pytest.mark.parametrize(
    "backend, dtype",
    # Triton's interpreter multiplies the bits of bf16 matrices; on a GPU test_gpu has bf16
    [("torch", torch.bfloat16), ("triton", torch.float16)],
)
def test_low_precision(backend: Backend, dtype: torch.dtype) -> None:
    inputs = example(65, 5, 4, 2, 32, batch=1, dtype=dtype)
    expected = results("ref", [t.float() for t in inputs], WINDOW)
    actual = results(backend, inputs, WINDOW)
    assert actual[0].dtype == dtype
    assert max(map(error, actual, expected)) < 1e-2


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_any_head_dimension_and_strides(backend: Backend) -> None:
    q, k, v = example(19, 4, 4, 2, 24)
    expected = results("ref", (q, k, v), 8)
    strided = [
        q.transpose(1, 2).contiguous().transpose(1, 2),
        k.transpose(2, 3).contiguous().transpose(2, 3),
        torch.cat([v, v], dim=2)[:, :, :2],
    ]
    assert max(map(error, results(backend, strided, 8), expected)) < 1e-5


@pytest.mark.parametrize("backend", ["torch", "triton"])
@settings(deadline=None, max_examples=10)
@given(cuts=st.lists(st.integers(1, 49), max_size=4, unique=True), window=st.integers(1, 60))
@torch.no_grad()
def test_every_cut_gives_the_same(backend: Backend, cuts: list[int], window: int) -> None:
    q, k, v = example(50, 0, 2, 1, 16, batch=1)
    with force(backend):
        whole = window_attention(q, k, v, window)
        parts = []
        for start, stop in itertools.pairwise([0, *sorted(cuts), 50]):
            seen = max(0, start - window + 1)
            part = (q[:, start:stop], k[:, seen:stop], v[:, seen:stop])
            parts.append(window_attention(*part, window))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["torch", "triton"])
@settings(deadline=None, max_examples=10)
@given(
    cuts=st.lists(st.integers(1, 49), max_size=4, unique=True),
    window=st.integers(1, 30),
    sinks=st.integers(1, 20),
)
@torch.no_grad()
def test_every_cut_gives_the_same_with_sinks(
    backend: Backend, cuts: list[int], window: int, sinks: int
) -> None:
    """Between chunks only the sinks and the last window - 1 keys are kept."""
    q, k, v = example(50, 0, 2, 1, 16, batch=1)
    with force(backend):
        whole = window_attention(q, k, v, window, None, sinks)
        parts = []
        for start, stop in itertools.pairwise([0, *sorted(cuts), 50]):
            kept = [*range(min(sinks, start)), *range(max(sinks, start - window + 1), stop)]
            kept = kept if start >= sinks else list(range(stop))
            part = (q[:, start:stop], k[:, kept], v[:, kept])
            parts.append(window_attention(*part, window, None, sinks))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["torch", "triton"])
@torch.no_grad()
def test_decode_takes_a_scale_and_many_slots(backend: Backend) -> None:
    _, keys, values = example(330, 0, 2, 1, 80, batch=1)
    q = torch.randn(1, 1, 2, 80, generator=torch.Generator().manual_seed(3))
    for count in (1, 300):
        with force("ref"):
            expected = window_attention_decode(q, keys, values, count, 0.02)
        with force(backend):
            for number in (count, torch.tensor([count])):
                actual = window_attention_decode(q, keys, values, number, 0.02)
                assert error(actual, expected) < 1e-5


def test_few_slots_are_one_launch_and_many_fill_the_device() -> None:
    from samba_cli.kernels.window_attention_triton import DECODE_PROGRAMS, decode_splits

    assert decode_splits(200, 2, 64) == 1
    for heads in (1, 2, 4, 8, 12, 32):
        programs = heads * decode_splits(1_000_000, heads, 64)
        assert 0.9 * DECODE_PROGRAMS < programs <= DECODE_PROGRAMS
    assert decode_splits(1_000_000, 1000, 64) == 1


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("count", [1, 63, 64, 130])
@pytest.mark.parametrize("backend", ["torch", "triton"])
@torch.no_grad()
def test_decode(backend: Backend, count: int, in_memory: bool) -> None:
    for H, H_kv, d in [(4, 2, 16), (3, 3, 24)]:
        _, keys, values = example(130, 0, H, H_kv, d)
        keys[:, count:] = 1e4  # what lies in the other slots must not matter
        q = torch.randn(2, 1, H, d, generator=torch.Generator().manual_seed(3))
        with force("ref"):
            expected = window_attention_decode(q, keys, values, count)
        with force(backend):
            number = torch.tensor([count]) if in_memory else count
            assert error(window_attention_decode(q, keys, values, number), expected) < 1e-5


@torch.no_grad()
def test_decode_does_not_depend_on_the_splits() -> None:
    from samba_cli.kernels.window_attention_triton import decode

    _, keys, values = example(200, 0, 4, 2, 16, batch=1)
    q = torch.randn(1, 1, 4, 16)
    one, three, forty = (decode(q, keys, values, 140, 0.25, n) for n in (1, 3, 40))
    torch.testing.assert_close(three, one, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(forty, one, rtol=1e-5, atol=1e-5)


def test_the_operators_are_registered_soundly() -> None:
    inputs = [t.requires_grad_() for t in example(5, 3, 2, 1, 16, batch=1)]
    for limits in [(4, 0.25, 0), (None, 0.25, 0), (3, 0.25, 2)]:
        torch.library.opcheck(torch.ops.samba.window_attention.default, (*inputs, *limits))
    q, k, v = (t.detach() for t in inputs)
    args = (q[:, :1], k, v, torch.tensor([6]), 0.25)
    torch.library.opcheck(torch.ops.samba.window_attention_decode.default, args)


def test_compiles_without_graph_breaks() -> None:
    inputs = [t.requires_grad_() for t in example(9, 3, 2, 1, 16, batch=1)]

    def loss(q, k, v):
        decoded = window_attention_decode(q[:, :1].detach(), k.detach(), v.detach(), 5)
        whole = window_attention(q, k, v, None, 0.3)
        near = window_attention(q, k, v, 4, sinks=2)
        return near.square().sum() + whole.square().sum() + decoded.sum()

    for backend in ("torch", "triton"):
        with force(backend):
            expected = torch.autograd.grad(loss(*inputs), inputs)
            compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
            actual = torch.autograd.grad(compiled(*inputs), inputs)
        assert max(map(error, actual, expected)) < 1e-5


def test_refuses_what_does_not_fit() -> None:
    q, k, v = example(5, 0, 4, 2, 16)
    for bad in [(q, k[:, :4], v[:, :4], 3), (q[:, :, :3], k, v, 3), (q, k, v, 0)]:
        with pytest.raises(ValueError):
            window_attention(*bad)
    for scale, sinks in [(0.0, 0), (-1.0, 0), (None, -1)]:
        with pytest.raises(ValueError):
            window_attention(q, k, v, 3, scale, sinks)
    with pytest.raises(ValueError):
        window_attention_decode(q[:, :1], k, v, 6)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("T, past, d", [(1, 700, 64), (333, 511, 64), (2050, 0, 128), (600, 9, 32)])
def test_gpu(T: int, past: int, d: int, dtype: torch.dtype, bound: float) -> None:
    inputs = example(T, past, 8, 2, d, dtype=dtype, device="cuda")
    expected = results("ref", [t.float() for t in inputs], 512)
    assert max(map(error, results("triton", inputs, 512), expected)) < bound


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("window, sinks", [(None, 0), (512, 4), (512, 130)])
@pytest.mark.parametrize(
    "T, past, d", [(9, 700, 64), (60, 800, 256), (1025, 900, 96), (2050, 0, 256)]
)
def test_gpu_sinks_and_full_attention(
    T: int, past: int, d: int, window: int | None, sinks: int, dtype: torch.dtype, bound: float
) -> None:
    inputs = example(T, past, 4, 2, d, dtype=dtype, device="cuda")
    expected = results("ref", [t.float() for t in inputs], window, 0.1, sinks)
    assert max(map(error, results("triton", inputs, window, 0.1, sinks), expected)) < bound


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("H, H_kv, d", [(8, 2, 64), (4, 1, 128), (4, 4, 96), (8, 4, 256)])
@torch.no_grad()
def test_gpu_decode_over_many_slots(
    H: int, H_kv: int, d: int, dtype: torch.dtype, bound: float
) -> None:
    _, keys, values = example(100_000, 0, H, H_kv, d, batch=1, dtype=dtype, device="cuda")
    q = torch.randn(1, 1, H, d, device="cuda", dtype=dtype)
    for count in (1, 5000, 100_000):
        with force("ref"):
            expected = window_attention_decode(q.float(), keys.float(), values.float(), count)
        for number in (count, torch.tensor([count], device="cuda")):
            assert error(window_attention_decode(q, keys, values, number), expected) < bound


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("d", [64, 80])
@torch.no_grad()
def test_gpu_decode_in_a_graph(d: int) -> None:
    _, keys, values = example(2048, 0, 8, 2, d, dtype=torch.bfloat16, device="cuda")
    q = torch.randn(2, 1, 8, d, device="cuda", dtype=torch.bfloat16)
    count = torch.tensor([1], device="cuda")
    window_attention_decode(q, keys, values, count)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = window_attention_decode(q, keys, values, count)
    for n in (1, 77, 2048):
        count.fill_(n)
        graph.replay()
        with force("ref"):
            expected = window_attention_decode(q.float(), keys.float(), values.float(), n)
        assert error(out, expected) < 1e-2
