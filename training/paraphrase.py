"""Questions in other words: synonyms with the inflection of the word that they replace.

The synonyms are those of the first sense of frequent words, made from WordNet's files by
`python -m training.paraphrase --wordnet DIR --out training/synonyms.json`
(WordNet 3.0, Princeton University; `synonyms.LICENSE`), and those of a list written by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from training.verbs import IRREGULAR, past, progressive, table, third, words_of

# Groups: any for any other, with `>` only the first for the others. Of verbs, the base forms.
_VERBS = """
create > make; found > establish, create, start, set up; establish >
found, set up, create; begin, start; commence > begin, start; die > pass away; locate > situate;
situate > locate; purchase, buy; acquire > buy, get, obtain; obtain, get; receive, get; utilize >
use; employ > use; construct, build; erect > build; manufacture > make, produce; release >
publish, bring out; publish > release; assist, help; aid > help; require, need; contain > hold,
include; comprise > include, contain; reside > live; depart, leave; discover > find; demonstrate,
show; reveal > show; indicate > show; permit, allow; enable > allow; attempt, try; complete,
finish; terminate > end; conclude > end, finish; occur, happen; marry > wed; defeat, beat; select,
choose; pick > choose; elect > choose; speak > talk; alter, change; modify > change, alter; assert
> claim; remark > say; propose > suggest; suggest > propose; resign > step down;
perish > die; murder > kill; slay > kill; injure > hurt, wound; compose > write;
invent > create, come up with; devise > come up with, invent; investigate > look into, study;
examine > study, look at; increase, rise; decrease > fall, drop; decline > fall;
remain, stay; retain, keep; preserve > keep; encounter > meet, come across; relocate > move;
return > come back; abandon > give up, leave; tolerate > put up with; postpone > put off; raise >
bring up; appoint > name; join > become part of; operate > run; possess > have, own; ask >
question; collect > gather; gather, collect; transport > carry; ensure > make sure
"""
_PHRASES = """
located > situated; situated > located; is called, is known as; are called, are known as; was
called, was known as; is named > is called; about > roughly, around; approximately > about,
roughly; roughly > about, approximately; large, big; huge > very large; tiny > very small; small >
little; kind of, type of, sort of; types of, kinds of, sorts of; country, nation; countries,
nations; city > town; film, movie; films, movies; car, automobile; cars, automobiles; job >
position; children, kids; physician, doctor; physicians, doctors; attorney, lawyer; people >
persons; near > close to; numerous > many; several > a number of; frequently,
often; usually, normally; primarily, mainly; mostly, mainly; initially, at first; originally > at
first; subsequently > later; prior to, before; due to, because of; owing to > because of; in order
to > to; entire, whole; error, mistake; errors, mistakes; difficult, hard; rapidly, quickly;
rapid, quick; significant > important; principal, main; chief > main; primary > main; additional,
extra; sufficient, enough; almost, nearly; at present, now; currently, now; together with, along
with; such as > like; whole, entire; wealthy, rich; famous > well known; part > portion; method,
way; methods, ways; the name of > what is called; area, region; areas, regions
"""
_NOUNS_TOO = words_of(  # of these verbs, only the past and -ing forms are replaced
    "release aid increase decrease decline attempt murder help need purchase permit start end pick "
    "use change claim study wound name question transport return raise remark wed stay drop talk "
    "find found leave show rise author run fall"
)
_NEVER = words_of(
    "building buildings meeting setting painting drawing writing ending beginning finding findings "
    "killing speaking according"
)
_CLOSED = words_of(
    "be have do make get go take give see come say know think find set put let can will may one "
    "time year day way thing man state number first second last part new old good little long "
    "high right left even still well back just line order point case place head body form hand "
    "side end class field use call play run work turn keep show tell hold lead mean time second "
    "minute hour month degree person people world life power force system program file data key "
    "string value object function type process run page table list set book water sea war party "
    "law court church line force light cell charge current matter south north east west dollar "
    "pound mile foot inch metre meter ton century decade january stock issue be common free own "
    "present total general special particular early late major minor sir king queen lord god "
    "father mother son daughter male female black white red green blue lot small large big great "
    "young far near percent percentage letter mode works works police cattle instant scope given "
    "gay queer damn darn damned goddamn negro white tail maintenance"
)


def _verb_forms(lemma: str) -> tuple[str, str, str, str]:
    """Base, -s, past and -ing form; '' for a past form that is not the participle, too."""
    base, _, particle = lemma.partition(" ")
    before, participle = IRREGULAR.get(base, ("", ""))
    before = (before if before == participle else "") if before else past(base)
    forms = (base, third(base), before, progressive(base))
    return tuple(f"{form} {particle}".strip() if form else "" for form in forms)  # type: ignore


def _noun_forms(lemma: str) -> tuple[str, str]:
    return lemma, third(lemma)


def _only(lemma: str) -> tuple[str]:
    return (lemma,)


_FORMS: dict[str, Callable[[str], tuple[str, ...]]]
_FORMS = {"verb": _verb_forms, "noun": _noun_forms, "adj": _only, "phrase": _only}


@cache
def alternatives() -> dict[str, list[tuple[list[str], list[str]]]]:
    """First word of a phrase -> the phrases that begin with it, each with what may replace it."""
    found: dict[str, list[str]] = {}
    groups = [(kind, entry.split()) for kind in ("verb", "noun", "adj")
              for entry in table()["synonyms"][kind].split(";")]  # fmt: skip
    for kind, text in (("verb", _VERBS), ("phrase", _PHRASES)):
        for group in " ".join(text.split()).split("; "):
            words = group.replace(" > ", ", ").split(", ")
            for first in words[: 1 if ">" in group else None]:
                groups.append((kind, [first, *(word for word in words if word != first)]))
    for kind, words in groups:
        for forms in zip(*map(_FORMS[kind], words), strict=True):
            noun = (
                kind == "verb"
                and words[0] in _NOUNS_TOO
                and forms[0] in {words[0], third(words[0])}
            )
            if forms[0] and not noun and forms[0] not in _NEVER:
                found.setdefault(forms[0], []).extend(form for form in forms[1:] if form)
    starts: dict[str, list[tuple[list[str], list[str]]]] = {}
    for phrase, others in sorted(found.items(), key=lambda entry: -len(entry[0])):
        others = [other for other in dict.fromkeys(others) if other != phrase]
        if others:
            starts.setdefault(phrase.split()[0], []).append((phrase.split(), others))
    return starts


def paraphrase(
    text: str, answer: str, rng: np.random.Generator, rate: float = 0.15, share: float = 0.5
) -> str:
    """The question with some words replaced, each with probability `rate`, in `share` of draws."""
    if rng.random() >= share:
        return text
    starts, kept, words = alternatives(), set(answer.lower().split()), text.split(" ")
    out: list[str] = []
    i = 0
    while i < len(words):
        plain = words[i].rstrip("?.,;")
        chosen = starts.get(plain)
        if chosen is None or plain in kept or rng.random() >= rate:
            out.append(words[i])
            i += 1
            continue
        for phrase, others in chosen:
            last = words[i + len(phrase) - 1 : i + len(phrase)]
            tail = last[0][len(phrase[-1]) :] if last else "-"
            if tail.strip("?.,;") or words[i : i + len(phrase) - 1] != phrase[:-1]:
                continue
            if not last[0].startswith(phrase[-1]):
                continue
            other = others[int(rng.random() * len(others))]
            vowel = other[0] in "aeiou"
            if (out and out[-1] in {"a", "an"} and vowel != (out[-1] == "an")) or (
                not kept.isdisjoint(other.split())
            ):
                continue
            out.append(other + tail)
            i += len(phrase)
            break
        else:
            out.append(words[i])
            i += 1
    return " ".join(out)


_FILES = {"noun": "1", "verb": "2", "adj": "3"}


def _counts(folder: Path) -> dict[tuple[str, str], dict[int, int]]:
    """(lemma, part of speech) -> times that each of its senses was tagged."""
    counts: dict[tuple[str, str], dict[int, int]] = {}
    kinds = {"1": "noun", "2": "verb", "3": "adj", "5": "adj", "4": "adv"}
    for line in (folder / "cntlist.rev").read_text().splitlines():
        key, sense, count = line.split()
        lemma, _, rest = key.partition("%")
        counts.setdefault((lemma, kinds[rest[0]]), {})[int(sense)] = int(count)
    return counts


def _synsets(folder: Path, kind: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Offset -> words; lemma -> offsets of its senses, the most frequent first."""
    words: dict[str, list[str]] = {}
    for line in (folder / f"data.{kind}").read_text().splitlines():
        if line[:1] != " ":
            fields = line.split(" | ")[0].split(" ")
            words[fields[0]] = [fields[4 + 2 * i] for i in range(int(fields[3], 16))]
    senses: dict[str, list[str]] = {}
    for line in (folder / f"index.{kind}").read_text().splitlines():
        if line[:1] != " ":
            fields = line.split()
            senses[fields[0]] = fields[-int(fields[2]) :]
    return words, senses


