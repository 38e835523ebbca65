"""Which passages matter for a question: candidates by BM25, scored again by the model.

The model's relevance mark is logit(yes) - logit(no) after `mark.txt`, read from a fresh state:
what the default model is trained for. For a checkpoint without marks it is the likelihood of
the question given the passage (Ponte & Croft 1998; Sachan et al. 2022, arXiv 2204.07496).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from samba_cli.dialect import Dialect, dialect_of
from samba_cli.git_text import model_text
from samba_cli.index import PassageIndex, StoredPassage
from samba_cli.model.network import Model
from samba_cli.model.tokenizer import Tokenizer
from samba_cli.prompting import encode
from samba_cli.text_match import content_words, overlap

BM25_WEIGHT = 2.0  # of BM25, scaled so that the best candidate has 1, against the mark in logits
CANDIDATES_CPU = 24
CANDIDATES_ACCELERATOR = 48
SALIENT_SHARE = 6  # one in so many candidates comes from the salience marks, words aside
_BATCH_TOKENS = {"cpu": 4096}  # tokens in a batch, padding included: bounds memory
_BATCH_TOKENS_ACCELERATOR = 65536
_QUESTION_CHARS = 1500  # of a very long question that are scored against each passage


@dataclass(frozen=True)
class EvidenceOptions:
    """How to look for evidence. None means the default of the device."""

    candidates: int | None = None
    prompts: Path | None = None  # folder of the user's templates


@dataclass(frozen=True)
class Scored:
    """A passage with all that speaks for it."""

    stored: StoredPassage
    score: float  # mark + BM25_WEIGHT * scaled BM25: what the order is by
    mark: float  # the model's: a logit, or a standardised likelihood without marks
    bm25: float  # of SQLite FTS5, 0 where no word matches
    coverage: float  # share of the question's content words in the passage, 0 to 1


def find_evidence(
    question: str,
    index: PassageIndex,
    model: Model,
    tokenizer: Tokenizer,
    options: EvidenceOptions = EvidenceOptions(),
) -> list[Scored]:
    """Candidate passages, best first. Empty only for an empty index."""
    wanted = options.candidates or (
        CANDIDATES_CPU if model.device.type == "cpu" else CANDIDATES_ACCELERATOR
    )
    found = dict(index.search(question, wanted))
    last = index.last_id()
    if last <= wanted:
        more = range(1, last + 1)  # few enough to ask the model about each
    else:
        room = max(wanted - len(found), wanted // SALIENT_SHARE)
        more = [key for key, _ in index.most_salient(1, last, room)] or range(1, room + 1)
    for key in more:
        found.setdefault(key, 0.0)
    passages = index.get(list(found))
    marks = relevance(
        question, [model_text(one.passage) for one in passages], model, tokenizer, options.prompts
    )
    scores = fuse(marks, [found[one.id] for one in passages])
    asked = content_words(question)
    scored = [
        Scored(one, score, mark, found[one.id], overlap(asked, content_words(one.passage.text)))
        for one, score, mark in zip(passages, scores, marks, strict=True)
    ]
    return sorted(scored, key=lambda one: (-one.score, one.stored.id))


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
    """The model's mark for each text: higher is more relevant to the question."""
    question = question[:_QUESTION_CHARS]
    dialect = dialect_of(tokenizer, prompts)
    if dialect.kind == "native":
        return _marks(question, texts, model, tokenizer, prompts)
    return _standardised(_likelihoods(question, texts, model, dialect))


def _marks(
    question: str, texts: Sequence[str], model: Model, tokenizer: Tokenizer, prompts: Path | None
) -> list[float]:
    control = tokenizer.control
    end = [control["<|end|>"]] if "<|end|>" in control else []
    rows = [
        end + encode(tokenizer, "mark", prompts, question=question, passage=text) for text in texts
    ]
    result = [0.0] * len(rows)
    for batch in _batches(rows, model):
        at = torch.tensor([[len(rows[row]) - 1] for row in batch], device=model.device)
        logits = _forward([rows[row] for row in batch], at, model)[:, 0]
        values = (logits[:, control["<|yes|>"]] - logits[:, control["<|no|>"]]).tolist()
        for row, value in zip(batch, values, strict=True):
            result[row] = value
    return result


def _likelihoods(
    question: str, texts: Sequence[str], model: Model, dialect: Dialect
) -> list[float]:
    """Mean log-likelihood of the question's tokens after each text."""
    asked = dialect.tokenizer.encode(" " + question)
    rows = [dialect.likelihood(text) + asked for text in texts]
    result = [0.0] * len(rows)
    wanted = torch.tensor(asked, device=model.device)
    for batch in _batches(rows, model):
        first = torch.tensor([[len(rows[row]) - len(asked) - 1] for row in batch])
        at = (first + torch.arange(len(asked))).to(model.device)  # [B, K]: one before each token
        logits = _forward([rows[row] for row in batch], at, model)
        chosen = logits.log_softmax(-1).gather(-1, wanted.expand(len(batch), -1)[..., None])
        for row, value in zip(batch, chosen.squeeze(-1).mean(-1).tolist(), strict=True):
            result[row] = value
    return result


@torch.inference_mode()
def _forward(rows: list[list[int]], at: torch.Tensor, model: Model) -> torch.Tensor:
    """Logits [B, K, V] of rows from a fresh state. Padding on the right is never looked at."""
    width = max(len(row) for row in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    return model(tokens.to(model.device), model.initial_state(len(rows)), at=at)


def _batches(rows: list[list[int]], model: Model) -> list[list[int]]:
    """Row numbers in batches of similar length, each within the token budget of the device."""
    budget = _BATCH_TOKENS.get(model.device.type, _BATCH_TOKENS_ACCELERATOR)
    batches: list[list[int]] = []
    for row in sorted(range(len(rows)), key=lambda row: len(rows[row])):
        if batches and (len(batches[-1]) + 1) * len(rows[row]) <= budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _standardised(values: list[float]) -> list[float]:
    mean = sum(values) / max(len(values), 1)
    deviation = (sum((value - mean) ** 2 for value in values) / max(len(values), 1)) ** 0.5
    return [(value - mean) / (deviation + 1e-6) for value in values]
