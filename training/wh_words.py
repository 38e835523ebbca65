"""The word that asks for a span: 'when', 'how tall', 'whose', 'which city'."""

from __future__ import annotations

import re

import numpy as np

from training.verbs import AUXILIARY, bases, finite, words_of

_KINDS = words_of(
    "package command program project company city town village river lake mountain island country "
    "state province county region valley district book novel film movie song album band group "
    "magazine newspaper journal university college school church museum theory theorem algorithm "
    "method model protocol language library module function option file directory class variable "
    "parameter tool framework system device game team club party organization agency company "
    "species genus family disease drug protein gene enzyme element compound metal mineral battle "
    "war treaty king queen emperor president minister general bishop pope author writer poet "
    "novelist composer painter artist architect engineer programmer scientist physicist chemist "
    "mathematician astronomer philosopher historian biologist actor actress director singer "
    "musician player politician lawyer journalist programme festival award prize bridge castle "
    "palace airport station railway street building tower ship aircraft planet star constellation "
    "galaxy mission dynasty tribe religion festival format server database dataset plugin "
    "distribution interface property attribute method keyword operator field column"
)
_NAMED_OF = words_of(
    "city town village state province county island district region kingdom genus university "
    "month duchy republic battle"
)  # fmt: skip
_KIND_BEFORE = re.compile(
    r"(?:\b(?:[Tt]he|[Aa]n?) (?P<adjective>[\w-]+ )??)?\b(?P<kind>[a-z]+)"
    r"(?P<of>,? (?:of|called|named) | )$"
)
_KIND_AFTER = re.compile(r" (?P<kind>[a-z]+)\b(?! [a-z]+(?:er|or|ion)s?\b)(?![-'’])")
_APPOSED = re.compile(
    r", (?:an?|the) (?:[\w-]+ ){0,2}?(?P<kind>[a-z]+)(?: (?:of|from|in) [^,]{2,50})?,"
)
FOLLOWS = (
    "in|on|at|by|with|from|for|of|as|into|to|through|during|after|before|when|where|while|which|"
    "who|that|and|or|but|because|since|until|between|under|over|against|among|if|so"
)
FREE = re.compile(rf"(?: (?:{FOLLOWS})\b|[,;:]|$)")  # what may follow a whole noun phrase
COUNTED = re.compile(
    r"((?: [a-z][a-z-]*){1,3}?(?: of(?: [a-z-]+){1,2}?)?)"
    rf"(?= (?:{FOLLOWS.replace('|of|', '|')})\b|[,;:]|$)"
)
_UNITS = (
    (re.compile(r"(?:years?|months?|weeks?|days?)\|(?P<eaten> old)\b"), "how old"),
    (re.compile(r"(?:\w*year|month|week|day|hour|minute)s?\|(?P<eaten> ago)\b"), "how long ago"),
    (re.compile(r"\w+\|(?P<eaten> (?:high|tall))\b"), "how tall"),
    (re.compile(r"\w+\|(?P<eaten> (?:long))\b"), "how long"),
    (re.compile(r"\w+\|(?P<eaten> (?:wide))\b"), "how wide"),
    (re.compile(r"\w+\|(?P<eaten> (?:deep))\b"), "how deep"),
    (re.compile(r"(?:km|miles?|metres|meters|feet)\|(?P<eaten>(?: away)?)"
                r"(?= (?:from|north|south|east|west|off)\b)"), "how far"),
    (re.compile(r"acres\|(?P<eaten>)"), "how large"),
)  # fmt: skip
MOTION = words_of(
    "go come return move travel sail flee walk run ride fly drive march went came returned moved "
    "sent exiled banished moving back transferred deported emigrated immigrate emigrate migrate"
)
NUMBER_LEFT = re.compile(
    r"(?:^| )(?:about|over|around|approximately|roughly|nearly|almost|some|only|up to|at least|"
    r"more than|less than|fewer than|in excess of|the|a total of)$"
)
_TOWARDS = re.compile(r"(?P<verb>\w+) (?:to|into) (?:the )?$")


def pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.random() * len(choices))]  # faster than rng.integers


def wh(word: str, answer: str, left: str, right: str, rng: np.random.Generator) -> list[str]:
    """The word that asks, and what remains on both sides of the span."""
    asked = word
    if word == "year":
        word = pick(rng, ("what year", "which year", "when", "when"))
    elif word in {"number", "how much"}:
        word = "how much"
        unit = f"{answer.rpartition(' ')[2]}|{right[:20]}"
        if answer.endswith(("%", "percent", "per cent")):
            word = "what percentage"
        elif answer[0] not in "$€£" and not answer.endswith("dollars"):
            for pattern, asking in _UNITS:
                match = pattern.match(unit)
                if match is not None:
                    return [asking, left, right[len(match["eaten"]) :]]
            if unit.startswith(("year", "month", "week", "day", "hour", "minute")):
                left = NUMBER_LEFT.sub("", left.rstrip()).rstrip() + " "
                if left.endswith(("for ", "lasted ", "took ", "takes ")):
                    return ["how long", left.removesuffix("for "), right]
                word = f"how many {unit.partition('|')[0].rstrip('s')}s"
            elif answer[-1].isdigit():
                word = "what number" if asked == "number" else "how many"
    elif word == "whose":
        right = right[2:]
    elif word == "where" and (match := _TOWARDS.search(left)) and match["verb"] not in MOTION:
        word = "what"
    elif word == "where":
        word = pick(rng, ("where", "where", "where", "where", "what place"))
    elif word == "what":
        word = pick(rng, ("what",) * 14 + ("which one", "who or what"))
    return [word, left, right]


def typed(left: str, right: str, named: bool = False) -> tuple[str, str, str] | None:
    """The noun that says what the span is, taken out: 'the [reportbug] package' is a package."""
    bare = re.sub(r"(?:^|(?<= ))(?:[Tt]he|[Aa]n?) $", "", left)
    match = _KIND_AFTER.match(right)
    if match is not None and match["kind"] in _KINDS and bare != left:
        return match["kind"], bare, right[match.end() :]
    match = _KIND_BEFORE.search(left, left.rfind(" ", 0, max(len(left) - 40, 0)) + 1)
    kinds = _NAMED_OF if match is not None and match["of"] == " of " else _KINDS
    if match is not None and match["kind"] in kinds and FREE.match(right):
        return (match["adjective"] or "") + match["kind"], left[: match.start()], right
    if bare != left and named:
        kind = _head(right)
        if kind:
            return kind, bare, right[len(kind) + 1 :]
    match = _APPOSED.match(right)
    if match is not None and match["kind"] in _KINDS:
        return match["kind"], left, right[match.end() :]
    return None


def _head(right: str) -> str:
    """'the [Köppen] climate classification is' -> 'climate classification'; '' if not certain."""
    words: list[str] = []
    for word in right[1:60].split(" ")[:4]:
        plain = word.rstrip(",;:")
        if plain in AUXILIARY or plain in finite() or FREE.match(f" {plain}"):
            return " ".join(words)
        if len(words) == 3 or not (plain.isalpha() and plain.islower() and len(plain) > 2):
            return ""
        if plain.endswith(("ly", "ing", "ed")) or plain in bases():
            return ""
        words.append(plain)
        if word != plain:
            break
    return " ".join(words) if len(words) < 4 else ""
