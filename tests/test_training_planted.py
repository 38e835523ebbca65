"""Planted sentences and near misses: what they change in a text or a question, and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.near_misses import near_miss
from training.pretext_planted import plant

TEXT = (
    "The bridge was built in 1890 by the company of Edgar Holt. It carried a railway until 1952.\n"
    "\nThe valley has three mills. Nobody lives there now."
)
SENTENCE = "The number of the vault is 4711."


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), text=st.sampled_from([TEXT, "One line only", "# Head\n\nA b."]))
def test_a_planted_sentence_stands_in_the_text_and_nothing_is_lost(seed: int, text: str) -> None:
    planted = plant(text, SENTENCE, np.random.default_rng(seed))
    assert planted.count(SENTENCE) == 1
    assert planted.replace(SENTENCE, " ").split() == text.split()


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 10_000))
def test_a_near_miss_changes_one_word_to_one_that_is_not_shown(seed: int) -> None:
    question = "When was the bridge of Edgar Holt built in the valley?"
    nearby = "The tunnel was painted by Anna Reed in 1977, and Port Selby was founded on the coast."
    near = near_miss(question, TEXT, nearby, np.random.default_rng(seed))
    if near is None:
        return
    before, after = question.rstrip("?").split(), near.rstrip("?").split()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(changed) == 1
    old, new = changed[0]
    assert old in TEXT and new in nearby and new not in TEXT
    assert old[0].isupper() == new[0].isupper()


def test_most_questions_have_a_near_miss() -> None:
    found = [
        near_miss("Who was Edgar Holt?", TEXT, "Anna Reed left.", np.random.default_rng(seed))
        for seed in range(20)
    ]
    assert {"Who was Anna Holt?", "Who was Reed Holt?"} & set(found)


def test_a_question_about_nothing_shown_has_no_near_miss() -> None:
    rng = np.random.default_rng(0)
    assert near_miss("What colour are lemons?", TEXT, "Figs are purple.", rng) is None
