"""Beam search finds what trying everything finds, and a width of 1 is greedy."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from conftest import make_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fusion import mixed

from samba_cli.model import Model, State, load_checkpoint
from samba_cli.model.generation import Sampling, generate
from samba_cli.model.generation_beam import Beam, Hypothesis, beam_search

PROMPT = list(range(40, 70))
STOP = 3
WORDS = [STOP, 50, 60, 70]  # all that is not banned, where everything is tried
BANNED = set(range(288)) - set(WORDS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.set_num_threads(1)
    return load_checkpoint(make_checkpoint(tmp_path_factory.mktemp("m") / "c", seed=3, window=32))


def search(model: Model, prompt: list[int], beam: Beam, state: State | None = None, **ends):  # type: ignore[no-untyped-def]
    [[found]] = beam_search(model, state or model.initial_state(), [prompt], [beam], **ends)
    return found


def everything(model: Model, most: int) -> list[Hypothesis]:
    """Every text of at most so many of the words, likeliest first."""
    found = []
    words = [word for word in WORDS if word != STOP]
    for length in range(most + 1):
        for tokens in product(words, repeat=length):
            whole = [*tokens, STOP] if length < most else list(tokens)
            with torch.inference_mode():
                logits = model(torch.tensor([PROMPT + whole]), model.initial_state())[0]
            values = logits[len(PROMPT) - 1 : -1].log_softmax(-1)
            total = sum(float(row[token]) for row, token in zip(values, whole, strict=True))
            found.append(Hypothesis(tokens, total, length < most))
    return sorted(found, key=lambda one: -one.log_probability)


def likened(found: list[Hypothesis]) -> list[tuple[tuple[int, ...], object, bool]]:
    return [(h.tokens, pytest.approx(h.log_probability, abs=1e-3), h.ended) for h in found]


def test_a_beam_as_wide_as_all_texts_finds_the_likeliest(model: Model) -> None:
    wanted = everything(model, 3)
    assert len(wanted) == 1 + 3 + 9 + 27
    found = search(model, PROMPT, Beam(40, 3), stop={STOP}, banned=BANNED)
    assert likened(found) == [(h.tokens, h.log_probability, h.ended) for h in wanted]


def test_it_ends_when_nothing_can_get_better(model: Model) -> None:
    """With few kept texts it stops early, and still has the likeliest of those it looked at."""
    wanted = everything(model, 4)
    found = search(model, PROMPT, Beam(27, 4), stop={STOP}, banned=BANNED)
    assert likened(found) == [(h.tokens, h.log_probability, h.ended) for h in wanted[:27]]
    narrow = search(model, PROMPT, Beam(2, 40), stop={STOP, *range(100, 288)})
    assert len(narrow) == 2 and all(one.ended for one in narrow)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(0, 50))
def test_rows_are_what_they_are_alone_and_a_width_of_one_is_greedy(
    model: Model, lengths: list[int], before: int
) -> None:
    state = model.initial_state()
    if before:
        with torch.inference_mode():
            model(torch.tensor([[50 + i for i in range(before)]]), state)
    prompts = [[40 + (7 * i + p * p) % 200 for p in range(n)] for i, n in enumerate(lengths)]
    beams = [Beam(4, 7), Beam(1, 12, no_repeat_ngram=2)]
    ends = {"stop": set(range(40, 90)), "banned": {100, 200}}
    together = beam_search(model, state, prompts, beams, **ends)
    how = Sampling(max_tokens=12, no_repeat_ngram=2)
    for prompt, (wide, greedy) in zip(prompts, together, strict=True):
        alone = search(model, prompt, beams[0], state, **ends)
        assert [(h.tokens, h.ended) for h in wide] == [(h.tokens, h.ended) for h in alone]
        assert len(wide) == 4
        assert all(a.log_probability >= b.log_probability for a, b in pairwise(wide))
        [one] = greedy
        assert list(one.tokens) == list(generate(model, state.fork(), prompt, how, **ends))
    assert state.position == before


@pytest.mark.parametrize("graphs", ["off", "direct"])
def test_a_prompt_read_in_pieces_is_the_prompt(
    model: Model, graphs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMBA_GRAPHS", graphs)
    whole = search(model, PROMPT, Beam(5, 6), stop={STOP})
    for cut in (1, 13, len(PROMPT) - 1):
        state = model.initial_state()
        with torch.inference_mode():
            model(torch.tensor([PROMPT[:cut]]), state)
        kept = {name: tensor.clone() for name, tensor in state.tensors().items()}
        again = search(model, PROMPT[cut:], Beam(5, 6), state, stop={STOP})
        assert likened(again) == [(h.tokens, h.log_probability, h.ended) for h in whole]
        assert all(torch.equal(tensor, kept[name]) for name, tensor in state.tensors().items())


def test_stop_banned_repeats_and_the_maximum(model: Model) -> None:
    free = search(model, PROMPT, Beam(3, 10))
    assert len(free) == 3 and all(len(h.tokens) == 10 and not h.ended for h in free)
    first = free[0].tokens[0]
    assert all(first not in h.tokens for h in search(model, PROMPT, Beam(3, 10), banned={first}))
    stopped = search(model, PROMPT, Beam(3, 10), stop={first})
    assert all(first not in h.tokens for h in stopped)
    assert Hypothesis((), pytest.approx(stopped[0].log_probability)) == stopped[0]  # type: ignore[arg-type]
    others = set(range(288)) - {50, 60}
    assert search(model, PROMPT, Beam(3, 10, no_repeat_ngram=2), banned=others) == []  # none left
    for one in search(model, PROMPT, Beam(3, 4, no_repeat_ngram=2), banned=others):
        pairs = list(pairwise(one.tokens))
        assert len(pairs) == len(set(pairs)) == 3
    assert search(model, PROMPT, Beam(3, 0)) == []
    assert search(model, PROMPT, Beam(3, 4), banned=set(range(288))) == []
    assert beam_search(model, model.initial_state(), [], [Beam()]) == []
    with pytest.raises(ValueError, match="at least one token"):
        search(model, [], Beam())


@pytest.mark.parametrize("width", [3, 12])
def test_with_every_kind_of_layer(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a step has a fixed number of rows, as a graph has: 16 here, and 64."""
    model = mixed("cpu")
    state, prompts = model.initial_state(), [[1, 2, 3], [4], [5, 6, 7, 8, 9], [11] * 12]
    monkeypatch.setenv("SAMBA_GRAPHS", "direct")
    together = beam_search(model, state, prompts, [Beam(width, 6)], stop={2})
    monkeypatch.setenv("SAMBA_GRAPHS", "off")
    for prompt, [found] in zip(prompts, together, strict=True):
        alone = search(model, prompt, Beam(width, 6), stop={2})
        assert likened(found) == [(h.tokens, h.log_probability, h.ended) for h in alone]


@pytest.mark.gpu
def test_on_a_gpu_as_on_a_cpu(model: Model, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = make_checkpoint(tmp_path_factory.mktemp("gpu") / "c", seed=3, window=32)
    there = load_checkpoint(folder, "cuda")
    beams = [Beam(4, 6), Beam(1, 9)]
    prompts = [PROMPT, PROMPT[:9]]
    here = beam_search(model, model.initial_state(), prompts, beams, stop={STOP})
    found = beam_search(there, there.initial_state(), prompts, beams, stop={STOP})
    for some, others in zip(found, here, strict=True):
        for a, b in zip(some, others, strict=True):
            values = [one.log_probability for one in b]
            assert [one.log_probability for one in a] == pytest.approx(values, abs=0.05)
