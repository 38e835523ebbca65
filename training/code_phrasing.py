"""How people ask for code: what a docstring says first, or a function's name, as a question."""

from __future__ import annotations

import random
import re
from collections import Counter

from training.verbs import IRREGULAR, bases, finite, is_plural, participles, past, third, words_of
from training.words import content_words, squeeze

_LEAST_WORDS = 5  # that say something, in a sentence that a function can be found by


def first_paragraph(docstring: str) -> str:
    """In one line."""
    return squeeze(re.split(r"\n\s*\n", docstring.strip())[0])


def first_sentence(docstring: str) -> str:
    """Of its first paragraph, in one line."""
    paragraph = first_paragraph(docstring)
    return re.split(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z`*:])", paragraph)[0]


def plain(sentence: str) -> str:
    """A sentence of a docstring without its markup."""
    sentence = re.sub(r":[\w:]+:`~?([^`<]+?)\s*(?:<[^`]*>)?`", r"\1", sentence)
    sentence = re.sub(r"\[([^\]]+)\]\[[^\]]*\]", r"\1", sentence)
    sentence = re.sub(r"`([^`<]+?)\s*<[^`]*>`_*", r"\1", sentence)
    return re.sub(r"[`*]+|~(?=\w)|\b_\b|(?<=\w)_(?=[\s.,]|$)", "", sentence).rstrip(" .:;").strip()


_TRIVIAL = re.compile(
    r"deprecated|\bsee\b|\bTODO\b|same as|alias|override|subclass|^this\b|\bthis method\b"
    r"|\bthis (?:function|class)\b|>>>|::|\\|[:,]$",
    re.IGNORECASE,
)


def is_telling(sentence: str) -> bool:
    """Whether a docstring's first sentence says enough to find its function by."""
    said = plain(sentence)
    return (
        len(set(content_words(said))) >= _LEAST_WORDS
        and len(said) <= 200
        and said.count("(") == said.count(")")
        and not _TRIVIAL.search(sentence)
    )


_CODE_VERBS = words_of(
    "check initialize initialise parse toggle process delete iterate load encode decode serialize "
    "deserialize store copy refresh schedule normalize log format crop increment decrement "
    "configure paste scroll list"
)
_NO_VERBS = words_of("watch do visit on can should must be have like will need file")
_NAME_VERBS = words_of(
    "add apply bind build clear close compile compute convert copy count create decode define "
    "delete disable drop enable encode execute extract fetch fill filter find finish flush format "
    "generate handle initialize insert install invoke load log make mark merge normalize notify "
    "open parse prepare print process push read recompute refresh register remove render replace "
    "reset resolve restore run save schedule select send serialize set sort split start stop store "
    "strip substitute unpack update validate verify wait walk wrap write"
)
_TESTS = re.compile(
    r"returns? (?:true|whether)(?: or not)? (?:if |when )?(?P<what>.+?)"
    r"(?:,? (?:(?:and|or|else) )?(?:false|none) (?:otherwise|if not|if \w+ is not))?",
    re.IGNORECASE,
)
_TEST_FORMS = (
    "Where does it check whether {what}?", "which function tells whether {what}?",
    "How do I know whether {what}?", "where is it decided whether {what}",
)  # fmt: skip
_FORMS = (
    "Where does it {verb} {rest}?", "where does it {verb} {rest}", "which function {verbs} {rest}?",
    "Which function {verbs} {rest}?", "How do I {verb} {rest}?", "how to {verb} {rest}",
    "code that {verbs} {rest}", "{bare}", "{bare}",
)  # fmt: skip
_BARE_FORMS = ("{bare}", "{bare}", "where in the code is this: {bare}")
_NAME_FORMS = (
    "Where {are} the {what} {done}{tail}?", "where {are} the {what} {done}{tail}?",
    "how {are} the {what} {done}{tail}?", "Which function {verbs} the {what}{tail}?",
    "Where does it {verb} the {what}{tail}?", "how does it {verb} the {what}{tail}?",
)  # fmt: skip
_VAGUE = words_of("set handle run add make read start open stop")  # say little with one noun
_PREPOSITIONS = words_of("to from for in by with at of into as on using until before after between")
_NO_NOUNS = words_of(
    "all if is or and no not the can has any each maybe next only down visible relative safe lazy "
    "async sync ready valid"
)


def _base(word: str) -> str | None:
    """'Returns', 'return' -> 'return'; None for what is no verb."""
    word = word.lower()
    for base in (word, *(w for w in (word[:-1], word[:-2], word[:-3] + "y") if third(w) == word)):
        if base in bases() or base in _CODE_VERBS or base in IRREGULAR:
            return None if base in _NO_VERBS else base
    base, do = finite().get(word, ("", ""))
    return base if do == "does" and base not in _NO_VERBS else None


def asked(sentence: str, rng: random.Random) -> str:
    """A docstring's first sentence as people ask for what does it."""
    bare = plain(sentence)
    first, _, rest = bare.partition(" ")
    if found := _TESTS.fullmatch(bare):
        return rng.choice(_TEST_FORMS).format(what=found["what"])
    verb = _base(first)
    bare = bare if first.isupper() or rng.random() < 0.5 else bare[:1].lower() + bare[1:]
    if verb is None:
        return rng.choice(_BARE_FORMS).format(bare=bare)
    form = rng.choice(_FORMS)
    joined = re.match(r"(?:and|or|then) (\w+)", rest)
    if "{verb}" in form and joined and (second := _base(joined[1])):  # "Parses and loads ..."
        rest = rest[: joined.start(1)] + second + rest[joined.end(1) :]
    if form.lower().startswith("how"):
        verb = "get" if verb in {"return", "yield"} else verb
    return form.format(verb=verb, verbs=third(verb), rest=rest, bare=bare)


def named(name: str, known: Counter[str], rng: random.Random) -> str | None:
    """`resolve_full_path` -> 'Where is the full path resolved?'; None where it may be no English.

    `known`: how often words are in docstrings.
    """
    first, *rest = name.strip("_").lower().split("_")
    if not rest or first not in _NAME_VERBS or {rest[0], rest[-1]} & _PREPOSITIONS:
        return None
    if len(rest) == 1 and (first in _VAGUE or len(rest[0]) < 5):
        return None
    nouns = [word for word in rest if word not in _PREPOSITIONS]
    if any(len(word) < 3 or known[word] < 3 or word in _NO_NOUNS for word in nouns):
        return None
    if rest[0] in bases() or rest[-1] in participles():
        return None
    place = next((i for i, word in enumerate(rest) if word in _PREPOSITIONS), len(rest))
    what, tail = " ".join(rest[:place]), "".join(f" {word}" for word in rest[place:])
    done = IRREGULAR[first][1] if first in IRREGULAR else past(first)
    form = rng.choice(_NAME_FORMS)
    return form.format(
        are="are" if is_plural(what) else "is",
        what=what, done=done, tail=tail, verb=first, verbs=third(first),
    )  # fmt: skip
