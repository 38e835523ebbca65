"""Whether the text answers a question, and which passage does, as our own model sees it.

A model with marks has learnt to write <|none|> where the passages it was shown do not answer. How
likely that token is after the question and one passage alone, for each of the best passages, tells
more than their marks: a mark is about the subject. So does how likely the question is after a
passage alone: it asks for what is not in one that nearly answers it. All this, with the words of
the question and the length of the text (the best of many passages looks good by chance), makes the
probability that the question is answered: logistic regression, by `training.learn_answerable`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import exp, log

import torch
from torch import Tensor

from samba_cli.dialect import Dialect
from samba_cli.evidence import Scored, fuse
from samba_cli.explaining import about_all
from samba_cli.git_text import model_text
from samba_cli.model.network import Model
from samba_cli.scoring import last_logits

# Passages of a question that are shown alone, best first.
SHOWN_CPU, SHOWN_ACCELERATOR = 4, 8
NOTHING_WEIGHT = 0.3  # of a nat against <|none|> in the order, beside a mark in logits
# Of BM25 in the order, beside its weight in the score, where most passages found are code: there
# names that occur tell more than marks (training/LOG.md). Not of what is judged, which was learnt
# from prose.
CODE_WEIGHT = 5.0
_LEAST = -8.0  # a smaller log-probability of <|none|> says no more
THRESHOLD = 0.5  # of the probability, above which an answer is given
_COVERED, _LIKELY = 3, 4  # passages whose words, and whose <|none|>, count


@dataclass(frozen=True)
class Judged:
    """The passages for a question, best first, and the probability that they answer it."""

    scored: list[Scored]
    probability: float

    @property
    def answerable(self) -> bool:
        return self.probability >= THRESHOLD


def judge_all(
    questions: Sequence[str], found: Sequence[list[Scored]], passages: int, model: Model,
    dialect: Dialect,
) -> list[Judged]:  # fmt: skip
    """Judge the evidence of each question; `passages`: how many the whole text has.

    Only for a dialect with <|none|>. No evidence has the probability 0.
    """
    shown = SHOWN_CPU if model.device.type == "cpu" else SHOWN_ACCELERATOR
    chosen = [some[:shown] for some in found]
    texts = [[model_text(one.stored.passage) for one in some] for some in chosen]
    pairs = list(zip(questions, texts, strict=True))
    nothing = iter(log_nothing(pairs, model, dialect))
    judged = []
    for some, whole, likely in zip(chosen, found, about_all(pairs, model, dialect), strict=True):
        values = {one.stored.id: next(nothing) for one in some}
        about = {
            one.stored.id: each.value / max(each.tokens, 1)
            for one, each in zip(some, likely, strict=True)
        }
        order = reordered(whole, values)
        near = _near(order)
        chance = probability(features(order, values, about, passages)) if near else 0.0
        code = sum(one.stored.passage.kind == "code" for one in whole)
        if 2 * code > len(whole):
            order = reordered(whole, values, CODE_WEIGHT)
        judged.append(Judged(order, chance))
    return judged


def _near(found: Sequence[Scored]) -> bool:
    """Whether any passage is about the question at all: by its mark, or by one word."""
    return any(one.mark >= 0 or one.coverage > 0 for one in found)


def log_nothing(
    pairs: Sequence[tuple[str, Sequence[str]]], model: Model, dialect: Dialect
) -> list[float]:
    """ln p(<|none|>) after each question with each of its texts alone, from an empty state."""
    rows = [dialect.alone(question, [text]).ids for question, some in pairs for text in some]
    order: list[int] = []
    values: list[Tensor] = []
    for batch, logits in last_logits(rows, 1, model):
        order += batch
        values.append(logits[:, 0].log_softmax(-1)[:, dialect.none])
    result = [0.0] * len(rows)
    for row, value in zip(order, torch.cat(values).tolist() if values else (), strict=True):
        result[row] = value
    return result


def reordered(
    found: Sequence[Scored], nothing: Mapping[int, float], words: float = 0.0
) -> list[Scored]:
    """Best first, where a passage that makes <|none|> less likely goes up.

    `words`: what BM25 weighs, scaled to a maximum of 1, beside its weight in the score.
    """
    scores = [
        one.score - NOTHING_WEIGHT * max(nothing.get(one.stored.id, 0.0), _LEAST) for one in found
    ]
    values = fuse(scores, [one.bm25 for one in found], words)
    order = sorted(zip(values, found, strict=True), key=lambda pair: (-pair[0], pair[1].stored.id))
    return [one for _, one in order]


def features(
    scored: Sequence[Scored], nothing: Mapping[int, float], about: Mapping[int, float],
    passages: int,
) -> list[float]:  # fmt: skip
    """What the probability is made of; empty without evidence.

    By id of a passage, ln p(<|none|>) after it (`nothing`) and the mean log-likelihood of the
    question's tokens after it (`about`); `passages`: how many the whole text has.
    """
    if not scored:
        return []
    shown = [one.stored.id for one in scored if one.stored.id in nothing]
    likely = [max(nothing[key], _LEAST) for key in shown] or [0.0]
    told = [about[key] for key in shown] or [0.0]
    many = log(max(passages, 1))
    marks = sorted((one.mark for one in scored), reverse=True)
    words = max(len(scored[0].asked), 1)
    first, least = likely[0], min(likely[:_LIKELY])
    return [
        first, least, first * many, marks[0], sum(marks) / len(marks), scored[0].mark,
        max(one.coverage for one in scored[:_COVERED]), max(one.bm25 for one in scored) / words,
        log(words), many, float(passages == 1),
        told[0], max(told), max(told) - sum(told) / len(told),
    ]  # fmt: skip


def probability(values: Sequence[float]) -> float:
    """That the text answers the question, of its features."""
    if not values:
        return 0.0
    weights, constant = _weights()
    total = constant + sum(w * v for w, v in zip(weights, values, strict=True))
    return 1 / (1 + exp(-max(min(total, 50.0), -50.0)))


@cache
def _weights() -> tuple[list[float], float]:
    stored = json.loads((files("samba_cli") / "answerable.json").read_text(encoding="utf-8"))
    return stored["weights"], stored["constant"]
