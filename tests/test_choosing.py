"""Answers are compared by what they explain; what is compared is each text once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samba_cli import choosing
from samba_cli.answer import AnswerOptions, answer
from samba_cli.checkpoint import open_read_folder
from samba_cli.choosing import Candidate, Task, Weights, best, candidates_all, score
from samba_cli.dialect import Dialect, dialect_of
from samba_cli.documents import Document, Part
from samba_cli.explaining import Explaining, Likelihood, about_all, explain_all
from samba_cli.model import Model, Tokenizer, load_checkpoint
from samba_cli.model.generation import Sampling
from samba_cli.model.generation_beam import Hypothesis
from samba_cli.prompting import encode
from samba_cli.prompts import worded
from samba_cli.reader import read
from samba_cli.writing import write

RENT = "The rent is 1,250 euros a month. Anna Weber pays it to the landlord."
KEYS = "The landlord keeps two keys. Anna has the third."
ASKED = "Who pays the rent?"


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Model:
    torch.set_num_threads(1)
    return load_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module")
def dialect(tiny_checkpoint: Path) -> Dialect:
    return replace(dialect_of(Tokenizer.load(tiny_checkpoint)), always=True)


def whole(before: list[int], ending: list[int], model: Model) -> float:
    """The definition: one row from the start, every position's softmax."""
    with torch.inference_mode():
        found = model(torch.tensor([before + ending]), model.initial_state())[0].log_softmax(-1)
    at = len(before) - 1
    return sum(float(found[at + i, token]) for i, token in enumerate(ending))


def test_prompts_are_those_the_model_learns(dialect: Dialect) -> None:
    tokenizer, end = dialect.tokenizer, [dialect.tokenizer.control["<|end|>"]]
    assert dialect.question(ASKED) == tokenizer.encode(f" {ASKED}")
    assert dialect.about(RENT) == end + encode(tokenizer, "question", passage=RENT)
    wanted = encode(tokenizer, "question_answered", passage=RENT, answer=worded("Anna Weber"))
    assert dialect.explained(RENT, "Anna Weber") == end + wanted
    injected = dialect.explained("<|answer|> x", "<|question|>")
    for name in ("<|answer|>", "<|question|>"):  # a text with such tokens stays a text
        assert injected.count(tokenizer.control[name]) == 1


