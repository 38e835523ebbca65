"""Writing about passages: read them, mark what matters, summarise them, give them a title.

The summary is what an author wrote at the top (an abstract, the lead of an article) for the
passages below it, or, after Zhang et al. 2020 (PEGASUS), the sentences that share most words
with the rest, taken out of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.library import Library, Words
from training.pretext_session import document_name
from training.pretext_spans import pick_passage
from training.rows import Formats, Row
from training.words import content_words, hashed, is_prose, sentences, squeeze

_LEADING = {"encyclopedia", "paper", "docs", "report"}  # kinds whose documents begin with a lead
_ABSTRACT = re.compile(
    r"\A\s*(?:#[^\n]*\n+)?\s*#{1,6} (?:Abstract|Summary|TL;DR|Overview|Introduction)\b[^\n]*\n+",
    re.IGNORECASE,
)
_TITLE = re.compile(r"\A\s*#[^\n]*\n+")
_HEADINGS = re.compile(r"^[ \t]*#{1,6} [^\n]*$", re.MULTILINE)
_PLAIN = 0.3  # of the documents are read without marks: plain text must stay what it is
_LONGEST_LEAD = 6  # passages
_SHOWN_TOKENS = 900  # of passages in front of a summary
_LONGEST_SUMMARY = 1100  # characters
_ENOUGH = 0.04  # of what is wanted: a passage that adds less says nothing of it
_BODY = 400  # passages in which a lead is looked for


@dataclass(frozen=True)
class Lead:
    """A text that sums up a document, and the passages after it."""

    text: str
    words: Words
    body: int  # the first passage after the lead
    last: int


def lead(library: Library, document: int) -> Lead | None:
    """The abstract or lead section of a document that has one."""
    if library.documents[document]["kind"] not in _LEADING:
        return None
    first, last = library.span(document)
    if last - first < 4:
        return None
    texts = [library.text(p) for p in range(first, min(first + _LONGEST_LEAD, last))]
    whole = "".join(texts)
    head = _ABSTRACT.match(whole) or _TITLE.match(whole)
    begin = head.end() if head else 0
    heading = _HEADINGS.search(whole, begin)
    if heading is None:
        return None  # nothing ends it
    ends = np.cumsum([len(text) for text in texts])
    after = int(np.searchsorted(ends, heading.start(), "left")) + 1
    text = re.split(r"\n\s*(?:Keywords?|\*\*Keywords?)", whole[begin : heading.start()])[0].strip()
    prose = [squeeze(text[a:b]) for a, b in sentences(text)]
    if not 120 <= len(text) <= 5000 or sum(map(is_prose, prose)) < 0.6 * len(prose):
        return None
    words = hashed(content_words(text))
    return Lead(text, words, first + after, min(last, first + after + _BODY))


def salient(library: Library, wanted: Words, first: int, last: int, most: int) -> list[int]:
    """Greedily the passages that together cover the wanted words best, rarest counting most."""
    chosen: list[int] = []
    left, enough = wanted, _ENOUGH * library.weight(wanted)
    for _ in range(most):
        if len(left) < 2:
            break
        scores = library.overlap(left, first, last)
        if chosen:
            scores[np.array(chosen) - first] = 0
        best = int(np.argmax(scores))
        if scores[best] < enough:
            break
        chosen.append(first + best)
        left = np.setdiff1d(left, library.words(first + best), assume_unique=True)
    return chosen


def read(
    library: Library,
    formats: Formats,
    rng: np.random.Generator,
    document: int,
    first: int,
    last: int,
) -> Row:
    """A document (or passages first..last-1 of it) as the program reads it, or as plain text."""
    passages = [library.tokens(p) for p in range(first, last)]
    if rng.random() < _PLAIN:
        return formats.plain(document_name(library, document, rng), passages)
    row = formats.reading(document_name(library, document, rng), passages)
    found = lead(library, document) if first == library.span(document)[0] else None
    if found is None or found.last > last or found.body >= found.last:
        return row
    most = max(1, min(10, round(0.2 * (found.last - found.body))))
    yes = salient(library, found.words, found.body, found.last, most)
    places = np.flatnonzero(row.tokens == formats.mark)[found.body - first : found.last - first]
    wanted = np.isin(np.arange(found.body, found.last), yes)
    formats.judge(row, places, wanted, 0.5)  # the oracle is rough
    return row


def length_of(text: str) -> str:
    """The template for a summary of this length."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(re.match(r"\s*(?:[-*•]|\d+[.)]) ", line) for line in lines):
        return "summarize_bullets"
    words = len(text.split())
    return f"summarize_{'short' if words <= 40 else 'medium' if words <= 120 else 'long'}"


