"""Relevance without an answer: a sentence, or a heading, and the passage it belongs to.

The inverse cloze task (Lee et al. 2019): which passage did this sentence stand in? And the
heading of a section as the question, whose first passage is the relevant one.
"""

from __future__ import annotations

import re

import numpy as np

from training.library import Library
from training.pretext_spans import how_many, judged, pick_passage, pick_sentence, without
from training.rows import Formats, Row, Tokens
from training.words import content_words, hashed

_REMOVED = 0.8  # how often the sentence is taken out of its passage
_KEPT = 0.3  # how often the heading stays at the top of its passage
# These say what kind of section it is, not what it is about.
_GENERAL = re.compile(
    r"(?i)(?:introduction|conclusions?|summary|overview|references|discussion|results|methods|"
    r"notes|abstract|background|see also|examples?|exercises?|question|chapter|part|answer|"
    r"problem)\W*\w*$"
)
_ABOUT = (
    "{h}", "{h}", "{h}?", "What does it say about {h}?", "what about {h}", "Tell me about {h}.",
    "Where is {h} discussed?", "{h} in {t}", "{h} of {t}", "{t}: {h}",
    "What is said on {h} in {t}?",
)  # fmt: skip


def _row(
    library: Library,
    formats: Formats,
    rng: np.random.Generator,
    question: str,
    passage: int,
    shown: Tokens,
) -> Row | None:
    query = hashed(content_words(question))
    if len(query) == 0:
        return None
    count = how_many(rng)
    entries = [(shown, True)] if count > 1 or rng.random() < 0.5 else []
    negatives = library.negatives(query, passage, count - len(entries), rng)
    entries += [(library.tokens(p), False) for p in negatives]
    return judged(formats, question, entries, rng)


def inverse_cloze(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """A sentence as the question; its passage, mostly less the sentence, among others."""
    passage = pick_passage(library, rng)
    chosen = pick_sentence(library, passage, rng)
    if chosen is None:
        return None
    sentence, start, end = chosen
    text = library.text(passage)
    if rng.random() < _REMOVED and len(text) - (end - start) > 250:
        shown = without(formats, text, start, end)
    else:
        shown = library.tokens(passage)
    words = sentence.split()
    if len(words) > 12 and rng.random() < 0.5:  # a part of it, as a query is short
        begin = int(rng.integers(len(words) - 9))
        sentence = " ".join(words[begin : begin + int(rng.integers(7, 16))])
    if rng.random() < 0.3:
        sentence = sentence.lower()
    return _row(library, formats, rng, sentence, passage, shown)


def heading(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """A heading as the question; the first passage under it, less the heading, among others."""
    for _ in range(12):
        passage = pick_passage(library, rng)
        title = library.heading(passage)
        if title and not _GENERAL.match(title) and re.search(r"[a-z]{3}", title):
            break
    else:
        return None
    body = library.body(passage)
    if len(body) < 200:
        return None
    if rng.random() < _KEPT:  # or no passage that begins with a heading would ever be relevant
        shown = library.tokens(passage)
    else:
        shown = np.array(formats.tokenizer.encode(body), np.uint16)
    pattern = _ABOUT[int(rng.integers(len(_ABOUT)))]
    question = pattern.format(h=title, t=library.subject(passage))
    if rng.random() < 0.4:
        question = question.lower()
    return _row(library, formats, rng, question, passage, shown)
