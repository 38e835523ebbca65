"""The compiled loop of window attention against the reference, and where it is taken."""

import pytest
import torch
from torch import Tensor

from samba_cli.kernels.dispatch import force
from samba_cli.kernels.window_attention import window_attention

pytest.importorskip("numba")

from samba_cli.kernels import window_attention_compiled as loop  # noqa: E402
from samba_cli.kernels.compiled import supported  # noqa: E402

BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 4e-3}
FEATURES = {torch.float32: "avx512f", torch.bfloat16: "avx512bf16"}
both = pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(d, marks=pytest.mark.skipif(not supported(f), reason=f"needs {f}"))
        for d, f in FEATURES.items()
    ],
)


def example(
    T: int, past: int, H: int, H_kv: int, d: int, dtype: torch.dtype, batch: int = 1
) -> list[Tensor]:
    """Heads as parts of one product, so that rows lie apart."""
    generator = torch.Generator().manual_seed(T * 1000 + past)
    q = torch.randn(batch, T, H + 1, d, generator=generator)[:, :, 1:]
    k, v = torch.randn(batch, past + T, 2 * H_kv, d, generator=generator).chunk(2, dim=2)
    return [t.to(dtype) for t in (q, k, v)]


def wanted(inputs: list[Tensor], window: int | None, scale: float | None = None) -> Tensor:
    q, k, v = (t.double() for t in inputs)
    with force("ref"):
        return window_attention(q, k, v, window, scale)


def error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).norm() / expected.norm())


@both
@pytest.mark.parametrize("window", [1, 2, 63, 64, 65, 100, 128, 300, None])
@pytest.mark.parametrize("T, past", [(1, 0), (1, 99), (17, 0), (130, 70), (64, 127), (200, 300)])
def test_it_equals_the_reference(T, past, window, dtype):
    q, k, v = inputs = example(T, past, 4, 2, 64, dtype)
    got = loop.window_attention_compiled(q, k, v, window, None)
    assert got.dtype == dtype and got.is_contiguous()
    assert error(got, wanted(inputs, window)) < BOUNDS[dtype]


@both
@pytest.mark.parametrize("H, H_kv, d", [(1, 1, 64), (5, 1, 64), (6, 2, 128), (3, 3, 192)])
def test_heads_and_batches(H, H_kv, d, dtype):
    q, k, v = inputs = example(90, 50, H, H_kv, d, dtype, batch=2)
    got = loop.window_attention_compiled(q, k, v, 70, 0.3)
    assert error(got, wanted(inputs, 70, 0.3)) < BOUNDS[dtype]


@both
def test_more_query_heads_of_a_key_head_than_rows_of_a_task(dtype):
    H = loop.TASK_ROWS + 5
    q, k, v = inputs = example(20, 30, H, 1, 64, dtype)
    got = loop.window_attention_compiled(q, k, v, 25, None)
    assert error(got, wanted(inputs, 25)) < BOUNDS[dtype]


@both
def test_scores_of_any_size(dtype):
    """One key takes all, whatever the scores: nothing overflows, nothing is lost."""
    q, k, v = example(140, 60, 2, 1, 64, dtype)
    for size in (1e-20, 1e3, 1e15):
        got = loop.window_attention_compiled(q * size, k, v, 90, None)
        assert error(got, wanted([q * size, k, v], 90)) < BOUNDS[dtype]
    far = -torch.ones_like(q)  # all scores -6.4e22: the mean of the values
    got = loop.window_attention_compiled(far, torch.full_like(k, 1e21), v, 90, 1.0)
    assert error(got, wanted([far * 0, k, v], 90)) < BOUNDS[dtype]


@both
def test_threads_change_no_bit(dtype):
    q, k, v = example(300, 200, 4, 2, 64, dtype)
    before, outputs = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            outputs.append(loop.window_attention_compiled(q, k, v, 150, None))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*outputs)


@both
def test_chunks_of_a_text_take_it(dtype, monkeypatch):
    calls = []
    compiled_loop = loop.window_attention_compiled

    def counted(*args):
        calls.append(args[0].shape[1])
        return compiled_loop(*args)

    monkeypatch.setattr(loop, "window_attention_compiled", counted)
    monkeypatch.setattr(loop, "supported", lambda feature: not feature.startswith("amx"))
    q, k, v = inputs = example(512, 30, 2, 1, 64, dtype)
    got = window_attention(q, k, v, 100)
    assert calls == [512] and error(got, wanted(inputs, 100)) < BOUNDS[dtype]
    window_attention(q[:, :511], k[:, :511], v[:, :511], 100)
    window_attention(q[..., :32], k[..., :32], v[..., :32], 100)
    window_attention(q, k, v, 100, sinks=4)
    window_attention(q.requires_grad_(), k, v, 100).sum().backward()
    assert calls == [512] and q.grad is not None


@pytest.mark.parametrize(
    "features, float32, bfloat16",
    [
        ((), False, False),
        (("avx512f",), True, False),
        (("avx512f", "avx512bf16"), True, True),
        (("avx512f", "avx512bf16", "amx-bf16"), True, False),
    ],
)
def test_processors(features, float32, bfloat16, monkeypatch):
    monkeypatch.setattr(loop, "supported", lambda feature: feature in features)
    q = torch.zeros(1, 1, 1, 64)
    assert loop.takes(q) == float32 and loop.takes(q.bfloat16()) == bfloat16
    assert not loop.takes(torch.zeros(1, 1, 1, 80))
