"""What pages say beside their text: heads, contents and notices stay out of summaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samba_cli.entrance import entrance
from samba_cli.extraction import SAME, Unit, choose_units, units, worth
from samba_cli.furniture import furniture

SAYS = [
    "The bridge over the river was built in 1901 by two brothers.",
    "It has carried no traffic since the flood of 1954.",
    "The council decided in March to repair its three arches and to open it again",
]
NOTHING = [
    "A History of the Bridge ii",
    "A History of the Bridge 4 / 21",
    "A History of the Bridge 17 / 21",
    "THE BRIDGE AND ITS RIVER AND SO ON",
    "Anna Weber and Jan Novak of Leipzig",
    "3.2 How the arches were built in those years",
    "What did the flood do to the bridge?",
    "Copyright © 2021 by the council of the town, which keeps it.",
    "This document may be freely redistributed or modified in any form.",
    "This manual is free; you may redistribute it and/or modify it under these terms.",
    "which was closed for many years after that.",
    "̀ I thought that this bridge was open’!",
    "x = y 2 z",
    "The following bridges were built over the river in those years:",
    "Much was given for this bridge by the council and by",
]


def paged(texts: list[str]) -> list[bool]:
    return furniture([(1, text, True) for text in texts])


def test_what_is_about_the_pages_goes_and_what_is_said_stays() -> None:
    order = [SAYS[0], *NOTHING, *SAYS[1:]]
    assert paged(order) == [text in NOTHING for text in order]


def test_among_entries_of_the_contents_nothing_says_anything() -> None:
    entries = [f"{n} {n // 2}.{n} The part about the number {n} ." for n in range(1, 9)]
    looks_plain = "Look at the old bridge and then decide."
    assert all(paged([*entries[:4], looks_plain, *entries[4:]]))
    assert paged([looks_plain]) == [False]
    assert paged(["Of the arches . . . . . . . . . 12"]) == [True]


def test_text_without_pages_is_judged_by_repetition_and_as_a_notice_only() -> None:
    texts = ["# A Bridge", "the arches", "A question?", "# A Bridge", "All rights reserved.", "Ja.",
             "These are its arches:"]  # fmt: skip
    judged = furniture([(1, text, False) for text in texts])
    assert judged == [False, False, False, True, True, False, True]
    assert furniture([(1, "The same words.", False), (2, "The same words.", False)]) == [False] * 2
    # there a number tells lines apart; on pages it may count them
    years = ["Sales rose to 12 million in 2019.", "Sales rose to 15 million in 2020."]
    assert furniture([(1, text, False) for text in years]) == [False, False]
    assert furniture([(1, text, True) for text in years]) == [False, True]
    assert furniture([]) == []


@pytest.mark.parametrize(
    "text",
    [
        ".. image:: logo.png of the bridge", ">>> open the bridge", "<h1>The old bridge</h1>",
        "<!-- a word on licences --> and more", ":alt: the bridge from above", "$ bridge open",
        "from bridge import arch", 'answer = ask("Which bridge is it?")',
    ],
)  # fmt: skip
def test_markup_and_statements_are_no_sentences(text: str) -> None:
    assert furniture([(1, text, False)]) == [True]
    assert furniture([(1, f"It says of it: {text[:2]}", False)]) == [False]


def test_a_repository_speaks_through_the_readme_at_its_top() -> None:
    code = [("a/b/x.py", "code"), ("a/b/README.rst", "text")]
    assert entrance(code) == "a/b/README.rst"
    assert entrance([*code, ("a/readme.md", "markdown"), ("a/README", "text")]) == "a/README"
    assert entrance([*code[:1], ("a/README-dist.rst", "text"), ("a/readme.py", "code")]) is None
    assert entrance([("README.md", "markdown"), ("b.md", "markdown")]) is None
    assert entrance([]) is None


def test_a_text_all_in_small_letters_is_no_rest_of_sentences() -> None:
    texts = [f"the {word} was closed and then it was opened again." for word in ("mill", "quay")]
    assert paged(texts) == [False, False]


@given(st.lists(st.tuples(st.integers(1, 2), st.text(max_size=30), st.booleans()), max_size=12))
def test_any_lines_are_judged(lines: list[tuple[int, str, bool]]) -> None:
    assert len(furniture(lines)) == len(lines)


def test_a_printed_line_ends_no_sentence_however_long_it_is() -> None:
    wide = "The council of the town decided " + "after a long debate " * 6 + "in the month of May"
    text = f"A Title\n{wide}\nto repair the arches.\nShort line\nThe bridge is old."
    found = [text[a:b] for a, b in units(text, paged=True)]
    assert f"{wide}\nto repair the arches." in found and "A Title" in found
    narrow = "The town has\na bridge that\nis very old."
    assert [narrow[a:b] for a, b in units(narrow, paged=True)] == [narrow]
    assert len(units(narrow)) == 3  # lines of that length are not wrapped elsewhere
    assert units("", paged=True) == [] == units("\n\n", paged=True)


def test_nothing_is_said_twice_in_nearly_the_same_words() -> None:
    texts = ["The bridge over the river was built in 1901 by two brothers.",
             "The bridge over the river was built in 1901 by two brothers, they say.",
             "Its three arches were repaired by the council of the town in March."]  # fmt: skip
    found = [Unit.of(1, i, text) for i, text in enumerate(texts)]
    values = worth(found, 40)
    chosen = {i for i, _ in choose_units(found, values, 40)}
    assert 2 in chosen and len(chosen) == 2 and SAME < 1
