"""A batch of prompts of any lengths gives what each of them gives alone."""

from __future__ import annotations

import pytest
import torch
from conftest import make_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cuda_graph import same
from test_fusion import mixed

from samba_cli.model import Model, load_checkpoint
from samba_cli.model.generation import Sampling, generate
from samba_cli.model.generation_batch import generate_batch


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.set_num_threads(1)
    return load_checkpoint(make_checkpoint(tmp_path_factory.mktemp("m") / "c", seed=3, window=32))


def prompts_of(lengths: list[int]) -> list[list[int]]:
    return [[40 + (7 * i + p * p) % 200 for p in range(n)] for i, n in enumerate(lengths)]


def together(model, state, prompts, how, most=None, **ends) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in prompts]

    def take(row: int, token: int) -> bool:
        made[row].append(token)
        return most is None or len(made[row]) < most[row]

    generate_batch(model, state, prompts, how, take, **ends)
    return made


def alone(model, state, prompts, how, **ends) -> list[list[int]]:
    return [list(generate(model, state.fork(), prompt, how, **ends)) for prompt in prompts]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=5), st.integers(0, 50))
def test_rows_are_what_they_are_alone(model: Model, lengths: list[int], before: int) -> None:
    state = model.initial_state()
    if before:
        with torch.inference_mode():
            model(torch.tensor([[50 + i for i in range(before)]]), state)
    prompts = prompts_of(lengths)
    for how in (
        Sampling(max_tokens=9, no_repeat_ngram=2),
        Sampling(max_tokens=6, temperature=1.0, seed=4, repetition_penalty=1.5),
    ):
        assert together(model, state, prompts, how) == alone(model, state, prompts, how)
    assert state.position == before


def test_stop_banned_and_leaving_early(model: Model) -> None:
    state, prompts = model.initial_state(), prompts_of([20, 3, 11])
    how = Sampling(max_tokens=8)
    free = together(model, state, prompts, how)
    ends = {"stop": {free[0][3]}, "banned": {free[1][0]}}
    assert together(model, state, prompts, how, **ends) == alone(model, state, prompts, how, **ends)
    short = together(model, state, prompts, how, most=[1, 5, 8])
    assert short == [free[0][:1], free[1][:5], free[2]]
    assert together(model, state, [], how) == []
    assert together(model, state, prompts, Sampling(max_tokens=0)) == [[], [], []]
    with pytest.raises(ValueError, match="at least one token"):
        together(model, state, [[1], []], how)


def test_by_graphs_and_with_every_kind_of_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMBA_GRAPHS", "direct")
    model = mixed("cpu")
    state, prompts = model.initial_state(), [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    how = Sampling(max_tokens=12)
    assert together(model, state, prompts, how) == alone(model, state, prompts, how)


def test_some_rows_of_a_state(model: Model) -> None:
    state = model.initial_state(3)
    with torch.inference_mode():
        model(torch.arange(60).view(3, 20) + 40, state)
    taken = state.take([2, 0])
    for name, tensor in state.tensors().items():
        assert same(taken.tensors()[name], tensor[[2, 0]])
    assert taken.position == 20 and taken.batch == 2
