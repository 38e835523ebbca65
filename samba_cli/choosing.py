"""Which of several possible answers is given: the one that also explains the question.

Beam search gives the answers our own model finds likeliest; the likeliest is often not the best of
them. A noisy channel (Lewis & Fan 2019) asks the other way round as well: how likely is the
question after the passage and the answer?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from samba_cli.dialect import Dialect
from samba_cli.explaining import Explaining, Likelihood, explain_all
from samba_cli.model.generation_beam import Beam, Hypothesis, beam_search
from samba_cli.model.network import Model
from samba_cli.model.state import State
from samba_cli.writing import never, said_by

WIDTH = 8  # answers that are compared, at most, beside the greedy one
_BEAM_TOKENS = 48  # of an answer by beam search; a longer one is the greedy one, or none
NO_REPEAT = 8  # tokens in a row that no answer has twice


@dataclass(frozen=True)
class Weights:
    """What counts in the choice, against the log-probability of the answer."""

    explained: float = 0.2  # a nat of the question
    length: float = 0.25  # 1: of an answer the mean over its tokens counts, 0: the sum
    asked: float = 0.0  # likewise of the question


@dataclass(frozen=True)
class Candidate:
    """A possible answer. Log-probabilities in nats are sums over the tokens."""

    text: str
    said: float  # log p(answer | question, passages)
    tokens: int  # of the answer, and the one that ends it
    greedy: bool  # what is written where every token is the likeliest
    explained: Likelihood = Likelihood(0.0, 0)  # log p(question | passage, answer)


@dataclass(frozen=True)
class Task:
    """A question, the passages to answer it from, best first, and the prompt that shows them."""

    question: str
    texts: Sequence[str]
    prompt: Sequence[int]


def score(
    said: float, tokens: int, explained: float, asked: int, weights: Weights = Weights()
) -> float:
    """Of an answer: higher is better. Both log-probabilities with the tokens they are of."""
    answer = said / max(tokens, 1) ** weights.length
    return answer + weights.explained * explained / max(asked, 1) ** weights.asked


def best(candidates: Sequence[Candidate], weights: Weights = Weights()) -> str:
    """The text of the candidate with the highest score; empty where there is none."""

    def value(one: Candidate) -> float:
        return score(one.said, one.tokens, one.explained.value, one.explained.tokens, weights)

    return max(candidates, key=value).text if candidates else ""


def candidates_all(
    tasks: Sequence[Task], state: State, model: Model, dialect: Dialect, max_tokens: int,
    rows: int = 1,
) -> list[list[Candidate]]:  # fmt: skip
    """For each task its candidates, likeliest first: none where nothing but silence was found.

    Those of beam search and the greedy one, each text once. `state` is what the prompts continue;
    it is not changed. About `rows` texts are written side by side.
    """
    beams = (
        Beam(WIDTH, min(_BEAM_TOKENS, max_tokens), NO_REPEAT), Beam(1, max_tokens, NO_REPEAT)
    )  # fmt: skip
    found: list[list[Candidate]] = [[] for _ in tasks]
    # Tasks of like length wait least for each other.
    order = sorted(range(len(tasks)), key=lambda i: len(tasks[i].prompt))
    together = max(rows // WIDTH, 1)
    stop, banned = dialect.stop, never(model, dialect)
    for begin in range(0, len(order), together):
        some = order[begin : begin + together]
        prompts = [tasks[i].prompt for i in some]
        searched = beam_search(model, state, prompts, beams, stop, banned)
        for i, (beam, greedy) in zip(some, searched, strict=True):
            found[i] = _distinct(beam, greedy, dialect)
    asked = [
        Explaining(task.question, task.texts, [one.text for one in some])
        for task, some in zip(tasks, found, strict=True)
    ]
    return [
        [
            Candidate(one.text, one.said, one.tokens, one.greedy, explained)
            for one, explained in zip(some, likelihoods, strict=True)
        ]
        for some, likelihoods in zip(found, explain_all(asked, model, dialect), strict=True)
    ]


def _distinct(
    beam: Sequence[Hypothesis], greedy: Sequence[Hypothesis], dialect: Dialect
) -> list[Candidate]:
    """Each text once, as it is likeliest. What was cut off counts only where it is greedy."""
    kept: dict[str, Candidate] = {}
    marked = "".join(said_by(dialect, one.tokens) for one in greedy)
    whole = [one for one in beam if one.ended]
    for one in sorted([*whole, *greedy], key=lambda one: -one.log_probability):
        text = said_by(dialect, one.tokens)
        if text and text not in kept:
            tokens = len(one.tokens) + one.ended
            kept[text] = Candidate(text, one.log_probability, tokens, text == marked)
    return list(kept.values())
