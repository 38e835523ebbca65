"""One token of each of a few rows: its kernels, and a whole model's step with them."""

import pytest
import torch
import torch.nn.functional as F
from test_gemv import DEVICES, normal

from benchmarks.random_models import random_model
from samba_cli.kernels.causal_conv1d import causal_conv1d
from samba_cli.kernels.dispatch import force, interpreted, triton_available
from samba_cli.kernels.rotate import rotate
from samba_cli.kernels.selective_scan import selective_scan
from samba_cli.model import Samba, SambaConfig
from samba_cli.model.cuda_graph import decoding

pytestmark = pytest.mark.skipif(not triton_available(), reason="needs Triton")
B = 5


def skip_cpu(device: str) -> None:
    if device == "cpu" and not interpreted():
        pytest.skip("needs Triton's interpreter")


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    error = (actual.float() - expected.float()).norm() / expected.float().norm()
    assert error < tolerance, error


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("M, K", [(37, 70), (130, 2048), (64, 8192)])
@torch.no_grad()
def test_products(device: str, dtype: torch.dtype, M: int, K: int) -> None:
    skip_cpu(device)
    if device == "cpu" and dtype == torch.bfloat16:
        pytest.skip("the interpreter multiplies no matrices of bfloat16")
    from samba_cli.kernels import rows_step_triton as rows

    x, weight = normal(B, 1, K, device=device).to(dtype), normal(M, K, device=device).to(dtype)
    expected = F.linear(x.double(), weight.double())
    close(rows.cut_linear(x, weight).sum(0), expected, 1e-5)
    close(rows.linear(x, weight, multiplier=0.5)[0], expected / 2, 1e-5)
    both = normal(2 * M, K, seed=1, device=device).to(dtype)
    gate, up = F.linear(x.double(), both.double()).chunk(2, dim=-1)
    close(rows.swiglu(x, both), F.silu(gate) * up, 1e-2 if dtype == torch.bfloat16 else 1e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("parts", [0, 1, 4])
@torch.no_grad()
def test_norm_of_a_sum(device: str, parts: int) -> None:
    skip_cpu(device)
    from samba_cli.kernels import rows_step_triton as rows

    x, weight = normal(B, 1, 70, device=device), normal(70, device=device)
    given = normal(parts, B, 1, 70, device=device) if parts else None
    total, y = rows.add_norm(x, given, weight, 1e-5, 0.5, torch.float32)
    expected = x if given is None else x + 0.5 * given.sum(0)
    close(total, expected)
    close(y, F.rms_norm(expected, (70,), weight, 1e-5))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("E, D, taps, bias", [(70, 33, 4, True), (64, 128, 2, False)])
@torch.no_grad()
def test_mamba(device: str, E: int, D: int, taps: int, bias: bool) -> None:
    skip_cpu(device)
    from samba_cli.kernels.mamba_rows_triton import input_rows, scan_rows

    dtype = torch.float16 if device == "cpu" else torch.bfloat16
    x, weight = normal(B, 1, D, device=device).to(dtype), normal(2 * E, D, device=device).to(dtype)
    conv = normal(E, taps, device=device).to(dtype)
    conv_bias = normal(E, device=device).to(dtype) if bias else None
    conv_state = normal(B, E, taps - 1, device=device).to(dtype)
    with force("ref"):
        u, z = F.linear(x.float(), weight.float()).to(dtype).chunk(2, dim=-1)
        u, after = causal_conv1d(u, conv, conv_bias, conv_state, "silu")
    actual_u, actual_z = input_rows(x, weight, conv, conv_bias, conv_state)
    for got, wanted in ((actual_u, u), (actual_z, z), (conv_state, after)):
        close(got, wanted, 1e-2)

    R, N = 7, 5
    parts, dt_weight = normal(2, B, 1, R + 2 * N, device=device), normal(E, R, device=device)
    bias_, D_ = normal(E, device=device), normal(E, seed=1, device=device)
    A, state = -normal(E, N, device=device).abs(), normal(B, E, N, device=device)
    dt, B_, C = parts.sum(0).split([R, N, N], dim=-1)
    u, z = u.float().contiguous(), z.float().contiguous()
    with force("ref"):
        y, wanted = selective_scan(u, F.linear(dt, dt_weight), A, B_, C, D_, z, bias_, state)
    close(scan_rows(u, z, parts, dt_weight, bias_, A, D_, state), y)
    close(state, wanted)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("half", [0, 4, 8])
@torch.no_grad()
def test_heads(device: str, half: int) -> None:
    skip_cpu(device)
    from samba_cli.kernels.attention_rows_triton import heads

    H, n_kv, d, slots = 6, 2, 16, 9
    parts = normal(2, B, 1, (H + 2 * n_kv) * d, device=device)
    keys, values = (normal(B, slots, n_kv, d, seed=i, device=device) for i in (0, 1))
    wanted_keys, wanted_values = keys.clone(), values.clone()
    turn = normal(1, half, device=device)
    rotation = (turn.cos(), turn.sin()) if half else None
    q, k, v = parts.sum(0).unflatten(-1, (-1, d)).split([H, n_kv, n_kv], dim=2)
    if rotation is not None:
        with force("ref"):
            q, k = rotate(q, *rotation), rotate(k, *rotation)
    wanted_keys[:, 3], wanted_values[:, 3] = k[:, 0], v[:, 0]
    slot = torch.tensor([3], device=device)
    close(heads(parts, rotation, H, keys, values, slot), q)
    close(keys, wanted_keys)
    close(values, wanted_values)


@pytest.mark.parametrize("device", DEVICES)
def test_steps_of_a_model(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Decoding a batch says what the plain forward does, past the window's end; so its state."""
    skip_cpu(device)
    config = SambaConfig(
        vocab_size=70, d_model=64, n_layer=2, d_ff=96, n_head=4, n_kv_head=2, window=8
    )
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = random_model(config.description(), torch.device(device), dtype).join()
    monkeypatch.setenv("SAMBA_GRAPHS", "auto" if device == "cuda" else "direct")
    called: list[bool] = []
    takes = type(model)._takes_rows
    monkeypatch.setattr(
        type(model), "_takes_rows", lambda *a: called.append(takes(*a)) or called[-1]
    )
    tokens = torch.randint(70, (3, 24), generator=torch.Generator().manual_seed(0)).to(device)
    state, plain = model.initial_state(3), model.initial_state(3)
    with torch.inference_mode(), force("triton"):
        model(tokens[:, :4], state)
        with decoding(model, state) as step:
            stepped = [step(tokens[:, i : i + 1]).clone() for i in range(4, 24)]
    assert called[-1]
    with torch.inference_mode(), force("ref"):
        wanted = model(tokens, plain)[:, 4:]
    close(torch.cat(stepped, dim=1), wanted, 3e-2 if device == "cuda" else 1e-4)
    for got, expected in zip(state.tensors().values(), plain.tensors().values(), strict=True):
        close(got, expected, 3e-2 if device == "cuda" else 1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", [1, 3])
def test_greedy_tokens_stay_on_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, batch: int
) -> None:
    monkeypatch.setenv("SAMBA_GRAPHS", "auto" if device == "cuda" else "direct")
    config = SambaConfig(vocab_size=70, d_model=32, n_layer=2, d_ff=48, n_head=2, window=8)
    model = Samba(config).initialise(0).to(device).eval().requires_grad_(False)
    first = torch.arange(batch, device=device)[:, None]
    chosen: list[list[torch.Tensor]] = []
    with torch.inference_mode():
        for fed_back in (True, False):
            ids, made = first, []
            with decoding(model, model.initial_state(batch), {5, 9}) as step:
                for _ in range(12):
                    ids = step.greedily(ids if fed_back else ids.clone())
                    made.append(ids.clone())
            chosen.append(made)
        ids, plain = first, model.initial_state(batch)
        for one, other in zip(*chosen, strict=True):
            logits = model(ids, plain)[:, -1]
            logits[:, [5, 9]] = -torch.inf
            ids = logits.argmax(-1, keepdim=True)
            assert torch.equal(one, ids) and torch.equal(other, ids)
