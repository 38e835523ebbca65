"""Questions wanted after the passage that answers them, or after the answer in it as well.

    <|passage|>TEXT<|question|> QUESTION
    <|passage|>TEXT<|answer|> ANSWER<|question|> QUESTION<|answer|> ANSWER<|question|> QUESTION ...

How likely a question is after a passage says whether the passage is about it (Sachan et al. 2022);
how likely it is after an answer, whether that answers it: a model that must explain the question
cannot be content with a span that only looks like an answer (Lewis & Fan 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from samba_cli.prompts import worded
from training.rows import Formats, Row, Tokens, join, piece, shift
from training.words import content_words

_LONGEST_ANSWER = 120  # characters
_WORDS = (3, 40)  # of a question


@dataclass(frozen=True)
class Pair:
    """An answer, and the question it answers."""

    answer: str
    question: str


def explained(formats: Formats, passage: Tokens, pairs: Sequence[Pair]) -> Row:
    """A passage, and answers in it each with its question. Only the questions are learnt."""
    control, loss = formats.tokenizer.control, formats.losses.question
    shown = piece(passage, formats.losses.text)
    first, *others = pairs
    said = formats.encode(worded(first.answer))
    parts = [
        formats.fill("question_answered", passage=shown, answer=said),
        formats.encode(worded(first.question), loss),
    ]
    for pair in others:
        parts += [
            piece([control["<|answer|>"]], 0.0),
            formats.encode(worded(pair.answer)),
            piece([control["<|question|>"]], 0.0),
            formats.encode(worded(pair.question), loss),
        ]
    return shift(join(parts))


def about(formats: Formats, passage: Tokens, question: str) -> Row:
    """A passage, and a question that it answers."""
    shown = piece(passage, formats.losses.text)
    wanted = formats.encode(worded(question), formats.losses.question)
    return shift(join([formats.fill("question", passage=shown), wanted]))


def sensible(pair: Pair, passage: str) -> bool:
    """Does the answer stand in the passage, and does the question not give it away?"""
    answer, question = pair.answer.lower(), pair.question.lower()
    return (
        0 < len(answer) <= _LONGEST_ANSWER
        and answer in passage.lower()
        and any(character.isalnum() for character in answer)
        and _WORDS[0] <= len(question.split()) <= _WORDS[1]
        and answer not in question
        and len(set(content_words(question))) >= 2
    )