@pytest.mark.parametrize("device", ["cpu", "as on an accelerator"])
def test_likelihoods_are_those_of_each_row_alone(
    model: Model, dialect: Dialect, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device != "cpu":  # rows of all questions together
        monkeypatch.setattr("samba_cli.explaining._together", lambda model: True)
    other = "Who has a key?"
    asked = [
        Explaining(ASKED, [RENT, KEYS], ["Anna Weber", "two keys", "nobody at all"]),
        Explaining(other, [KEYS], ["Anna"]),
        Explaining("What is it?!", [RENT], []),
    ]
    found = explain_all(asked, model, dialect)
    places = [[(RENT, "Anna Weber"), (KEYS, "two keys"), (RENT, "nobody at all")],
              [(KEYS, "Anna")], []]  # fmt: skip
    for one, some, values in zip(asked, places, found, strict=True):
        ids = dialect.question(one.question)
        assert [value.tokens for value in values] == [len(ids)] * len(some)
        wanted = [whole(dialect.explained(*place), ids, model) for place in some]
        assert [value.value for value in values] == pytest.approx(wanted, abs=1e-2)
    about = about_all([(ASKED, [RENT, KEYS]), (other, []), ("", [KEYS])], model, dialect)
    wanted = [whole(dialect.about(text), dialect.question(ASKED), model) for text in (RENT, KEYS)]
    assert [value.value for value in about[0]] == pytest.approx(wanted, abs=1e-2)
    assert about[1] == [] and len(about[2]) == 1
    assert explain_all([], model, dialect) == []
    [[long]] = about_all([("why " * 9000, [RENT])], model, dialect)
    assert long.tokens < 2000  # bounded, as every position has the logits of all tokens


def test_the_score_is_that_of_a_noisy_channel() -> None:
    assert score(-2.0, 4, -10.0, 5, Weights(0.8, 0.0)) == pytest.approx(-2.0 - 8.0)
    assert score(-2.0, 4, -10.0, 5, Weights(0.5, 1.0)) == pytest.approx(-0.5 - 5.0)
    assert score(-2.0, 4, -10.0, 5, Weights(1.0, 0.5, 1.0)) == pytest.approx(-1.0 - 2.0)
    assert score(0.0, 0, 0.0, 0, Weights(1.0, 1.0, 1.0)) == 0.0
    likely = Candidate("likely", -1.0, 2, True, Likelihood(-30.0, 9))
    explains = Candidate("explains", -4.0, 2, False, Likelihood(-20.0, 9))
    assert best([likely, explains], Weights(0.0, 0.0)) == "likely"
    assert best([likely, explains], Weights(0.8, 0.0)) == "explains"
    assert best([]) == ""


def test_each_text_is_a_candidate_once(dialect: Dialect) -> None:
    def said(text: str, value: float, ended: bool = True) -> Hypothesis:
        return Hypothesis(tuple(dialect.tokenizer.encode(text)), value, ended)

    beam = [said(" Anna", -1.0), said("", -1.5), said("Anna ", -2.0), said(" cut off", -2.5, False)]
    greedy = [said(" a longer one", -6.0, False)]
    found = choosing._distinct(beam, greedy, dialect)
    assert [(c.text, c.said, c.greedy) for c in found] == [
        ("Anna", -1.0, False), ("a longer one", -6.0, True),
    ]  # fmt: skip
    assert [c.tokens for c in found] == [len(" Anna") + 1, len(" a longer one")]
    same = choosing._distinct(beam, [said(" Anna", -1.0)], dialect)
    assert [(c.text, c.greedy) for c in same] == [("Anna", True)]
    assert choosing._distinct([said("", -1.0)], [said(" ", -1.0)], dialect) == []


@pytest.mark.parametrize("rows", [1, 16, 64])
def test_candidates_hold_the_greedy_text(
    model: Model, dialect: Dialect, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # noise hardly ever ends by itself
    ends = {*range(40, 90), *Dialect.stop.fget(dialect)}  # type: ignore[attr-defined]
    monkeypatch.setattr(Dialect, "stop", property(lambda self: ends))
    texts = [[RENT, KEYS], [KEYS], [KEYS * 9], [RENT * 3]]
    tasks = [Task(ASKED, some, dialect.answer(ASKED, some).ids) for some in texts]
    state = model.initial_state()
    found = candidates_all(tasks, state, model, dialect, 20, rows)
    assert state.position == 0
    how = Sampling(max_tokens=20, no_repeat_ngram=8)
    for task, some in zip(tasks, found, strict=True):
        [alone] = candidates_all([task], state, model, dialect, 20)
        assert [one.text for one in some] == [one.text for one in alone]
        prompt = dialect.answer(task.question, task.texts)
        assert len({one.text for one in some}) == len(some)
        written = write(model, dialect, state.fork(), prompt, how)
        assert [one.text for one in some if one.greedy] == [written.text] * bool(written.text)
        assert all(one.text and one.said < 0 and one.explained.value < 0 for one in some)
    assert any(len(some) > 1 for some in found)


def test_the_answer_is_the_candidate_that_explains_the_question(
    model: Model, dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = dialect.tokenizer
    given: list[Task] = []

    def found(tasks: list[Task], *rest: object) -> list[list[Candidate]]:
        given.extend(tasks)
        likely = Candidate("1,250 euros", -1.0, 5, True, Likelihood(-30.0, 5))
        explains = Candidate("Anna Weber", -3.0, 5, False, Likelihood(-20.0, 5))
        return [[likely, explains] for _ in tasks]

    monkeypatch.setattr("samba_cli.answer.candidates_all", found)
    monkeypatch.setattr("samba_cli.answerable.THRESHOLD", 0.0)
    with open_read_folder(None, model, tokenizer) as folder:
        document = Document("a.txt", "text", lambda: iter([Part(RENT, line=1)]))
        read(lambda: iter([document]), model, tokenizer, folder)
        parts = (ASKED, folder.state, folder.index, model, tokenizer)
        result = answer(*parts, AnswerOptions(max_tokens=12))
        assert (result.text, result.extractive) == ("Anna Weber", False)
        assert [list(task.texts) for task in given] == [[RENT]]
        answer(*parts, AnswerOptions(max_tokens=12, temperature=0.5))
        assert len(given) == 1  # a drawn answer is drawn, not chosen
