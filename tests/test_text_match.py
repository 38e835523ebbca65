"""Sentences, names and comparisons behind quotes and checks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.text_match import (
    content_words,
    locate,
    names_and_numbers,
    occurs,
    overlap,
    plausible_sentence,
    sentences,
    split_identifier,
    stem,
)


def cut(text: str, code: bool = False) -> list[str]:
    return [text[start:end] for start, end in sentences(text, code)]


def test_sentences_end_where_a_reader_would_say() -> None:
    text = "Dr. J. Smith paid 3.5 million, e.g. in May. Was it much? “Yes.” He left."
    assert cut(text) == [
        "Dr. J. Smith paid 3.5 million, e.g. in May.",
        "Was it much?",
        "“Yes.”",
        "He left.",
    ]
    assert cut("# Title\nA first.\n\nNo end\n- item one\n- item two") == [
        "# Title", "A first.", "No end", "item one", "item two",
    ]  # fmt: skip
    assert cut("これは文です。次の文。") == ["これは文です。", "次の文。"]
    assert cut("a = 1\n\nb = f(a)\n", code=True) == ["a = 1", "b = f(a)"]


@settings(deadline=None, max_examples=80)
@given(st.text(alphabet='aB.!? \n-1)é。"', max_size=80), st.booleans())
def test_sentence_spans_are_ordered_and_trimmed(text: str, code: bool) -> None:
    place = 0
    for start, end in sentences(text, code):
        assert place <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        place = end


def test_names_and_numbers_are_what_could_be_invented() -> None:
    found = names_and_numbers("Yesterday Anna van Dyke met IBM in Paris for 1,250 euros.")
    assert found == ["1,250", "Anna van Dyke", "IBM", "Paris"]
    assert names_and_numbers("The contract ends.") == []
    spelled = names_and_numbers("One of the two periods is twenty-one-three days, not thirty.")
    assert spelled == ["twenty-one-three", "thirty"]
    assert "Karl Marx" in " ".join(names_and_numbers("It was Karl Marx. He wrote."))


def test_strings_are_compared_as_a_reader_would() -> None:
    assert occurs("“New  York”", "in new\nyork today") and not occurs("York", "Yorkshire")
    assert not occurs(" . ", "anything.")
    assert locate("three months.", "is Three\n  Months long") == (3, 17)
    assert locate("...", "a") is None
    assert stem("retries") == stem("retry") and stem("handled") == stem("handles")
    assert stem("licences") == stem("license") and stem("Organised") == stem("organizes")
    assert stem("hour") == "hour" and stem("size") != stem("sise")  # too short for two spellings
    assert overlap(content_words("notice periods"), content_words("the notice period is")) == 1.0
    assert split_identifier("readHTTPHeader_v2") == ["read", "http", "header", "v", "2"]
    assert plausible_sentence("This is a sentence of some words.")
    assert not plausible_sentence("It runs bp and then confint(bp) and plot(bp) of it")
    assert not plausible_sentence("Achim Zeileis 21 Journal of Statistical Software 2004")
    assert not plausible_sentence("| a | b | c | d | e |") and not plausible_sentence("x = 1")
