"""Hidden paragraphs: each lies once in its text, and its evidence where it was."""

from __future__ import annotations

from training.hidden_paragraphs import TOGETHER, build

TEXTS = [
    "\n\n".join(f"Paragraph {i} of text {n} is about stones and rivers." for i in range(200))
    for n in range(30)
]


def record(number: int) -> dict:
    doc = f"The lamp of house {number} was lit by keeper {number}, who slept."
    where = doc.index("keeper")
    return {
        "id": f"q{number}", "task": "qa", "source": "xquad_en", "doc": doc, "answerable": True,
        "question": f"Who lit the lamp of house {number}?", "answer": f"keeper {number}",
        "evidence": [[where, where + len(f"keeper {number}")]],
    }  # fmt: skip


def test_paragraphs_are_hidden_with_their_evidence() -> None:
    records = [record(i) for i in range(50)]
    made = build(records, TEXTS, 20_000)
    assert sorted(r["id"] for r in made) == sorted(f"haystack:q{i}" for i in range(50))
    assert len({r["doc"] for r in made}) == -(-50 // TOGETHER)
    for one in made:
        [[start, end]] = one["evidence"]
        assert one["doc"][start:end] == one["answer"]
        assert one["doc"].count(f"The lamp of house {one['id'].split('q')[1]} ") == 1
        assert 20_000 <= len(one["doc"]) < 30_000
    places = {one["evidence"][0][0] * 4 // len(one["doc"]) for one in made}
    assert places == {0, 1, 2, 3}
    assert made == build(records, TEXTS, 20_000) != build(records, TEXTS, 20_000, seed=1)
