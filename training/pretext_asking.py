"""Answers of a passage with the questions made of their sentences, to be asked after them."""

from __future__ import annotations

import numpy as np

from training.asking import Pair, explained, sensible
from training.library import Library
from training.pretext_spans import draw_question, pick_passage
from training.rows import Formats, Row

_TOGETHER = 5  # questions about one passage, at most


def row(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """A passage and some of its questions; None where the draw offered none."""
    passage = pick_passage(library, rng)
    text, pairs = library.text(passage), dict[str, Pair]()
    for _ in range(_TOGETHER):
        drawn = draw_question(library, passage, rng)
        if drawn is None:
            break
        pair = Pair(drawn[0].answer, drawn[0].text)
        if drawn[0].natural and sensible(pair, text):
            pairs.setdefault(pair.answer.lower(), pair)
    return explained(formats, library.tokens(passage), list(pairs.values())) if pairs else None
