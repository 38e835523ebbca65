"""Questions made from sentences: a span is blanked out or asked for.

No grammar is parsed. Where the verb is certain the sentence is turned round as people ask; the
other phrasings are crude, but there are many of them, so that a model learns to look for what
is asked and not for one form of asking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from training.paraphrase import paraphrase
from training.phrasing import DANGLING, lower, natural, reach
from training.wh_words import pick, wh
from training.words import STOP_WORDS, content_words

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DATE = re.compile(
    rf"\b(?:\d{{1,2}} {_MONTH}(?:,? \d{{4}})?|{_MONTH} \d{{1,2}}(?:, \d{{4}})?|{_MONTH} \d{{4}})\b"
)
_YEAR = re.compile(r"\b(?:1[0-9]|20)\d{2}\b(?![,.]\d|%)")
_NUMBER = re.compile(
    r"(?<![\w.,/-])[$€£]?\d[\d,]*(?:\.\d+)?%?(?: (?:percent|per cent|million|billion|thousand|km|"
    r"miles?|metres|meters|feet|kg|tons?|years?|days?|hours?|minutes?|months?|weeks?|acres|degrees|"
    r"dollars|bytes|bits|MB|GB|ms|seconds?|°C|mm|cm))?(?![\w/-])"
)
_CAPITAL = r"[A-Z][\w'’&-]*[\w]"
_ENTITY = re.compile(
    rf"\b{_CAPITAL}(?:(?: (?:of|of the|de|van|von|and|for|der))? {_CAPITAL}){{0,3}}"
)
_QUOTED = re.compile(r"[\"“]([^\"“”\n]{3,50})[\"”]")
_CODE = re.compile(r"``?([A-Za-z_][\w.()-]{2,40})``?")
_PHRASE = re.compile(
    r"\b(?:in|on|at|by|with|from|for|of|as|into|between|called|named|through|because of|to) "
    r"((?:the |a |an |its |his |their )?[a-z][\w'-]+(?: [\w'-]+){0,4})(?=[,.;:)])"
)
_IDIOM = re.compile(
    r"(?:example|instance|fact|addition|particular|all|no means|least|last|first|once|most|that)\b"
)
_PARENTHESES = re.compile(r" ?[(\[][^()\[\]]*[)\]]")

_PERSON_BEFORE = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Sir|Lord|Lady|President|King|Queen|Prince|Captain|General|Professor|Senator|"
    r"Saint|author|director|wife|husband|"
    r"son|daughter|brother|sister|father|mother|programmer|composer|painter|by)\.? $"
)
_PERSON_AFTER = re.compile(
    r"^,? (?:said|wrote|died|argued|asked|replied|married|told|believed|thought|himself|herself|"
    r"who|whose|cried|answered|went|came|looked|stood|knew|felt|took|became a|was born|and his|"
    r"and her|founded|created|invented|discovered|composed|painted|directed|designed)\b"
)
_PLACE_BEFORE = re.compile(r"\b(?:in|at|near|from|to|into|across|outside|throughout) (?:the )?$")

_DEFINITION = re.compile(
    r"^(?P<name>(?:The |A |An )?[A-Z\"“*`_]?[\w'’*`_\"”-]+(?: [\w'’*`\"”-]+){0,4})"
    r"(?P<aside> ?\([^()]*\))?(?P<comma>, [^,]{3,60},)? "
    r"(?P<verb>is|was|are|were|refers to|means) (?P<what>(?:an?|the|one of|any|when) .{15,300})$"
)


_BECAUSE = re.compile(
    r",? because ((?:the|an?|it|they|he|she|its|this|of the) [^,;:()]{12,90})(?=[,.;]|$)"
)
_BY_DOING = re.compile(r" by ([a-z]{3,}ing [^,;:()]{8,70})(?=[,.;]|$)")


@dataclass(frozen=True)
class Span:
    """What a question can ask for: a stretch of a sentence and a word that asks for it."""

    start: int
    end: int
    word: str  # "who", "when", "how many", ...
    odds: float = 1.0  # of being chosen, against the others


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    natural: bool = False  # asked as a person would, not by a blank in the sentence


def spans(sentence: str) -> list[Span]:
    """Names, numbers, dates, quoted terms, identifiers and some phrases of a sentence."""
    found: list[Span] = []
    near, far = reach(sentence)
    busy: list[tuple[int, int]] = []

    def add(start: int, end: int, word: str, odds: float = 1.0) -> None:
        if all(end <= a or start >= b for a, b in busy):
            busy.append((start, end))
            odds *= 8.0 if start == 0 or near <= start < far else 1.0
            found.append(Span(start, end, word, odds))

    for match in _DATE.finditer(sentence):
        add(*match.span(), "when")
    for match in _YEAR.finditer(sentence):
        add(*match.span(), "year")
    for match in _NUMBER.finditer(sentence):
        plain = match.group().isdigit()
        if plain and re.match(r" [a-z]{3,}s\b", sentence[match.end() :]):
            add(*match.span(), "how many")
        elif len(match.group()) > 1 or not plain:
            add(*match.span(), "how much" if not plain else "number")
    for match in _QUOTED.finditer(sentence):
        add(*match.span(1), "what")
    for match in _CODE.finditer(sentence):
        add(*match.span(1), "what")
    for match in _ENTITY.finditer(sentence):
        if match.group().lower() in STOP_WORDS or match.group() in {"Figure", "Table", "I"}:
            continue
        if match.start() == 0 and " " not in match.group():
            continue  # any word has a capital there
        start = match.start()
        if start == 0:  # "However", "In 1987 Captain": the first word has a capital anyway
            first = match.group().split(" ")[0]
            if first.lower() in STOP_WORDS or first.endswith("ly"):
                start += len(first) + 1
        end = match.end()
        if sentence[end - 2 : end] in {"'s", "’s"} and re.match(r" [a-z]", sentence[end:]):
            add(start, end - 2, "whose")
            continue
        before, after = sentence[:start], sentence[end:]
        if (
            _PERSON_BEFORE.search(before)
            or _PERSON_AFTER.match(after)
            or match.group().startswith(("Sir ", "King ", "Queen ", "Lord ", "President "))
        ):
            word = "who"
        elif _PLACE_BEFORE.search(before) and " War" not in match.group():
            word = "where"
        else:
            word = "what"
        add(start, end, word)
    for match in _PHRASE.finditer(sentence):
        if not _IDIOM.match(match[1]):
            word = "when" if re.search(r"\b(?:century|centuries|decade|era)$", match[1]) else "what"
            add(*match.span(1), word, 0.3)
    for pattern, word in ((_BECAUSE, "why"), (_BY_DOING, "how")):
        if (" because " if word == "why" else " by ") not in sentence:
            continue  # the search is slow
        for match in pattern.finditer(sentence):  # a long answer, beside what is asked in it
            found.append(Span(*match.span(1), word, 0.4))
    return found


def choose(found: list[Span], rng: np.random.Generator) -> Span:
    """One of the spans of a sentence."""
    odds = np.array([span.odds for span in found])
    return found[int(rng.choice(len(found), p=odds / odds.sum()))]


def ask(sentence: str, span: Span, rng: np.random.Generator) -> Question:
    """One of many ways to ask for the span of a sentence."""
    answer = sentence[span.start : span.end]
    whole = left, right = sentence[: span.start], sentence[span.end :].rstrip(" .!?;:")
    if rng.random() < 0.6 and ("(" in sentence or "[" in sentence):
        left, right = _PARENTHESES.sub("", left), _PARENTHESES.sub("", right)
    form = rng.random()
    text = natural(answer, left, right, span.word, rng) if form < 0.92 else None
    asked = text is not None
    if text is None:
        text = _crude(answer, left, right, span, rng, rng.random() if form < 0.92 else form)
    text = paraphrase(text.strip(), answer, rng)
    if answer.lower() in text.lower() and sentence.lower().count(answer.lower()) < 2:
        text, asked = f"{whole[0]}____{whole[1]}.", False
    return Question(as_typed(text, rng), answer, asked)


def _crude(
    answer: str, left: str, right: str, span: Span, rng: np.random.Generator, form: float
) -> str:
    """The sentence with a blank or a question word in its place, or only some of its words."""
    if rng.random() < 0.6:
        left, right = _shorter(left, right, rng)
    if form < 0.25:
        return f"{left}____{right}."
    word, left, right = wh(span.word, answer, left, right, rng)
    if word == "why" and form < 0.925:
        left = re.sub(r",? because $", "", left)
        return f"{pick(rng, ('why is it that', 'what is the reason that'))} {lower(left)}?"
    if not left.strip() or (form < 0.5 and len(left.split()) <= 2 and word in {"who", "what"}):
        return f"{word}{right}?"
    if form < 0.925:
        if word in {"when", "where", "how"}:
            left = re.sub(r"\b(?:in|on|at|by) (?:the )?$", "", left)
        return f"{left}{word}{right}?"
    return _keywords(left + right, word, rng)


def _shorter(left: str, right: str, rng: np.random.Generator) -> tuple[str, str]:
    """Only what stands near the blank, back to a comma or a number of words, if enough is left."""
    before, after = left, right
    if rng.random() < 0.5 and ", " in left[:-2]:
        left = left[left.rindex(", ", 0, len(left) - 1) + 2 :]
    if rng.random() < 0.5 and ", " in right and right.index(", ") > 12:
        right = right[: right.index(", ")]
    words, most = left.split(" "), int(rng.integers(6, 15))
    if len(words) > most:
        left = " ".join(words[-most:])
    words, most = right.split(" "), int(rng.integers(6, 15))
    if len(words) > most:
        right = DANGLING.sub("", " ".join(words[:most]))
    return (left, right) if len(set(content_words(left + right))) >= 4 else (before, after)


def _keywords(text: str, word: str, rng: np.random.Generator) -> str:
    kept = [w for w in re.findall(r"[\w'’-]+", text) if w.lower() not in STOP_WORDS and len(w) > 2]
    if len(kept) > 6:
        start = int(rng.integers(len(kept) - 5))
        kept = kept[start : start + int(rng.integers(4, 7))]
    return " ".join(kept + [word]) if rng.random() < 0.5 else " ".join([word, *kept])


def as_typed(text: str, rng: np.random.Generator) -> str:
    """As people type: sometimes all in lower case or without the question mark."""
    manner = rng.random()
    if manner < 0.3:
        text = text.lower()
    elif text:
        text = text[0].upper() + text[1:]
    return text.rstrip("?") if rng.random() < 0.1 else text


_WHAT = (
    "What {be} {x}?", "what {be} {x}", "Define {x}.", "What do you know about {x}?", "{x}",
    "Explain what {x} {be}.", "meaning of {x}", "What does {x} mean?", "tell me about {x}",
)  # fmt: skip
_WHO = ("Who {be} {x}?", "who {be} {x}", "Who exactly {be} {x}?", "{x}", "tell me about {x}")


def definition(sentence: str, rng: np.random.Generator) -> Question | None:
    """'A B-tree is a tree that ...' asks 'What is a B-tree?'; None for other sentences."""
    match = _DEFINITION.match(sentence)
    if (
        match is None
        or {match["name"].split()[0].lower(), match["name"].split()[-1].lower()} & _NO_NAME
    ):
        return None
    name, verb = match["name"].strip('*`_"“”'), match["verb"]
    if re.match(r"(?:The|A|An) ", name):
        name = name[0].lower() + name[1:]
    person = bool(match["aside"] and re.search(r"\bborn\b|\d{4}\s*[–-]", match["aside"]))
    being = verb if verb in {"was", "are", "were"} else "is"
    text = pick(rng, _WHO if person else _WHAT).format(x=name, be=being)
    return Question(as_typed(text, rng), match["what"].rstrip(" ."), True)


_NO_NAME = {
    "this", "that", "these", "those", "it", "there", "he", "she", "they", "what", "which", "here",
    "one", "another", "his", "her", "its", "their", "we", "i", "you", "some", "such", "if", "when",
    "but", "and", "so", "as", "in", "also", "both", "all", "each", "our", "my", "who", "among",
}  # fmt: skip
