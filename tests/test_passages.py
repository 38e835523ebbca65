"""Passages partition a document, are short enough, and know where they stand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.documents import Document, Part
from samba_cli.passages import MAX_CHARS, cut, cut_text

PIECES = st.sampled_from(
    [
        "A sentence of words. ",
        "word ",
        "\n",
        "\n\n",
        "# Heading\n",
        "x" * 300,
        "Title\n=====\n",
        "\n    code()\n",
        "\ndef function(argument):\n",
        "2.1 Numbered heading\n\n",
        " ",
        "\t",
        "é日本。",
        "\r\n",
        "commit " + "a" * 40 + "\n",
    ]
)
TEXTS = st.lists(PIECES, max_size=120).map("".join)
KINDS = st.sampled_from(["text", "code", "markdown"])


def document(parts: list[Part], kind: str = "text") -> Document:
    return Document("name", kind, lambda: iter(parts))


@settings(deadline=None, max_examples=60)
@given(TEXTS, KINDS)
def test_passages_partition_the_text(text: str, kind: str) -> None:
    passages = list(cut(document([Part(text)], kind)))
    assert "".join(passage.text for passage in passages) == text
    assert all(0 < len(passage.text) <= MAX_CHARS for passage in passages)
    place = 0
    for passage in passages:
        assert (passage.char_start, passage.char_end) == (place, place + len(passage.text))
        place = passage.char_end


@settings(deadline=None, max_examples=60)
@given(TEXTS, KINDS, st.lists(st.integers(0, 5000), max_size=6))
def test_the_cuts_and_lines_do_not_depend_on_the_parts(
    text: str, kind: str, places: list[int]
) -> None:
    whole = list(cut(document([Part(text, line=1)], kind)))
    edges = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    parts = [
        Part(text[a:b], line=1 + text.count("\n", 0, a))
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    assert list(cut(document(parts, kind))) == whole


@settings(deadline=None, max_examples=60)
@given(TEXTS, KINDS)
def test_line_numbers_are_those_of_the_text(text: str, kind: str) -> None:
    for passage in cut(document([Part(text, line=1)], kind)):
        stripped = passage.text.strip()
        first = passage.char_start + (passage.text.index(stripped) if stripped else 0)
        assert passage.line_start == 1 + text.count("\n", 0, first)
        assert passage.line_end == 1 + text.count("\n", 0, first + max(len(stripped) - 1, 0))


def test_a_passage_never_crosses_a_page() -> None:
    parts = [Part(f"Page {page}. " + "Some words here. " * 90, page=page) for page in range(1, 6)]
    passages = list(cut(document(parts, "pdf")))
    assert "".join(passage.text for passage in passages) == "".join(part.text for part in parts)
    assert all(passage.page_start == passage.page_end for passage in passages)
    assert {passage.page_start for passage in passages} == {1, 2, 3, 4, 5}
    assert all(passage.line_start is None for passage in passages)


def test_headings_start_passages_and_name_what_follows() -> None:
    body = "A sentence that says something of use. " * 20
    text = f"# One\n\n{body}\n\n## Two\n\n{body}{body}\n\nThree\n-----\n\n{body}"
    passages = list(cut(document([Part(text)], "markdown")))
    headings = [passage.heading for passage in passages]
    assert headings[0] == "One" and headings[-1] == "Three" and "Two" in headings
    assert any(passage.text.startswith("## Two") for passage in passages)


def test_a_heading_given_by_the_format_is_a_boundary() -> None:
    body = "A sentence that says something of use. " * 15
    parts = [Part(body, heading="Alpha"), Part(body, heading="Beta"), Part(body, heading="Beta")]
    passages = list(cut(document(parts, "docx")))
    assert passages[0].heading == "Alpha"
    assert any(p.char_start == len(body) and p.heading == "Beta" for p in passages)


def test_code_is_cut_before_top_level_definitions() -> None:
    function = (
        "def name_{}(argument):\n"
        + "    value = argument + 1  # comment\n" * 18
        + "    return value\n\n\n"
    )
    text = "".join(function.format(n) for n in range(8))
    passages = list(cut(document([Part(text, line=1)], "code")))
    assert all(passage.text.startswith("def name_") for passage in passages)
    assert [p.heading for p in passages][:2] == ["def name_0(argument)", "def name_1(argument)"]


def test_passages_are_near_the_target_and_a_huge_line_is_cut() -> None:
    lengths = [len(text) for text in cut_text("A sentence of several words stands here. " * 2000)]
    assert 700 <= sum(lengths) / len(lengths) <= 1000
    assert [len(text) for text in cut_text("x" * 2500)][:2] == [1000, 1000]


def test_a_long_part_takes_linear_time() -> None:
    text = "word word\n" * 200_000
    count = sum(1 for _ in cut(document([Part(text, line=1)])))
    assert count > 2000
