"""Products with one vector against plain formulas, what a token brings, and the likeliest next."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
import torch.nn.functional as F

from samba_cli.kernels.dispatch import Backend, force, triton_available
from samba_cli.kernels.gemv import gemv, gemv_swiglu
from samba_cli.kernels.likeliest import likeliest
from samba_cli.kernels.token_input import token_input, token_rotation

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])]
BACKENDS = ["ref", "triton"]


def normal(*shape: int, seed: int = 0, device: str = "cpu") -> torch.Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) + seed))
    return drawn.to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("M, K", [(37, 70), (5, 5000), (160, 64), (1, 1)])
@torch.no_grad()
def test_products(backend: Backend, device: str, M: int, K: int) -> None:
    x, weight, bias = (normal(*s, device=device) for s in ((1, 1, K), (M, K), (M,)))
    norm, residual = normal(K, seed=1, device=device), normal(1, 1, M, seed=1, device=device)
    normed = F.rms_norm(x, (K,), norm, 1e-5)
    with force(backend):
        plain = gemv(x, weight)
        full = gemv(x, weight, None, bias, (norm, 1e-5), residual, 0.5)
        low = gemv(x, weight.bfloat16(), norm=(norm, 1e-5), out_dtype=torch.bfloat16)
    torch.testing.assert_close(plain, F.linear(x, weight), rtol=1e-4, atol=1e-4 * K**0.5)
    expected = residual + 0.5 * F.linear(normed, weight, bias)
    torch.testing.assert_close(full, expected, rtol=1e-4, atol=1e-4 * K**0.5)
    assert low.dtype == torch.bfloat16
    expected = F.linear(normed, weight.bfloat16().float())
    torch.testing.assert_close(low.float(), expected, rtol=1e-2, atol=1e-2 * K**0.5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("M, K", [(30, 70), (3, 2100)])
@torch.no_grad()
def test_int8_weights_and_activation(backend: Backend, device: str, M: int, K: int) -> None:
    x, norm = normal(1, 1, K, device=device), normal(K, seed=1, device=device)
    weight = torch.randint(-127, 128, (2 * M, K), generator=torch.Generator().manual_seed(M))
    weight, scale = weight.to(device, torch.int8), normal(2 * M, device=device).abs() / 127
    with force(backend):
        both = gemv(x, weight, scale, norm=(norm, 1e-5))
        gated = gemv_swiglu(x, weight, scale, (norm, 1e-5))
        bare = gemv_swiglu(x, weight.float() * scale[:, None])
    dense = weight.float() * scale[:, None]
    normed = F.rms_norm(x, (K,), norm, 1e-5)
    torch.testing.assert_close(both, F.linear(normed, dense), rtol=1e-4, atol=1e-2)
    for result, vector in ((gated, normed), (bare, x)):
        gate, up = F.linear(vector, dense).chunk(2, dim=-1)
        torch.testing.assert_close(result, F.silu(gate) * up, rtol=1e-3, atol=1e-2)


def test_products_take_one_vector() -> None:
    with pytest.raises(ValueError):
        gemv(torch.zeros(2, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError):
        gemv(torch.zeros(1, 4), torch.zeros(4, 3))
    with pytest.raises(ValueError):
        gemv_swiglu(torch.zeros(1, 3), torch.zeros(5, 3))


@pytest.mark.skipif(not triton_available(), reason="needs Triton")
def test_blocks_under_way_fit_into_shared_memory() -> None:
    from samba_cli.kernels.gemv_triton import STAGES, scratch_bytes, stages_that_fit

    for kilobytes in (227, 163, 99, 64):  # GPUs of compute capability 9.0, 8.0, 8.6 and 7.5
        shared = kilobytes * 1024
        for block in (2**i for i in range(12, 19)):
            for columns, programs in ((512, 4), (2048, 2), (16384, 3)):
                stages = stages_that_fit(block, columns, shared, programs)
                assert 1 <= stages <= STAGES
                one = (stages - 1) * block + scratch_bytes(columns)
                assert one <= shared and (stages <= 2 or programs * one <= shared)
    assert stages_that_fit(16384, 2048, 227 * 1024) == STAGES
    assert stages_that_fit(16384, 2048, 99 * 1024) == 3
    assert stages_that_fit(2**18, 2048, 227 * 1024) == 1


@pytest.mark.skipif(not triton_available(), reason="needs Triton")
def test_no_room_is_held_for_blocks_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    from samba_cli.kernels import gemv_triton

    monkeypatch.setattr(gemv_triton, "_multiprocessors", lambda device: 132)
    monkeypatch.setattr(gemv_triton, "_shared_bytes", lambda device: 227 * 1024)

    def tile(M: int, K: int, least_rows: int = 1, itemsize: int = 2) -> gemv_triton.Tile:
        weight = SimpleNamespace(
            shape=(M, K), element_size=lambda: itemsize, is_cuda=True, device=None
        )
        tiled = gemv_triton.tile(cast(torch.Tensor, weight), least_rows)
        blocks = -(-M // tiled.rows)
        assert 2 <= tiled.stages <= -(-blocks // tiled.programs) + 1
        places = -(-tiled.programs // 132)  # programs of a multiprocessor
        held = (tiled.stages - 1) * tiled.rows * K * itemsize + gemv_triton.scratch_bytes(K)
        assert places * held <= gemv_triton._shared_bytes(cast(torch.device, None))
        return tiled

    many = [(16384, 2048, 2), (50304, 2048)]
    assert all(tile(*shape).stages == gemv_triton.STAGES for shape in many)
    assert [tile(M, K).stages for M, K in ((8192, 2048), (2048, 4096), (160, 4096))] == [5, 4, 2]
    # Smaller blocks have more programs, and so do those of one long row.
    assert tile(2560, 2048, 2) == gemv_triton.Tile(2, 4, 4, 4 * 132)
    assert tile(2048, 8192) == gemv_triton.Tile(1, 8, 4, 3 * 132)
    assert tile(4096, 8192, itemsize=1).programs == 2 * 132
    assert tile(28672, 8192, 2).programs == 2 * 132  # blocks that are larger
    for kilobytes in (163, 99):  # three programs would have less under way than two
        monkeypatch.setattr(gemv_triton, "_shared_bytes", lambda device, k=kilobytes: k * 1024)
        assert tile(2048, 8192).programs == 2 * 132


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("position", [0, 3, 12_345_678])
def test_what_a_token_brings(device: str, position: int) -> None:
    table = torch.randint(-127, 128, (9, 70), dtype=torch.int8, device=device)
    scale, token = normal(9, device=device), torch.tensor([[5]], device=device)
    frequencies = torch.rand(12, dtype=torch.float64, device=device)
    at = torch.tensor([position], device=device)
    with force("triton"):
        row = token_input(token, table, scale, 2.0)
        cos, sin = token_rotation(at, frequencies)
    torch.testing.assert_close(row[0, 0], table[5].float() * scale[5] * 2)
    angles = position * frequencies
    torch.testing.assert_close(cos[0], angles.cos().float(), rtol=0, atol=1e-6)
    torch.testing.assert_close(sin[0], angles.sin().float(), rtol=0, atol=1e-6)
    with pytest.raises(ValueError):
        token_input(token.expand(2, 1), table)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("B, V", [(1, 3000), (3, 70)])
def test_the_likeliest_token(backend: Backend, device: str, B: int, V: int) -> None:
    logits = normal(B, V, device=device).round(decimals=1)  # many are equal
    out = torch.zeros(B, 1, dtype=torch.int64, device=device)
    forbidden = torch.zeros(V, dtype=torch.bool, device=device)
    for _ in range(5):
        with force(backend):
            likeliest(logits, forbidden, out)
        allowed = logits.masked_fill(forbidden, -torch.inf)
        for row, token in zip(allowed.tolist(), out[:, 0].tolist(), strict=True):
            assert token == row.index(max(row))
        forbidden[out[:, 0]] = True
    with pytest.raises(ValueError):
        likeliest(logits, forbidden[1:], out)
