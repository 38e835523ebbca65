"""RMSNorm and SwiGLU: every backend against an independent formula."""

import pytest
import torch
import torch.nn.functional as F

from samba_cli.kernels.dispatch import Backend, force
from samba_cli.kernels.rms_norm import add_rms_norm, rms_norm
from samba_cli.kernels.swiglu import swiglu

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
BACKENDS = ["ref", "torch", "triton"]


def rows(*shape: int, device: str = "cpu") -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(device)


def check(backend: Backend, T: int, D: int, device: str = "cpu") -> None:
    x, residual, weight = rows(2, T, D, device=device), rows(2, D, T, device=device), rows(D)
    residual, weight = residual.transpose(1, 2), weight.to(device)
    with force(backend):
        y, total = add_rms_norm(x.bfloat16(), residual, weight, 1e-5)
        low = rms_norm(x, weight, 1e-5, torch.bfloat16)
        gated = swiglu(x[..., : D // 2 * 2])
    expected = residual + x.bfloat16()
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y, F.rms_norm(expected, (D,), weight, 1e-5), rtol=1e-5, atol=1e-5)
    assert y.dtype == total.dtype == torch.float32 and low.dtype == torch.bfloat16
    plain = F.rms_norm(x, (D,), weight, 1e-5)
    torch.testing.assert_close(low.float(), plain, rtol=1e-2, atol=1e-2)
    gate, up = x[..., : D // 2], x[..., D // 2 : D // 2 * 2]
    torch.testing.assert_close(gated, F.silu(gate) * up, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("T, D", [(1, 8), (3, 33), (70, 48), (5, 600)])
@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_backends(backend: Backend, T: int, D: int) -> None:
    check(backend, T, D)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(backend: Backend) -> None:
    x, residual, weight = (rows(*s).requires_grad_() for s in [(3, 5, 8), (3, 5, 8), (8,)])
    with force(backend):
        y, total = add_rms_norm(x, residual, weight)
        actual = torch.autograd.grad((y * y.detach().sin()).sum() + total.sum(), [x, weight])
        gate = torch.autograd.grad(swiglu(x).square().sum(), x)[0]
    total = residual + x
    y = F.rms_norm(total, (8,), weight, 1e-5)
    expected = torch.autograd.grad((y * y.detach().sin()).sum() + total.sum(), [x, weight])
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    halves = F.silu(x[..., :4]) * x[..., 4:]
    expected_gate = torch.autograd.grad(halves.square().sum(), x)[0]
    torch.testing.assert_close(gate, expected_gate, rtol=1e-4, atol=1e-5)


def test_swiglu_refuses_an_odd_width() -> None:
    with pytest.raises(ValueError):
        swiglu(torch.zeros(2, 3))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("T, D", [(1, 512), (4097, 512), (333, 2048), (64, 8192)])
@torch.no_grad()
def test_gpu(T: int, D: int) -> None:
    check("triton", T, D, "cuda")
