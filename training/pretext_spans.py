"""Recurring spans: ask for a name, a number or a phrase of a sentence over some passages.

After Ram et al. 2021 (Splinter), as questions: the passage that answers is the one the
sentence stands in or, better, another one of the document that has the same span and shares
words with the sentence, while the sentence itself is taken out of its passage.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.asking import about
from training.library import Library, Words
from training.near_misses import near_miss
from training.questions import Question, ask, choose, definition, spans
from training.rows import Formats, Row, Tokens, chain
from training.words import content_words, hashed, is_prose, sentences, squeeze

NOTHING = 0.2  # share of the answer rows whose passages do not answer
NEARLY = 0.25  # share of the others that are also asked what they nearly answer
_SENTENCES_TRIED = 7
_TURNED = 0.25  # share of the rows of marks: they are short, so of the tokens it is less
_EMPTIED = 0.15  # how often the passage that answers is also shown less its sentence
_CRUDE = 0.12  # how often a question is taken that no person would ask so


@dataclass(frozen=True)
class Asked:
    """A question, its answer, and the passage that supports it."""

    question: Question
    passage: int  # where the question comes from
    support: int  # the passage that answers: the same one, or another
    without: Tokens | None  # `passage` less the sentence, when another passage supports
    query: Words
    sentence: tuple[int, int]  # where the question's sentence stands in `passage`


def pick_passage(library: Library, rng: np.random.Generator, code: bool = False) -> int:
    """A passage of prose (or of code), every passage as likely as any other."""
    for _ in range(200):
        passage = int(rng.integers(library.passage_count))
        if library.code[library.document_of(passage)] == code:
            return passage
    raise ValueError("the corpus has no passage of the wanted kind")


def pick_sentence(
    library: Library, passage: int, rng: np.random.Generator
) -> tuple[str, int, int] | None:
    """A sentence of the passage in one line, and where it stands."""
    text = library.text(passage)
    found = [(squeeze(text[a:b]), a, b) for a, b in sentences(text)]
    found = [entry for entry in found if is_prose(entry[0])]
    return found[int(rng.integers(len(found)))] if found else None


def draw_question(
    library: Library, passage: int, rng: np.random.Generator
) -> tuple[Question, int, int] | None:
    """A question about a sentence of the passage, and where the sentence stands.

    Most sentences can only be asked about crudely: a few are tried for one that a person might ask.
    """
    drawn = None
    for _ in range(_SENTENCES_TRIED):
        chosen = pick_sentence(library, passage, rng)
        if chosen is None:
            return None
        sentence, start, end = chosen
        question = definition(sentence, rng)
        if question is None:
            found = spans(sentence)
            if not found:
                continue
            question = ask(sentence, choose(found, rng), rng)
        drawn = question, start, end
        if question.natural or rng.random() < _CRUDE:
            break
    return drawn


def without(formats: Formats, text: str, start: int, end: int) -> Tokens:
    """The tokens of a passage less one sentence.

    It ends in the white space that it ended in before: nothing tells it from the others.
    """
    rest = (text[:start].rstrip(" ") + " " + text[end:].lstrip(" ")).strip()
    return np.array(formats.tokenizer.encode(rest + text[len(text.rstrip()) :]), np.uint16)


def _other_support(
    library: Library, passage: int, answer: str, query: Words, rng: np.random.Generator
) -> int | None:
    """Another passage of the document with the answer and part of the sentence's words."""
    first, last = library.near(passage)
    scores = library.overlap(query, first, last)
    scores[passage - first] = 0
    enough = 0.3 * library.weight(query)
    wanted = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)", re.IGNORECASE)
    for place in np.argsort(-scores, kind="stable")[:5]:
        if scores[place] < enough:
            return None
        if wanted.search(library.text(first + int(place))):
            return first + int(place)
    return None


def make(library: Library, formats: Formats, rng: np.random.Generator) -> Asked | None:
    """A question about a random sentence; None where the sentence offers none."""
    passage = pick_passage(library, rng)
    drawn = draw_question(library, passage, rng)
    if drawn is None:
        return None
    question, start, end = drawn
    if not question.natural and len(set(content_words(question.text))) < 3:
        return None
    query = hashed(content_words(question.text))
    if len(query) == 0:
        return None
    if rng.random() < 0.6 and len(question.answer) > 2:
        other = _other_support(library, passage, question.answer, query, rng)
        if other is not None:
            rest = without(formats, library.text(passage), start, end)
            return Asked(question, passage, other, rest, query, (start, end))
    return Asked(question, passage, passage, None, query, (start, end))


def emptied(library: Library, formats: Formats, asked: Asked) -> Tokens | None:
    """The passage that answers less its sentence; None where it still has the answer."""
    if asked.support != asked.passage:
        return None
    text, (start, end) = library.text(asked.passage), asked.sentence
    if asked.question.answer.lower() in (text[:start] + " " + text[end:]).lower():
        return None
    return without(formats, text, start, end)


def shown(library: Library, formats: Formats, asked: Asked, passage: int) -> Tokens:
    """A passage as the row shows it."""
    if asked.without is not None and passage == asked.passage:
        return asked.without
    return library.tokens(passage)


