"""Questions wanted after passages and answers: the strings of the program, learnt where meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.model import Tokenizer
from samba_cli.prompting import encode
from samba_cli.prompts import worded
from training import asking, corpus, pretext_asking, pretext_spans, tasks, tasks_asking
from training.asking import Pair
from training.library import Library
from training.rows import Formats, Losses, Row
from training.shards import write_shard
from training.tasks import Tasks

WEIGHTS = Path(__file__).parent.parent / "model" / "weights"
FORMATS = Formats.load(WEIGHTS, Losses(text=0.0))
TOKENIZER = Tokenizer.load(WEIGHTS)
TEXT = (
    "The mill on the Orrell was built in 1884 by Anna Reed. It ground barley for the whole valley "
    "until the flood. Nobody has repaired its wheel since then, and the people of Upper Orrell "
    "buy their flour in the town."
)
PAIRS = [
    Pair("Anna Reed", "Who built the mill on the Orrell?"),
    Pair("barley", "What did the mill grind for the valley?"),
]


def tokens(text: str) -> np.ndarray:
    return np.array(FORMATS.tokenizer.encode(text), np.uint16)


def learnt(row: Row) -> str:
    return FORMATS.tokenizer.decode(row.targets[row.targets >= 0].tolist())


WORDS = st.text("abcdefgh XYZ0123?,", min_size=1, max_size=30).map(str.strip).filter(bool)


@settings(deadline=None, max_examples=60)
@given(pairs=st.lists(st.builds(Pair, WORDS, WORDS), min_size=1, max_size=4))
def test_only_the_questions_are_learnt(pairs: list[Pair]) -> None:
    row = asking.explained(FORMATS, tokens(TEXT), pairs)
    assert learnt(row) == "".join(worded(pair.question) for pair in pairs)
    assert learnt(asking.about(FORMATS, tokens(TEXT), pairs[0].question)) == worded(
        pairs[0].question
    )


def test_rows_are_the_prompts_of_the_program() -> None:
    pair = PAIRS[0]
    before = encode(TOKENIZER, "question_answered", passage=TEXT, answer=worded(pair.answer))
    asked = TOKENIZER.encode(worded(pair.question))
    assert asking.explained(FORMATS, tokens(TEXT), [pair]).tokens.tolist() == before + asked
    before = encode(TOKENIZER, "question", passage=TEXT)
    assert asking.about(FORMATS, tokens(TEXT), pair.question).tokens.tolist() == before + asked


@pytest.mark.parametrize(
    ("answer", "question", "sensible"),
    [
        ("Anna Reed", "Who built the old mill there?", True),
        ("anna reed", "Who built the old mill there?", True),
        ("Anna Holt", "Who built the old mill there?", False),  # not in the text
        ("1884", "Was the mill built in 1884?", False),  # given away
        ("1884", "When?", False),  # too short to be about anything
        (".", "Who built the old mill there?", False),
    ],
)
def test_a_sensible_pair_has_its_answer_in_the_text(
    answer: str, question: str, sensible: bool
) -> None:
    assert asking.sensible(Pair(answer, question), TEXT) is sensible


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asking")
    texts = [TEXT, "A lamp hangs in the yard of the inn. It is lit at nine by the keeper's son."]
    write_shard(
        folder / "text.jsonl",
        [{"source": "x", "kind": "book", "title": str(i), "text": t} for i, t in enumerate(texts)],
    )
    corpus.build([(folder / "text.jsonl", False)], WEIGHTS, folder / "train")
    records = [
        {"task": "qa", "doc": TEXT, "question": p.question, "answer": p.answer, "id": f"w:0-{i}",
         "answerable": True, "evidence": [[TEXT.index(p.answer), TEXT.index(p.answer) + 4]]}
        for i, p in enumerate(PAIRS)
    ]  # fmt: skip
    write_shard(folder / "wiki_qa.jsonl", records)
    write_shard(folder / "all.jsonl", tasks.collect(folder / "wiki_qa.jsonl"))
    corpus.build([(folder / "all.jsonl", False)], WEIGHTS, folder / "tasks" / "train")
    return folder


def test_made_questions_follow_their_answers(built: Path) -> None:
    library, rng = Library(built / "train"), np.random.default_rng(0)
    made = [pretext_asking.row(library, FORMATS, rng) for _ in range(80)]
    rows = [row for row in made if row is not None]
    assert rows
    for row in rows:
        shown, *pairs = FORMATS.tokenizer.decode(row.tokens.tolist()).split("<|answer|>")
        for pair in pairs:
            answer, question = pair.split("<|question|>")
            assert answer.strip().lower() in shown.lower()
            assert answer.strip().lower() not in question.lower()


def test_human_questions_follow_their_answers(built: Path) -> None:
    row = tasks_asking.row(Tasks(built / "tasks" / "train", FORMATS), np.random.default_rng(0))
    assert row is not None
    found = learnt(row)
    assert sorted(found.replace("? ", "?| ").split("|")) == sorted(
        worded(pair.question) for pair in PAIRS
    )


def test_some_rows_of_marks_are_turned_round(built: Path) -> None:
    library, rng = Library(built / "train"), np.random.default_rng(1)
    rows = [pretext_spans.marks(library, FORMATS, rng) for _ in range(200)]
    mark = FORMATS.mark
    turned = [row for row in rows if row is not None and mark not in row.tokens]
    assert 10 < len(turned) < 120
    for row in turned:
        question = FORMATS.tokenizer.decode(row.tokens.tolist()).split("<|question|>")[1]
        assert learnt(row) == question


def test_a_passage_less_its_sentence_answers_no_more(built: Path) -> None:
    library, rng = Library(built / "train"), np.random.default_rng(2)
    silent = 0
    for _ in range(300):
        row = pretext_spans.answer(library, FORMATS, rng)
        if row is None:
            continue
        shown, said = FORMATS.tokenizer.decode(row.tokens.tolist()).split("<|answer|>")[:2]
        if "The mill on the Orrell was built" not in shown.split("<|passage|>")[1] and (
            "Nobody has repaired" in shown
        ):
            silent += said.strip().startswith("<|none|>")
    assert silent


def test_no_answer_comes_twice_in_a_row(built: Path) -> None:
    library, rng = Library(built / "train"), np.random.default_rng(3)
    for _ in range(100):
        row = pretext_spans.answer(library, FORMATS, rng)
        if row is not None:
            said = FORMATS.tokenizer.decode(row.tokens.tolist()).split("<|answer|>")[1:]
            answers = [s.split("<|")[0].strip().lower() for s in said if "<|none|>" not in s]
            assert len(answers) == len(set(answers))
