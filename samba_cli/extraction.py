"""Which sentences of a text say what it says: features of each, and weights learnt from summaries.

A sentence is worth what it holds, for its length, of a summary that a person wrote: of its words,
and twice of its pairs of words (ROUGE, Lin 2004). A linear model predicts that from place, form
and words, as Kupiec et al. (1995) did, with the centrality of Radev et al. (2004). Its weights are
in `extraction.json`, which `training.learn_extraction` writes.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import log

import numpy as np
import numpy.typing as npt

from samba_cli.text_match import STOP_WORDS, sentences, stem, words

Values = npt.NDArray[np.float64]

LEAST_WORDS = 4  # of a unit that may stand in a summary
# A question of which no unit has this share, by weight, is a wish ("summarize the visit"): it says
# nothing about the text.
ABOUT = 0.2
REPEATED = 0.15  # what a unit loses when all its words were said, in units of its worth
SAME = 0.7  # of their words that two units share, beyond which one repeats the other
_CONSIDERED = 400  # units that may be chosen: those of most worth
# A line of so many characters is taken for one of hard-wrapped text: its break ends no sentence.
_WRAPPED = range(50, 111)
_SPEAKER = re.compile(r"\s*(?:\[?[A-Z][\w .'’-]{0,30}\]?:\s|\[\w+\]\s)")
_PERSON = re.compile(r"\b(?:we|i)\b", re.IGNORECASE)
_OPENING = re.compile(r"(?:we|this|in this|our|the)\b", re.IGNORECASE)
_ABOUT = re.compile(r"\bthis (?:paper|article|document|proposal|topic|page|work)\b", re.IGNORECASE)
_FILLERS = frozenset("uh um hmm yeah okay ok well like right so".split())  # noqa: SIM905
_ENDS = '.!?"”'


@dataclass(frozen=True)
class Unit:
    """A sentence, or a line that nothing wraps, and where it stands."""

    document: int
    passage: int
    text: str
    salience: float = 0.0  # of its passage, in standard deviations of its document
    mark: float = 0.0  # of its passage for the question, in standard deviations
    stems: tuple[str, ...] = ()  # of its words, in order

    @staticmethod
    def of(
        document: int, passage: int, text: str, salience: float = 0.0, mark: float = 0.0
    ) -> Unit:
        stems = tuple(stem(word) for word in words(text))
        return Unit(document, passage, " ".join(text.split()), salience, mark, stems)


def units(text: str, paged: bool = False) -> list[tuple[int, int]]:
    """Spans (start, end) of what can be quoted alone: sentences, and lines that nothing wraps.

    A turn of a conversation, a list item or a heading ends with its line, whatever its last
    character is. `paged`: the text is that of printed pages, whose lines are as long as they fit.
    """
    longest = max(map(len, text.split("\n")))
    wrapped = range(longest // 2, longest + 1) if paged else _WRAPPED
    spans: list[tuple[int, int]] = []
    for start, end in sentences(text):
        begin = start
        place = text.find("\n", start, end)
        while place >= 0:
            line = place - (text.rfind("\n", 0, place) + 1)
            if line not in wrapped:
                spans.append((begin, place))
                begin = place + 1
            place = text.find("\n", place + 1, end)
        spans.append((begin, end))
    trimmed: list[tuple[int, int]] = []
    for start, end in spans:
        piece = text[start:end]
        if piece.strip():
            left = len(piece) - len(piece.lstrip())
            trimmed.append((start + left, start + len(piece.rstrip())))
    return trimmed


def worth(found: Sequence[Unit], length: int, question: str = "") -> Values:
    """What each unit is worth in a summary of `length` words, [n]; higher is better."""
    if not found:
        return np.zeros(0)
    weights = _weights()
    return (
        (features(found, length, question) - weights["mean"]) / weights["scale"] @ weights["weight"]
    )


def choose_units(
    found: Sequence[Unit], values: Values, length: int, exact: bool = True
) -> list[tuple[int, int]]:
    """(unit, words of it) in the order of the text, about `length` words in all.

    None of a unit with fewer than LEAST_WORDS.

    Greedy, by worth less what was said before (maximal marginal relevance, Carbonell & Goldstein
    1998). `exact`: the last unit taken is cut to fit; else it is left whole or left out,
    whichever comes closer.
    """
    counts = [len(one.text.split()) for one in found]
    order = [int(i) for i in np.argsort(-values, kind="stable") if counts[i] >= LEAST_WORDS]
    pool = order[:_CONSIDERED]
    deviation = float(values.std()) or 1.0
    content = {i: _content(found[i].stems) for i in pool}
    before: list[set[str]] = []
    said: set[str] = set()
    chosen: list[tuple[int, int]] = []
    left = length
    while pool and left > 0:
        best = max(
            pool,
            key=lambda i: (
                values[i] / deviation
                - REPEATED / deviation * len(content[i] & said) / max(len(content[i]), 1),
                -i,
            ),
        )
        pool.remove(best)
        if any(_alike(content[best], other) for other in before):
            continue
        taken = counts[best]
        if taken > left:
            if exact:
                taken = left
            elif chosen and taken - left > left:
                pool = [i for i in pool if counts[i] <= left]
                continue
        chosen.append((best, taken))
        left -= taken
        said |= content[best]
        before.append(content[best])
    return sorted(chosen)


def _alike(one: set[str], other: set[str]) -> bool:
    return len(one & other) > SAME * len(one | other)


def features(found: Sequence[Unit], length: int, question: str = "") -> Values:
    """[n, F]: what is said of each unit, alone and times what is said of the whole task."""
    asked = _asked(found, question)
    about = float(asked[:, 1].max() >= ABOUT)
    places = _places(found)
    places[:, -1] *= about  # the mark for the question
    base = np.concatenate([places, _forms(found), _contents(found), asked * about], 1)
    central = (base - base.mean(0)) / (base.std(0) + 1e-3)
    base = np.concatenate([base, central[:, _RELATIVE]], 1)
    turns = sum(bool(_SPEAKER.match(one.text)) for one in found) / len(found)
    task = np.array([turns, log(max(length, 1)), about])
    rows = [base, *(base * value for value in task)]
    whole = np.array([1.0, log(len(found)), *task])
    return np.concatenate([*rows, np.broadcast_to(whole, (len(found), len(whole)))], 1)


def _places(found: Sequence[Unit]) -> Values:
    """Where in its document each unit stands."""
    counts = Counter(one.document for one in found)
    firsts: dict[int, tuple[int, int]] = {}
    rows = []
    for i, one in enumerate(found):
        first, passage = firsts.setdefault(one.document, (i, one.passage))
        at, of = i - first, counts[one.document]
        rows.append((
            1 / (at + 1), log(at + 1), at / of, of - at <= 2, at == 0, at == 1, at == 2, at < 6,
            one.passage == passage, 1 / (1 + one.passage - passage), one.salience, one.mark,
        ))  # fmt: skip
    return np.array(rows, np.float64)


def _forms(found: Sequence[Unit]) -> Values:
    """What each unit looks like."""
    rows = []
    after_heading = False
    for one in found:
        text = one.text
        tokens = text.split()
        count = max(len(tokens), 1)
        speaks = bool(_SPEAKER.match(text))
        short = count <= 12 and text[-1:] not in '.!?:;,"”' and not speaks
        heading = text.startswith("#") or (short and not text.startswith(("|", "[")))
        rows.append((
            log(count), min(count, 60) / 20, count < 5, count < 9, count > 25, count > 45,
            heading, text.startswith("#"), after_heading, text[-1:] in _ENDS, text.endswith("?"),
            text.endswith(":"), sum(c.isalpha() or c == " " for c in text) / max(len(text), 1),
            "|" in text, sum(c.isdigit() for c in text) / max(len(text), 1),
            sum(token[0].isupper() for token in tokens) / count, text.islower(), "http" in text,
            text.count(",") / count, "(" in text, '"' in text or "“" in text, speaks,
            bool(_OPENING.match(text)), bool(_PERSON.search(text)), bool(_ABOUT.search(text)),
        ))  # fmt: skip
        after_heading = heading
    return np.array(rows, np.float64)


def _contents(found: Sequence[Unit]) -> Values:
    """How the words of each unit stand to those of its document."""
    stems = [[s for s in one.stems if s not in _stops()] for one in found]
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    spread: dict[int, Counter[str]] = defaultdict(Counter)
    size: Counter[int] = Counter()
    opening: dict[int, list[set[str]]] = defaultdict(list)
    for one, own in zip(found, stems, strict=True):
        counts[one.document].update(own)
        spread[one.document].update(set(own))
        size[one.document] += 1
        if len(opening[one.document]) < 4:
            opening[one.document].append(set(own))
    total = {document: max(c.total(), 1) for document, c in counts.items()}
    rows = []
    for one, own in zip(found, stems, strict=True):
        tf, df = counts[one.document], spread[one.document]
        mine, title = set(own), opening[one.document][0]
        lead = set().union(*opening[one.document])
        many = max(len(mine), 1)
        rows.append((
            sum(log(tf[s]) for s in own) / max(len(own), 1),
            log(max((tf[s] for s in own), default=1)),
            100 * sum(tf[s] for s in own) / max(len(own), 1) / total[one.document],
            sum(df[s] for s in mine) / size[one.document] / many**0.5,
            len(mine & title) / many, len(mine & lead) / many,
            len(mine & title) / max(len(title), 1), len(own) / max(len(one.stems), 1),
        ))  # fmt: skip
    return np.array(rows, np.float64)


def _asked(found: Sequence[Unit], question: str) -> Values:
    """[n, 4]: BM25 of each unit for the question, the share of it, BM25 around, and of the passage.

    The first, third and last are scaled to a maximum of 1; all are 0 without a question.
    """
    stems = [[s for s in one.stems if s not in _stops()] for one in found]
    wanted = _content(tuple(stem(word) for word in words(question)))
    result = np.zeros((len(found), 4))
    if not wanted:
        return result
    frequency = Counter(s for own in stems for s in wanted & set(own))
    many = len(found)
    weight = {s: log(1 + (many - frequency[s] + 0.5) / (frequency[s] + 0.5)) for s in wanted}
    mean = sum(map(len, stems)) / many or 1.0
    of_passage: Counter[int] = Counter()
    for i, (one, own) in enumerate(zip(found, stems, strict=True)):
        held = Counter(s for s in own if s in wanted)
        norm = 1.2 * (0.25 + 0.75 * len(own) / mean)
        result[i, 0] = sum(weight[s] * 2.2 * n / (n + norm) for s, n in held.items())
        result[i, 1] = sum(weight[s] for s in held) / (sum(weight.values()) or 1.0)
        of_passage[one.passage] += result[i, 0]
    result[:, 2] = np.convolve(np.pad(result[:, 0], 2), (0.3, 0.6, 1.0, 0.6, 0.3), "valid")
    result[:, 3] = [of_passage[one.passage] for one in found]
    for column in (0, 2, 3):
        result[:, column] /= result[:, column].max() or 1.0
    return result


def _content(stems: tuple[str, ...]) -> set[str]:
    return {s for s in stems if s not in _stops()}


@cache
def _stops() -> frozenset[str]:
    return frozenset(stem(word) for word in STOP_WORDS | _FILLERS)


# Columns that count also against the other units: two of the lengths, and what the words tell.
_PLACES, _FORMS = 12, 25
_RELATIVE = [_PLACES, _PLACES + 1, *(_PLACES + _FORMS + i for i in (0, 1, 2, 3, 4, 5, 7))]


@cache
def _weights() -> dict[str, Values]:
    stored = json.loads((files("samba_cli") / "extraction.json").read_text(encoding="utf-8"))
    return {key: np.array(stored[key]) for key in ("mean", "scale", "weight")}
