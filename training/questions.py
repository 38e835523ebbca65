"""Questions made from sentences: a span is blanked out or asked for.

No grammar is parsed. The phrasings are crude, but there are many of them, so that a model
learns to look for what is asked and not for one form of asking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

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
_PARENTHESES = re.compile(r" ?[(\[][^()\[\]]*[)\]]")

_DANGLING = re.compile(
    r"(?: (?:and|or|the|of|an?|in|to|for|with|by|that|which|on|at|its|from|is|as))+$"
)

_PERSON_BEFORE = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Sir|Lord|Lady|President|King|Queen|Prince|Captain|General|Professor|Senator|"
    r"Saint|author|director|wife|husband|son|daughter|brother|sister|father|mother|by)\.? $"
)
_PERSON_AFTER = re.compile(
    r"^,? (?:said|wrote|died|argued|asked|replied|married|told|believed|thought|himself|herself|"
    r"who|whose|cried|answered|went|came|looked|stood|knew|felt|took|became a|was born|and his|"
    r"and her)\b"
)
_PLACE_BEFORE = re.compile(r"\b(?:in|at|near|from|to|into|across|outside|throughout) (?:the )?$")

_AUXILIARY = re.compile(
    r"^(?P<subject>[^,;:]{2,70}?) (?P<verb>is|was|are|were|has been|have been|had been|has|have|"
    r"had|can|could|will|would|may|must|should) (?P<rest>.+)$"
)
_DEFINITION = re.compile(
    r"^(?P<name>(?:The |A |An )?[A-Z\"“*`_]?[\w'’*`_\"”-]+(?: [\w'’*`\"”-]+){0,4})"
    r"(?P<aside> ?\([^()]*\))?(?P<comma>, [^,]{3,60},)? "
    r"(?P<verb>is|was|are|were|refers to|means) (?P<what>(?:an?|the|one of|any|when) .{15,300})$"
)


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


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def spans(sentence: str) -> list[Span]:
    """Names, numbers, dates, quoted terms, identifiers and some phrases of a sentence."""
    found: list[Span] = []
    busy: list[tuple[int, int]] = []

    def add(start: int, end: int, word: str, odds: float = 1.0) -> None:
        if all(end <= a or start >= b for a, b in busy):
            busy.append((start, end))
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
        before, after = sentence[:start], sentence[match.end() :]
        if _PERSON_BEFORE.search(before) or _PERSON_AFTER.match(after):
            word = "who"
        elif _PLACE_BEFORE.search(before):
            word = "where"
        else:
            word = "what"
        add(start, match.end(), word)
    for match in _PHRASE.finditer(sentence):
        add(*match.span(1), "what", 0.3)
    return found


def choose(found: list[Span], rng: np.random.Generator) -> Span:
    """One of the spans of a sentence."""
    odds = np.array([span.odds for span in found])
    return found[int(rng.choice(len(found), p=odds / odds.sum()))]


def _wh(span: Span, rng: np.random.Generator) -> str:
    if span.word == "year":
        return _pick(rng, ("what year", "which year", "when"))
    if span.word == "number":
        return _pick(rng, ("what number", "how much", "how many"))
    if span.word == "where":
        return _pick(rng, ("where", "what place", "which place", "what"))
    if span.word == "what":
        return _pick(rng, ("what",) * 6 + ("which one", "who or what"))
    return span.word


def ask(sentence: str, span: Span, rng: np.random.Generator) -> Question:
    """One of many ways to ask for the span of a sentence."""
    answer = sentence[span.start : span.end]
    left, right = sentence[: span.start], sentence[span.end :].rstrip(" .!?;:")
    if rng.random() < 0.6:
        left, right = _PARENTHESES.sub("", left), _PARENTHESES.sub("", right)
    if rng.random() < 0.6:
        left, right = _shorter(left, right, rng)
    word, form = _wh(span, rng), rng.random()
    inverted = _inverted(left, right, span, word) if form < 0.55 else None
    if inverted is not None:
        text = inverted
    elif form < 0.25:
        text = f"{left}____{right}."
    elif not left.strip() or (form < 0.6 and len(left.split()) <= 2 and span.word != "where"):
        text = f"{word}{right}?"
    elif form < 0.85:
        left = re.sub(r"\b(?:in|on|at) (?:the )?$", "", left) if word in {"when", "where"} else left
        text = f"{left}{word}{right}?"
    else:
        text = _keywords(left + right, word, rng)
    return Question(_as_typed(text.strip(), rng), answer)


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
        right = _DANGLING.sub("", " ".join(words[:most]))
    return (left, right) if len(set(content_words(left + right))) >= 4 else (before, after)


def _inverted(left: str, right: str, span: Span, word: str) -> str | None:
    """'The bridge was built in [1890]' -> 'when was the bridge built'; None where it fails."""
    match = _AUXILIARY.match(left)
    if match is None or len(match["subject"].split()) > 9:
        return None
    rest = match["rest"]
    asks_adverb = word in {"when", "where", "what year", "which year", "what place", "which place"}
    if asks_adverb:
        shorter = re.sub(r"\s*\b(?:in|on|at|near) (?:the )?$", "", rest)
        if shorter == rest:
            return None
        rest = shorter
        word = {"what year": "in what year", "which year": "in which year"}.get(word, word)
    elif word.startswith("how"):
        following = re.match(r" ([a-z-]+)", right)
        if following is None:
            return None
        word, right = f"{word} {following.group(1)}", right[following.end() :]
    subject = match["subject"]
    if re.match(r"(?:The|A|An|This|These|It|In|He|She|They|His|Her|Its)\b", subject):
        subject = subject[0].lower() + subject[1:]
    verb, _, participle = match["verb"].partition(" ")
    words = [word, verb, subject, participle, rest.strip(), right.strip()]
    return " ".join(part for part in words if part) + "?"


def _keywords(text: str, word: str, rng: np.random.Generator) -> str:
    kept = [w for w in re.findall(r"[\w'’-]+", text) if w.lower() not in STOP_WORDS and len(w) > 2]
    if len(kept) > 6:
        start = int(rng.integers(len(kept) - 5))
        kept = kept[start : start + int(rng.integers(4, 7))]
    return " ".join(kept + [word]) if rng.random() < 0.5 else " ".join([word, *kept])


def _as_typed(text: str, rng: np.random.Generator) -> str:
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
    text = _pick(rng, _WHO if person else _WHAT).format(x=name, be=being)
    return Question(_as_typed(text, rng), match["what"].rstrip(" ."))


_NO_NAME = {
    "this", "that", "these", "those", "it", "there", "he", "she", "they", "what", "which", "here",
    "one", "another", "his", "her", "its", "their", "we", "i", "you", "some", "such", "if", "when",
    "but", "and", "so", "as", "in", "also", "both", "all", "each", "our", "my", "who", "among",
}  # fmt: skip
