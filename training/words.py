"""Words and sentences of a text: what the pretext tasks compare and blank out.

Everything here runs millions of times, so it is regular expressions and no grammar.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

BUCKETS = 1 << 21  # of hashed words

_STOP = (
    "a about above after again against all also although among an and any are as at be because "
    "been before being below between both but by can could did do does doing down during each "
    "few for from further had has have having he her here hers him his how however i if in into "
    "is it its itself just like made make many may me might more most much must my no nor not now "
    "of off on once one only or other our out over own same she should since so some such than "
    "that the their them then there these they this those through thus to too two under until up "
    "upon us use used using very via was we were what when where whether which while who whom "
    "whose why will with within without would you your yes de la said"
)
STOP_WORDS = frozenset(_STOP.split())

_WORD = re.compile(r"[^\W_]{2,}")
# A block is a paragraph or one item of a list: lines up to a blank one, a heading, an item.
_BLOCK = re.compile(
    r"[^\n]+(?:\n(?![ \t]*(?:\n|#|[-*+•|>:][ \t]|\d{1,2}[.)] |```|={3}|-{3}))[^\n]+)*"
)
_NOT_PROSE = re.compile(r"[ \t]*(?:#|\||```|={3}|-{3}|>>>|\$ |    |\t|[{}<])")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\s+(?=[\"'“‘(\[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|vs|cf|al|no|No|ca|c|Jr|Sr|Fig|fig|Eq|etc|e\.g|i\.e|Inc|Ltd|Co|"
    r"Col|Gen|Capt|Lt|Rev|Vol|vol|Sgt|Prof|Gov|Sen|approx|pp|p|ed|eds|Ph\.D|U\.S|a\.m|p\.m))\.\s*$"
)
_LIST_MARK = re.compile(r"[ \t]*(?:[-*+•>:]|\d{1,2}[.)])[ \t]+")


def stem(word: str) -> str:
    """A crude plural stripper: `rivers` and `river` are one word."""
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word


def content_words(text: str) -> list[str]:
    """Lower-case words that say something, in order, with repeats."""
    return [stem(word) for word in _WORD.findall(text.lower()) if word not in STOP_WORDS]


def hashed(words: Iterable[str]) -> npt.NDArray[np.int32]:
    """The distinct words as sorted buckets."""
    found = {zlib.crc32(word.encode()) & (BUCKETS - 1) for word in words}
    return np.sort(np.fromiter(found, np.int32, len(found)))


def sentences(text: str) -> list[tuple[int, int]]:
    """Character spans of the sentences of the prose in `text`; headings, tables, code left out."""
    spans: list[tuple[int, int]] = []
    for block in _BLOCK.finditer(text):
        if _NOT_PROSE.match(block.group()):
            continue
        mark = _LIST_MARK.match(block.group())
        start = block.start() + (mark.end() if mark else 0)
        for match in _SENTENCE_END.finditer(text, start, block.end()):
            stop = match.start() + 1
            if _ABBREVIATION.search(text, max(start, stop - 8), stop):
                continue
            end = match.end() - len(match.group()) + len(match.group().rstrip())
            spans.append((start, end))
            start = match.end()
        if block.end() > start:
            spans.append((start, block.end()))
    return spans


def is_prose(sentence: str, least: int = 6, most: int = 60) -> bool:
    """A sentence that a question can be made of: words, not a formula, a title or a fragment."""
    count = sentence.count(" ") + 1
    if not least <= count <= most or sentence[-1:] not in ".!?\"”’')":
        return False
    letters = sum(map(str.isalpha, sentence))
    return letters > 0.7 * len(sentence) and "formula_" not in sentence


def squeeze(text: str) -> str:
    """One line: hard line breaks are layout."""
    return " ".join(text.split())
