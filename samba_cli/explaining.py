"""How well a passage, or an answer in it, explains the question: its likelihood after them.

Our own model has learnt to write the question that a passage answers, and the one that a given
answer in it answers. A span that only looks like an answer makes the question no likelier: a noisy
channel (Lewis & Fan 2019, "Generative Question Answering: Learning to Answer the Whole Question").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from samba_cli.dialect import Dialect
from samba_cli.evidence import QUESTION_CHARS
from samba_cli.likelihood import ending_likelihoods
from samba_cli.model.network import Model
from samba_cli.text_match import occurs


@dataclass(frozen=True)
class Likelihood:
    """How likely a question is after something else."""

    value: float  # nats: the sum over its tokens
    tokens: int


@dataclass(frozen=True)
class Explaining:
    """A question, the passages it was answered from, best first, and what may be its answer."""

    question: str
    texts: Sequence[str]
    answers: Sequence[str]

    def holder(self, answer: str) -> str:
        """The first passage that has an answer word for word, else the best."""
        return next((text for text in self.texts if occurs(answer, text)), self.texts[0])


def explain_all(
    asked: Sequence[Explaining], model: Model, dialect: Dialect
) -> list[list[Likelihood]]:
    """How likely each question is after each of its answers in the passage that has it."""
    rows, alike = [], []
    for number, one in enumerate(asked):
        question = _asked(one.question, dialect)
        for answer in one.answers:
            text = one.holder(answer)
            rows.append((dialect.explained(text, answer), question))
            alike.append((number, text))
    values = iter(_sums(rows, alike, model))
    return [[next(values) for _ in one.answers] for one in asked]


def about_all(
    pairs: Sequence[tuple[str, Sequence[str]]], model: Model, dialect: Dialect
) -> list[list[Likelihood]]:
    """How likely each question is after each of its passages alone."""
    rows = []
    for question, texts in pairs:
        ids = _asked(question, dialect)
        rows += [(dialect.about(text), ids) for text in texts]
    values = iter(_sums(rows, [None] * len(rows), model))
    return [[next(values) for _ in texts] for _, texts in pairs]


def _asked(question: str, dialect: Dialect) -> list[int]:
    return dialect.question(question[:QUESTION_CHARS])


def _sums(
    rows: Sequence[tuple[list[int], list[int]]], alike: Sequence[Hashable], model: Model
) -> list[Likelihood]:
    """Of each row's ending. Rows that are `alike` begin with the same passage.

    On a CPU it pays that a passage is read once, so only rows that share theirs go together;
    elsewhere those whose endings are about as long.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    together = _together(model)
    for i, (before, ending) in enumerate(rows):
        more = 1 << len(ending).bit_length()  # than the tokens of any ending of its group
        if not together:
            groups[len(ending), alike[i]].append(i)
        elif len(before) >= more:
            groups["fewer than", more].append(i)
        else:
            groups["exactly", len(ending)].append(i)
    result = [Likelihood(0.0, len(ending)) for _, ending in rows]
    for numbers in groups.values():
        if not result[numbers[0]].tokens:
            continue
        totals = ending_likelihoods([rows[i] for i in numbers], model).sum(-1).tolist()
        for i, total in zip(numbers, totals, strict=True):
            result[i] = Likelihood(total, result[i].tokens)
    return result


def _together(model: Model) -> bool:
    """Whether rows that share nothing are still best read together."""
    return model.device.type != "cpu"
