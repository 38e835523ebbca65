"""Recall: facts planted in long text, asked for when only the state can have them.

Passkeys (Mohtashami and Jaggi 2023), several keys, phone books and exact strings. The answer
is asked with no passage shown again, from the state alone, and now and then with it.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np

from training.library import Library
from training.pretext_session import document_name
from training.pretext_spans import pick_passage
from training.rows import Formats, Row, Tokens, chain

_RECALL_SHARE = 0.75  # of the loss of an answer
_SHORTEST, _LONGEST = 100, 30_000  # tokens between a fact and its question
_NOTHING = 0.08  # share of the questions about something that was never said


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_FIRST = _list(
    "James Mary Robert Anna Michael Linda David Elena William Sofia Richard Maria Joseph Laura "
    "Thomas Nina Charles Alice Daniel Grace Matthew Julia Anthony Rosa Mark Clara Paul Emma Steven "
    "Ruth Andrew Helen Kenji Amara Omar Priya Ivan Ingrid Diego Fatima Chen Yusuf Aisha Pedro Olga "
    "Liam Noor Hugo Zara Felix Marta Samuel Leila Victor Hanna"
)
_LAST = _list(
    "Smith Johnson Brown Miller Davis Wilson Moore Taylor Thomas White Harris Martin Thompson "
    "Clark Lewis Walker Hall Young King Wright Hill Green Baker Adams Nelson Carter Mitchell "
    "Roberts Turner Phillips Campbell Parker Evans Edwards Collins Stewart Morris Rogers Reed "
    "Cook Bell "
    "Murphy Tanaka Okafor Haddad Sharma Petrov Larsen Alvarez Khan Wei Demir Silva Novak Fischer "
    "Rossi Dubois Kowalski Horvat"
)
_PLACES = _list(
    "Arden Belmont Corinth Dunmore Easton Fairview Glenwood Harrow Ironbridge Jasper Kingsley "
    "Lakeside Marlow Northgate Oakdale Pinehurst Quarry Riverton Stonehaven Thornbury Upton "
    "Valemont Westbrook Yarrow Zeller"
)
_WORDS = _list(
    "amber anchor apple arrow autumn badger basil beacon birch bridge bronze candle canyon cedar "
    "cobalt comet copper coral crane delta eagle ember falcon fern flint forest garnet glacier "
    "granite harbor hazel heron indigo iron ivory jade juniper kestrel lagoon lantern lemon lotus "
    "maple marble meadow mercury mint nickel oak ocean olive onyx opal orchid otter pearl pepper "
    "pine planet quartz raven river saffron sage salmon silver sparrow spruce stone summit tiger "
    "timber topaz tulip velvet violet walnut willow winter zephyr"
)


_CONTINUE = (
    'What comes after "{}"?', 'Continue: "{}"', 'Which words follow "{}"?',
    'Quote what follows "{}".',
)  # fmt: skip
_LETTERS = tuple(string.ascii_uppercase + string.digits)


@dataclass(frozen=True)
class Fact:
    """A sentence to plant, a question about it and the exact answer."""

    said: str
    question: str
    answer: str


# What has a value: how it is said and how it is asked; $k is the key, $v the value.
_TEMPLATES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("pass", ("The pass key of $k is $v. Remember it.", "The pass key for $k is $v.",
              "Remember: $v is the pass key of $k.", "$k uses the pass key $v."),
     ("What is the pass key of $k?", "pass key of $k", "Which pass key does $k use?",
      "What's the passkey for $k?")),
    ("phone", ("$k: $v", "The phone number of $k is $v.", "You can reach $k at $v.",
               "$k can be called on $v."),
     ("What is the phone number of $k?", "phone number of $k", "How can I call $k?",
      "What number does $k have?")),
    ("code", ("The access code of the $k gate is $v.", "To open the $k gate, enter $v.",
              "Access code ($k gate): $v"),
     ("What is the access code of the $k gate?", "What must be entered to open the $k gate?",
      "access code $k gate")),
    ("word", ("The secret word of $k is \"$v\".", "$k chose the secret word $v.",
              "The password that $k uses is $v."),
     ("What is the secret word of $k?", "Which secret word did $k choose?",
      "What password does $k use?")),
    ("key", ("The value of `$k` is `$v`.", "$k = $v", "Set $k to $v.", "\"$k\": \"$v\""),
     ("What is the value of $k?", "What is $k set to?", "value of $k", "$k")),
    ("city", ("$k lives in $v.", "The home of $k is in $v.", "$k moved to $v last year."),
     ("Where does $k live?", "In which town is the home of $k?", "Where did $k move?")),
    ("count", ("The warehouse in $k holds $v crates.", "There are $v crates in the $k warehouse."),
     ("How many crates are in the $k warehouse?", "How many crates does $k hold?")),
    ("id", ("The identifier of $k is $v.", "$k was registered under $v.", "ID of $k: $v"),
     ("What is the identifier of $k?", "Under what identifier was $k registered?", "ID of $k")),
    # asked in other words than said
    ("room", ("$k sits in room $v.", "The office of $k has moved to room $v.",
              "Visitors find $k behind door $v."),
     ("Where is the office of $k?", "In which room does $k work?", "Which door leads to $k?")),
    ("locker", ("$k keeps the tools in locker $v.", "Locker $v holds the tools of $k."),
     ("Which locker does $k use?", "Where are the tools of $k?", "What locker is $k's?")),
    ("invoice", ("The invoice to $k carries the number $v.", "$k was billed under invoice $v."),
     ("Which invoice went to $k?", "What is the number of the bill for $k?")),
    ("flight", ("$k arrives on flight $v.", "The ticket of $k is for flight $v."),
     ("Which flight does $k take?", "On what flight will $k come?", "How does $k travel?")),
    ("paid", ("$k received $v dollars for the painting.", "The painting brought $k $v dollars."),
     ("How much was $k paid for the painting?", "What did $k get for the painting?")),
    ("badge", ("Badge $v was issued to $k.", "The guard handed $k badge $v."),
     ("What badge does $k wear?", "Which badge did $k get?")),
    ("shelf", ("The letters from $k lie on shelf $v of the archive.",
               "In the archive, shelf $v holds what $k wrote."),
     ("Where are the letters from $k kept?", "On which shelf is what $k wrote?")),
    ("wire", ("Tune to channel $v for the $k station.", "The $k station sends on channel $v."),
     ("On which channel does the $k station broadcast?", "How is the $k station received?")),
    ("safe", ("Turn the dial of the $k safe to $v.", "The $k safe opens at $v."),
     ("How do you open the $k safe?", "What opens the $k safe?", "combination of the $k safe")),
)  # fmt: skip


def _one(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(str(int(d)) for d in rng.integers(0, 10, count))


def _person(rng: np.random.Generator) -> str:
    return f"{_one(rng, _FIRST)} {_one(rng, _LAST)}"


def _key_value(kind: str, rng: np.random.Generator) -> tuple[str, str]:
    if kind == "phone":
        groups = ("{}-{}", "{} {}", "({}) {}")[int(rng.integers(3))]
        return _person(rng), groups.format(_digits(rng, 3), _digits(rng, int(rng.integers(4, 8))))
    if kind == "word":
        return _person(rng), " ".join(_one(rng, _WORDS) for _ in range(int(rng.integers(1, 4))))
    if kind == "key":
        name = "_".join(_one(rng, _WORDS) for _ in range(int(rng.integers(2, 4))))
        name = name.upper() if rng.random() < 0.5 else name
        value = _digits(rng, int(rng.integers(1, 7))) if rng.random() < 0.5 else _one(rng, _WORDS)
        return name, value
    if kind == "city":
        return _person(rng), _one(rng, _PLACES)
    if kind == "id":
        letters = "".join(_one(rng, _LETTERS) for _ in range(8))
        return _person(rng), f"{letters[:4]}-{letters[4:]}"
    key = _one(rng, _PLACES) if kind in {"code", "count", "wire", "safe"} else _person(rng)
    if kind == "pass" and rng.random() < 0.5:
        key = f"{_one(rng, _WORDS)} {_one(rng, _WORDS)}"
    return key, str(int(rng.integers(10, 10 ** int(rng.integers(2, 7)))))


def facts(rng: np.random.Generator, count: int, kind: str | None = None) -> list[Fact]:
    """Facts with different keys, of one kind if it is given."""
    made: dict[str, Fact] = {}
    while len(made) < count:
        name, said, asked = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]
        if kind is not None and name != kind:
            continue
        key, value = _key_value(name, rng)
        fill = [_one(rng, t).replace("$k", key).replace("$v", value) for t in (said, asked)]
        made.setdefault(f"{name} {key}", Fact(fill[0], fill[1], value))
    return list(made.values())


def distance(rng: np.random.Generator) -> int:
    """Tokens between facts and questions: every length scale is as likely as any other."""
    return int(_SHORTEST * (_LONGEST / _SHORTEST) ** rng.random())


def recall(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """Real text with facts planted in it, then questions about them."""
    far = distance(rng)
    passage = pick_passage(library, rng)
    first, last = library.span(library.document_of(passage))
    length = far + 300
    if library.token_count(passage, last) < length:  # not enough text after it: go back
        passage = max(first, last - 1 - length // 150)
    texts: list[Tokens] = []
    place, used = passage, 0
    while used < length:  # a short document goes on with the next one of the corpus
        texts.append(library.tokens(place))
        used += len(texts[-1])
        place = (place + 1) % library.passage_count
    if rng.random() < 0.25:
        asked, planted = _phone_book(formats, rng, texts)
    else:
        asked, planted = _scattered(formats, rng, texts)
    name = document_name(library, library.document_of(passage), rng)
    read = formats.reading(name, texts, share=0.5)
    unknown = facts(rng, 1)[0]
    rows: list[Row] = []
    for number in rng.permutation(len(asked))[: int(rng.integers(2, 7))]:
        if rng.random() < _NOTHING and all(unknown.question != f.question for f in asked):
            rows.append(formats.answering(unknown.question, [], None))
            continue
        fact = asked[number]
        shown = [texts[planted[number]]] if rng.random() < 0.25 else []
        rows.append(formats.answering(fact.question, shown, fact.answer, _RECALL_SHARE))
    return chain([read, *rows], formats.end)


def _scattered(
    formats: Formats, rng: np.random.Generator, texts: list[Tokens]
) -> tuple[list[Fact], list[int]]:
    """Facts between the lines of passages (changed in place), one near the start."""
    count = int(rng.integers(1, 9))
    places = [0, *rng.integers(0, len(texts), count - 1).tolist()]
    kind = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))][0] if rng.random() < 0.5 else None
    found = facts(rng, count, kind)
    for fact, place in zip(found, places, strict=True):
        lines = ("\n\n{}\n\n", " {} ", "\n{}\n")[int(rng.integers(3))].format(fact.said)
        sentence = np.array(formats.tokenizer.encode(lines), np.uint16)
        texts[place] = np.concatenate([texts[place], sentence])
    return found, places


def _phone_book(
    formats: Formats, rng: np.random.Generator, texts: list[Tokens]
) -> tuple[list[Fact], list[int]]:
    """A list of many keys and values as one passage near the start."""
    kind = ("phone", "key", "id", "pass")[int(rng.integers(4))]
    found = facts(rng, int(rng.integers(5, 21)), kind)
    mark = ("", "- ", "* ")[int(rng.integers(3))]
    book = "".join(f"{mark}{fact.said}\n" for fact in found) + "\n"
    place = int(rng.integers(0, 1 + len(texts) // 3))
    texts.insert(place, np.array(formats.tokenizer.encode(book), np.uint16))
    return found, [place] * len(found)


def copying(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """Exact strings out of passages shown again: what follows these words, what is quoted."""
    passage = pick_passage(library, rng, code=rng.random() < 0.1)
    text = " ".join(library.text(passage).split())
    words = text.split(" ")
    if len(words) < 40:
        return None
    start = int(rng.integers(0, len(words) - 24))
    cue = int(rng.integers(4, 9))
    said = " ".join(words[start : start + cue])
    wanted = " ".join(words[start + cue : start + cue + int(rng.integers(3, 15))])
    question = _one(rng, _CONTINUE).format(said)
    others = rng.integers(0, library.passage_count, int(rng.integers(0, 3))).tolist()
    shown = [library.tokens(p) for p in sorted({passage, *others})]
    return formats.answering(question, shown, wanted)
