"""Greedy, sampled, stopped: what comes out is what the logits say."""

import pytest
import torch
from conftest import make_checkpoint

from samba_cli.model import load_checkpoint
from samba_cli.model.generation import Sampling, choose, generate, prefill

PROMPT = list(range(40, 70))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_checkpoint(make_checkpoint(tmp_path_factory.mktemp("m") / "c", seed=3))


def run(model, **how):
    stop, banned = how.pop("stop", ()), how.pop("banned", ())
    return list(generate(model, model.initial_state(), PROMPT, Sampling(**how), stop, banned))


def test_greedy_follows_the_logits_of_one_pass(model):
    made = run(model, max_tokens=12)
    tokens = torch.tensor([PROMPT + made])
    with torch.inference_mode():
        logits = model(tokens, model.initial_state())[0]
    assert made == logits[len(PROMPT) - 1 : -1].argmax(-1).tolist()


def test_a_seed_repeats_and_another_differs(model):
    first = run(model, max_tokens=20, temperature=1.0, seed=1)
    assert first == run(model, max_tokens=20, temperature=1.0, seed=1)
    assert first != run(model, max_tokens=20, temperature=1.0, seed=2)


def test_stop_banned_and_the_maximum(model):
    made = run(model, max_tokens=10)
    assert len(made) == 10
    assert run(model, max_tokens=10, stop={made[0]}) == []
    assert made[0] not in run(model, max_tokens=10, banned={made[0]})
    assert run(model, max_tokens=0) == []
    with pytest.raises(ValueError, match="at least one token"):
        prefill(model, model.initial_state(), [])


def test_prefill_in_chunks_is_prefill_at_once(model):
    a = prefill(model, model.initial_state(), PROMPT, chunk=7)
    b = prefill(model, model.initial_state(), PROMPT)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_choice():
    logits = torch.tensor([2.0, 1.9, -1.0, 0.0])
    generator = torch.Generator().manual_seed(0)
    assert choose(logits, [], Sampling(), generator) == 0
    assert choose(logits, [0], Sampling(repetition_penalty=2.0), generator) == 1
    assert choose(logits, [3, 0, 3], Sampling(no_repeat_ngram=2), generator) == 1
    narrow = Sampling(temperature=1.0, top_p=0.3)
    assert {choose(logits, [], narrow, generator) for _ in range(50)} == {0}
    wide = Sampling(temperature=5.0)
    assert {choose(logits, [], wide, generator) for _ in range(300)} == {0, 1, 2, 3}
