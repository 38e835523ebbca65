"""Answers that people gave with the questions that people asked, to be asked after them."""

from __future__ import annotations

import numpy as np

from training.asking import Pair, explained, sensible
from training.rows import Row
from training.tasks import Tasks

# The files whose questions ask for something that stands in the text.
SHARES: dict[str, float] = {
    "squadshifts_new_wiki": 14, "fairytaleqa": 7, "wiki_qa": 8, "policyqa": 3, "covid_qa": 4,
    "cuad": 2, "tables": 4,
}  # fmt: skip
_TOGETHER = 6  # questions about one passage, at most


def row(tasks: Tasks, rng: np.random.Generator) -> Row | None:
    """A passage and what people asked about it; None where the draw offered none."""
    drawn = tasks.drawn()
    families = [family for family in SHARES if (family, False) in drawn]
    odds = np.array([SHARES[family] for family in families])
    family = families[int(rng.choice(len(families), p=odds / odds.sum()))]
    document, question = tasks.draw(False, rng, family)
    gold = tasks.gold(document, question)
    if len(gold) != 1:
        return None
    asked, text = tasks.library.documents[document]["questions"], tasks.library.text(gold[0])
    pairs = []
    for i in rng.permutation(len(asked)):
        pair = Pair(asked[i]["answer"].strip(), asked[i]["question"].strip())
        if sensible(pair, text) and tasks.gold(document, asked[i])[:1] == gold:
            pairs.append(pair)
        if len(pairs) == _TOGETHER:
            break
    return explained(tasks.formats, tasks.library.tokens(gold[0]), pairs) if pairs else None
