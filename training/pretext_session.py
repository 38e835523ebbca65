"""A stretch of a document is read, then questions about it are answered, as the program does."""

from __future__ import annotations

import re

import numpy as np

from training.library import Library
from training.pretext_spans import make, make_within
from training.rows import Formats, Row, chain


def session(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """Read some thousand tokens, then answer questions about them, as the program does."""
    asked = make(library, formats, rng)
    if asked is None:
        return None
    document = library.document_of(asked.support)
    first, last = library.span(document)
    first = max(first, asked.support - int(rng.integers(1, 12)))
    last = min(last, asked.support + int(rng.integers(1, 12)))
    read = formats.reading(
        document_name(library, document, rng), [library.tokens(p) for p in range(first, last)]
    )
    asks: list[Row] = []
    answers: set[str] = set()
    for _ in range(int(rng.integers(2, 5))):
        extra = asked if not asks else make_within(library, formats, first, last, rng)
        if extra is None or extra.question.answer in answers:
            continue
        answers.add(extra.question.answer)
        others = library.negatives(extra.query, extra.support, int(rng.integers(0, 3)), rng,
                                   extra.question.answer)  # fmt: skip
        chosen = sorted({extra.support, *(p for p in others if first <= p < last)})
        passages = [library.tokens(p) for p in chosen]
        asks.append(formats.answering(extra.question.text, passages, extra.question.answer))
    return chain([read, *asks], formats.end)


def document_name(library: Library, document: int, rng: np.random.Generator) -> str:
    """A name as a person's files have: mostly a path, sometimes the title."""
    entry = library.documents[document]
    title = str(entry["title"])
    if entry["kind"] == "code" or rng.random() < 0.2:
        return title
    slug = re.sub(r"[^\w]+", "-" if rng.random() < 0.5 else "_", title).strip("-_")[:60]
    if rng.random() < 0.6:
        slug = slug.lower()
    folder = ("", "", "docs/", "files/", "papers/", "data/")[int(rng.integers(6))]
    return folder + slug + (".txt", ".md", ".pdf", ".html", ".docx", "")[int(rng.integers(6))]
