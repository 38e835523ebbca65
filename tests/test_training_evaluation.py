"""The stages that measure: sampling, sharing work, the table beside the baselines."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from samba_cli.extraction import units
from training.baselines import baselines, table
from training.features import in_turns, part
from training.sampling import draw, grouped, set_of
from training.shards import write_shard

BASELINES = """# Baselines

## Summaries

| set | method | R1 / R2 / RLsum | words |
| --- | --- | --- | --- |
| notes | lead | 31.3 / 4.9 / 29.5 | 228 |
| notes | lsa | 33.7 / 4.7 / 31.1 | 228 |
| notes | oracle | 58.5 / 18.9 / 54.6 | 323 |

## Answers

| set | method | public |
| --- | --- | --- |
| contracts | bm25 sentence | 19.2 / 25.6 / 0.7 |
| contracts | never found | 24.7 / 0.0 / 24.7 |
| nothing | bm25 sentence | 0.0 / - / 0.0 |
"""


def test_the_table_shows_the_best_figure_of_each_column(tmp_path: Path) -> None:
    path = tmp_path / "BASELINES.md"
    path.write_text(BASELINES)
    known = baselines(path)
    assert known["Summaries"]["notes"]["oracle"] == [58.5, 18.9, 54.6]
    rouge = {"rouge1": 0.4, "rouge2": 0.1, "rougeLsum": 0.35}
    results = {
        "notes": {"summary": {"n": 3, **rouge, "words": 200, "names_numbers_in_doc": None}},
        "contracts": {
            "qa": {
                "n": 4, "f1_answerable": 0.5, "answerable_accuracy": 1.0,
                "unanswerable_accuracy": None,
                "evidence": {"n": 4, **{f"recall@{k}": 0.5 for k in (1, 3, 5)},
                             **{f"chars@{k}": 900.0 for k in (1, 3, 5)}},
            }
        },
    }  # fmt: skip
    lines = table(results, path).splitlines()
    assert "| notes | 3 | ROUGE-1/2/Lsum | 40.0 / 10.0 / 35.0 | 33.7 / 4.9 / 31.1 |" in lines
    assert "| contracts | 4 | F1 of the answerable | 50.0 | 25.6 |" in lines
    assert "| contracts | 4 | recall@1/3/5 | 50.0 / 50.0 / 50.0 | - |" in lines


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 5))
def test_shards_share_all_documents(sets: list[str], count: int) -> None:
    documents = [{"set": name, "number": i} for i, name in enumerate(sets)]
    turns = in_turns(documents)
    shared = [one for i in range(count) for one in part(turns, f"{i}/{count}")]
    assert sorted(one["number"] for one in shared) == list(range(len(sets)))


def test_every_beginning_holds_all_sets_alike() -> None:
    documents = [{"set": name} for name, count in (("a", 40), ("b", 20)) for _ in range(count)]
    first = [one["set"] for one in in_turns(documents)[:30]]
    assert first.count("a") == 20


def test_records_are_drawn_by_document(tmp_path: Path) -> None:
    def record(source: str, doc: str, number: int) -> dict[str, object]:
        return {"source": source, "doc": doc, "id": f"{doc}{number}", "task": "qa"}

    write_shard(
        tmp_path / "cuad.jsonl",
        [record("cuad", doc, n) for doc in ("one", "two", "three" * 99) for n in range(30)],
    )
    drawn = draw(tmp_path, longest=100)
    assert sorted(one["text"] for one in drawn) == ["one", "two"]
    assert all(1 <= len(one["records"]) <= 10 and one["set"] == "cuad" for one in drawn)
    assert draw(tmp_path, longest=100) == drawn  # the same again
    assert set_of({"source": "proposal_peps_sections"}) == "proposal_sections"
    assert grouped([]) == []


@given(st.text(alphabet="Ab c.\n-:1", max_size=200))
def test_units_are_apart_and_in_order(text: str) -> None:
    spans = units(text)
    ends = [0, *(end for _, end in spans)]
    assert all(before <= start < end for before, (start, end) in zip(ends, spans, strict=False))
    assert all(text[start:end] == text[start:end].strip() for start, end in spans)


def test_a_turn_of_a_conversation_is_a_unit_of_its_own() -> None:
    text = "Doctor: How are you\nPatient: Fine. Thanks\nDoctor: Good"
    assert [text[a:b] for a, b in units(text)] == [
        "Doctor: How are you", "Patient: Fine.", "Thanks", "Doctor: Good",
    ]  # fmt: skip
    wrapped = "This line is wrapped by hand since it was written long before\nanyone had a window."
    assert units(wrapped) == [(0, len(wrapped))]
