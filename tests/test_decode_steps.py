"""One token through the fused stages of Mamba and attention, against the kernels of chunks."""

import pytest
import torch
import torch.nn.functional as F
from test_gemv import BACKENDS, DEVICES, normal

from samba_cli.kernels.attention_step import attention_input_step, attention_ring_step, ring_slot
from samba_cli.kernels.causal_conv1d import causal_conv1d
from samba_cli.kernels.dispatch import Backend, force
from samba_cli.kernels.mamba_step import mamba_input_step, mamba_scan_step
from samba_cli.kernels.rotate import rotate
from samba_cli.kernels.selective_scan import selective_scan
from samba_cli.kernels.window_attention import window_attention_decode

Tensors = torch.Tensor | tuple[torch.Tensor, ...]


def close(actual: Tensors, expected: Tensors) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("E, D, K, bias", [(70, 33, 4, True), (32, 64, 3, False), (5, 9, 2, True)])
@torch.no_grad()
def test_input_of_mamba(backend: Backend, device: str, E: int, D: int, K: int, bias: bool) -> None:
    x, weight, norm = (normal(*s, device=device) for s in ((1, 1, D), (2 * E, D), (D,)))
    taps, state = normal(E, K, device=device), normal(1, E, K - 1, device=device)
    in_bias, conv_bias = (normal(n, device=device) if bias else None for n in (2 * E, E))
    with force("ref"):
        both = F.linear(F.rms_norm(x, (D,), norm, 1e-5), weight, in_bias)
        u, z = both.chunk(2, dim=-1)
        u, after = causal_conv1d(u, taps, conv_bias, state, "silu")
    with force(backend):
        actual = mamba_input_step(x, weight, None, in_bias, (norm, 1e-5), taps, conv_bias, state)
    close(actual, (u, z, after))
    with pytest.raises(ValueError):
        mamba_input_step(x, weight[1:], None, None, (norm, 1e-5), taps, None, state)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("E, N, R", [(70, 5, 7), (32, 16, 4), (3, 1, 1)])
@pytest.mark.parametrize("inner", ["none", "plain", "weighted"])
@torch.no_grad()
def test_scan_of_mamba(backend: Backend, device: str, E: int, N: int, R: int, inner: str) -> None:
    x, z = normal(1, 1, E, device=device), normal(1, 1, E, seed=1, device=device)
    parts = [normal(1, 1, n, seed=i, device=device) for i, n in enumerate((R, N, N))]
    dt_weight, dt_bias = normal(E, R, device=device), normal(E, seed=2, device=device)
    A, D = -normal(E, N, device=device).abs(), normal(E, device=device)
    state = normal(1, E, N, device=device)
    weights = [normal(p.shape[-1], seed=3, device=device) for p in parts]
    weights = weights if inner == "weighted" else [None, None, None]
    normed = [p if inner == "none" else F.rms_norm(p, p.shape[-1:], w, 1e-6)
              for p, w in zip(parts, weights, strict=True)]  # fmt: skip
    with force("ref"):
        dt = F.linear(normed[0], dt_weight)
        y, after = selective_scan(x, dt, A, normed[1], normed[2], D, z, dt_bias, state)
    norms = None if inner == "none" else ((weights[0], weights[1], weights[2]), 1e-6)
    joined = torch.cat(parts, dim=-1)
    with force(backend):
        actual = mamba_scan_step(x, z, joined, dt_weight, None, dt_bias, A, D, state, norms)
    close(actual, y)
    close(state, after)
    with pytest.raises(ValueError):
        mamba_scan_step(x, z, joined[..., 1:], dt_weight, None, dt_bias, A, D, state)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "H, n_kv, d, half, window, sinks",
    [(4, 2, 16, 8, 70, 0), (6, 3, 20, 6, 11, 4), (2, 1, 8, 0, 130, 3), (2, 1, 16, 8, 8300, 0)],
)
@torch.no_grad()
def test_attention(
    backend: Backend, device: str, H: int, n_kv: int, d: int, half: int, window: int, sinks: int
) -> None:
    D, slots = 33, window + sinks
    x, norm = normal(1, 1, D, device=device), normal(D, device=device)
    weight = normal((H + 2 * n_kv) * d, D, device=device)
    keys, values = (normal(1, slots, n_kv, d, seed=i, device=device) for i in (0, 1))
    turn = normal(1, half, device=device)
    rotation = (turn.cos(), turn.sin()) if half else None
    heads = F.linear(F.rms_norm(x, (D,), norm, 1e-5), weight).view(1, 1, -1, d)
    q, k, v = heads.split([H, n_kv, n_kv], dim=2)
    for position in (0, sinks, slots - 1, 3 * window + 7):
        at = torch.tensor([position], device=device)
        expected_keys, expected_values = keys.clone(), values.clone()
        with force("ref"):
            turned = (q, k) if rotation is None else (rotate(q, *rotation), rotate(k, *rotation))
            count, slot = ring_slot(at, window, sinks)
            place = position if position < sinks else sinks + (position - sinks) % window
            assert int(slot) == place and int(count) == min(position + 1, slots)
            expected_keys[:, place], expected_values[:, place] = turned[1][:, 0], v[:, 0]
            y = window_attention_decode(turned[0], expected_keys, expected_values, int(count))
        with force(backend):
            assert ring_slot(at, window, sinks) == (count, slot)
            actual = attention_input_step(
                x, weight, None, None, (norm, 1e-5), rotation, H, keys, values, slot
            )
            out = attention_ring_step(actual, keys, values, count, slot)
            one_k, one_v = torch.empty_like(k), torch.empty_like(v)
            again = attention_input_step(
                x, weight, None, None, (norm, 1e-5), rotation, H, one_k, one_v, 0
            )
        assert torch.equal(again, actual)
        close(actual, turned[0])
        close(one_k, turned[1])
        close((keys, values), (expected_keys, expected_values))
        close(out, y)
    with pytest.raises(ValueError):
        attention_input_step(x, weight[1:], None, None, (norm, 1e-5), None, H, keys, values, 0)
    with pytest.raises(ValueError):
        attention_ring_step(q[..., 1:], keys, values, count, slot)
