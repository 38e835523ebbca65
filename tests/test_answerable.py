"""Whether a text answers: what the model's <|none|> and marks make of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samba_cli.answerable import (
    SHOWN_CPU,
    features,
    judge_all,
    log_nothing,
    probability,
    reordered,
)
from samba_cli.dialect import dialect_of
from samba_cli.documents import Document, Part
from samba_cli.evidence import Scored, find_all
from samba_cli.index import PassageIndex
from samba_cli.model import Model, Tokenizer, load_checkpoint
from samba_cli.passages import cut
from samba_cli.text_match import content_words

TEXT = "".join(
    f"# Chapter {n}\n\nThe {thing} of the house was painted {colour} in {1900 + n}. " * 6 + "\n\n"
    for n, (thing, colour) in enumerate([("door", "red"), ("roof", "blue"), ("gate", "green")] * 3)
)


@pytest.fixture(scope="module")
def parts(tiny_checkpoint: Path) -> tuple[Model, Tokenizer]:
    torch.set_num_threads(1)
    return load_checkpoint(tiny_checkpoint), Tokenizer.load(tiny_checkpoint)


@pytest.fixture(scope="module")
def index(parts: tuple[Model, Tokenizer]) -> Iterator[PassageIndex]:
    document = Document("house.md", "markdown", lambda: iter([Part(TEXT, line=1)]))
    with PassageIndex.create("") as index:
        index.add_document(document)
        for passage in cut(document):
            index.add_passage(1, passage, 100, 0.0)
        index.commit()
        yield index


def test_questions_are_judged_each_by_itself(
    parts: tuple[Model, Tokenizer], index: PassageIndex
) -> None:
    model, tokenizer = parts
    dialect = dialect_of(tokenizer)
    questions = ["When was the roof painted?", "Who pays the rent of the gate?"]
    found = find_all(questions, index, model, tokenizer)
    together = judge_all([*questions, ""], [*found, []], index.last_id(), model, dialect)
    for question, some, one in zip(questions, found, together, strict=False):
        [alone] = judge_all([question], [some], index.last_id(), model, dialect)
        assert alone.probability == pytest.approx(one.probability, abs=1e-4)
        assert {s.stored.id for s in one.scored} == {s.stored.id for s in some}
        assert 0 < one.probability < 1
    assert together[-1].scored == [] and not together[-1].answerable


@pytest.mark.parametrize("share, by_words", [(1.0, True), (0.6, True), (0.5, False), (0.0, False)])
def test_where_most_is_code_words_order_but_do_not_judge(
    parts: tuple[Model, Tokenizer], index: PassageIndex, share: float, by_words: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, tokenizer = parts
    dialect, question = dialect_of(tokenizer), "When was the roof painted?"
    [found] = find_all([question], index, model, tokenizer)
    found = found[: len(found) // 2 * 2]
    some = [
        replace(one, stored=replace(one.stored, passage=replace(one.stored.passage, kind="code")))
        if i < share * len(found) else one for i, one in enumerate(found)
    ]  # fmt: skip
    monkeypatch.setattr("samba_cli.answerable.CODE_WEIGHT", -1e6)  # plain order has the best first
    plain, code = judge_all([question] * 2, [found, some], index.last_id(), model, dialect)
    assert code.probability == pytest.approx(plain.probability, abs=1e-4)
    ids = [[one.stored.id for one in judged.scored] for judged in (plain, code)]
    assert (ids[0] == ids[1]) != by_words
    if by_words:
        assert all(a.bm25 <= b.bm25 for a, b in pairwise(code.scored))


def test_the_likelihood_of_nothing_is_that_of_the_token(parts: tuple[Model, Tokenizer]) -> None:
    model, tokenizer = parts
    dialect = dialect_of(tokenizer)
    question, text = "When was the roof painted?", "The roof was painted in 1901."
    prompt = [tokenizer.control["<|end|>"], *dialect.answer(question, [text]).ids]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt]), model.initial_state())[0, -1]
    [value] = log_nothing([(question, [text])], model, dialect)
    assert value == pytest.approx(float(logits.log_softmax(-1)[dialect.none]), abs=1e-3)


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=SHOWN_CPU))
def test_what_makes_nothing_likely_goes_down(values: list[float]) -> None:
    with PassageIndex.create("") as index:
        document = Document("a", "text", lambda: iter([Part("")]))
        index.add_document(document)
        for passage in cut(Document("a", "text", lambda: iter([Part(TEXT)]))):
            index.add_passage(1, passage, 100, None)
        asked = frozenset(content_words("When was the roof painted?"))
        scored = [Scored(one, 1.0, 1.0, 1.0, asked) for one in index.get(range(1, len(values) + 1))]
    nothing = {one.stored.id: value for one, value in zip(scored, values, strict=True)}
    about = dict.fromkeys(nothing, -2.0)
    order = [max(nothing[one.stored.id], -8.0) for one in reordered(scored, nothing)]
    # beside a score near 1, values closer than this are the same
    assert all(after >= before - 1e-12 for before, after in pairwise(order))
    assert 0 <= probability(features(scored, nothing, about, 9)) <= 1


def test_nothing_to_go_by_is_no_answer() -> None:
    assert features([], {}, {}, 0) == [] and probability([]) == 0.0
