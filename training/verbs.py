"""Verb forms: the finite verb of a clause, found by its ending and a list of verbs, not parsed.

What is not certain is None: a question may be crude, and then it is made in another way, but it
should not be wrong.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).parent / "synonyms.json"  # made by training.paraphrase


def words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


# base past participle; a missing participle is the past form
_IRREGULAR = """
arise arose arisen, awake awoke awoken, bear bore borne, beat beat beaten, become became become,
begin began begun, bend bent, bind bound, bite bit bitten, bleed bled, blow blew blown,
break broke broken, breed bred, bring brought, broadcast broadcast, build built, burst burst,
buy bought, cast cast, catch caught, choose chose chosen, cling clung, come came come, cost cost,
creep crept, cut cut, deal dealt, dig dug, draw drew drawn, drink drank drunk, drive drove driven,
eat ate eaten, fall fell fallen, feed fed, feel felt, fight fought, find found, flee fled,
fly flew flown, forbid forbade forbidden, foresee foresaw foreseen, forget forgot forgotten,
forgive forgave forgiven, freeze froze frozen, get got, give gave given, go went gone,
grind ground, grow grew grown, hang hung, hear heard, hide hid hidden, hit hit, hold held,
hurt hurt, keep kept, know knew known, lay laid, lead led, leave left, lend lent, let let,
lie lay lain, lose lost, make made, mean meant, meet met, mistake mistook mistaken,
outgrow outgrew outgrown, overcome overcame overcome, oversee oversaw overseen,
overtake overtook overtaken, overthrow overthrew overthrown, pay paid, prove proved proven,
put put, read read, rebuild rebuilt, ride rode ridden, ring rang rung, rise rose risen,
run ran run, say said, see saw seen, seek sought, sell sold, send sent, set set,
shake shook shaken, shed shed, shine shone, shoot shot, show showed shown, shrink shrank shrunk,
shut shut, sing sang sung, sink sank sunk, sit sat, sleep slept, slide slid, speak spoke spoken,
spend spent, spin spun, split split, spread spread, spring sprang sprung, stand stood,
steal stole stolen, stick stuck, sting stung, strike struck, strive strove striven, swear swore
sworn, sweep swept, swell swelled swollen, swim swam swum, swing swung, take took taken,
teach taught, tear tore torn, tell told, think thought, throw threw thrown, undergo underwent
undergone, understand understood, undertake undertook undertaken, uphold upheld, wake woke woken,
wear wore worn, weave wove woven, weep wept, win won, wind wound, withdraw withdrew withdrawn,
withhold withheld, withstand withstood, write wrote written, rewrite rewrote rewritten,
befall befell befallen, behold beheld, foretell foretold, inherit inherited, knit knit,
light lit, partake partook partaken, quit quit, repay repaid, resell resold, rid rid,
retell retold, slay slew slain, spit spat, tread trod trodden, unwind unwound, misread misread
"""
IRREGULAR = {
    words[0]: (words[1], words[-1]) for words in map(str.split, _IRREGULAR.split(",")) if words
}
_DOUBLED = re.compile(r"[^aeiou]*[aeiou][bdgklmnprt]")
_STRESSED = words_of(
    "admit refer occur prefer permit commit submit control compel transfer regret equip defer "
    "infer incur propel expel rebel omit patrol emit deter format recur confer allot acquit"
)
_ES = words_of("go do undergo forgo echo veto hero potato tomato embargo torpedo")
_VERBS_TOO = words_of(  # nouns more often, but not where a verb can be
    "flow guide play run help support cause show use start end report claim need love cover control"
)
AUXILIARY = words_of(
    "is was are were has have had can could will would may might must should did does do"
)
_BREAK = words_of(
    "that which who whom whose where when while because if although though as than to whether "
    "what how why since until unless but or not so then later ago cannot"
)
NO_START = _BREAK | words_of(
    "in on at by with from for of into and there here during after before under over among "
    "between through also however thus hence therefore this's both either neither let please like "
    "unlike below above despite within without upon about around across along against such more "
    "most one's even only according due because just once still yet instead perhaps again"
)
_DETERMINERS = words_of(
    "the a an this that these those its his her their our my your of and or in on at by with from "
    "for no some any all each every many most several few two three four five both other new very "
    "more less highly newly well most own such between under into about various"
)
_MANY = words_of("we they you people men women children")
_ADJECTIVES = words_of(
    "complete open clean clear own separate correct lower present live last like alike long close "
    "near slow even free dry warm wet further round"
)
_PLAIN = re.compile(
    r"[^\W_]+(?:[-'’&][^\W_]+)*|[A-Z]\.(?:[A-Z]\.)*|(?:St|Dr|Mr|Mrs|Ms)\.|&|[^\W_]+['’]"
)
_SINGULAR = words_of("James Charles Thomas Williams Adams Davis Jones Harris Evans Roberts Lewis")
_PRONOUNS = words_of("he she it they we i")
_NOUNS_TOO = words_of(
    "saw rose thought shot felt ground wound bound spoke lay bit left found spring laid lit"
)
_PARTICIPLE_NEXT = re.compile(
    r"(?:also |since |not |already |never |always |often |long |\w+ly )*(?:(?P<word>[a-z]+))\b"
)
_ADVERB = re.compile(r"\w+ly|also|then|soon|never|always|often|still|later|once|only|now|both")
_PREPOSITIONS = words_of("in at on for from to with as under during using into between")


@cache
def table() -> dict[str, dict[str, str]]:
    """Verbs and synonyms as `python -m training.paraphrase` writes them."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def past(base: str) -> str:
    """The regular past form."""
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2:-1] not in tuple("aeou"):
        return base[:-1] + "ied"
    return (base + base[-1] if _doubles(base) else base) + "ed"


