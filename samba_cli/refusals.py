"""The words in which models say that the text does not answer a question."""

from __future__ import annotations

import re

from samba_cli.text_match import normalise

_TEXT = (
    r"(?:(?:the|this|these|those|any|given|provided|above|of) )*"
    r"(?:text|passage|document|context|excerpt|article|information)s?"
)
_TELLS = r"(?:say|state|mention|specify|provide|contain|answer|give|include|indicate|tell|address)"
_SAID = r"(?:mentioned|stated|given|specified|said|found|provided|available|known|answered|clear)"
_FORMS = [
    # Not in the text. / The price is not explicitly stated in the passages.
    rf"(?:[^.]{{1,100}}(?: |(?=n't)))?(?:not|n't) (?:\w+ ){{0,3}}(?:in|by|from) {_TEXT}\b.*",
    # (According to the text,) the text does not say who pays.
    rf"(?:[^.,]{{1,60}}, )?{_TEXT} (?:(?:do|does|did) ?n[o']t|never) (?:\w+ ){{0,2}}{_TELLS}\b.*",
    # There is no mention of it.
    r"(?:[^.,]{1,60}, )?(?:there is |there's )?no (?:information|mention|answer)\b.*",
    # I cannot answer this from the text.
    r"(?:[^.,]{1,60}, )?(?:i|we) (?:do ?n[o']t|can(?:not| not|'t)|could ?n[o']t|am unable to) "
    r"(?:\w+ )?(?:know|find|answer|determine|tell|say|see)\b.*",
    rf"(?:[^.]{{1,100}} )?not {_SAID}|unanswerable|n/a",
]
_REFUSAL = re.compile("|".join(_FORMS), re.DOTALL)


def says_nothing(text: str) -> bool:
    """Whether an answer is that there is none."""
    return _REFUSAL.fullmatch(normalise(text).strip(" .!*_`\"'()")) is not None
