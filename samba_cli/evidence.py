"""Which passages matter for a question: candidates by BM25, scored again by the model.

The model's relevance mark is logit(yes) - logit(no) after `mark.txt`, read from a fresh state:
what the default model is trained for. For a checkpoint without marks it is the likelihood of
the question given the passage (Ponte & Croft 1998; Sachan et al. 2022, arXiv 2204.07496).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from samba_cli.dialect import dialect_of
from samba_cli.git_text import model_text
from samba_cli.index import PassageIndex, StoredPassage
from samba_cli.likelihood import token_likelihoods
from samba_cli.model.network import Model
from samba_cli.model.tokenizer import Tokenizer
from samba_cli.prompting import encode_many, has_marks
from samba_cli.prompts import worded
from samba_cli.scoring import last_logits
from samba_cli.text_match import content_words, overlap

# BM25 is scaled so that the best candidate has 1.
BM25_WEIGHT = 3.0  # of BM25 against the mark in logits
BM25_WEIGHT_LIKELIHOOD = 5.0  # against the likelihood in nats a token: benchmarks/RESULTS.md
CANDIDATES_CPU = 24
CANDIDATES_ACCELERATOR = 48
SALIENT_SHARE = 6  # one in so many candidates comes from the salience marks, words aside
QUESTION_CHARS = 1500  # of a very long question that are scored against each passage


@dataclass(frozen=True)
class EvidenceOptions:
    """How to look for evidence. None means the default of the device."""

    candidates: int | None = None
    prompts: Path | None = None  # folder of the user's templates


@dataclass(frozen=True)
class Scored:
    """A passage with all that speaks for it."""

    stored: StoredPassage
    score: float  # mark and BM25 together: what the order is by
    mark: float  # the model's: a logit, or without marks a likelihood, in nats a token
    bm25: float  # of SQLite FTS5, 0 where no word matches
    asked: frozenset[str]  # the question's content words

    @cached_property
    def coverage(self) -> float:
        """The share of the question's content words in the passage, 0 to 1."""
        return overlap(self.asked, content_words(self.stored.passage.text))


def find_evidence(
    question: str,
    index: PassageIndex,
    model: Model,
    tokenizer: Tokenizer,
    options: EvidenceOptions = EvidenceOptions(),
) -> list[Scored]:
    """Candidate passages, best first. Empty only for an empty index."""
    return find_all([question], index, model, tokenizer, options)[0]


def find_all(
    questions: Sequence[str],
    index: PassageIndex,
    model: Model,
    tokenizer: Tokenizer,
    options: EvidenceOptions = EvidenceOptions(),
) -> list[list[Scored]]:
    """As `find_evidence` for each question, with the passages of all scored in the same batches."""
    wanted = options.candidates or (
        CANDIDATES_CPU if model.device.type == "cpu" else CANDIDATES_ACCELERATOR
    )
    found = [candidates(question, index, wanted) for question in questions]
    passages = [index.get(list(some)) for some in found]
    pairs = [
        (question, [model_text(one.passage) for one in some])
        for question, some in zip(questions, passages, strict=True)
    ]
    marks = relevance_all(pairs, model, tokenizer, options.prompts)
    weight = BM25_WEIGHT if has_marks(tokenizer) else BM25_WEIGHT_LIKELIHOOD
    return [_ranked(*each, weight) for each in zip(questions, found, passages, marks, strict=True)]


def _ranked(
    question: str, found: Mapping[int, float], passages: Sequence[StoredPassage],
    marks: Sequence[float], weight: float,
) -> list[Scored]:  # fmt: skip
    scores = fuse(marks, [found[one.id] for one in passages], weight)
    asked = frozenset(content_words(question))
    scored = [
        Scored(one, score, mark, found[one.id], asked)
        for one, score, mark in zip(passages, scores, marks, strict=True)
    ]
    return sorted(scored, key=lambda one: (-one.score, one.stored.id))


def candidates(question: str, index: PassageIndex, wanted: int) -> dict[int, float]:
    """About so many passages that may matter, by id, with their BM25: 0 where no word matches."""
    found = dict(index.search(question, wanted))
    last = index.last_id()
    if last <= wanted:
        more = range(1, last + 1)  # few enough to ask the model about each
    else:
        room = max(wanted - len(found), wanted // SALIENT_SHARE)
        best = index.most_salient(1, last, wanted)[:room]
        more = [key for key, _ in best] or range(1, room + 1)
    for key in more:
        found.setdefault(key, 0.0)
    return found


def fuse(marks: Sequence[float], bm25: Sequence[float], weight: float = BM25_WEIGHT) -> list[float]:
    """One score from both: the mark plus `weight` times BM25 scaled to a maximum of 1."""
    best = max(bm25, default=0.0) or 1.0
    return [mark + weight * value / best for mark, value in zip(marks, bm25, strict=True)]


def relevance(
    question: str,
    texts: Sequence[str],
    model: Model,
    tokenizer: Tokenizer,
    prompts: Path | None = None,
) -> list[float]:
    """The model's mark for each text: higher is more relevant to the question.

    Without marks it is the mean log-likelihood of the question's tokens. To subtract how likely
    the question is without a text would change no order; to standardise over the texts would
    weigh the noise of a model that hardly tells them apart like the judgement of one that does.
    """
    return relevance_all([(question, texts)], model, tokenizer, prompts)[0]


def relevance_all(
    pairs: Sequence[tuple[str, Sequence[str]]],
    model: Model,
    tokenizer: Tokenizer,
    prompts: Path | None = None,
) -> list[list[float]]:
    """As `relevance` for each question with its own texts."""
    pairs = [(question[:QUESTION_CHARS], texts) for question, texts in pairs]
    if not has_marks(tokenizer):
        dialect = dialect_of(tokenizer, prompts)
        scored = [token_likelihoods(question, texts, model, dialect) for question, texts in pairs]
        return [(tokens.sum(-1) / max(tokens.shape[-1], 1)).tolist() for tokens in scored]
    rows = [_mark_rows(question, texts, tokenizer, prompts) for question, texts in pairs]
    if model.device.type == "cpu":  # where it pays to read once what a question's rows share
        return [_marks(some, model, tokenizer) for some in rows]
    marks = iter(_marks([row for some in rows for row in some], model, tokenizer))
    return [[next(marks) for _ in some] for some in rows]


def _mark_rows(
    question: str, texts: Sequence[str], tokenizer: Tokenizer, prompts: Path | None
) -> list[list[int]]:
    end = [tokenizer.control["<|end|>"]] if "<|end|>" in tokenizer.control else []
    asked = worded(question)
    encoded = encode_many(tokenizer, "mark", prompts, "passage", texts, question=asked)
    return [end + ids for ids in encoded]


def _marks(rows: Sequence[list[int]], model: Model, tokenizer: Tokenizer) -> list[float]:
    control = tokenizer.control
    order: list[int] = []
    values: list[Tensor] = []  # not looked at before the last batch is on its way
    for batch, logits in last_logits(rows, 1, model):
        order += batch
        values.append(logits[:, 0, control["<|yes|>"]] - logits[:, 0, control["<|no|>"]])
    result = [0.0] * len(rows)
    for row, value in zip(order, torch.cat(values).tolist() if values else (), strict=True):
        result[row] = value
    return result