def third(base: str) -> str:
    """The third person (or a noun's regular plural)."""
    if base.endswith("y") and base[-2:-1] not in tuple("aeou"):
        return base[:-1] + "ies"
    es = base.endswith(("s", "x", "z", "ch", "sh")) or base in _ES
    return base + ("es" if es else "s")


def progressive(base: str) -> str:
    if base.endswith("ie"):
        return base[:-2] + "ying"
    if base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        return base[:-1] + "ing"
    return (base + base[-1] if _doubles(base) or base in {"begin", "forget"} else base) + "ing"


def _doubles(base: str) -> bool:
    return base in _STRESSED or _DOUBLED.fullmatch(base) is not None


@cache
def finite() -> dict[str, tuple[str, str]]:
    """'flows' -> ('flow', 'does'), 'created' -> ('create', 'did')."""
    forms: dict[str, tuple[str, str]] = {}
    for entry in table()["verbs"]["all"].split():
        base = entry.rstrip("*-")  # *: its -s form is rather a noun; -: its -ed an adjective
        if "*" not in entry or base in _VERBS_TOO:
            forms[third(base)] = (base, "does")
        if base not in IRREGULAR and "-" not in entry:
            forms[past(base)] = (base, "did")
            if base.endswith("l") and base[-2] in "aeiou" and base[-3] not in "aeiou":
                forms[base + "led"] = (base, "did")
    for base, (form, _) in IRREGULAR.items():
        if form != base:
            forms[form] = (base, "did")
    for form in ("felled", "means"):
        forms.pop(form, None)
    return forms


@cache
def bases() -> frozenset[str]:
    """Base forms that are hardly ever nouns."""
    return frozenset(e.rstrip("-") for e in table()["verbs"]["all"].split() if "*" not in e)


@cache
def participles() -> frozenset[str]:
    """Forms that can stand after 'the bridge': 'built in 1890' says less than it seems."""
    regular = {form for form, (base, do) in finite().items() if do == "did"}
    both = {past for past, participle in IRREGULAR.values() if past == participle}
    unlike = {past for past, participle in IRREGULAR.values() if past != participle}
    return frozenset((regular | both) - unlike)


@cache
def _after_have() -> frozenset[str]:
    return participles() | {participle for _, participle in IRREGULAR.values()} | {"been"}


@dataclass(frozen=True)
class Clause:
    """'Ian Murdock' | did | create | 'Debian in 1993'; `was` | '' for an auxiliary."""

    subject: str
    verb: str  # "did", "does", or the auxiliary
    base: str  # what follows the subject in a question
    rest: str
    spelled: str = ""  # the verb as it stands


