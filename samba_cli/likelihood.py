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


def token_likelihoods(
    question: str, texts: Sequence[str], model: Model, dialect: Dialect
) -> Tensor:
    """Log-likelihoods [len(texts), tokens of the question] in nats, float32 on the CPU.

    The question is the same tokens after every text, so rows compare token by token.
    """
    asked = dialect.question(question)
    result = torch.zeros(len(texts), len(asked))
    if not asked:
        return result
    wanted = torch.tensor(asked, device=model.device)
    nothing = dialect.tokenizer.encode("\n")  # a user's template may leave nothing before it
    rows = [(dialect.likelihood(text) or nothing) + asked[:-1] for text in texts]
    for batch, logits in last_logits(rows, len(asked), model):
        chosen = logits.log_softmax(-1).gather(-1, wanted.expand(len(batch), -1)[..., None])
        result[batch] = chosen.squeeze(-1).float().cpu()
    return result
