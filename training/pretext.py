"""The pretext tasks by name, and their shares of the tokens while pretraining."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training import (
    pretext_asking,
    pretext_cloze,
    pretext_code,
    pretext_planted,
    pretext_recall,
    pretext_sections,
    pretext_session,
    pretext_spans,
    pretext_summaries,
)
from training.library import Library
from training.rows import Formats, Row

# From a corpus and a random generator, a row, or None where the draw offered none.
Generator = Callable[[Library, Formats, np.random.Generator], Row | None]

GENERATORS: dict[str, Generator] = {
    "span_marks": pretext_spans.marks,
    "span_answer": pretext_spans.answer,
    "session": pretext_session.session,
    "planted_marks": pretext_planted.marks,
    "planted_answer": pretext_planted.answer,
    "asking": pretext_asking.row,
    "section": pretext_sections.answer,
    "inverse_cloze": pretext_cloze.inverse_cloze,
    "heading": pretext_cloze.heading,
    "lead": pretext_summaries.lead_summary,
    "gap": pretext_summaries.gap_sentences,
    "title": pretext_summaries.title,
    "recall": pretext_recall.recall,
    "copying": pretext_recall.copying,
    "docstring": pretext_code.docstring,
    "purpose": pretext_code.purpose,
    "where": pretext_code.where,
}

# By tokens, among the pretext rows.
SHARES: dict[str, float] = {
    "span_marks": 0.19, "span_answer": 0.30, "session": 0.04, "planted_marks": 0.04,
    "planted_answer": 0.06, "asking": 0.05, "section": 0.02, "inverse_cloze": 0.06,
    "heading": 0.06, "lead": 0.04, "gap": 0.03, "title": 0.01, "recall": 0.04, "copying": 0.01,
    "docstring": 0.01, "purpose": 0.01, "where": 0.03,
}  # fmt: skip
