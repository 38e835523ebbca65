"""Questions that a passage nearly answers: one word of an answerable question is another.

'Who led the project until 2002?' becomes 'Who led the project until 1987?', 'When was the bridge
built?' becomes 'When was the bridge painted?'. The word put in comes from close by, so that the
question stays about the same things, and occurs in none of the passages shown.
"""

from __future__ import annotations

import re

import numpy as np

from training.words import STOP_WORDS, stem

_WORD = re.compile(r"[A-Za-z][\w'’-]{3,}|\d{2,}")
_ENDINGS = ("ed", "ing", "s", "ly", "ion", "al", "er")
_ASKS = frozenset({"what", "which", "when", "where", "whose", "does", "many", "much", "long"})
_TRIES = 12


def _kind(word: str) -> str:
    """Words of a kind can stand in each other's place."""
    if word.isdigit():
        return f"number of {len(word)}"
    if word[0].isupper():
        return "name"
    return next((e for e in _ENDINGS if word.endswith(e) and len(word) > len(e) + 2), "word")


def _can_go(question: str) -> list[re.Match[str]]:
    """The words of a question that another could stand for: not the first, which may ask."""
    return [
        match
        for match in _WORD.finditer(question)
        if match.start() > 0 and match.group().lower() not in STOP_WORDS | _ASKS
    ]


def near_miss(question: str, shown: str, nearby: str, rng: np.random.Generator) -> str | None:
    """The question with one of its words replaced by one of `nearby` that is not in `shown`.

    Only a word that `shown` has is replaced: there the question was answered, here it is not.
    None where no such pair of words is found.
    """
    known = {stem(word.lower()) for word in _WORD.findall(shown)}
    able = [m for m in _can_go(question) if stem(m.group().lower()) in known]
    # names and numbers first: to ask for another one is the commonest of near misses
    able.sort(key=lambda m: _kind(m.group()) != "name" and not m.group().isdigit())
    others = _WORD.findall(nearby)
    if not able or not others:
        return None
    preferred = able if rng.random() < 0.5 else [able[i] for i in rng.permutation(len(able))]
    for match in preferred[:2]:
        kind = _kind(match.group())
        for place in rng.integers(len(others), size=_TRIES).tolist():
            word = others[place]
            fits = _kind(word) == kind and word.lower() not in STOP_WORDS
            if fits and stem(word.lower()) not in known and word.lower() not in question.lower():
                return question[: match.start()] + word + question[match.end() :]
    return None
