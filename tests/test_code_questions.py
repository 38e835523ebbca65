"""The evaluation set made of code, and the search it is measured against."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.baselines import FTS5, PASSAGE, fts5, passages, table
from training.code_phrasing import asked, first_sentence, named
from training.code_questions import documents, functions, questions
from training.evaluate import samples
from training.shards import Record, write_shard
from training.words import squeeze

THINGS = "harbour glacier orchard violin lantern compass meadow turbine saddle pepper".split()  # noqa: SIM905
DEEDS = "measures paints repairs carries polishes weighs".split()  # noqa: SIM905


def _module(name: str) -> str:
    """A file of functions, some of which may be asked for."""
    parts = ['"""About things."""\n\n']
    for thing in THINGS:
        parts += [f"\nclass {thing.title()}:\n", f'    """One {thing}."""\n']
        for deed in DEEDS:
            body = "".join(f"        total += {i}  # \N{SNOWMAN} step {i}\n" for i in range(20))
            parts += [
                f"\n    @cached\n    async def {name}_{deed}(self, total: int = 0) -> int:\n",
                f'        """{deed.title()} every old {thing} of the\n        {name} town '
                'with cookies, twice.\n\n        Slowly.\n        """\n',
                f"{body}        return total\n",
            ]
        body = "        a = 1\n        b = 2\n        return a\n"
        parts.append(f"\n    def merge_{thing}_{name}_cookies(self):\n{body}")
    return "".join(parts)


@pytest.fixture(scope="module")
def code() -> list[Record]:
    files = {f"town/{name}.py": _module(name) for name in ("alpha", "beta", "gamma")}
    files["town/broken.py"] = "print 'this is Python 2'\n"
    files["town/test_all.py"] = _module("omega")
    return [{"source": "code:town", "title": path, "text": files[path]} for path in files]


def test_a_docstring_asked_about_is_not_in_the_document(code: list[Record]) -> None:
    records = questions(code, 12)
    assert len(records) == 12 and len({record["id"] for record in records}) == 12
    document = records[0]["doc"]
    assert {record["doc"] for record in records} == {document}
    held = squeeze(document).lower()
    every = [f for one in code[:2] for f in functions(one["text"])]
    by_docstring = [r for r in records if ":docstring:" in r["id"]]
    assert len(by_docstring) == 8  # the others are names in words
    for record in by_docstring:
        told = [f for f in every if f.name == record["answer"]]
        assert sum(one.sentence.lower() in held for one in told) < len(told)
        thing = next(word for word in THINGS if word in record["question"])
        said = f"every old {thing} of the {record['answer'].split('_')[0]} town"
        assert said in record["question"]
        deed = record["answer"].split("_")[1]
        assert f"{deed} {said}" not in held
    assert held.count("town with cookies, twice.") == 2 * 60 - len(
        by_docstring
    )  # the others remain
    assert "omega" not in held and "Python 2" not in held


def test_the_evidence_is_the_function(code: list[Record]) -> None:
    for record in questions(code, 12):
        ((start, end),) = record["evidence"]
        function = record["doc"][start:end]
        assert function.removeprefix("async ").startswith(f"def {record['answer']}(")
        assert "return" in function and '"""' not in function and end - start <= 1000
        assert record["doc"][start - 5 : start] == "\n    " and record["doc"][end] == "\n"


def test_the_same_seed_makes_the_same_questions(code: list[Record]) -> None:
    assert questions(code, 12, seed=1) == questions(list(code), 12, seed=1)
    assert questions(code, 12, seed=1) != questions(code, 12, seed=2)


def test_what_says_nothing_is_not_asked() -> None:
    text = (
        "def one():\n"
        '    """Deprecated: counts all blue birds above the northern lake."""\n'
        "    a = 1\n    b = 2\n    return a + b\n\n\n"
        "def two():\n"
        '    """Counts all blue birds above the northern lake."""\n    return 2\n\n\n'
        "def three():\n"
        '    """Counts them."""\n    a = 1\n    b = 2\n    return a + b\n'
    )
    filler = "# a line of comment that fills the file\n" * 2000
    record = {"source": "code:birds", "title": "birds.py", "text": text + filler}
    assert [one.lines for one in functions(text)] == [4, 2, 4]
    assert questions([record]) == []


