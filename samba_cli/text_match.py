"""String matching shared by evidence, answers and summaries: words, sentences, names, numbers.

Everything here is exact and cheap; nothing asks the model. Offsets returned always count
into the text that was passed in, so quotes stay exact text of the document.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from samba_cli.spelling import american

STOP_WORDS = frozenset(
    """a about above after again all also am an and any are as at be because been before being
    below between both but by can cannot could did do does doing down during each either else
    ever few for from further had has have having he her here hers him his how however i if in
    into is it its itself just may me might more most much must my no nor not of off on once only
    or other our out over own per please same shall she should so some such tell than that the
    their them then there these they this those through thus to too under until up upon us very
    was we were what when where whether which while who whom whose why will with within without
    would yet you your does's explain describe find give list show""".split()  # noqa: SIM905
)

_ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof sr jr st mt vs etc e.g i.e cf al fig figs eq eqs sec secs ch chap vol no
    nos pp p ed eds inc ltd co corp approx dept est gen col sgt capt lt gov sen rep rev hon jan
    feb mar apr jun jul aug sep sept oct nov dec u.s u.k u.n a.m p.m ph.d art para ref refs resp
    viz ca""".split()  # noqa: SIM905
)

_WORD = re.compile(r"\w+(?:['’]\w+)?")
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_LIST_MARK = re.compile(r"(?:[-*•+]|\d{1,3}[.)])[ \t]+")
_END = re.compile(
    r"[.!?…。！？]+[\"'”’)\]]*(?=\s|$)|[。！？]"
    r"|\n[ \t]*\n\s*"
    r"|\n(?=[ \t]*(?:[-*•+]|\d{1,3}[.)])[ \t])"
    r"|^\#{1,6}[ \t][^\n]*\n",
    re.MULTILINE,
)
_NUMBER = re.compile(r"\d[\d.,:/\-]*\d|\d")
_SPELLED = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    "|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
    "|hundred|thousand|million|billion"
)
_NUMBER_WORDS = re.compile(rf"\b(?:{_SPELLED})(?:[- ](?:{_SPELLED}))*\b", re.IGNORECASE)
_NAME = re.compile(
    r"\b[A-Z][\w&'’\-]*(?:[ \t]+(?:(?:of|de|van|von|der|la)[ \t]+)?[A-Z][\w&'’\-]*)*"
)
_SPACE = re.compile(r"\s+")
_DASHES = str.maketrans(
    {
        "‐": "-",
        "‑": "-",
        "‒": "-",
        "–": "-",
        "—": "-",
        "’": "'",
        "‘": "'",
        "“": '"',
        "”": '"',
        "\u00ad": None,
    }
)


def words(text: str) -> list[str]:
    """All words, case-folded, in order."""
    return [word.casefold() for word in _WORD.findall(text)]


@lru_cache(1 << 16)  # a language has few words, and each comes again and again
def stem(word: str) -> str:
    """A light English stem, for comparing words only: plural, -ing, -ed, -ly and possessives, in
    American spelling.
    """
    word = american(word.casefold().replace("’", "'").removesuffix("'s"))
    for suffix, least in (
        ("ingly", 4),
        ("edly", 4),
        ("ing", 4),
        ("ies", 3),
        ("ed", 4),
        ("ly", 4),
        ("es", 4),
        ("s", 3),
    ):
        if word.endswith(suffix) and len(word) - len(suffix) >= least - 1 and word[-2:] != "ss":
            word = word[: -len(suffix)] + ("y" if suffix == "ies" else "")
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def content_words(text: str) -> set[str]:
    """Stems of the words that carry meaning (no stop words, no single letters)."""
    return {
        stem(word)
        for word in {word.casefold() for word in set(_WORD.findall(text))}
        if word not in STOP_WORDS and (len(word) > 1 or word.isdigit() or ord(word[0]) > 0x2E80)
    }


def overlap(part: Iterable[str], whole: Iterable[str]) -> float:
    """The share of `part` that occurs in `whole`, 0 to 1; 0 for an empty `part`."""
    part = set(part)
    return len(part & set(whole)) / len(part) if part else 0.0


def normalise(text: str) -> str:
    """For comparing strings: NFKC, case-folded, plain quotes and dashes, single spaces."""
    text = unicodedata.normalize("NFKC", text).translate(_DASHES)
    return _SPACE.sub(" ", text).strip().casefold()


def occurs(needle: str, text: str) -> bool:
    """Whether `needle` stands in `text` as whole words, however cased, quoted or wrapped."""
    needle = normalise(needle).strip(" .,;:!?\"'()[]")
    if not needle:
        return False
    pattern = r"(?<!\w)" + re.escape(needle) + r"(?!\w)"
    return re.search(pattern, normalise(text)) is not None


def locate(needle: str, text: str) -> tuple[int, int] | None:
    """Where `needle` stands in `text`, whitespace and case ignored; None when it does not."""
    parts = [re.escape(part) for part in needle.strip(" \t\n.,;:!?\"'()[]").split()]
    if not parts:
        return None
    pattern = r"(?<!\w)" + r"\s+".join(parts) + r"(?!\w)"
    match = re.search(pattern, text, re.IGNORECASE)
    return match.span() if match else None


def split_identifier(word: str) -> list[str]:
    """`readHTTPHeader` -> [read, http, header]; `max_size` -> [max, size]; case-folded."""
    return [part.casefold() for piece in word.split("_") for part in _CAMEL.findall(piece)]


def sentences(text: str, code: bool = False) -> list[tuple[int, int]]:
    """Spans (start, end) of the sentences, outer whitespace left out; lines when `code`.

    A sentence ends at . ! ? before a space and a plausible beginning, at a blank line, after a
    Markdown heading and before a list item, whose mark is left out. Abbreviations and initials
    do not end one.
    """
    if code:
        ends = [match.end() for match in re.finditer(r"\n", text)]
    else:
        ends = [match.end() for match in _END.finditer(text) if _ends_sentence(text, match)]
    spans: list[tuple[int, int]] = []
    start = 0
    for end in [*ends, len(text)]:
        piece = text[start:end]
        left = start + len(piece) - len(piece.lstrip())
        if not code and (mark := _LIST_MARK.match(text, left)):
            left = mark.end()
        right = start + len(piece.rstrip())
        if right > left:
            spans.append((left, right))
        start = max(start, end)
    return spans


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    if match.group()[0] != ".":
        return True
    after = text[match.end() : match.end() + 24].lstrip()
    if after[:1].islower():
        return False
    before = text[max(0, match.start() - 24) : match.start()]
    word = before.split()[-1] if before.split() else ""
    word = word.lstrip("([\"'“‘")
    if word.casefold() in _ABBREVIATIONS:
        return False
    if len(word) == 1 and word.isupper():  # an initial: "J. Smith"
        return False
    # "1. Item": the number of a list item at the start of a line ends nothing.
    line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip()
    return not (line.isdigit() and len(line) <= 3)


def names_and_numbers(text: str) -> list[str]:
    """Capitalised names (not merely the first word of a sentence) and numbers, in order.

    These are what a generated sentence must not invent: each is checked against the document.
    """
    found: list[str] = [match.group() for match in _NUMBER.finditer(text)]
    words = (match.group() for match in _NUMBER_WORDS.finditer(text))
    # "one" and "two" mostly count nothing: "one of them", "the two".
    found += [word for word in words if word.casefold() not in ("one", "two")]
    starts = {start for start, _ in sentences(text)}
    for match in _NAME.finditer(text):
        name, begin = match.group(), match.start()
        if begin in starts or text[max(0, begin - 2) : begin].strip() in ('"', "“", "-", "*", "•"):
            first, _, rest = name.partition(" ")
            name = name if first.isupper() and len(first) > 1 else rest.strip()
            if not name[:1].isupper():
                name = name.partition(" ")[2].strip()
        if name and name.casefold() not in STOP_WORDS and len(name) > 1:
            found.append(name.removesuffix("'s").removesuffix("’s"))
    return found


# Lines of a diff or a log, and of code that is made of words. A list item ("- word") is none.
_NOT_PROSE = re.compile(
    r"""^(?:\+|-(?!\ [\w"'(`*])|@@|diff\ --git|index\ [0-9a-f]{7}|commit\ [0-9a-f]{7}|Author:|Date:
    |import\ \w|from\ \S+\ import\ |\s*(?:\"\"\"|\'\'\'|//|/\*|\#))""",
    re.MULTILINE | re.VERBOSE,
)


def only_names(text: str) -> bool:
    """Whether nearly all words are names and numbers, as in a page's header: it says nothing."""
    return sum(word[0].isalpha() and not word[0].isupper() for word in text.split()) < 2


def plausible_sentence(text: str) -> bool:
    """Whether an extract reads as a sentence of prose: not a heading, a table, code or a diff."""
    if _NOT_PROSE.search(text) or only_names(text):
        return False
    letters = sum(character.isalpha() or character.isspace() for character in text)
    if text.count("|") > 1 or re.search(r"\n(?: {4}|\t)", text):
        return False
    if len(re.findall(r"\w\(", text)) > 1:  # calls of functions
        return False
    return 5 <= len(words(text)) <= 60 and letters >= 0.75 * len(text)
