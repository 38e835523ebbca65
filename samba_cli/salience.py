"""What a summary is made of: the sections of the input, and the passages that stand out.

Everything is asked of the index with limits, so memory does not grow with the input.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace

from samba_cli.index import PassageIndex, StoredPassage
from samba_cli.text_match import STOP_WORDS, content_words, overlap, words

# In standard deviations of the salience marks of a document. To be measured on summaries.
LEAD_BONUS = 1.0  # the first passage of a section
HEADING_BONUS = 0.3  # a passage under a heading that the one before does not have
FOCUS_BONUS = 3.0  # the best match for what the user wants the summary to be about
REPEAT_PENALTY = 2.0  # times the share of words that a passage chosen before has
_MOST_WORDS = 20_000  # kept while counting the words of a section
_POOL = 4  # candidates looked at for each passage wanted


@dataclass(frozen=True)
class Span:
    """Consecutive passages, ids `first` to `last`."""

    first: int
    last: int
    tokens: int
    title: str | None = None


def sections(index: PassageIndex, most: int) -> list[Span]:
    """The input in at most `most` sections: folders or files of many, else headings or lengths."""
    last = index.last_id()
    if not last:
        return []
    documents = sum(1 for _ in zip(index.documents(), range(2), strict=False))
    spans = _by_folder(index) if documents > 1 else _by_heading(index, most)
    return _merged(spans, most)


def choose(
    index: PassageIndex, span: Span, budget: int, most: int, focus: str | None = None
) -> list[StoredPassage]:
    """The passages of a section that say most, in order, within `budget` tokens; at least one.

    Greedy, with a penalty for repeating what was chosen (maximal marginal relevance, Carbonell
    & Goldstein 1998).
    """
    pool = dict(index.most_salient(span.first, span.last, _POOL * most))
    if not pool:
        pool = _by_frequent_words(index, span, _POOL * most)
    pool[span.first] = pool.get(span.first, 0.0) + LEAD_BONUS
    if focus:
        matches = index.search(focus, _POOL * most, (span.first, span.last))
        for key, score in matches:
            pool[key] = pool.get(key, 0.0) + FOCUS_BONUS * score / matches[0][1]
    passages = {one.id: one for one in index.get(list(pool))}
    stems = {key: content_words(one.passage.text) for key, one in passages.items()}
    for key, one in passages.items():
        before = passages.get(key - 1)
        if before and one.passage.heading and one.passage.heading != before.passage.heading:
            pool[key] += HEADING_BONUS
    chosen: list[int] = []
    covered: set[str] = set()
    while passages.keys() - set(chosen) and len(chosen) < most:
        best = max(
            passages.keys() - set(chosen),
            key=lambda key: (pool[key] - REPEAT_PENALTY * overlap(stems[key], covered), -key),
        )
        if chosen and passages[best].tokens + 2 > budget:
            del passages[best]
            continue
        chosen.append(best)
        covered |= stems[best]
        budget -= passages[best].tokens + 2
    return [passages[key] for key in sorted(chosen)]


def _by_folder(index: PassageIndex) -> list[Span]:
    """Runs of documents in the same folder below what all of them share."""
    shared: str | None = None
    for document in index.documents():
        path = _path(document.name)
        if shared is None:
            shared = os.path.dirname(path)
        while shared and not path.startswith(shared + "/"):
            shared = os.path.dirname(shared) if shared != os.path.dirname(shared) else ""
    skip = len(shared) + 1 if shared else 0
    spans: list[Span] = []
    for document in index.documents():
        folder, slash, _ = _path(document.name)[skip:].partition("/")
        title = folder + slash
        if spans and slash and spans[-1].title == title:
            spans[-1] = replace(
                spans[-1], last=document.last_passage, tokens=spans[-1].tokens + document.tokens
            )
        else:
            spans.append(
                Span(document.first_passage, document.last_passage, document.tokens, title)
            )
        if len(spans) > 4096:  # bounds memory for folders of very many files
            spans = _merged(spans, 1024)
    return spans


def _path(name: str) -> str:
    return name.replace("\\", "/").replace("!", "/")


def _by_heading(index: PassageIndex, most: int) -> list[Span]:
    """Stretches of about equal length that begin at a heading where one is near."""
    target = index.counts().tokens / max(most, 1)
    spans: list[Span] = []
    first, tokens, title = 1, 0, None
    heading, last = None, 0
    for one in index.iterate():
        new = one.passage.heading is not None and one.passage.heading != heading
        if tokens and ((new and tokens >= 0.6 * target) or tokens >= 1.25 * target):
            spans.append(Span(first, one.id - 1, tokens, title))
            first, tokens, title = one.id, 0, None
        heading = one.passage.heading
        title = title or heading
        tokens += one.tokens
        last = one.id
    return [*spans, Span(first, last, tokens, title)]


def _merged(spans: list[Span], most: int) -> list[Span]:
    """Merge the smallest neighbours until at most `most` are left."""
    spans = list(spans)
    while len(spans) > most:
        at = min(range(len(spans) - 1), key=lambda i: spans[i].tokens + spans[i + 1].tokens)
        one, other = spans[at], spans[at + 1]
        larger = one if one.tokens >= other.tokens else other
        title = one.title if one.title == other.title else _joined(one.title, other.title)
        spans[at : at + 2] = [
            Span(one.first, other.last, one.tokens + other.tokens, title or larger.title)
        ]
    return spans


def _joined(one: str | None, other: str | None) -> str | None:
    """`a/, b/`, and `a/ ... z/` when it gets long."""
    if not one or not other:
        return one or other
    if len(one) + len(other) <= 60 and " ... " not in one + other:
        return f"{one}, {other}"
    return f"{one.split(', ')[0].split(' ... ')[0]} ... {other.split(', ')[-1].split(' ... ')[-1]}"


def _by_frequent_words(index: PassageIndex, span: Span, limit: int) -> dict[int, float]:
    """For a model without marks: passages with the section's most frequent words (Luhn 1958)."""
    counts: Counter[str] = Counter()
    for one in index.iterate(span.first, span.last):
        counts.update(word for word in words(one.passage.text) if word not in STOP_WORDS)
        if len(counts) > 2 * _MOST_WORDS:
            counts = Counter(dict(counts.most_common(_MOST_WORDS)))
    common = " ".join(word for word, _ in counts.most_common(30))
    found = index.search(common, limit, (span.first, span.last))
    best = found[0][1] if found else 1.0
    return {key: 2.0 * score / (best or 1.0) for key, score in found}