def test_sentences_become_questions() -> None:
    rng = random.Random(0)
    made = {asked("Returns True if ``url`` belongs to a domain.", rng) for _ in range(40)}
    assert "Where does it check whether url belongs to a domain?" in made
    made = {asked("Parses and loads the :class:`Config <a.Config>` file", rng) for _ in range(60)}
    assert {"How do I parse and load the Config file?"} < made
    assert "code that parses and loads the Config file" in made
    known = Counter({"cookies": 9, "request": 9, "options": 9, "nested": 9})
    made = {str(named("_merge_cookies_into_request", known, rng)) for _ in range(60)}
    assert "where are the cookies merged into request?" in made
    assert named("on_cookies", known, rng) is None
    assert named("merge_xyz_cookies", known, rng) is None
    assert first_sentence("Gives e.g. this. And that.\n\nMore.") == "Gives e.g. this."


@given(st.lists(st.integers(1, 120_000), max_size=12))
def test_documents_are_neither_short_nor_long(lengths: list[int]) -> None:
    files = [(f"{i:02}.py", "x" * length) for i, length in enumerate(lengths)]
    for some in documents(files):
        assert 70_000 <= sum(len(text) for _, text in some) <= 150_000


@given(st.text(alphabet="ab .\n", max_size=4000), st.integers(0, 3000))
def test_passages_share_the_text(text: str, more: int) -> None:
    text += "x" * more
    spans = passages(text)
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(0 < b - a <= PASSAGE for a, b in spans)


def test_fts5_ranks_by_the_words_of_the_question() -> None:
    parts = ["Cats sleep. ", "The dog was barking at it. ", "It is what it is, and it is it. "]
    text = "\n\n".join(part * (800 // len(part)) for part in parts)
    spans = passages(text)
    assert [text[a : a + 4] for a, b in spans] == ["Cats", "The ", "It i"]
    first = {method: next(fts5(text, ["what is it that barks"], method))[:1] for method in FTS5}
    # only a stemmer knows that barking is to bark, and "it is" counts where it is not left out
    assert first["fts5 unicode61"] == [spans[2]]
    assert first["fts5 porter -stop"] == [spans[1]]
    assert list(fts5(text, ['"OR" NEAR( cats', "?"], "fts5 porter")) == [[spans[0]], []]


def test_the_table_has_the_baselines_measured_beside_the_program(
    tmp_path: Path, code: list[Record]
) -> None:
    write_shard(tmp_path / "code.jsonl.xz", questions(code, 12))
    (tmp_path / "sample_ids").mkdir()
    assert len(samples(tmp_path, tmp_path, [], 0)["code"]) == 12
    assert len(samples(tmp_path, tmp_path, ["code"], 5)["code"]) == 5
    assert samples(tmp_path, tmp_path, ["cuad"], 0) == {}
    (tmp_path / "BASELINES.md").write_text("# Baselines\n")
    reached = {f"{what}@{k}": 0.5 for what in ("recall", "chars") for k in (1, 3, 5)}
    scores = {"n": 4, "f1_answerable": 0.5, "answerable_accuracy": 1, "unanswerable_accuracy": None}
    rows = {"fts5 porter": [20.0, 40.0, 60.0, 800.0], "fts5 unicode61": [30.0, 35.0, 50.0, 810.0]}
    results = {"code": {"qa": {**scores, "evidence": {"n": 4, **reached}}, "baselines": rows}}
    lines = table(results, tmp_path / "BASELINES.md").splitlines()
    assert "| code | 4 | recall@1/3/5 | 50.0 / 50.0 / 50.0 | 30.0 / 40.0 / 60.0 |" in lines
