"""The passage index finds, counts, rolls back and notices damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.documents import Document, Part, Passage, Skipped
from samba_cli.errors import ModelError
from samba_cli.index import PassageIndex, query_terms

TEXTS = [
    "The notice period is three months for both parties.",
    "Retries are handled by the client. def retryRequest(maxAttempts): pass",
    "The weather in Paris was mild, 1,250 visitors came.",
]


def passage(text: str, start: int = 0, **fields: object) -> Passage:
    return Passage("doc/one.txt", "text", start, start + len(text), text, **fields)  # type: ignore[arg-type]


def filled(path: Path | str) -> PassageIndex:
    index = PassageIndex.create(path)
    document = index.add_document(Document("doc/one.txt", "text", lambda: iter([Part("")]), size=9))
    for number, text in enumerate(TEXTS):
        index.add_passage(document, passage(text, page_start=number + 1), 10, float(number))
    index.add_skipped(Skipped("a.bin", "binary"))
    return index


def test_a_search_finds_words_stems_and_parts_of_identifiers() -> None:
    index = filled("")
    assert index.search("What is the notice period?", 5)[0][0] == 1
    assert index.search("retry", 5)[0][0] == 2
    assert index.search("handling maximum attempts", 5)[0][0] == 2
    assert index.search("max_attempts", 5)[0][0] == 2
    assert index.search("where is the", 1)  # nothing but stop words: they are searched then
    assert index.search("?!", 5) == []
    assert all(score > 0 for _, score in index.search("notice weather", 5))
    assert index.search("notice weather", 5, within=(2, 3))[0][0] == 3


def test_either_spelling_finds_the_other() -> None:
    with PassageIndex.create("") as index:
        index.add_document(Document("a.txt", "text", lambda: iter([])))
        for text in ("The license is MIT.", "They organise the colour tables.", "Nothing of it."):
            index.add_passage(1, passage(text), 8, None)
        index.commit()
        assert [i for i, _ in index.search("Which licence?", 5)] == [1]
        assert [i for i, _ in index.search("organize by color", 5)] == [2]
    assert query_terms("licence for the hour") == ["licence", "hour", "license"]


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60))
def test_any_text_is_a_safe_query(text: str) -> None:
    with filled("") as index:
        index.search(text, 3)
        index.contains(text)
        index.matches(text)
        assert all('"' not in term for term in query_terms(text))


def test_passages_come_back_as_they_were() -> None:
    with filled("") as index:
        assert [one.passage.text for one in index.iterate()] == TEXTS
        assert [one.id for one in index.get([3, 1, 99])] == [3, 1]
        assert index.get([2])[0].passage == passage(TEXTS[1], page_start=2)
        assert [one.id for one in index.neighbours(2)] == [1, 3]
        counts = index.counts()
        assert (counts.documents, counts.passages, counts.tokens, counts.pages) == (1, 3, 30, 3)
        assert index.skipped() == [Skipped("a.bin", "binary")]
        assert [one.last_passage for one in index.documents()] == [3]


def test_salience_is_standardised_within_a_document() -> None:
    with filled("") as index:
        (first, high), (_, middle) = index.most_salient(1, 3, 2)
        assert first == 3 and high == pytest.approx(1.2247, abs=1e-3) and middle == pytest.approx(0)


def test_names_and_numbers_are_found_as_they_stand() -> None:
    with filled("") as index:
        assert (
            index.contains("Paris") and index.contains("1,250") and index.contains("notice period")
        )
        assert not index.contains("London") and not index.contains("1,251")
        assert not index.contains("period notice")


def test_truncate_forgets_later_rows_in_the_search_too(tmp_path: Path) -> None:
    with filled(tmp_path / "index.sqlite") as index:
        index.truncate(1, 1, 0)
        assert index.counts().passages == 1 and index.skipped() == []
        assert index.search("Paris weather", 5) == []
        assert index.add_passage(1, passage("Berlin"), 1, None) == 2
        assert index.search("Berlin", 5)[0][0] == 2


def test_a_copy_and_a_reopened_index_are_whole(tmp_path: Path) -> None:
    with filled(tmp_path / "index.sqlite") as index:
        index.set_meta("key", "value")
        index.copy_to(tmp_path / "copy.sqlite")
        index.seal()
    for name in ("index.sqlite", "copy.sqlite"):
        with PassageIndex.open(tmp_path / name) as index:
            assert index.counts().passages == 3 and index.meta("key") == "value"
            assert index.search("notice", 1)[0][0] == 1


def test_a_missing_or_damaged_file_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no passage index"):
        PassageIndex.open(tmp_path / "none.sqlite")
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(ModelError, match="damaged"):
        PassageIndex.open(path)
    path.unlink()
    with filled(path) as index:
        index.seal()
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\x07" * (len(raw) - 4096)
    path.write_bytes(raw)
    with pytest.raises(ModelError, match="damaged"):
        PassageIndex.open(path)
