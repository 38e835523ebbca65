"""Haystacks: what is hidden is there, what is asked beside it is not."""

from __future__ import annotations

from training.haystacks import CHARACTERS, SET, build

TEXTS = [
    "\n\n".join(f"Paragraph {i} of text {n} is about stones and rivers." for i in range(400))
    for n in range(60)
]


def documents(count: int, **changes: object) -> list[dict]:
    return [
        {
            "text": f"The lamp of house {i} was lit by keeper {i}.", "set": "qed_nq",
            "kept_back": True,
            "records": [{"id": f"q{i}", "task": "qa", "question": f"Who lit the lamp of house {i}?",
                         "answer": f"keeper {i}", "answerable": True}],
        } | changes
        for i in range(count)
    ]  # fmt: skip


def test_a_haystack_answers_half_of_its_questions() -> None:
    made = build(documents(30), TEXTS)
    assert len(made) == len(CHARACTERS)
    for one in made:
        assert one["set"] == SET and one["kept_back"]
        assert {r["answerable"] for r in one["records"]} == {True, False}
        for record in one["records"]:
            number = record["id"].split(":q")[1]
            hidden = f"The lamp of house {number} was lit by keeper {number}."
            assert (hidden in one["text"]) == record["answerable"]
            assert record["answerable"] or record["answer"] == ""
        assert len({r["id"] for r in one["records"]}) == len(one["records"])


def test_haystacks_are_about_as_long_as_wanted_and_the_same_again() -> None:
    made = build(documents(30), TEXTS)
    for one, wanted in zip(made, CHARACTERS, strict=True):
        assert wanted <= len(one["text"]) < 1.6 * wanted
    assert made == build(documents(30), TEXTS)


def test_only_what_was_kept_back_is_hidden() -> None:
    mixed = documents(20) + documents(20, kept_back=False) + documents(20, set="tatqa")
    ids = {r["id"].split(":")[1] for one in build(mixed, TEXTS) for r in one["records"]}
    assert ids <= {f"q{i}" for i in range(20)}