def clause(text: str, after: str = "") -> Clause | None:
    """The subject and the finite verb that a text begins with; None where they are not certain.

    `after` follows the text and may hold the verb that makes another one a participle.
    """
    words = text.split(" ")
    first = words[0]
    if not first[:1].isalpha() or first.lower() in NO_START or first.endswith(("ly", "ing", "ed")):
        return None
    if first.lower() in AUXILIARY or first in finite() or not _PLAIN.fullmatch(first):
        return None
    quoted = False
    for i, word in enumerate(words[1:10], 1):
        quoted = quoted or word.startswith(('"', "“"))
        if quoted:  # a title may be long
            quoted = not word.endswith(('"', "”"))
            continue
        if word in _BREAK or not _PLAIN.fullmatch(word) or word.endswith(("n't", "n’t")):
            return None
        if not word.islower():
            continue
        before, rest = words[i - 1], " ".join(words[i + 1 :])
        if first.lower() in _PRONOUNS and i > 1 and not _ADVERB.fullmatch(before):
            return None  # 'I believe it will'
        if word in AUXILIARY:
            return _auxiliary(" ".join(words[:i]), word, rest, after)
        found = finite().get(word)
        many = is_plural(before.lower()) and before not in _SINGULAR
        many = many and (i == 1 or before.islower())
        if (many or before.lower() in _MANY) and word in bases() and word not in _ADJECTIVES:
            found = (word, "do")
        if found is None or before.endswith(("'s", "’s")):
            continue
        this = i == 1 and before == "This" and found[1] == "does"
        if before.lower() in _DETERMINERS and not this:
            continue
        base, do = found
        if before.endswith("ly") and (i < 2 or words[i - 2].lower() in _DETERMINERS):
            return None
        named = before[0].isupper() and not many or before.lower() in _PRONOUNS
        if word in _NOUNS_TOO and not named:
            return None
        if do == "does" and (many or "and" in words[:i]):
            return None
        following = words[i + 1] if i + 1 < len(words) else after.strip().split(" ")[0]
        if (word, following) == ("used", "to") or following == "by":
            return None
        if following.strip(",.") in AUXILIARY:
            return None
        if do == "does" and i == 1 and (following == "of" or first.endswith("ive")):
            return None  # 'Massive deposits of'
        if (do != "did" or word in participles()) and before.lower() not in _PRONOUNS:
            loose = do != "did" or not named or following in _PREPOSITIONS
            loose = loose or following.endswith("ly")
            if loose and _later_verb(words[i + 1 :] + ["X", *after.split()]):
                return None
        return Clause(" ".join(words[:i]), do, base, rest, word)
    return None


def _auxiliary(subject: str, word: str, rest: str, after: str) -> Clause | None:
    """'has built' stays, 'has a bridge' becomes 'does ... have a bridge'."""
    if word in {"did", "does", "do"}:
        return None
    if word in {"has", "have", "had"}:
        match = _PARTICIPLE_NEXT.match(rest or after.strip())
        if match is None or match["word"] not in _after_have():
            do = {"has": "does", "have": "do", "had": "did"}[word]
            return Clause(subject, do, "have", rest, word)
        if rest.startswith("been "):
            return Clause(subject, word, "been", rest[5:], word)
    return Clause(subject, word, "", rest, word)


def is_plural(word: str) -> bool:
    return word.islower() and word.endswith("s") and not word.endswith(("ss", "us", "is"))


def _later_verb(words: list[str]) -> bool:
    """Whether a finite verb comes before the clause ends: then the first was a participle."""
    before, first = "", True  # in the first stretch any verb counts, later one behind a comma
    for word in words:
        plain = word.rstrip(",.;:")
        if word in _BREAK and word not in {"to", "not", "as"} or word.endswith((".", ";", ":")):
            return False
        if (first and before.lower() not in _DETERMINERS and before != "to") or before[-1:] == ",":
            if plain in AUXILIARY:
                return True
            if plain in bases() and plain not in _ADJECTIVES:
                return True
            if plain in finite() and not (plain in _NOUNS_TOO or before.endswith("ly")):
                return True
        first, before = first and word == plain, word
    return False
