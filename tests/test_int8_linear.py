"""Products with matrices of int8, by compiled loops and without them, in any number of rows."""

import pytest
import torch
import torch.nn.functional as F
from conftest import make_checkpoint

from samba_cli.kernels import int8_linear as kernel
from samba_cli.kernels.int8_linear import int8_linear
from samba_cli.model import load_checkpoint
from samba_cli.model.quantization import quantize


@pytest.fixture(params=["on", "off"])
def loops(request, monkeypatch):
    monkeypatch.setenv("SAMBA_COMPILED", request.param)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 2), (3, 5), (1, 40)])
def test_products(monkeypatch, shape, dtype, bound):
    monkeypatch.setattr(kernel, "EXPANDED", 37 * 10)  # so that the matrix is taken in parts
    generator = torch.Generator().manual_seed(0)
    weight, scale = quantize(torch.randn(51, 37, generator=generator))
    x = torch.randn(*shape, 37, generator=generator).to(dtype)
    wanted = F.linear(x.double(), weight.double() * scale.double()[:, None])
    got = int8_linear(x, weight, scale)
    assert got.dtype == dtype and got.shape == (*shape, 51)
    assert (got.double() - wanted).norm() < bound * wanted.norm()


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@torch.inference_mode()
def test_a_model_with_the_matrices_of_its_file(tmp_path, dtype, bound):
    """Reads and decodes as one whose matrices were expanded, in a third of the memory."""
    folder = make_checkpoint(tmp_path / "c", int8=True)
    kept, wide = (load_checkpoint(folder, "cpu", dtype, how) for how in ("stored", "none"))
    assert all(
        p.dtype == torch.int8 for n, p in kept.named_parameters() if n.endswith("_proj.weight")
    )
    tokens = torch.randint(288, (1, 40), generator=torch.Generator().manual_seed(0))
    states = [kept.initial_state(), wide.initial_state()]
    for part in (tokens[:, :30], tokens[:, 30:31], tokens[:, 31:]):
        one, other = (m(part, s) for m, s in zip((kept, wide), states, strict=True))
        assert (one - other).norm() < bound * other.norm()


def test_what_is_not_int8_in_the_file_stays_as_it_is(tmp_path):
    model = load_checkpoint(make_checkpoint(tmp_path / "c"), "cpu", torch.float32, "stored")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
