"""What a generated sentence rests on: its support in the text, or an exact sentence instead."""

from __future__ import annotations

import re
from collections.abc import Sequence

from samba_cli import git_text
from samba_cli.documents import Passage
from samba_cli.index import PassageIndex, StoredPassage
from samba_cli.quotes import evidence, span_quote
from samba_cli.results import Evidence, SummarySentence
from samba_cli.text_match import (
    content_words,
    names_and_numbers,
    occurs,
    only_names,
    overlap,
    plausible_sentence,
    sentences,
)

# To be measured on summaries: how much of a sentence one place of the text must hold.
SUPPORT = 0.5  # share of its content words in one sentence of the document ...
SUPPORT_PASSAGE = 0.75  # ... or in one passage
DUPLICATE = 0.6  # share of content words said before that makes a sentence a repetition
_LEAST_WORDS = 3  # content words of a sentence that says anything
_SEARCHED = 4  # passages looked at beside those that were replayed
_QUOTE_CHARS = 300  # of an extract when nothing in the passage reads as a sentence
_COMMENT = re.compile(r"^[ \t]*(?:#+!?|//+!?|/?\*+|--+|;+|\"\"\"|''')[ \t]*", re.MULTILINE)


def supported(
    text: str, replayed: Sequence[StoredPassage], index: PassageIndex, section: str | None = None
) -> SummarySentence | None:
    """The sentence with the place that supports it; None when the document does not say so.

    Names and numbers must stand in the document as they are.
    """
    stems = content_words(text)
    if len(stems) < _LEAST_WORDS or only_names(text):
        return None
    for name in names_and_numbers(text):
        if not any(occurs(name, one.passage.text) for one in replayed) and not index.contains(name):
            return None
    known = {one.id for one in replayed}
    more = [key for key, _ in index.search(text, _SEARCHED) if key not in known]
    place = find_support(text, [*replayed, *index.get(more)])
    return place and SummarySentence(text, (place,), section)


def find_support(text: str, passages: Sequence[StoredPassage]) -> Evidence | None:
    """The sentence of these passages that shares most words with `text`, if enough."""
    stems = content_words(text)
    best: tuple[float, StoredPassage, tuple[int, int]] | None = None
    for one in passages:
        whole = overlap(stems, content_words(one.passage.text))
        if whole < SUPPORT:
            continue
        for span in sentences(one.passage.text, code=one.passage.kind == "code"):
            shared = overlap(stems, content_words(one.passage.text[span[0] : span[1]]))
            if shared < SUPPORT and whole < SUPPORT_PASSAGE:
                continue
            if best is None or shared > best[0]:
                best = (shared, one, span)
    if best is None:
        return None
    score, one, span = best
    holds = occurs(text, one.passage.text)
    return evidence(one, span_quote(one.passage, *span), score, holds)


def extracts(passage: StoredPassage, section: str | None = None) -> list[SummarySentence]:
    """Exact sentences of a passage, those that say most about it first; at least one.

    A passage without prose gives its beginning, with score 0.
    """
    text = passage.passage.text
    spans = _prose(passage.passage)
    whole = content_words(text)
    heading = content_words(passage.passage.heading or "")
    ranked: list[tuple[float, int, int]] = []
    for number, (start, end) in enumerate(spans):
        sentence = text[start:end]
        stems = content_words(sentence)
        # A passage may begin and end within a sentence.
        if not plausible_sentence(sentence) or len(stems) < _LEAST_WORDS or sentence[0].islower():
            continue
        worth = overlap(whole, stems) + overlap(heading, stems) + 0.3 / (number + 1)
        worth -= 0.5 * (sentence[-1] not in ".!?\"”')")
        ranked.append((worth, start, end))
    ranked.sort(key=lambda one: (-one[0], one[1]))
    if not ranked:
        start = len(text) - len(text.lstrip())
        end = start + len(text[start : start + _QUOTE_CHARS].rstrip())
        space = text.rfind(" ", start, end)
        ranked = [(0.0, start, space if len(text.rstrip()) > end and space > start else end)]
    made = []
    for worth, start, end in ranked:
        place = evidence(passage, span_quote(passage.passage, start, end), worth, True)
        made.append(SummarySentence(" ".join(place.quote.split()), (place,), section, True))
    return made


def repeats(sentence: SummarySentence, said: Sequence[SummarySentence]) -> bool:
    """Whether a sentence says hardly more than one of the others."""
    stems = content_words(sentence.text)
    return any(overlap(stems, content_words(other.text)) >= DUPLICATE for other in said)


def _prose(passage: Passage) -> list[tuple[int, int]]:
    if passage.kind == git_text.KIND:
        return git_text.message_spans(passage) if git_text.is_message(passage) else []
    return comments(passage.text) if passage.kind == "code" else sentences(passage.text)


def comments(text: str) -> list[tuple[int, int]]:
    """Spans of the prose in code: the first lines of comments and docstrings."""
    spans = []
    for match in _COMMENT.finditer(text):
        end = text.find("\n", match.end())
        end = len(text) if end < 0 else end
        line = text[match.end() : end].rstrip("\"'*/ \t\r")
        if line:
            spans.append((match.end(), match.end() + len(line)))
    return spans
