"""British and American spelling: who asks for a licence means the license that the text has.

By the ends of words alone. That makes words that do not exist ("sciense"), which costs nothing: a
word is compared with others after the same rule, or searched beside the one that was typed.
"""

from __future__ import annotations

_LEAST = 3  # letters before an end: "hour", "size" and "fence" are spelt in one way
_ENDS = (
    ("isations", "izations"), ("isation", "ization"), ("ise", "ize"), ("ised", "ized"),
    ("ises", "izes"), ("ising", "izing"), ("iser", "izer"), ("yse", "yze"), ("ysed", "yzed"),
    ("yses", "yzes"), ("ysing", "yzing"), ("our", "or"), ("ours", "ors"), ("oured", "ored"),
    ("ouring", "oring"), ("ourable", "orable"), ("ourite", "orite"), ("ence", "ense"),
    ("ences", "enses"), ("enced", "ensed"), ("tre", "ter"), ("tres", "ters"), ("ogue", "og"),
    ("ogues", "ogs"),
)  # fmt: skip
_TO_AMERICAN = sorted(_ENDS, key=lambda pair: -len(pair[0]))
_TO_BRITISH = sorted(((us, uk) for uk, us in _ENDS), key=lambda pair: -len(pair[0]))


def american(word: str) -> str:
    """The word in small letters with the American one of two ends."""
    return _replaced(word, _TO_AMERICAN) or word


def other_spelling(word: str) -> str | None:
    """The word in small letters as the others would spell it; None where it has no such end."""
    return _replaced(word, _TO_AMERICAN) or _replaced(word, _TO_BRITISH)


def _replaced(word: str, ends: list[tuple[str, str]]) -> str | None:
    for old, new in ends:
        if word.endswith(old) and len(word) - len(old) >= _LEAST:
            return word[: -len(old)] + new
    return None
