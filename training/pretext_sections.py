"""Answers that are sections: a heading is asked about, and what stands under it is the answer.

Short spans teach to copy some words; a person who asks for the symptoms, the drawbacks or the
usage of something wants the sentences, and a list whole.
"""

from __future__ import annotations

import re

import numpy as np

from training.library import Library
from training.pretext_spans import how_many_shown, pick_passage
from training.rows import Formats, Row
from training.words import content_words, hashed

_LEAST, _MOST = 80, 950  # characters of an answer
_ASKED = (
    "What does {t} say about {h}?", "What is said about {h}?", "{h}?", "{h}", "Describe {h}.",
    "What about {h}?", "{t}: {h}", "What are the {h} of {t}?", "What is the {h} of {t}?",
    "Explain {h}.", "Tell me about {h}.", "{h} of {t}?", 'What is the {h} of "{t}"?',
    "What is {h}?",
)  # fmt: skip
_ASKS = re.compile(r"(?i)(?:what|who|why|how|when|where|which|is|are|can|does|do|should|will)\b")


def answer(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """The passage under a heading, alone or among others, and its text as the answer."""
    for _ in range(40):
        passage = pick_passage(library, rng)
        title = library.heading(passage)
        if title and re.search(r"[a-z]{3}", title):
            break
    else:
        return None
    body = library.body(passage).strip()
    if not _LEAST <= len(body) <= _MOST or re.search(r"^#{1,6} ", body, re.MULTILINE):
        return None
    about = str(library.documents[library.document_of(passage)]["title"])
    patterns = [p for p in _ASKED if "{t}" not in p] if title == about else _ASKED
    asked = "{h}" if _ASKS.match(title) else patterns[int(rng.integers(len(patterns)))]
    # inside a question a heading has no capital, unless it is the name that the text is about
    lower = asked != "{h}" and title != about and title[1:2].islower()
    inside = title[0].lower() + title[1:] if lower else title
    question = asked.format(h=inside, t=library.subject(passage))
    query = hashed(content_words(question))
    if len(query) == 0:
        return None
    negatives = library.negatives(query, passage, how_many_shown(rng) - 1, rng)
    shown = [library.tokens(p) for p in sorted([passage, *negatives])]
    return formats.answering(question, shown, body)
