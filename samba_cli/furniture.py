"""What stands in a text and says nothing of what it is about: heads, contents, notices, markup.

A PDF has its text line by line as it is printed: the running head of each page, the table of
contents, the copyright page, and half a sentence where a page ends; a README has badges and the
first lines of programs. None of that belongs in a summary.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from samba_cli.text_match import words

OFTEN = 3  # times that a line with other numbers in it is a running head
_NUMBERS = re.compile(r"\b(?:\d+|[ivxlc]+)\b")
_NUMBERED = re.compile(r"(?:\d{1,2}|[A-Z])(?:\.\d{1,3})*\.?\s")
_CONTENTS = re.compile(r"\d{1,3}\s+(?:\d{1,2}|[A-Z])(?:\.\d{1,3})*\s")  # a page, then a section
_LEADERS = re.compile(r"(?:\.\s?){4,}|…{2,}|\s\.$")
_NEAR, _MANY = 4, 3  # so many entries of the contents among so many lines on either side
_NOTICE = re.compile(
    r"©|\bcopyright (?:\(c\)|\d{4})|\ball rights reserved\b|\bpermission is (?:hereby )?granted\b"
    r"|\bverbatim copies of this\b|\bmay be (?:freely )?(?:re)?distributed\b"
    r"|\btrademarks and copyrights\b|\bredistribute it and/or modify\b|\bwithout any warranty\b"
    r"|\bsee the gnu [\w ]{0,20}public licen[sc]e\b",
    re.IGNORECASE,
)
# Tags, directives, prompts and statements, where a text has them between its sentences.
_MARKUP = re.compile(
    r"</?[a-z][\w-]*(?:\s[^<>]*)?/?>|<!--|^(?:\.\.\s|>>>|\.\.\.\s|\$\s|:\w+:\s)"
    r"|^(?:from\s\S+\simport|import)\s\w|^\w+\s=\s\w+\(",
    re.IGNORECASE,
)
_BEGIN = re.compile(r"[\w\"'“‘(\[/$€£#*•-]")
_ENDS = '.!;"”’)'
_UNFINISHED = frozenset(
    ("a", "an", "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "that", "the", "to",
     "which", "with")
)  # fmt: skip
_TITLE_WORDS = 8  # a line without a stop that has fewer is a title
_HEADING_WORDS = 12  # with a number before it: longer ones are clauses of a contract
_LOWER = 0.5  # share of lines in small letters up to which one is the rest of a sentence


def furniture(lines: Sequence[tuple[int, str, bool]]) -> list[bool]:
    """For each (document, line, whether it is of a page) in order: does it say nothing?

    Of lines of pages that differ in their numbers alone the first may stay where they are few.
    Lines of texts without pages are judged by repetition, as notices, as markup and by their colon
    only: there a heading is a line of its own.
    """
    keys = [(document, _key(text, paged)) for document, text, paged in lines]
    count = Counter(keys)
    small = _begin_small(lines)
    seen: set[tuple[int, str]] = set()
    entries = [paged and _is_entry(text) for _, text, paged in lines]
    result = []
    for i, ((document, text, paged), key) in enumerate(zip(lines, keys, strict=True)):
        among = sum(entries[max(i - _NEAR, 0) : i + _NEAR + 1]) - entries[i]
        repeated = bool(key[1]) and (key in seen or (paged and count[key] >= OFTEN))
        seen.add(key)
        rest = text[:1].islower() and small[document] <= _LOWER
        announces = text.endswith(":")  # what would have to follow
        aside = bool(_NOTICE.search(text) or _MARKUP.search(text))
        unsaid = paged and (rest or among >= _MANY or not _says(text))
        result.append(repeated or announces or aside or entries[i] or unsaid)
    return result


def _key(text: str, paged: bool) -> str:
    """What makes two lines the same: on pages not their numbers, which count the pages."""
    text = text.casefold()
    return " ".join(words(_NUMBERS.sub(" ", text) if paged else text))


def _begin_small(lines: Sequence[tuple[int, str, bool]]) -> dict[int, float]:
    """Of each document the share of its lines that begin with a small letter."""
    small: Counter[int] = Counter()
    letters: Counter[int] = Counter()
    for document, text, _ in lines:
        small[document] += text[:1].islower()
        letters[document] += text[:1].isalpha()
    return {document: small[document] / max(letters[document], 1) for document, _, _ in lines}


def _is_entry(text: str) -> bool:
    """Whether it looks like an entry of a table of contents, or of an index."""
    return bool(_LEADERS.search(text) or _CONTENTS.match(text))


def _says(text: str) -> bool:
    """Whether a line of a page is a sentence, and no title, heading or question."""
    tokens = text.split()
    plain = sum(token.isalpha() and token.islower() for token in tokens)
    if len(tokens) < 5 or plain < 2 or text.endswith("?") or tokens[-1] in _UNFINISHED:
        return False
    if not _BEGIN.match(text):
        return False
    if _NUMBERED.match(text) and (len(tokens) <= _HEADING_WORDS or tokens[-1].isdigit()):
        return False
    return text[-1] in _ENDS or len(tokens) >= _TITLE_WORDS