def build(folder: Path, most: int = 6000) -> dict[str, dict[str, str]]:
    """The table: verbs with marks (see verbs.finite), and synonyms of frequent lemmas."""
    counts = _counts(folder)
    totals = {key: sum(senses.values()) for key, senses in counts.items()}

    def total(lemma: str, kind: str) -> int:
        return totals.get((lemma, kind), 0)

    verbs = [lemma for (lemma, kind), n in sorted(totals.items()) if kind == "verb" and n > 0]
    marked = [
        lemma
        + "*" * (total(lemma, "noun") * 2 > total(lemma, "verb"))
        + "-" * (total(past(lemma), "adj") * 2 > total(lemma, "verb"))
        for lemma in verbs
        if lemma.isascii() and lemma.isalpha() and len(lemma) > 2
    ]
    plain = [key for key in totals if key[0].isascii() and key[0].isalpha() and key[1] in _FILES]
    frequent = sorted(plain, key=lambda key: (-totals[key], key))[:most]
    synonyms: dict[str, str] = {}
    for kind in _FILES:
        words, senses = _synsets(folder, kind)
        exceptions = (folder / "noun.exc").read_text().split() if kind == "noun" else ()
        skipped = _CLOSED | set(exceptions)  # children: only regular plurals are made
        entries: list[str] = []
        for lemma in sorted(lemma for lemma, of in frequent if of == kind):
            every = sum(total(lemma, of) for of in (*_FILES, "adv"))
            first = counts[lemma, kind].get(1, 0)
            # rarely in this sense, or a word of several kinds: a synonym would often mislead
            if lemma in skipped or len(lemma) < 4 or lemma not in senses or first < 0.6 * every:
                continue
            if kind == "adj" and lemma.endswith(("ed", "ing")):
                continue
            found: list[str] = []
            for other in words[senses[lemma][0]]:
                other = other.partition("(")[0]
                if other == lemma or not (other.isascii() and other.isalpha() and other.islower()):
                    continue
                sense = senses[other].index(senses[lemma][0]) + 1
                here = counts.get((other, kind), {}).get(sense, 0)
                used = sum(total(other, of) for of in (*_FILES, "adv"))
                enough = here > 0 and here >= 0.4 * used and here >= 0.08 * first
                if enough and len(other) > 2 and other not in skipped:
                    found.append(other)
            if found:
                entries.append(" ".join([lemma, *found]))
        synonyms[kind] = ";".join(entries)
    return {"verbs": {"all": " ".join(marked)}, "synonyms": synonyms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wordnet", type=Path, required=True, help="WordNet's dict files")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    made = build(options.wordnet)
    options.out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