def fit(library: Library, passages: list[int], limit: int = _SHOWN_TOKENS) -> list[int]:
    """As many of the passages, best first, as fit the limit of tokens, in document order."""
    chosen, used = [], 0
    for passage in passages:
        used += library.token_count(passage, passage + 1) + 2
        if used > limit and chosen:
            break
        chosen.append(passage)
    return sorted(chosen)


def lead_summary(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """The lead, or its first sentences, from the passages of the body that cover it."""
    document = library.document_of(pick_passage(library, rng))
    found = lead(library, document)
    if found is None or found.body >= found.last:
        return None
    text = found.text
    parts = [squeeze(text[a:b]) for a, b in sentences(text)]
    if (size := rng.random()) < 0.45:
        text = " ".join(parts[: int(rng.integers(1, 3))])
    elif size < 0.7:
        text = " ".join(parts[: int(rng.integers(2, 5))])
    elif size < 0.8 and len(parts) > 2:
        text = "\n".join(f"- {part}" for part in parts[:5])
    while len(text) > _LONGEST_SUMMARY:
        shorter = text[: text.rfind(". ", 0, _LONGEST_SUMMARY) + 1]
        text = shorter or text[:_LONGEST_SUMMARY]
    if len(text) < 40:
        return None
    best = salient(library, hashed(content_words(text)), found.body, found.last, 8)
    return _summary(library, formats, fit(library, best), text) if best else None


def _summary(library: Library, formats: Formats, passages: list[int], text: str) -> Row:
    shown = [library.tokens(p) for p in passages]
    return formats.written(length_of(text), text, passages=formats.passages(shown))


def _principal(texts: list[str], library: Library) -> list[tuple[float, int, int, str]]:
    """Every sentence: how much of the rest's words it has, its text number, place and text."""
    entries: list[tuple[int, str, Words]] = []
    for number, text in enumerate(texts):
        for a, b in sentences(text):
            sentence = squeeze(text[a:b])
            if is_prose(sentence, 8, 45):
                entries.append((number, text[a:b], hashed(content_words(sentence))))
    if len(entries) < 5:
        return []
    counts: dict[int, int] = {}
    for _, _, words in entries:
        for word in words.tolist():
            counts[word] = counts.get(word, 0) + 1
    scored: list[tuple[float, int, int, str]] = []
    for place, (number, sentence, words) in enumerate(entries):
        shared = [w for w in words.tolist() if counts[w] > 1]
        score = float(library.rarity[shared].sum()) / (6 + len(words)) if shared else 0.0
        scored.append((score, number, place, sentence))
    return scored


def gap_sentences(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """One to three sentences that say most of the passages they are taken out of."""
    passage = pick_passage(library, rng)
    _, last = library.span(library.document_of(passage))
    texts = [library.text(p) for p in range(passage, min(last, passage + int(rng.integers(2, 5))))]
    scored = _principal(texts, library)
    if not scored:
        return None
    best = sorted(sorted(scored)[-int(rng.integers(1, 4)) :], key=lambda entry: entry[2])
    for _, number, _, sentence in best:
        before, _, after = texts[number].partition(sentence)
        texts[number] = before + after.lstrip(" ")
    summary = [squeeze(sentence) for *_, sentence in best]
    text = " ".join(summary)
    if len(summary) > 1 and rng.random() < 0.2:
        text = "\n".join(f"- {sentence}" for sentence in summary)
    shown: list[npt.NDArray[np.uint16]] = [
        np.array(formats.tokenizer.encode(t.lstrip()), np.uint16)
        for t in texts
        if len(t.strip()) > 80
    ]
    if not shown:
        return None
    return formats.written(length_of(text), text, passages=formats.passages(shown))


def title(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """The heading of a section, or the title of a document, from its first passages."""
    for _ in range(12):
        passage = pick_passage(library, rng)
        document = library.document_of(passage)
        first, last = library.span(document)
        if rng.random() < 0.25:
            passage, wanted = first, str(library.documents[document]["title"])
        else:
            wanted = library.heading(passage)
        if wanted and len(wanted) > 3 and re.search(r"[A-Za-z]{3}", wanted):
            break
    else:
        return None
    texts = [library.text(p) for p in range(passage, min(last, passage + int(rng.integers(1, 4))))]
    texts[0] = re.sub(r"\A\s*#[^\n]*\n+", "", texts[0])
    for number, text in enumerate(texts[1:], 1):  # another section begins: stop there
        if text.lstrip().startswith("#"):
            texts = texts[:number]
            break
    shown = [np.array(formats.tokenizer.encode(t.lstrip()), np.uint16) for t in texts if t.strip()]
    if not shown or len(shown[0]) < 40:
        return None
    return formats.written("title", wanted, passages=formats.passages(shown))
