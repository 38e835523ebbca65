"""Quotes: the exact words of a passage that hold an answer, with the lines they stand on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from samba_cli import git_text
from samba_cli.documents import Passage
from samba_cli.index import StoredPassage
from samba_cli.results import Evidence
from samba_cli.text_match import content_words, locate, overlap, sentences

# "## License", or "License" over a line of one sign.
_HEADING = re.compile(r"\s*(?:#{1,6}\s[^\n]*|[^\n]*\n\s*([-=~^*+#:\"'`])\1{2,})\s*")
MAX_CHARS = 400  # of a quote; a longer sentence is cut around what matters, at word boundaries


@dataclass(frozen=True)
class Quote:
    """A stretch of a passage: offsets count in the document's text."""

    char_start: int
    char_end: int
    text: str
    line_start: int | None
    line_end: int | None


def quote(passage: Passage, question: str, answer: str) -> Quote:
    """The sentence that holds the answer, or else most words of question and answer; a heading
    where there is nothing else.
    """
    text = passage.text
    spans = _spans(passage) or [(0, len(text))]
    asked, told = content_words(question), content_words(answer)
    places = locate(answer, text) if answer else None

    def rank(span: tuple[int, int]) -> tuple[float, float, int]:
        stems = content_words(text[span[0] : span[1]])
        holds = places is not None and span[0] <= places[0] < span[1]
        return (float(holds) + 2 * overlap(told, stems), overlap(asked, stems), -span[0])

    if places is not None:  # an answer may occur several times: the best sentence around it
        places = _best_occurrence(text, answer, asked, spans) or places
        start = min((a for a, b in spans if a <= places[0] < b), default=places[0])
        end = max((b for a, b in spans if a < places[1] <= b), default=places[1])
        focus = places
    else:
        says = [span for span in spans if not _HEADING.fullmatch(text, *span)]
        start, end = focus = max(says or spans, key=rank)
    if end - start > MAX_CHARS:
        start, end = _shortened(text, start, end, focus)
    return _make(passage, start, max(end, start))


def span_quote(passage: Passage, start: int, end: int) -> Quote:
    """The quote at given offsets inside the passage."""
    return _make(passage, start, end)


def evidence(
    stored: StoredPassage, found: Quote, score: float = 0.0, verified: bool = False
) -> Evidence:
    """A quote as evidence, with the location of its passage narrowed to its lines."""
    passage = stored.passage
    return Evidence(
        stored.id, passage.document, found.char_start, found.char_end, found.text,
        passage.page_start, passage.page_end, found.line_start, found.line_end, passage.heading,
        score, verified, *_commit(passage, found), passage.char_start, passage.char_end,
    )  # fmt: skip


def _spans(passage: Passage) -> list[tuple[int, int]]:
    if passage.kind == git_text.KIND:
        return git_text.quotable_spans(passage)
    return sentences(passage.text, code=passage.kind == "code")


def _commit(passage: Passage, found: Quote) -> tuple[str | None, str | None]:
    if passage.kind != git_text.KIND:
        return None, None
    return git_text.commit_at(passage, found.char_start - passage.char_start)


def _make(passage: Passage, start: int, end: int) -> Quote:
    text = passage.text
    first = last = None
    if passage.line_start is not None:
        # The passage's first line is that of its first character that is no white space.
        begin = len(text) - len(text.lstrip())
        first = passage.line_start + text.count("\n", begin, start)
        last = first + text.count("\n", start, max(start, end - 1))
    return Quote(passage.char_start + start, passage.char_start + end, text[start:end], first, last)


def _best_occurrence(
    text: str, answer: str, asked: set[str], spans: list[tuple[int, int]]
) -> tuple[int, int] | None:
    best: tuple[float, int, int] | None = None
    for start, end in spans:
        found = locate(answer, text[start:end])
        if found is not None:
            worth = overlap(asked, content_words(text[start:end]))
            if best is None or worth > best[0]:
                best = (worth, start + found[0], start + found[1])
    return best and best[1:]


def _shortened(text: str, start: int, end: int, focus: tuple[int, int]) -> tuple[int, int]:
    """A window of MAX_CHARS in [start, end) around the beginning of `focus`."""
    middle = min(max(focus[0] - MAX_CHARS // 4, start), max(end - MAX_CHARS, start))
    left = middle
    if left > start:
        space = text.find(" ", left, left + 40)
        left = space + 1 if space >= 0 else left
    right = min(left + MAX_CHARS, end)
    if right < end:
        space = text.rfind(" ", max(right - 40, left + 1), right)
        right = space if space >= 0 else right
    return left, right
