"""Answers: noise from a random model never gets through as an answer; support is required."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from samba_cli.answer import (
    LEAD,
    AnswerOptions,
    _choose,
    answer,
    answer_all,
    checked,
    may_hold,
)
from samba_cli.checkpoint import ReadFolder, open_read_folder
from samba_cli.dialect import Dialect, dialect_of
from samba_cli.documents import Document, Part
from samba_cli.evidence import Scored
from samba_cli.model import Model, Tokenizer, default_model_path, load_checkpoint
from samba_cli.model.generation import Sampling
from samba_cli.reader import read
from samba_cli.text_match import content_words
from samba_cli.writing import Written, write, write_all

TEXT = """# Contract

The notice period is three months for both parties. It begins on the first of a month.

Anna Weber of Hill Street pays 1,250 euros a month to the landlord.
"""
QUICK = AnswerOptions(max_tokens=12)


@pytest.fixture(scope="module")
def parts(tiny_checkpoint: Path) -> tuple[Model, Tokenizer]:
    torch.set_num_threads(1)
    return load_checkpoint(tiny_checkpoint), Tokenizer.load(tiny_checkpoint)


@pytest.fixture(scope="module")
def folder(parts: tuple[Model, Tokenizer]) -> Iterator[ReadFolder]:
    with open_read_folder(None, *parts) as folder:
        document = Document("contract.txt", "text", lambda: iter([Part(TEXT, line=1)]))
        other = Document("b.txt", "text", lambda: iter([Part("Trains leave at noon.", line=1)]))
        read(lambda: iter([document, other]), *parts, folder)
        yield folder


def test_noise_falls_back_to_a_quote_or_to_nothing(
    parts: tuple[Model, Tokenizer], folder: ReadFolder
) -> None:
    before = folder.state.fork()
    first = answer("What is the notice period?", folder.state, folder.index, *parts, QUICK)
    assert first == answer("What is the notice period?", folder.state, folder.index, *parts, QUICK)
    assert not first.found or (first.extractive and first.text in TEXT)
    for one in first.evidence:
        assert one.document in ("contract.txt", "b.txt") and one.line_start is not None
        source = TEXT if one.document == "contract.txt" else "Trains leave at noon."
        assert source[one.char_start : one.char_end] == one.quote
    for question in ("", "   ", "?!", "<|mark|> <|end|>", "why " * 400):
        result = answer(question, folder.state, folder.index, *parts, QUICK)
        assert result.found == bool(result.text)
    for name, tensor in before.tensors().items():
        assert torch.equal(tensor, folder.state.tensors()[name])


def test_an_answer_needs_support(folder: ReadFolder) -> None:
    asked = frozenset(content_words("What is the notice period?"))
    chosen = [Scored(one, 1.0, 1.0, 1.0, asked) for one in folder.index.get([1])]
    assert chosen[0].coverage == 1.0

    def check(text: str, none: bool = False, sure: bool = False) -> tuple[str, bool]:
        question = "What is the notice period?"
        return checked(question, Written(text, none), chosen, folder.index, sure)

    assert check("Three months.") == ("Three months.", False)
    assert check("the landlord gets 1,250 euros a month") == (
        "the landlord gets 1,250 euros a month",
        False,
    )
    quote = "The notice period is three months for both parties."
    assert check("the landlord gets 1,350 euros a month") == (quote, True)
    assert check("the landlord pays Berta Maier a month") == (quote, True)
    assert check("completely different words entirely") == (quote, True)
    assert check("") == (quote, True) and check("", none=True) == ("", False)
    assert check("Yes.") == ("Yes.", False)
    assert check("The notice period") == (quote, True)  # that was the question
    either = "Is it the notice period or the rent?"
    choice = checked(either, Written("the notice period", False), chosen, folder.index)
    assert choice == ("the notice period", False)
    # "Anna Weber" is in the text; a sentence may begin with any word, so with a wrong name too
    wrong = "Ana Weber pays the landlord a month"
    assert check(wrong) == (wrong, False) and check(wrong, sure=True) == (quote, True)
    right = "Weber pays the landlord a month"
    assert check(right, sure=True) == (right, False)
    chosen[0] = replace(chosen[0], asked=asked | {f"other{i}" for i in range(8)})
    assert chosen[0].coverage == 0.2
    assert check("completely different words entirely") == ("", False)


def test_a_model_without_control_tokens_answers_too(
    parts: tuple[Model, Tokenizer], tiny_checkpoint: Path
) -> None:
    tokenizer = Tokenizer.load(tiny_checkpoint)
    tokenizer.control = {}
    with open_read_folder(None, parts[0], tokenizer) as folder:
        document = Document("contract.txt", "text", lambda: iter([Part(TEXT, line=1)]))
        read(lambda: iter([document]), parts[0], tokenizer, folder)
        assert all(one.salience is None for one in folder.index.iterate())
        result = answer("notice period?", folder.state, folder.index, parts[0], tokenizer, QUICK)
        assert result.evidence[0].document == "contract.txt"


def test_an_empty_memory_has_no_answer(parts: tuple[Model, Tokenizer]) -> None:
    with open_read_folder(None, *parts) as folder:
        result = answer("anything?", folder.state, folder.index, *parts)
        assert (result.found, result.evidence) == (False, ())


def test_what_decides_that_a_model_is_asked(folder: ReadFolder) -> None:
    [stored] = folder.index.get([1])
    held = sorted(content_words(stored.passage.text))

    def words(share: float) -> frozenset[str]:
        there = round(share * 10)
        return frozenset([*held[:there], *(f"other{i}" for i in range(10 - there))])

    def asked(kind: Literal["chat", "plain"], *of: tuple[float, float]) -> bool:
        scored = [Scored(stored, 1.0, mark, 1.0, words(share)) for mark, share in of]
        assert [one.coverage for one in scored] == [share for _, share in of]
        return may_hold(scored, kind)

    # a likelihood only ranks: it decides nothing
    assert not asked("plain", (2.9, 0.2)) and asked("plain", (-3.0, 0.2), (-4.0, 0.7))
    assert asked("chat", (-3.0, 0.0))  # and says itself when there is no answer


def test_a_base_model_is_not_asked_what_the_text_does_not_speak_of(
    parts: tuple[Model, Tokenizer], folder: ReadFolder, tiny_checkpoint: Path
) -> None:
    tokenizer = Tokenizer.load(tiny_checkpoint)
    tokenizer.control = {}
    model = parts[0]
    result = answer("Which volcano erupted?", folder.state, folder.index, model, tokenizer, QUICK)
    assert not result.found and result.text == "" and result.evidence


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_questions_together_are_answered_as_alone(
    parts: tuple[Model, Tokenizer], folder: ReadFolder, rows: int
) -> None:
    questions = [
        "What is the notice period?", "", "Who pays the landlord every month, and how much is it?",
        "When do trains leave?", "What is the notice period?", "Which zebra won?",
    ]  # fmt: skip
    before = folder.state.fork()
    for options in (QUICK, replace(QUICK, temperature=0.7, seed=3)):
        alone = [answer(q, folder.state, folder.index, *parts, options) for q in questions]
        found = answer_all(questions, folder.state, folder.index, *parts, options, rows)
        assert [one.question for one in found] == questions
        assert found == alone
    assert answer_all([], folder.state, folder.index, *parts, QUICK, rows) == []
    for name, tensor in before.tensors().items():
        assert torch.equal(tensor, folder.state.tensors()[name])


def test_what_is_written_side_by_side_is_what_is_written_alone(
    parts: tuple[Model, Tokenizer], folder: ReadFolder
) -> None:
    model, tokenizer = parts
    dialects = [dialect_of(tokenizer), Dialect("plain", tokenizer)]
    for dialect in dialects:
        prompts = [dialect.answer(f"What is {n}?", ["Some text. " * n]) for n in (3, 1, 7, 2)]
        how = Sampling(max_tokens=16, no_repeat_ngram=8)
        alone = [write(model, dialect, folder.state.fork(), one, how) for one in prompts]
        assert write_all(model, dialect, folder.state, prompts, how, rows=3) == alone


def test_the_model_that_ships_answers_together_what_it_answers_alone() -> None:
    parts = load_checkpoint(default_model_path()), Tokenizer.load(default_model_path())
    questions = ["What is the notice period?", "Who pays the landlord?", "When do trains leave?"]
    how = AnswerOptions(max_tokens=16, passages=1)
    with open_read_folder(None, *parts) as folder:
        document = Document("contract.txt", "text", lambda: iter([Part(TEXT, line=1)]))
        other = Document("b.txt", "text", lambda: iter([Part("Trains leave at noon.", line=1)]))
        read(lambda: iter([document, other]), *parts, folder)
        alone = [answer(q, folder.state, folder.index, *parts, how) for q in questions]
        assert any(one.found and not one.extractive for one in alone)
        assert answer_all(questions, folder.state, folder.index, *parts, how, rows=3) == alone
        dialect = dialect_of(parts[1])
        prompts = [dialect.answer(q, [TEXT[: 80 * n]]) for n, q in enumerate(questions, 1)]
        sampling = Sampling(max_tokens=12, no_repeat_ngram=8)
        one_by_one = write_all(parts[0], dialect, folder.state, prompts, sampling)
        assert write_all(parts[0], dialect, folder.state, prompts, sampling, 3) == one_by_one


def test_a_passage_that_leads_is_shown_alone(
    parts: tuple[Model, Tokenizer], folder: ReadFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By our own model: scores of others are no logits."""
    monkeypatch.setattr("samba_cli.answer.replay_budget", lambda model, taken: 1000)
    dialect, model = dialect_of(parts[1]), parts[0]
    stored = folder.index.get([1, 2])
    asked = frozenset(content_words("What is the notice period?"))

    def shown(lead: float, of: Dialect) -> int:
        first, second = stored
        scored = [Scored(first, lead, lead, 1.0, asked), Scored(second, 0.0, 0.0, 0.0, asked)]
        return len(_choose("What is the notice period?", scored, model, of, QUICK))

    assert shown(LEAD + 0.1, dialect) == 1
    assert shown(LEAD - 0.1, dialect) == 2
    assert shown(LEAD + 0.1, replace(dialect, kind="plain")) == 2


def test_the_model_that_ships_answers_from_the_passages_alone() -> None:
    parts = load_checkpoint(default_model_path()), Tokenizer.load(default_model_path())
    questions = ["What is the notice period?", "When do trains leave?"]
    how = AnswerOptions(max_tokens=16)
    with open_read_folder(None, *parts) as folder:
        document = Document("contract.txt", "text", lambda: iter([Part(TEXT, line=1)]))
        read(lambda: iter([document]), *parts, folder)
        distracted = folder.state.fork()
        noise = parts[1].encode("The notice period is nine years. " * 20)
        with torch.inference_mode():
            parts[0](torch.tensor([noise]), distracted)
        wanted = answer_all(questions, folder.state, folder.index, *parts, how)
        assert answer_all(questions, distracted, folder.index, *parts, how) == wanted
        assert "three months" in wanted[0].text
