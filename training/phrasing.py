"""How people ask: the sentence turned round its verb, and the noun that says what is asked for.

'Ian Murdock created Debian in [1993]' is 'when did Ian Murdock create Debian', and 'the city of
[Lyon]' is 'which city'. Where it is not certain that the question will be English, it is None.
"""

from __future__ import annotations

import re

import numpy as np

from training.paraphrase import alternatives
from training.verbs import AUXILIARY, NO_START, bases, clause, finite, words_of
from training.wh_words import COUNTED, FOLLOWS, FREE, MOTION, NUMBER_LEFT, pick, typed, wh
from training.words import STOP_WORDS

DANGLING = re.compile(
    r"(?: (?:and|or|the|of|an?|in|to|for|with|by|that|which|on|at|its|from|is|as))+$"
)
_LEAD = re.compile(
    r"(?P<lead>(?:In|On|At|During|By|Since|After|Until|With|For|From|Between|Under|Among|Throughout|"
    r"Despite) [^,;]{2,45}), (?P<rest>.+)"
)
_ADVERB = re.compile(
    r"(?:\w+ly|However|Also|Thus|Hence|Therefore|Moreover|Then|Later|Finally|Instead), (?P<rest>)"
)
_JOINT = re.compile(r".*(?:[;:]|, (?:and|but|while|though|although)| that) (?P<rest>.+)")
_AFTER_COMMA = re.compile(
    r".*, (?P<rest>(?:[A-Z]|the|an?|he|she|it|they|this|these|its|his|her)\b.*)"
)
_CLAUSE_LIKE = re.compile(r"(?:I|he|she|they|we|you|it|there|this is|\w+ed)\b")
_END = re.compile(r"[,;:(]| (?:but|that|which|who|where|while|because|although|and)\b")
_LAST_PHRASE = re.compile(rf" (?:{FOLLOWS})\b(?!.* (?:{FOLLOWS})\b).*$")
_JOINED = re.compile(r" (?:and|or) (?P<word>[\w-]+)")
_AGENT = words_of(
    "give consider implement write say argue publish serve play marry become join win lead "
    "found create develop design build make invent discover direct produce propose describe "
    "suggest claim defeat lose begin start move return work study teach attend graduate succeed "
    "replace introduce sing record perform compose paint command order sign visit travel die "
    "live believe think tell"
)
_OF = re.compile(r" of (?P<what>[a-z][^,;:]{2,40}?)(?= (?:in|on|at|by|with|from|for|to|as)\b|$)")
_TWO_CLAUSES = re.compile(
    r"[;:(\"“”…`]|,(?! because$)|\b(?:and|or|but|that|which|who|whom|where|when|while|if|how|what|"
    r"because(?!$)|although|whether|until|so)\b"
)
_NOT_FIRST = re.compile(r"(?:[A-Z][a-z]{4,}ing|Neither|Even|Altogether|Like|Unlike|Despite) ")
_TWO_NAMES = re.compile(r"[A-Z]\w+ [A-Z]\w+")
_COMMON = words_of(
    "another every public political one two three four five ten recent early modern several "
    "various new old people women men children scientists "
    "researchers students members plants animals cells water air studies"
)
_PREPOSITION = re.compile(
    r"(?:^|.* )(?P<word>in|on|at|by|with|from|for|of|as|into|to|through|about|against|called|named|"
    r"under|over|between|among)"
)


def _one_clause(rest: str) -> bool:
    """Whether what stands before the span is in the verb's clause; nouns may be joined."""
    for match in _JOINED.finditer(rest):
        word = match["word"]
        if word in finite() or word in AUXILIARY or word in bases() or FREE.match(f" {word}"):
            return False
        if match.end() == len(rest):
            return False
    return _TWO_CLAUSES.search(_JOINED.sub(" ", rest)) is None and rest.count(" ") <= 9


def natural(answer: str, left: str, right: str, asked: str, rng: np.random.Generator) -> str | None:
    """As people ask; None where it is not certain how."""
    if len(left) > 200:
        return None  # the verb is too far, mostly
    kind, found = "", None
    if asked in {"what", "who", "where"}:
        found = typed(left, right, answer[:1].isupper())
    if found is not None and rng.random() < 0.7:
        kind, left, right = found
        word = pick(rng, (f"which {kind}", f"what {kind}", f"which {kind}"))
    else:
        word, left, right = wh(asked, answer, left, right, rng)
        word = "what" if word in {"which one", "who or what"} else word
    if word == "what number" or _CLAUSE_LIKE.match(answer):
        return None
    adverbial = asked in {"when", "where", "year", "why", "how"} and not kind
    if left.strip().lower() in {"", "the", "a", "an"}:
        if rng.random() < 0.8 and right.find(",") >= 12:
            right = right[: right.index(",")]
        right = _cut(right, rng)
        if word.startswith("how many"):
            return f"{word}{right}?"
        if right.startswith((" and", " or", " nor", ",")) or _NOT_FIRST.match(answer):
            return None
        verb = clause("X" + right)
        own = verb if verb is not None and verb.subject == "X" else None
        if own is None and ("year" in word or word in {"who", "when", "where"}):
            return None
        if verb is None and not kind or right.count('"') % 2:
            return None
        if own is not None and word == "what" and answer[0].isupper():
            person = own.base in _AGENT or (own.verb == "did" and _TWO_NAMES.fullmatch(answer))
            word = "who" if person else word
        if own is not None and kind and rng.random() < 0.3:
            return f"what is the name of the {kind} that{right}?"
        return f"{word}{right}?"
    if adverbial and right.startswith(", ") and re.fullmatch(r"(?:In|On|At) (?:the )?", left):
        left, right = _END.split(right[2:], maxsplit=1)[0] + " in ", ""
        if left.count(" ") < 5:
            return None
    right = DANGLING.sub("", _END.split(right, maxsplit=1)[0])
    verbal = left.endswith(" to ") and asked == "what" and answer[0].islower()
    if verbal and answer.split()[0] in bases():
        left += "do"
    elif verbal and not re.match(r"(?:the|an?|its?|his|her|their) ", answer):
        return None
    return _inverted(left, _cut(right, rng), word, adverbial, kind, rng)


