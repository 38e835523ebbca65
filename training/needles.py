"""Facts to hide in long text: a key and its number, how it is said and how it is asked.

The passkey test of Mohtashami and Jaggi (2023, arXiv 2305.16300), in text that people wrote, with
a key for each of the facts and other words in most questions than in the sentence. Neither the
sentences nor the names are those of the training data (`training.pretext_recall`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_FIRST = _list(
    "broad calm eager faint gentle hollow lively narrow plain quiet rapid sturdy humble polite "
    "crooked distant"
)
_SECOND = _list(
    "bakery chapel ferry kiosk lighthouse mill pavilion quay stable tannery windmill brewery "
    "cottage foundry gatehouse terrace"
)
_SAID = (
    ("The number that opens the {key} vault is {number}.",
     ("Which number opens the {key} vault?", "How is the {key} vault opened?")),
    ("Keep this in mind: the pass key for the {key} is {number}.",
     ("What is the pass key for the {key}?", "Which pass key belongs to the {key}?")),
    ("For the {key} the night porter was given the combination {number}.",
     ("What combination was the night porter given for the {key}?",
      "Which combination does the porter have for the {key}?")),
    ("In the register the {key} has the reference number {number}.",
     ("What reference number does the {key} have in the register?",
      "What is the reference of the {key}?")),
    ("Whoever enters {number} at the {key} terminal is let in.",
     ("What must be entered at the {key} terminal?",
      "What do you type at the {key} terminal to be let in?")),
    ("The alarm of the {key} is turned off with {number}.",
     ("What turns off the alarm of the {key}?",
      "Which number stops the alarm of the {key}?")),
    ("The parcel for the {key} was filed under {number}.",
     ("Under what number was the parcel for the {key} filed?",
      "What is the file number of the {key} parcel?")),
    ("Calls to the {key} are answered at extension {number}.",
     ("At which extension are calls to the {key} answered?",
      "Which extension reaches the {key}?")),
    ("The {key} paid the deposit into account {number}.",
     ("Into which account did the {key} pay the deposit?",
      "What account got the deposit of the {key}?")),
    ("The inspector gave the {key} the licence number {number}.",
     ("What licence number did the inspector give the {key}?",
      "Which licence number does the {key} have?")),
)  # fmt: skip
_BOUNDARY = re.compile(r"(?<=[.!?])[ \n]|\n+")


@dataclass(frozen=True)
class Needle:
    """A sentence to hide, the question it answers and the number that is the answer."""

    said: str
    question: str
    number: str


def needles(count: int, seed: int) -> list[Needle]:
    """Facts that share no word of their keys and no sentence.

    Raises ValueError for more than ten.
    """
    draw = random.Random(seed)
    if count > len(_SAID):
        raise ValueError(f"there are sentences for {len(_SAID)} facts, not for {count}")
    made: dict[str, Needle] = {}
    words = [draw.sample(some, count) for some in (_FIRST, _SECOND)]
    for first, second, (said, asked) in zip(*words, draw.sample(_SAID, count), strict=True):
        number = str(draw.randrange(10_000, 10_000_000))
        while number in made:
            number = str(draw.randrange(10_000, 10_000_000))
        key = f"{first} {second}"
        question = draw.choice(asked).format(key=key)
        made[number] = Needle(said.format(key=key, number=number), question, number)
    return list(made.values())


def hide(text: str, facts: Sequence[Needle], depths: Sequence[float], seed: int) -> str:
    """The text with each fact at its depth (0: before everything, 1: behind everything).

    A fact goes to the next end of a sentence or line: half of them, drawn by the seed, become
    paragraphs of their own, the others stand in the running text.
    """
    draw, parts, end = random.Random(seed), [], 0
    for fact, depth in sorted(zip(facts, depths, strict=True), key=lambda pair: pair[1]):
        place = max(end, _boundary(text, round(depth * len(text))))
        paragraph = draw.random() < 0.5
        before = "\n\n" if paragraph else "" if text[place - 1 : place].isspace() else " "
        parts += [text[end:place], before if place else "", fact.said, "\n\n" if paragraph else " "]
        end = place
    return "".join([*parts, text[end:]])


def _boundary(text: str, place: int) -> int:
    """The first end of a sentence or line from `place` on; 0 and the end are kept."""
    if place in (0, len(text)):
        return place
    found = _BOUNDARY.search(text, place)
    return found.end() if found else len(text)


def is_right(answer: str, fact: Needle) -> bool:
    """Whether the number asked for stands in the answer, and no other of five digits or more."""
    stated = re.findall(r"\d{5,}", re.sub(r"(?<=\d)[ ,](?=\d{3}\b)", "", answer))
    return set(stated) == {fact.number}
