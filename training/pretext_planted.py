"""A sentence planted where it does not belong: a passage is relevant for one sentence alone.

The passages of the other tasks are about one thing, and so is the question; a fact in passing,
in a text about something else, would get no mark. What is planted is a sentence of another
document, or a made fact (`pretext_recall`); what it is told from are the passages around the
place that the sentence comes from, which are about the right things and do not have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.library import Library, Words
from training.pretext_recall import facts
from training.pretext_spans import (
    draw_question,
    how_many,
    how_many_shown,
    judged,
    make_within,
    pick_passage,
)
from training.questions import Question
from training.rows import Formats, Row, Tokens, chain
from training.words import content_words, hashed, sentences, squeeze

_MADE = 0.3  # share of the planted sentences that are made facts
_MORE = 0.5  # how often the passage is asked about its own matter too


@dataclass(frozen=True)
class Planted:
    """A question, and the passage that answers it in one planted sentence."""

    question: Question
    query: Words
    host: int  # the passage of the corpus that was planted in
    home: int  # where the sentence comes from; a made fact comes from its host
    shown: Tokens


def plant(text: str, sentence: str, rng: np.random.Generator) -> str:
    """The text with the sentence between two of its own, or as a line of its own."""
    ends = [end for _, end in sentences(text)]
    if not ends or rng.random() < 0.25:
        lines = [i for i, character in enumerate(text) if character == "\n"]
        place = lines[int(rng.integers(len(lines)))] if lines else len(text.rstrip())
        return f"{text[:place].rstrip()}\n\n{sentence}\n\n{text[place:].lstrip()}"
    place = ends[int(rng.integers(len(ends)))]
    after = text[place:]
    return f"{text[:place]} {sentence}{after if after[:1].isspace() else ' ' + after}"


def make(library: Library, formats: Formats, rng: np.random.Generator) -> Planted | None:
    """A planted sentence; None where the draw offered none."""
    host = pick_passage(library, rng)
    home = host
    if rng.random() < _MADE:
        fact = facts(rng, 1)[0]
        sentence, found = fact.said, Question(fact.question, fact.answer)
    else:
        home = pick_passage(library, rng)
        drawn = draw_question(library, home, rng)
        if drawn is None or library.document_of(home) == library.document_of(host):
            return None
        found, start, end = drawn
        sentence = squeeze(library.text(home)[start:end])
    if len(set(content_words(found.text))) < 2:
        return None
    text = library.text(host)
    if found.answer.lower() in text.lower():
        return None
    shown = np.array(formats.tokenizer.encode(plant(text, sentence, rng)), np.uint16)
    return Planted(found, hashed(content_words(found.text)), host, home, shown)


def _others(library: Library, one: Planted, count: int, rng: np.random.Generator) -> list[int]:
    taken = (one.home, one.host)
    return library.negatives(one.query, one.home, count, rng, one.question.answer, taken)


def marks(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """The passage with the planted sentence among passages about what it is about."""
    one = make(library, formats, rng)
    if one is None:
        return None
    count = max(2, how_many(rng))
    entries = [(one.shown, True)]
    if rng.random() < 0.3:  # the same passage without the sentence answers nothing
        entries.append((library.tokens(one.host), False))
    negatives = _others(library, one, count - len(entries), rng)
    entries += [(library.tokens(p), False) for p in negatives]
    return judged(formats, one.question.text, entries, rng)


def answer(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """The passage with the planted sentence shown again, alone or with others; the answer."""
    one = make(library, formats, rng)
    if one is None:
        return None
    negatives = _others(library, one, how_many_shown(rng) - 1, rng)
    order = sorted([one.host, *negatives])
    passages = [one.shown if p == one.host else library.tokens(p) for p in order]
    rows = [formats.answering(one.question.text, passages, one.question.answer)]
    if rng.random() < _MORE:
        more = make_within(library, formats, one.host, one.host + 1, rng)
        if more is not None:
            rows.append(formats.answering(more.question.text, [], more.question.answer))
    return chain(rows, formats.end, reading=False)
