"""Summaries: every sentence has support in the text, whatever the model writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from samba_cli.checkpoint import ReadFolder, open_read_folder
from samba_cli.documents import Document, Part, Passage
from samba_cli.index import PassageIndex
from samba_cli.model import Model, Tokenizer, load_checkpoint
from samba_cli.reader import read
from samba_cli.results import SummarySentence
from samba_cli.salience import Span, choose, sections
from samba_cli.summarize import SummaryOptions, _render, summarize
from samba_cli.support import extracts, find_support, repeats, supported

TOPICS = ["harbour", "library", "railway", "orchard", "observatory", "cathedral"]


VERBS = ["opened", "repaired", "painted", "sold", "rented", "measured", "closed", "moved"]
THINGS = [
    "windows",
    "doors",
    "benches",
    "lamps",
    "bridges",
    "paintings",
    "clocks",
    "stairs",
    "roofs",
]
GROUPS = ["sailors", "teachers", "painters", "farmers", "engineers", "students", "masons"]


def text_about(topic: str, sentences: int = 40) -> str:
    lines = [
        f"In {1900 + n} the {topic} {VERBS[n % 8]} {n + 3} {THINGS[n % 9]} with help of"
        f" {GROUPS[n % 7]} and {GROUPS[(n + 3) % 7]}."
        for n in range(sentences)
    ]
    return f"# The {topic}\n\n" + " ".join(lines) + "\n\n"


TEXT = "".join(map(text_about, TOPICS))


@pytest.fixture(scope="module")
def parts(tiny_checkpoint: Path) -> tuple[Model, Tokenizer]:
    torch.set_num_threads(1)
    return load_checkpoint(tiny_checkpoint), Tokenizer.load(tiny_checkpoint)


@pytest.fixture(scope="module")
def folder(parts: tuple[Model, Tokenizer]) -> Iterator[ReadFolder]:
    document = Document("town.md", "markdown", lambda: iter([Part(TEXT, line=1)]), title="Town")
    with open_read_folder(None, *parts) as folder:
        read(lambda: iter([document]), *parts, folder)
        yield folder


@pytest.mark.parametrize("style", ["paragraph", "bullets", "sections"])
@pytest.mark.parametrize("length", ["short", 150])
def test_every_sentence_has_its_place(
    parts: tuple[Model, Tokenizer], folder: ReadFolder, style: str, length: str | int
) -> None:
    calls: list[tuple[int, int]] = []
    options = SummaryOptions(length, style, progress=lambda *done: calls.append(done))  # type: ignore[arg-type]
    summary = summarize(folder.state, folder.index, *parts, options)
    assert summary.sentences and summary.title == "Town" and calls[-1][0] <= calls[-1][1] <= 9
    for sentence in summary.sentences:
        assert sentence.text in summary.text
        (place,) = sentence.evidence
        assert TEXT[place.char_start : place.char_end] == place.quote
        assert place.line_start is not None and place.location.startswith("town.md:")
    if length == 150:
        assert 60 <= len(summary.text.split()) <= 200
    assert ("## " in summary.text) == (style == "sections")


def test_a_focus_leads_to_its_passages(parts: tuple[Model, Tokenizer], folder: ReadFolder) -> None:
    span = Span(1, folder.index.last_id(), 0)
    chosen = choose(folder.index, span, 10_000, 2, focus="observatory")
    assert any("observatory" in one.passage.text for one in chosen)


def test_sections_follow_headings_and_cover_everything(folder: ReadFolder) -> None:
    last = folder.index.last_id()
    for most in (1, 2, 4, 6):
        spans = sections(folder.index, most)
        assert 1 <= len(spans) <= most and spans[0].first == 1 and spans[-1].last == last
        assert all(a.last + 1 == b.first for a, b in zip(spans, spans[1:], strict=False))
    assert "The harbour" in (sections(folder.index, 6)[0].title or "")


def test_many_documents_are_sections_by_folder() -> None:
    with PassageIndex.create("") as index:
        names = ["r/README.md", "r/src/a.py", "r/src/b/c.py", "r/tests/a.py", "r/tests/b.py"]
        for number, name in enumerate(names, start=1):
            index.add_document(Document(name, "code", lambda: iter([Part("")])))
            index.add_passage(number, Passage(name, "code", 0, 4, "text"), 10, None)
        assert [span.title for span in sections(index, 8)] == ["README.md", "src/", "tests/"]
        assert len(sections(index, 2)) == 2
        assert choose(index, sections(index, 2)[0], 1, 3)  # no marks and no room: still one


def test_a_sentence_needs_support(folder: ReadFolder) -> None:
    passages = folder.index.get([1])
    good = supported("The harbour opened 3 windows with help of sailors.", passages, folder.index)
    assert good is not None and "1900" in good.evidence[0].quote
    far = supported("The cathedral opened 3 windows with help of sailors.", passages, folder.index)
    assert far is not None and "cathedral" in far.evidence[0].quote
    for text in (
        "The harbour opened 999 windows with help of sailors.",
        "The harbour opened windows with help of Peter Pan.",
        "Elephants dance happily through purple clouds.",
        "Yes.",
        "",
    ):
        assert supported(text, passages, folder.index) is None
    other = supported("The library measured 8 stairs with masons.", passages, folder.index)
    assert other is not None and repeats(good, [other, good]) and not repeats(good, [other])
    assert find_support("", passages) is None


def test_extracts_are_exact_and_never_missing() -> None:
    texts = {
        "text": "A table: 1 2 3 4\nThe harbour was built by sailors in the year 1900. It is. ",
        "code": 'def f():\n    """Return the number of windows of a house."""\n    return 1\n',
        "markdown": "xxx" * 300,
    }
    with PassageIndex.create("") as index:
        for number, (kind, text) in enumerate(texts.items(), start=1):
            index.add_document(Document(kind, kind, lambda: iter([Part("")])))
            index.add_passage(
                number, Passage(kind, kind, 0, len(text), text, line_start=1), 9, None
            )
        prose, code, noise = (extracts(one)[0] for one in index.iterate())
    assert prose.text.endswith("The harbour was built by sailors in the year 1900.")
    assert (
        code.text == "Return the number of windows of a house." and code.evidence[0].line_start == 2
    )
    assert noise.text == "x" * 300 and noise.extractive


def test_an_empty_index_and_a_tiny_text_are_handled(parts: tuple[Model, Tokenizer]) -> None:
    with open_read_folder(None, *parts) as folder:
        assert summarize(folder.state, folder.index, *parts).text == ""
        document = Document("a", "text", lambda: iter([Part("hello")]))
        read(lambda: iter([document]), *parts, folder)
        summary = summarize(folder.state, folder.index, *parts, SummaryOptions(5))
        assert summary.text == "hello" and summary.sentences[0].extractive


def test_turns_of_a_conversation_are_paragraphs() -> None:
    def said(*texts: str) -> list[SummarySentence]:
        return [SummarySentence(text, ()) for text in texts]

    talk = said("[doctor] How are you?", "[patient] Well.", "I sleep.", "Anna Weber: Good.")
    wanted = "[doctor] How are you?\n\n[patient] Well. I sleep.\n\nAnna Weber: Good."
    assert _render(talk, "paragraph") == wanted
    assert _render(said("It rains.", "Note: take a coat.", "Go."), "paragraph").count("\n") == 0


def test_lines_of_a_diff_are_no_sentences():
    from samba_cli.text_match import plausible_sentence

    assert plausible_sentence("Read the pages of several files in threads.")
    assert plausible_sentence("- The first item of a list says something.")
    for text in (
        "+from samba_cli.sources.ignore import Rule, decide, parse_rules",
        "diff --git a/samba_cli/sources/walk.py b/samba_cli/sources/walk.py",
        "-the old line of a file that was taken out",
        '"""The time of a member, which zip files keep without a zone."""',
        "Some words first.\n+ and then a line that a commit adds",
    ):
        assert not plausible_sentence(text), text
