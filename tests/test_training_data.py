"""The chain from shards to batches on a tiny corpus: formats, marks, losses, lanes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.dialect import Dialect
from samba_cli.model import Tokenizer
from samba_cli.prompts import render, worded
from training import corpus, tasks
from training.encoder import Encoder
from training.library import Library
from training.mix import Reading, Rows, mixed
from training.pretext import GENERATORS, SHARES
from training.pretext_recall import facts
from training.pretext_summaries import lead, salient
from training.questions import ask, definition, spans
from training.rows import Formats, Row, chain
from training.shards import write_shard
from training.stream import Lane, Lanes
from training.tasks import Tasks, shorten
from training.words import content_words, hashed, is_prose, sentences

WEIGHTS = Path(__file__).parent.parent / "model" / "weights"
ENCODER, TOKENIZER = Encoder(WEIGHTS), Tokenizer.load(WEIGHTS)
RIVERS = ("Tamsin", "Orrell", "Quenby", "Ludlam", "Vexford", "Hartwell")
CODE = '''"""Tools for rivers."""

LONGEST_RIVER = 120


def river_length(name, table):
    """Return the length of a river in kilometres, looked up by its name."""
    for row in table:
        if row.name == name:
            return row.length
    raise KeyError(name)


class RiverTable:
    """Holds the rivers of a country and finds them by name or by length."""

    def __init__(self, rows):
        self.rows = list(rows)

    def longest(self):
        """Return the longest river of the table, or None if it is empty."""
        if not self.rows:
            return None
        return max(self.rows, key=lambda row: row.length)
'''


def article(name: str, number: int) -> str:
    lead_section = (
        f"The {name} is a river in the north of the country that flows for {100 + number} "
        f"kilometres to Port {name}. It was surveyed in {1840 + number} by Captain "
        f"Edgar {name}son, who wrote a book about its bridges and mills.\n\n"
    )
    body = "".join(
        f"## {topic} of the {name}\n\n"
        + f"The {topic.lower()} of the {name} changed in {1850 + 7 * i + number}, when Edgar "
        f"{name}son built a bridge near Port {name}. Some {40 + i} mills stood along the river "
        f"then, and the people of Upper {name} worked in them for {i + 3} months every year. "
        f"A report of {1900 + i} says that the water was used by the farms in the valley. "
        * 2
        + "\n\n"
        for i, topic in enumerate(("Course", "History", "Economy", "Bridges", "Wildlife"))
    )
    return f"# {name} (river)\n\n{lead_section}{body}"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    records = [
        {"source": "wiki", "kind": "encyclopedia", "title": name, "text": article(name, i)}
        for i, name in enumerate(RIVERS)
    ]
    records += [
        {"source": "code:x", "kind": "code", "title": f"x/river_{i}.py",
         "text": CODE.replace("iver", f"iver{i}")}
        for i in range(3)
    ]  # fmt: skip
    write_shard(folder / "text" / "text-000.jsonl.xz", records)
    corpus.build(
        [(folder / "text" / "text-000.jsonl.xz", False)], WEIGHTS, folder / "out" / "train"
    )
    documents = []
    for i, name in enumerate(RIVERS):
        text = article(name, i)
        start = text.index("Captain")
        documents += [
            {"task": "qa", "doc": text, "question": f"Who surveyed the {name} first?",
             "answer": f"Captain Edgar {name}son", "answerable": True, "id": f"t:{i}-0",
             "evidence": [[start, start + 20]]},
            {"task": "qa", "doc": text, "question": "What is the depth of the lake?", "answer": "",
             "answerable": False, "id": f"t:{i}-1"},
            {"task": "summarize", "doc": text, "question": "", "answerable": True, "id": f"t:{i}-2",
             "answer": f"A river with bridges and mills, surveyed by Edgar {name}son."},
        ]  # fmt: skip
    write_shard(folder / "wiki_qa.jsonl", documents)
    write_shard(folder / "collected.jsonl", tasks.collect(folder / "wiki_qa.jsonl"))
    corpus.build([(folder / "collected.jsonl", False)], WEIGHTS, folder / "out" / "tasks" / "train")
    return folder / "out"


@pytest.fixture(scope="session")
def formats() -> Formats:
    return Formats.load(WEIGHTS)


@pytest.fixture(scope="session")
def library(built: Path) -> Library:
    return Library(built / "train")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return TOKENIZER


@settings(deadline=None, max_examples=40)
@given(text=st.text(max_size=80))
def test_the_workers_encoder_is_the_programs_tokenizer(text: str) -> None:
    encoder, tokenizer = ENCODER, TOKENIZER
    assert encoder.encode(text + "<|mark|>") == tokenizer.encode(text + "<|mark|>")
    assert encoder.control == tokenizer.control


def test_the_arrays_give_the_documents_back(library: Library, tokenizer: Tokenizer) -> None:
    number = next(i for i, d in enumerate(library.documents) if d["title"] == RIVERS[2])
    first, last = library.span(number)
    assert "".join(library.text(p) for p in range(first, last)) == article(RIVERS[2], 2)
    for passage in range(first, last):
        assert library.tokens(passage).tolist() == tokenizer.encode(library.text(passage))
        assert library.document_of(passage) == number


def test_rows_are_the_prompts_of_the_program(formats: Formats, tokenizer: Tokenizer) -> None:
    question, texts = "Who <|mark|> built it?\n", ["One passage.", "def f():\n    pass"]
    tokens = [np.array(tokenizer.encode(text), np.uint16) for text in texts]
    shown = [segment for text in texts for segment in render("passage", passage=text)]

    marks = formats.marking(question, tokens, [True, False])
    asked = worded(question)  # as `relevance` and `Dialect.answer` ask
    wanted = render("mark", question=asked, passage=texts[0])
    wanted += render("mark_next", passage=texts[1])
    assert marks.tokens.tolist() == tokenizer.encode_prompt(wanted)

    answer = formats.answering(question, tokens, "Ada")
    prompt = tokenizer.encode_prompt(render("answer", question=asked, passages=shown))
    assert prompt == Dialect("native", tokenizer).answer(question, texts).ids
    assert answer.tokens.tolist() == prompt + tokenizer.encode(" Ada")
    assert answer.targets[len(prompt) - 1 :].tolist() == [*tokenizer.encode(" Ada"), formats.end]

    for name in ("summarize_short", "summarize_bullets", "title"):
        row = formats.written(name, "Done.", passages=formats.passages(tokens))
        prompt = tokenizer.encode_prompt(render(name, passages=shown))
        assert row.tokens.tolist() == prompt + tokenizer.encode(" Done.")

    read = formats.reading("a.txt", tokens)
    wanted = render("read_document", name="a.txt")
    wanted += [segment for text in texts for segment in render("read_passage", passage=text)]
    assert read.tokens.tolist() == tokenizer.encode_prompt(wanted)


def test_the_loss_is_where_the_contract_says(formats: Formats, tokenizer: Tokenizer) -> None:
    tokens = [np.array(tokenizer.encode(text), np.uint16) for text in ("One two.", "Three four.")]
    marks = formats.marking("Which?", tokens, [True, False])
    places = np.flatnonzero(marks.tokens == formats.mark)
    assert marks.targets[places].tolist() == [formats.yes, formats.no]
    assert (marks.weights[places] > 0).all()

    read = formats.reading("a.txt", tokens)
    places = np.flatnonzero(read.tokens == formats.mark)
    assert (read.targets[places] == -1).all()
    assert (read.targets[places - 1] == -1).all()  # no mark is ever predicted
    known = formats.reading("a.txt", tokens, salient=[False, True])
    assert known.targets[places].tolist() == [formats.no, formats.yes]

    nothing = formats.answering("Which?", tokens, None)
    assert nothing.targets[-2:].tolist() == [formats.none, formats.end]
    first = int(np.flatnonzero(nothing.tokens == tokenizer.control["<|passage|>"])[0])
    assert (nothing.targets[:first] == -1).all()  # the question is given
    again = int(np.flatnonzero(nothing.tokens == tokenizer.control["<|question|>"])[1])
    assert (nothing.targets[again:-2] == -1).all()


def check(row: Row, formats: Formats) -> None:
    """What holds for every row: shapes, and targets that are the next tokens except at marks."""
    assert row.tokens.shape == row.targets.shape == row.weights.shape
    assert ((row.targets >= 0) == (row.weights > 0)).all()
    assert row.targets.max() < formats.tokenizer.vocab_size
    inside = np.flatnonzero(row.targets[:-1] >= 0)
    marks = row.tokens[inside] == formats.mark
    assert np.isin(row.targets[inside][marks], [formats.yes, formats.no]).all()
    plain = inside[~marks]
    assert (row.targets[plain] == row.tokens[plain + 1]).all()
    assert not np.isin(row.tokens, [formats.yes, formats.no]).any()


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_every_pretext_task_makes_sound_rows(kind: str, library: Library, formats: Formats) -> None:
    rng = np.random.default_rng(0)
    rows = [GENERATORS[kind](library, formats, rng) for _ in range(30)]
    made = [row for row in rows if row is not None]
    assert len(made) >= 3
    for row in made:
        check(row, formats)
    rng = np.random.default_rng(0)
    again = [GENERATORS[kind](library, formats, rng) for _ in range(30)]
    assert [None if r is None else r.tokens.tolist() for r in rows] == [
        None if r is None else r.tokens.tolist() for r in again
    ]


def test_answers_stand_in_the_passages_shown(library: Library, formats: Formats) -> None:
    rng, answered, unanswered, together = np.random.default_rng(1), 0, 0, 0
    for _ in range(60):
        row = GENERATORS["span_answer"](library, formats, rng)
        if row is None:
            continue
        first, *more = formats.tokenizer.decode(row.tokens.tolist()).split("<|end|>")
        shown = " ".join(first.partition("<|passage|>")[2].rpartition("<|question|>")[0].split())
        together += len(more)
        for asked in (first, *more):
            answer = asked.rpartition("<|answer|>")[2]
            if answer == "<|none|>":
                unanswered += 1
            else:
                answered += 1
                assert answer.startswith(" ") and answer.strip().lower() in shown.lower()
    assert answered > unanswered > 0 and together > 0


def test_human_made_tasks_become_rows(built: Path, formats: Formats) -> None:
    made = Tasks(built / "tasks" / "train", formats)
    rng = np.random.default_rng(2)
    for make in (made.marks, made.answer, made.answers, made.session, made.summary, made.read):
        rows = [row for row in (make(rng) for _ in range(20)) if row is not None]
        assert rows
        for row in rows:
            check(row, formats)
    document, question = 0, made.library.documents[0]["questions"][0]
    gold = made.gold(document, question)
    assert gold and "Captain Edgar" in made.library.text(gold[0])
    assert made.gold(document, made.library.documents[0]["questions"][1]) == []


def test_the_lead_is_found_and_covered(library: Library) -> None:
    number = next(i for i, d in enumerate(library.documents) if d["title"] == RIVERS[0])
    found = lead(library, number)
    assert found is not None and found.text.startswith("The Tamsin is a river")
    assert "##" not in found.text
    chosen = salient(library, found.words, found.body, found.last, 2)
    assert chosen and all(found.body <= p < found.last for p in chosen)


def test_questions_ask_for_what_was_blanked() -> None:
    rng = np.random.default_rng(0)
    sentence = "In 1857 Edgar Tamsinson built a bridge near Port Orrell."
    found = spans(sentence)
    assert {sentence[s.start : s.end] for s in found} >= {"1857", "Edgar Tamsinson", "Port Orrell"}
    for span in found:
        question = ask(sentence, span, rng)
        assert question.answer == sentence[span.start : span.end]
        assert question.answer.lower() not in question.text.lower()
    defined = definition("A weir is a low wall built across a river to raise its level.", rng)
    assert defined is not None and defined.answer.startswith("a low wall")
    assert definition("It is a low wall built across a river.", rng) is None


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=200))
def test_sentences_are_in_order_and_inside(text: str) -> None:
    end = 0
    for start, stop in sentences(text):
        assert end <= start <= stop <= len(text)
        end = stop
        is_prose(text[start:stop])


def test_facts_have_different_keys() -> None:
    made = facts(np.random.default_rng(0), 30, "phone")
    assert len({fact.said for fact in made}) == 30
    assert all(fact.answer in fact.said for fact in made)


def test_a_long_answer_ends_at_a_sentence() -> None:
    assert shorten("One. " * 400).endswith("One.")
    assert len(shorten("x" * 5000)) <= 950


def test_contaminated_documents_are_dropped(tmp_path: Path) -> None:
    text = article("Tamsin", 0)
    write_shard(tmp_path / "eval" / "e.jsonl", [{"doc": text}])
    records = [{"source": "s", "kind": "code", "title": t, "text": x}
               for t, x in (("copy", text), ("own", CODE))]  # fmt: skip
    write_shard(tmp_path / "code.jsonl", records)
    avoid = corpus._evaluation_shingles(tmp_path / "eval", tmp_path / "avoid.npy")
    corpus.build([(tmp_path / "code.jsonl", True)], WEIGHTS, tmp_path / "out", avoid=avoid)
    assert [d["title"] for d in Library(tmp_path / "out").documents] == ["own"]


def test_a_lane_goes_on_where_the_last_block_ended(library: Library, formats: Formats) -> None:
    def rows() -> Rows:
        rng = np.random.default_rng(5)
        return Rows(library, None, formats, {"read": 1.0}, Reading(library, formats, 1, 0, 1), rng)

    stream, wanted = rows(), []
    while sum(map(len, wanted)) < 3000:
        wanted += [[formats.end], next(stream).tokens.tolist()]
    lane, got = Lane(rows(), formats.end), []
    for size in (1, 64, 999, 512, 700):
        block = np.empty(size, np.uint16), np.empty(size, np.int32), np.empty(size, np.float16)
        lane.fill(*block)
        got += block[0].tolist()
    assert got == [token for row in wanted for token in row][: len(got)]


def test_every_document_is_read_once_an_epoch(library: Library, formats: Formats) -> None:
    rng, seen = np.random.default_rng(0), []
    for lane in range(2):
        reading = Reading(library, formats, 7, lane, 2)
        while reading._place < len(reading._order) or reading._epoch < 0:
            seen.append(formats.tokenizer.decode(reading._next(rng).tokens.tolist()))
    assert len(seen) == len(set(seen)) == len(library.documents)


def test_batches_depend_on_the_seed_and_not_on_the_workers(built: Path) -> None:
    mix = mixed(0.3, 0.3, 0.4) | {kind: share for kind, share in SHARES.items() if kind == "recall"}
    alone = iter(Lanes(built, mix, batch=3, length=128, seed=4, tokenizer=WEIGHTS))
    first = [next(alone) for _ in range(4)]
    other = iter(Lanes(built, mix, batch=3, length=128, seed=5, tokenizer=WEIGHTS))
    assert not all((a[0] == b[0]).all() for a, b in zip(first, other, strict=False))
    with Lanes(built, mix, batch=3, length=128, seed=4, workers=2, tokenizer=WEIGHTS) as lanes:
        for mine, theirs in zip(first, lanes, strict=False):
            for a, b in zip(mine, theirs, strict=True):
                assert a.dtype == b.dtype and (a == b).all()
    inputs, targets, weights = first[0]
    assert inputs.dtype == targets.dtype == np.int64 and weights.dtype == np.float32
    assert (inputs[:, 0] == 0).all()  # every lane begins with <|end|>


def test_ranks_share_the_lanes(built: Path) -> None:
    def batch(rank: int, world: int, size: int) -> np.ndarray:
        lanes = Lanes(built, {"read": 1.0}, size, 64, 3, rank, world, tokenizer=WEIGHTS)
        return next(iter(lanes))[0]

    whole = batch(0, 1, 4)
    assert (np.concatenate([batch(0, 2, 2), batch(1, 2, 2)]) == whole).all()


def test_a_worker_that_dies_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "documents.json").write_text(json.dumps([]))
    lanes = Lanes(tmp_path, {"read": 1.0}, 1, 32, workers=1, tokenizer=WEIGHTS)
    with pytest.raises(RuntimeError, match="worker ended early"):
        next(iter(lanes))


def test_rows_chain_as_the_program_asks(formats: Formats) -> None:
    read = formats.reading("a", [np.array([100, 101], np.uint16)])
    asked = formats.answering("Who?", [], "Ada")
    row = chain([read, asked, asked], formats.end)
    ends = np.flatnonzero(row.tokens == formats.end)
    # a fork of the document's state is asked: nothing stands between them
    assert ends.tolist() == [len(read.tokens) + len(asked.tokens)]
    check(row, formats)


def test_hashed_words_forget_order_and_plurals() -> None:
    assert (hashed(content_words("Rivers flow")) == hashed(content_words("flow river"))).all()


def test_the_shares_of_the_rows_turn_at_a_step(built: Path) -> None:
    first, later = {"read": 1.0}, {"task_answer": 1.0}
    plain = iter(Lanes(built, first, 2, 256, seed=3))
    turning = iter(Lanes(built, first, 2, 256, seed=3, turn=2, later=later))
    for step in range(2):
        for one, other in zip(next(plain), next(turning), strict=True):
            assert np.array_equal(one, other), step
    blocks = [next(turning) for _ in range(60)]
    answer = ENCODER.control["<|answer|>"]
    assert sum(int((tokens == answer).sum()) for tokens, _, _ in blocks) > 20
    assert not any(int((next(plain)[0] == answer).sum()) for _ in range(5))