def reach(sentence: str) -> tuple[int, int]:
    """From where to where what stands after the first verb can be asked for."""
    match = _LEAD.match(sentence) or _ADVERB.match(sentence)
    found = clause(sentence[match.start("rest") :] if match is not None else sentence)
    if found is None:
        return 0, 0
    end = _TWO_CLAUSES.search(found.rest)
    first = len(sentence) - len(found.rest)
    return first, first + min(end.start() if end is not None else 60, 60)


def _cut(right: str, rng: np.random.Generator) -> str:
    """Not too long, and up to the end of a phrase."""
    words = right.split(" ")
    if len(words) <= 14:
        return right
    right = DANGLING.sub("", " ".join(words[: int(rng.integers(9, 15))]))
    return _LAST_PHRASE.sub("", right).rstrip(" ,")


def lower(subject: str) -> str:
    """A subject inside the question: its first word was capital as the sentence's."""
    first, space, rest = subject.partition(" ")
    low = first.lower()
    common = first != "I" and (low in STOP_WORDS or low in _COMMON or low in alternatives())
    return low + space + rest if common else subject


def _inverted(
    left: str, right: str, word: str, adverbial: bool, kind: str, rng: np.random.Generator
) -> str | None:
    """'The bridge was built in [1890]' -> 'when was the bridge built'; None where it fails."""
    lead = ""
    match = _LEAD.match(left)
    if match is not None:
        lead, left = match["lead"][0].lower() + match["lead"][1:], match["rest"]
        if " the same" in lead or "example" in lead or " that " in lead:
            lead = ""
    match = _ADVERB.match(left)
    left = left[match.end() :] if match is not None else left
    found = clause(left.rstrip(), right)
    if found is None:
        match, lead = _JOINT.match(left), ""
        begun = left.partition(" ")[0]
        if match is None and (begun.lower() in NO_START or begun.endswith(("ing", "ed"))):
            match = _AFTER_COMMA.match(left)
        found = clause(match["rest"].rstrip(), right) if match is not None else None
        if found is not None and " and " in found.subject:
            return None
    if found is None:
        return None
    rest = found.rest
    if not _one_clause(rest):
        return None
    if adverbial:
        match = re.search(r"(?:,? because|(?:^|(?<= ))(?:in|on|at|near|by))(?: the)?$", rest)
        if match is not None:
            rest = rest[: match.start()].rstrip(" ,")
        elif word != "where" or not rest.endswith(("from", "to", "into")):
            return None
        if not FREE.match(right):
            return None
        motion = rest.split(" ")[-2:-1] or [found.base]
        if rest.endswith("to") and motion[0] not in MOTION:
            word = "what"
        word = f"in {word}" if "year" in word or "place" in word else word
    elif (
        word == "whose"
        or word.startswith(("how", "what percentage"))
        and not (re.search(r"(?:^| )an? [a-z]+ of$", rest))
    ):
        rest = NUMBER_LEFT.sub("", rest)
        if re.search(r"(?:\d|\b(?:to|and|or|from|between|an?|of))$", rest):
            return None
        if word in {"how many", "whose"}:
            match = COUNTED.match(right)
            if match is None or rest.endswith((" of", " and", ",", " than")):
                return None
            word, right = word + match.group(1), right[match.end() :]
        elif word in {"how much", "what percentage"} and (match := _OF.match(right)):
            of = " of " if word == "what percentage" else " "
            word, right = word + of + match["what"], right[match.end() :]
        elif not FREE.match(right):
            return None
    else:
        match = re.search(r"(?:^| )an? ([a-z]+) of$", rest)
        if match is not None and word.startswith("how"):  # 'had a height of [12 m]'
            word, rest = f"what {match.group(1)}", rest[: match.start()]
        bare = re.sub(r"(?:^| )(?:the|an?)$", "", rest)
        match = _PREPOSITION.fullmatch(bare)
        if not FREE.match(right) or (bare and match is None and bare == rest and not kind):
            return None
        rest = bare
        if (
            match is not None
            and rng.random() < 0.25
            and match["word"] not in {"called", "named", "as"}
        ):
            asking = "whom" if word == "who" else word
            word, rest = f"{match['word']} {asking}", rest[: -len(match["word"])]
    parts = [word, found.verb, lower(found.subject), found.base, rest.strip(), right.strip(), lead]
    if kind and word[-len(kind) :] == kind and not lead and rng.random() < 0.15:
        verb = found.spelled if found.base else found.verb
        parts = [f"what is the name of the {kind} that", lower(found.subject), verb, rest, right]
    return " ".join(part.strip() for part in parts if part.strip()).replace(" ,", ",") + "?"
