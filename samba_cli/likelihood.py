"""How likely a question is given a passage: what speaks for one without relevance marks.

Ponte & Croft 1998; Sachan et al. 2022 (arXiv 2204.07496): a language model reads the passage, is
asked for a question about it, and the question at hand is scored as its continuation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from samba_cli.dialect import Dialect
from samba_cli.model.network import Model
from samba_cli.scoring import last_logits
from samba_cli.transfer import sent


def token_likelihoods(
    question: str, texts: Sequence[str], model: Model, dialect: Dialect
) -> Tensor:
    """Log-likelihoods [len(texts), tokens of the question] in nats, float32 on the CPU.

    The question is the same tokens after every text, so rows compare token by token.
    """
    asked = dialect.question(question)
    if not asked or not texts:
        return torch.zeros(len(texts), len(asked))
    nothing = dialect.tokenizer.encode("\n")  # a user's template may leave nothing before it
    return ending_likelihoods(
        [(dialect.likelihood(text) or nothing, asked) for text in texts], model
    )


def ending_likelihoods(rows: Sequence[tuple[list[int], list[int]]], model: Model) -> Tensor:
    """Log-likelihoods [len(rows), tokens of the longest ending] in nats, float32 on the CPU.

    A row is a beginning, at least one token read from a fresh state, and its ending: what is
    scored. The values of a shorter ending come last, behind zeros; with its beginning it must have
    more tokens than the longest.
    """
    count = max((len(ending) for _, ending in rows), default=0)
    assert all(before and ending and len(before) + len(ending) > count for before, ending in rows)
    result = torch.zeros(len(rows), count)
    if not rows:
        return result
    wanted = torch.tensor([[0] * (count - len(ending)) + ending for _, ending in rows])
    order: list[int] = []
    values: list[Tensor] = []  # not looked at before the last batch is on its way
    for batch, logits in last_logits([a + b[:-1] for a, b in rows], count, model):
        order += batch
        there = sent(wanted[batch], model.device)
        values.append(logits.log_softmax(-1).gather(-1, there[..., None]).squeeze(-1).float())
    result[order] = torch.cat(values).cpu()
    lengths = torch.tensor([len(ending) for _, ending in rows])
    return result.masked_fill_(torch.arange(count) < (count - lengths)[:, None], 0.0)
