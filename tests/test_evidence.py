"""Evidence: scores do not depend on the batch, and quotes are exact text with exact lines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.documents import Document, Part, Passage
from samba_cli.evidence import EvidenceOptions, find_evidence, fuse, relevance
from samba_cli.index import PassageIndex
from samba_cli.model import Model, Tokenizer, load_checkpoint
from samba_cli.quotes import MAX_CHARS, quote

TEXTS = [
    "The notice period is three months for both parties.",
    "Payment is due within 30 days.",
    "The tenant pays for repairs below 100 euros. " * 5,
    "Keys are returned on the last day.",
]


@pytest.fixture(scope="module")
def parts(tiny_checkpoint: Path) -> tuple[Model, Tokenizer]:
    torch.set_num_threads(1)
    return load_checkpoint(tiny_checkpoint), Tokenizer.load(tiny_checkpoint)


def make_index(texts: list[str]) -> PassageIndex:
    index = PassageIndex.create("")
    index.add_document(Document("a.txt", "text", lambda: iter([Part("")])))
    place = 0
    for number, text in enumerate(texts):
        index.add_passage(1, Passage("a.txt", "text", place, place + len(text), text), 9, number)
        place += len(text)
    return index


@pytest.mark.parametrize("marks", [True, False])
def test_scores_do_not_depend_on_order_or_batch(
    parts: tuple[Model, Tokenizer],
    tiny_checkpoint: Path,
    marks: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tokenizer = parts[0], Tokenizer.load(tiny_checkpoint)
    if not marks:
        tokenizer.control = {}  # as a tokenizer of another family has it
    together = relevance("Who pays?", TEXTS, model, tokenizer)
    backwards = relevance("Who pays?", TEXTS[::-1], model, tokenizer)
    assert together == pytest.approx(backwards[::-1], abs=1e-4)
    monkeypatch.setattr("samba_cli.scoring._BATCH_TOKENS", {"cpu": 1})
    alone = relevance("Who pays?", TEXTS, model, tokenizer)
    assert together == pytest.approx(alone, abs=1e-4) and len(set(together)) == len(TEXTS)
    assert relevance("", TEXTS[:1], model, tokenizer) and relevance("x", [], model, tokenizer) == []


def test_candidates_match_words_first(parts: tuple[Model, Tokenizer]) -> None:
    filler = [f"Nothing of note happens in part {n}." for n in range(60)]
    with make_index([*filler, *TEXTS]) as index:
        found = find_evidence("What is the notice period?", index, *parts, EvidenceOptions(6))
        assert 3 <= len(found) <= 8
        best = max(found, key=lambda one: one.bm25)
        assert best.stored.passage.text == TEXTS[0] and best.coverage == 1.0
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        assert find_evidence("?", index, *parts, EvidenceOptions(6))
    with make_index([]) as index:
        assert find_evidence("anything", index, *parts) == []


def test_scores_are_fused_on_one_scale() -> None:
    assert fuse([1.0, 0.0], [0.0, 8.0], weight=2.0) == [1.0, 2.0]
    assert fuse([1.0], [0.0]) == [1.0] and fuse([], []) == []


def test_a_quote_is_the_sentence_with_the_answer() -> None:
    text = "\nThe rent is due.\nThe notice period\nis three months. Nothing else."
    passage = Passage("a.txt", "text", 100, 100 + len(text), text, line_start=8, line_end=10)
    found = quote(passage, "How long is the notice period?", "Three months")
    assert found.text == "The notice period\nis three months."
    assert (found.line_start, found.line_end) == (9, 10)
    assert text[found.char_start - 100 : found.char_end - 100] == found.text
    assert quote(passage, "When is the rent due?", "").text == "The rent is due."


def test_a_quote_is_no_heading_where_there_is_a_sentence() -> None:
    says = "*pathspec* is licensed under the MPL."
    for text in (
        f"License\n-------\n\n{says}\n",
        f"## License\n\n{says}",
        f"License\n=======\n{says}",
    ):
        passage = Passage("a", "text", 0, len(text), text)
        assert says in quote(passage, "Which license?", "").text
    alone = Passage("a", "text", 0, 15, "License\n-------")
    assert quote(alone, "Which license?", "").text == "License\n-------"


@settings(deadline=None, max_examples=60)
@given(
    st.text(alphabet="ab. \nC", min_size=1, max_size=1000),
    st.text(max_size=12),
    st.text(max_size=5),
)
def test_any_quote_is_exact_text(text: str, question: str, answer: str) -> None:
    passage = Passage(
        "a",
        "text",
        7,
        7 + len(text),
        text,
        line_start=1 + text.count("\n", 0, len(text) - len(text.lstrip())),
    )
    found = quote(passage, question, answer)
    assert text[found.char_start - 7 : found.char_end - 7] == found.text
    assert len(found.text) <= max(MAX_CHARS, 1)
    if found.text.strip():
        assert found.line_start == 1 + text.count("\n", 0, found.char_start - 7)