def judged(
    formats: Formats,
    question: str,
    entries: Sequence[tuple[Tokens, bool]],
    rng: np.random.Generator,
) -> Row | None:
    """The passages in any order, each to be judged as relevant or not; None without passages.

    Now and then turned round: the question is wanted after the one passage that answers it.
    """
    if not entries:
        return None
    answering = [tokens for tokens, relevant in entries if relevant]
    if len(answering) == 1 and rng.random() < _TURNED:
        return about(formats, answering[0], question)
    order = [entries[i] for i in rng.permutation(len(entries))]
    return formats.marking(question, [t for t, _ in order], [r for _, r in order])


def how_many(rng: np.random.Generator) -> int:
    """Passages of a row of marks: the program asks about one at a time, so few are common."""
    return int(rng.choice([1, 2, 3, 4, 5, 6, 7], p=[0.22, 0.2, 0.16, 0.14, 0.1, 0.09, 0.09]))


def marks(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """The supporting passage among hard negatives, in any order, each to be judged."""
    asked = make(library, formats, rng)
    if asked is None:
        return None
    count = how_many(rng)
    entries: list[tuple[Tokens, bool]] = []
    if count > 1 or rng.random() < 0.5:
        entries.append((shown(library, formats, asked, asked.support), True))
    taken = [asked.support]
    if asked.without is not None and len(entries) < count and rng.random() < 0.5:
        # it was about this, but what was asked stands there no more (unless it does)
        if (
            asked.question.answer.lower()
            not in formats.tokenizer.decode(asked.without.tolist()).lower()
        ):
            entries.append((asked.without, False))
        taken.append(asked.passage)
    if len(entries) < count and rng.random() < _EMPTIED:
        rest = emptied(library, formats, asked)
        entries += [(rest, False)] if rest is not None else []
    negatives = library.negatives(
        asked.query, asked.support, count - len(entries), rng, asked.question.answer, taken
    )
    entries += [(shown(library, formats, asked, p), False) for p in negatives]
    return judged(formats, asked.question.text, entries, rng)


def answer(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """Some passages shown again; the answer, or that they have none; then more questions."""
    asked = make(library, formats, rng)
    if asked is None:
        return None
    nothing = rng.random() < NOTHING
    rest = emptied(library, formats, asked) if nothing and rng.random() < 0.5 else None
    count = how_many_shown(rng)
    chosen = [asked.support] if not nothing or rest is not None else []
    negatives = library.negatives(
        asked.query,
        asked.support,
        count - len(chosen),
        rng,
        asked.question.answer,
        (asked.support, asked.passage),
    )
    chosen = sorted(chosen + negatives)
    if not chosen:
        return None
    passages = [library.tokens(p) if rest is None or p != asked.passage else rest for p in chosen]
    said = None if nothing else asked.question.answer
    asks = [(asked.question.text, said)]
    if not nothing and rng.random() < NEARLY:
        near = nearly(library, asked.question.text, chosen, rng)
        asks += [(near, None)] if near is not None else []
    (question, said), *later = [asks[i] for i in rng.permutation(len(asks))]
    rows = [formats.answering(question, passages, said)]
    rows += [formats.answering(question, [], said) for question, said in later]
    whole = [p for p in chosen if rest is None or p != asked.passage]
    rows += _more(library, formats, rng, whole, asked.question) if whole else []
    return chain(rows, formats.end, reading=False)


def nearly(
    library: Library, question: str, shown: Sequence[int], rng: np.random.Generator
) -> str | None:
    """A question like this one that the passages shown do not answer; None where none is found."""
    first, last = library.near(shown[0])
    nearby = rng.integers(first, last, 3).tolist()
    seen, around = ("".join(library.text(p) for p in some) for some in (shown, nearby))
    return near_miss(question, seen, around, rng)


def how_many_shown(rng: np.random.Generator) -> int:
    """Passages before an answer: the program mostly shows one, at most three."""
    return int(rng.choice([1, 2, 3, 4], p=[0.45, 0.25, 0.25, 0.05]))


def _more(
    library: Library,
    formats: Formats,
    rng: np.random.Generator,
    passages: Sequence[int],
    first: Question,
) -> list[Row]:
    """More questions about passages that stand in the window: little text for much to answer.

    No answer comes twice, nor that of the first question: it would be copied from the one before.
    """
    rows: list[Row] = []
    answers = {first.answer.lower()}
    texts = [library.text(p).lower() for p in passages]
    for _ in range(int(rng.integers(1, 5))):
        passage = passages[int(rng.integers(len(passages)))]
        elsewhere = rng.random() < NOTHING / 2
        if elsewhere:  # close by, so that it is about the same things
            passage = int(rng.integers(*library.near(passage)))
        extra = make_within(library, formats, passage, passage + 1, rng)
        if extra is None or extra.question.answer.lower() in answers:
            continue
        answers.add(extra.question.answer.lower())
        wanted: str | None = extra.question.answer
        if elsewhere:
            if passage in passages or any(extra.question.answer.lower() in t for t in texts):
                continue
            wanted = None
        rows.append(formats.answering(extra.question.text, [], wanted))
    return rows


def make_within(
    library: Library, formats: Formats, first: int, last: int, rng: np.random.Generator
) -> Asked | None:
    """A question about a sentence of passages first..last-1, which it keeps."""
    passage = int(rng.integers(first, last))
    drawn = draw_question(library, passage, rng)
    if drawn is None:
        return None
    question, start, end = drawn
    query = hashed(content_words(question.text))
    if len(query) < 2:
        return None
    return Asked(question, passage, passage, None, query, (start, end))
