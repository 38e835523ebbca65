"""Graphs against the plain forward: bit for bit on a CPU, called directly; replayed on a GPU."""

import pytest
import torch
from test_fusion import mixed, needs_gpu

from samba_cli.kernels.dispatch import force
from samba_cli.model import Model, State, cuda_graph
from samba_cli.model.cuda_graph import decoding, graph_for, read_chunk
from samba_cli.model.description import (
    AttentionSpec,
    Description,
    LayerSpec,
    Mamba2Spec,
    MambaSpec,
    MLPSpec,
)
from samba_cli.model.generation import Sampling, generate, prefill

WINDOW = 8  # of `mixed`, beside 2 sinks


@pytest.fixture
def direct(monkeypatch):
    monkeypatch.setenv("SAMBA_GRAPHS", "direct")


@pytest.fixture(scope="module")
def model() -> Model:
    return mixed("cpu")


def tokens_for(model: Model, batch: int, length: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (batch, length)
    return torch.randint(model.description.vocab_size, size, generator=generator).to(model.device)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit for bit; on a GPU, whose library may choose other products, within their rounding."""
    if a.device.type == "cpu":
        return torch.equal(a, b)
    tolerance = 1e-2 if a.dtype == torch.bfloat16 else 1e-4
    return bool((a.double() - b.double()).norm() <= tolerance * b.double().norm())


def assert_same(a: State, b: State) -> None:
    assert a.position == b.position
    for name, tensor in a.tensors().items():
        assert same(tensor, b.tensors()[name]), name
    for one, other in zip(a.layers, b.layers, strict=True):
        assert getattr(one, "position", 0) == getattr(other, "position", 0)


def decode_both(model: Model, before: int, batch: int, steps: int) -> None:
    """Plainly and by graph, from a state that has read `before` tokens, past the window's end."""
    plain = model.initial_state(batch)
    if before:
        model(tokens_for(model, batch, before), plain)
    state = plain.fork()
    read = tokens_for(model, batch, steps, seed=1)
    with decoding(model, state) as step:
        for i in range(steps):
            expected = model(read[:, i : i + 1], plain)
            assert same(step(read[:, i : i + 1]), expected)
    assert_same(state, plain)


@pytest.mark.parametrize("before, batch", [(0, 1), (1, 1), (5, 2), (9, 3), (10, 1), (37, 2)])
@torch.inference_mode()
def test_steps_equal_the_plain_forward_past_the_wrap(direct, model, before, batch):
    decode_both(model, before, batch, steps=3 * WINDOW)


@torch.inference_mode()
def test_the_likeliest_token_after_tokens_of_any_origin(direct, model):
    plain, state = model.initial_state(), model.initial_state()
    with decoding(model, state, {3}) as step:
        token = 7
        for i in range(12):
            logits = model(torch.tensor([[token]]), plain)[0, -1]
            logits[3] = -torch.inf
            expected = int(logits.argmax())
            if i % 4 == 3:
                step(torch.tensor([[token]]))
                token = expected
            else:
                assert step.likeliest(token) == expected
                token = expected if i % 3 else 5
    assert_same(state, plain)


@pytest.mark.parametrize("before", [0, 5, 9, 37])
@torch.inference_mode()
def test_fused_steps_equal_the_plain_forward(direct, before):
    model = mixed("cpu").join()
    plain = model.initial_state()
    if before:
        model(tokens_for(model, 1, before), plain)
    state, read = plain.fork(), tokens_for(model, 1, 2 * WINDOW, seed=1)
    with force("triton"), decoding(model, state) as step:
        made = [step(read[:, i : i + 1]) for i in range(read.shape[1])]
    with force("ref"):
        expected = [model(read[:, i : i + 1], plain) for i in range(read.shape[1])]
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
    assert state.position == plain.position
    for name, tensor in plain.tensors().items():
        torch.testing.assert_close(state.tensors()[name], tensor, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_one_graph_serves_forks_and_batches(direct, model):
    state = model.initial_state()
    model(tokens_for(model, 1, 13), state)
    before = state.fork()
    graph = graph_for(model, state, 1)
    for seed in range(2):
        fork, plain = state.fork(), state.fork()
        token = tokens_for(model, 1, 1, seed)
        with decoding(model, fork) as step:
            assert torch.equal(step(token), model(token, plain))
        assert_same(fork, plain)
    assert_same(state, before)
    assert graph is not None and graph_for(model, state, 1) is graph
    assert graph_for(model, state.expand(3), 1) is not graph


@torch.inference_mode()
def test_texts_at_the_same_time_do_not_disturb_each_other(direct, model):
    prompts, how = ([3, 4, 5], [9, 8, 7, 6]), Sampling(max_tokens=12)
    expected = [list(generate(model, model.initial_state(), p, how)) for p in prompts]
    both = [generate(model, model.initial_state(), p, how) for p in prompts]
    assert [list(made) for made in zip(*expected, strict=True)] == [
        list(made) for made in zip(*both, strict=True)
    ]


@pytest.mark.parametrize(
    "how",
    [
        Sampling(max_tokens=30),
        Sampling(max_tokens=30, temperature=1.0, top_p=0.9, seed=4),
        Sampling(max_tokens=30, repetition_penalty=1.3, no_repeat_ngram=2),
    ],
)
def test_generation_is_the_same_by_graph(monkeypatch, model, how):
    made, states = [], []
    for mode in ("off", "direct"):
        monkeypatch.setenv("SAMBA_GRAPHS", mode)
        state = model.initial_state()
        made.append(list(generate(model, state, [1, 2, 3], how, stop={60}, banned={5})))
        states.append(state)
    assert made[0] == made[1] and made[0]
    assert_same(*states)


def test_the_state_has_moved_when_generation_is_left_early(monkeypatch, model):
    states = []
    for mode in ("off", "direct"):
        monkeypatch.setenv("SAMBA_GRAPHS", mode)
        state = model.initial_state()
        for count, _ in enumerate(generate(model, state, [1, 2, 3], Sampling(max_tokens=30))):
            if count == 6:
                break
        states.append(state)
    assert states[0].position == 3 + 6  # the last token made has not been read
    assert_same(*states)


@pytest.mark.parametrize("chunk", [3, 8, 10, 29])
@torch.inference_mode()
def test_chunks_equal_the_plain_forward(direct, model, chunk):
    plain, state = model.initial_state(), model.initial_state()
    stream = tokens_for(model, 1, 5 * chunk + 2)
    for start in range(0, stream.shape[1], chunk):
        part = stream[:, start : start + chunk]
        at = torch.arange(start % 3, part.shape[1], 2)  # as many as there happen to be
        replayed = state.position >= state.slots  # then all are made before some are taken
        made = read_chunk(model, part, state, at)
        if replayed:
            assert same(made, model.logits_at(model.hidden(part, plain), at))
        else:
            assert same(made, model(part, plain, at))
        assert_same(state, plain)


@torch.inference_mode()
def test_states_that_grow_go_without(direct):
    layers = (
        LayerSpec(AttentionSpec(2, 1, 16, None, rope_theta=1e4), MLPSpec(8)),
        LayerSpec(MambaSpec(32, 4, 4, 2), None),
        LayerSpec(Mamba2Spec(2, 16, 4, 1, 4, norm_eps=1e-5), None),
    )
    model = Model(Description(64, 32, layers, 1e-5, True)).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.1)
    state = model.initial_state()
    assert graph_for(model, state, 1) is None
    assert len(list(generate(model, state, [1, 2], Sampling(max_tokens=5)))) == 5
    assert state.position == 2 + 4


@torch.inference_mode()
def test_new_weights_get_new_graphs(direct):
    model = mixed("cpu")
    state = model.initial_state()
    graph = graph_for(model, state, 1)
    assert graph_for(model.join(), state, 1) is not graph
    with torch.inference_mode(False):
        assert graph_for(model, state, 1) is None  # autograd is at work


@torch.inference_mode()
def test_few_graphs_are_kept_and_the_least_used_goes(direct, monkeypatch):
    monkeypatch.setattr(cuda_graph, "KEPT", 3)
    model = mixed("cpu")
    first, second, third, fourth = (model.initial_state(batch) for batch in (1, 2, 3, 4))
    graphs = [graph_for(model, state, 1) for state in (first, second, third)]
    assert graph_for(model, first, 1) is graphs[0]  # used again: the second is the oldest now
    graph_for(model, fourth, 1)
    assert [graph_for(model, state, 1) is graph for state, graph in
            zip((first, third, second), (graphs[0], graphs[2], graphs[1]), strict=True)] == [
        True, True, False,
    ]  # fmt: skip
    decode_both(model, 5, 2, steps=4)


def test_graphs_are_off_on_a_cpu_and_by_the_switch(monkeypatch, model):
    with torch.inference_mode():
        assert graph_for(model, model.initial_state(), 1) is None
        monkeypatch.setenv("SAMBA_GRAPHS", "off")
        assert graph_for(model, model.initial_state(), 1) is None


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("joined", [False, True])
@torch.inference_mode()
def test_gpu_replay_equals_eager(dtype, joined):
    with torch.inference_mode(False):
        model = mixed("cuda", dtype)
        model = model.join() if joined else model
    for before, batch in [(0, 1), (5, 3), (37, 1)]:
        decode_both(model, before, batch, steps=40)
    graph = graph_for(model, model.initial_state(), 1)
    assert graph is not None and graph._graph is not None  # captured, not called directly
    plain, state = model.initial_state(), model.initial_state()
    stream, at = tokens_for(model, 1, 7 * 64), torch.tensor([3, 63], device="cuda")
    for start in range(0, stream.shape[1], 64):
        part = stream[:, start : start + 64]
        assert same(read_chunk(model, part, state, at), model(part, plain, at))
    assert_same(state, plain)
    chunks = graph_for(model, model.initial_state(), 64)
    assert chunks is not None and chunks._graph is not None


@pytest.mark.gpu
@needs_gpu
def test_gpu_generates_the_same_by_graph(monkeypatch):
    model = mixed("cuda").join()
    for how in (Sampling(60), Sampling(60, temperature=1.0, top_p=0.9, seed=4)):
        made = []
        for mode in ("off", "auto"):
            monkeypatch.setenv("SAMBA_GRAPHS", mode)
            made.append(list(generate(model, model.initial_state(), [1, 2, 3], how, banned={5})))
        assert made[0] == made[1] and len(made[0]) == 60
    assert prefill(model, model.initial_state(), [1, 2]).isfinite().all()
