"""Answers and relevance marks on rows of tasks that were kept back, quickly: between two runs.

    python -m training.measure_answers --model CHECKPOINT --tasks CORPUS/tasks/valid --rows 300

The rows are those of training, passages chosen and all, so that this says how well a row is
learnt, not how well the program answers: `training.evaluate` does that. Printed by task: token F1
of the answerable questions, the share of answerable and of unanswerable ones to which `<|none|>` is
written, and how often the relevant passage of a row has its highest mark.
"""

from __future__ import annotations

import argparse
import json
import re
import string
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from samba_cli.model import Model, load_for_reading
from samba_cli.model.generation import Sampling, generate
from training.rows import Formats, Row
from training.tasks import SHARES, Tasks

_LONGEST = 64  # tokens of an answer


def f1(said: str, wanted: str) -> float:
    """Overlap of words, as SQuAD counts it (Rajpurkar et al. 2016)."""
    first, second = _words(said), _words(wanted)
    common = sum((Counter(first) & Counter(second)).values())
    return 2 * common / (len(first) + len(second)) if common else float(first == second)


def _words(text: str) -> list[str]:
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


@torch.inference_mode()
def say(model: Model, formats: Formats, row: Row) -> tuple[list[int], list[int]]:
    """What the model writes after the prompt of an answering row, and what was wanted."""
    answer = np.flatnonzero(row.weights >= formats.losses.answer)
    start = int(answer[0])
    wanted = [int(t) for t in row.targets[start:-1]]
    said = generate(
        model, model.initial_state(), [formats.end, *row.tokens[: start + 1].tolist()],
        Sampling(max_tokens=_LONGEST), {formats.end},
    )  # fmt: skip
    return list(said), wanted


@torch.inference_mode()
def marked(model: Model, formats: Formats, row: Row) -> tuple[list[float], list[bool]]:
    """The marks of a marking row, logit(yes) - logit(no), and which are wanted to be yes."""
    places = np.flatnonzero(row.tokens == formats.mark)
    tokens = torch.tensor([[formats.end, *row.tokens.tolist()]], device=model.device)
    at = torch.tensor(places + 1, device=model.device)
    logits = model(tokens, model.initial_state(), at=at)[0]
    marks = (logits[:, formats.yes] - logits[:, formats.no]).tolist()
    return marks, [bool(t == formats.yes) for t in row.targets[places]]


def answers(model: Model, formats: Formats, rows: Sequence[Row]) -> dict[str, float]:
    """Token F1 and how often nothing is found; in percent."""
    scores: list[float] = []
    none: dict[bool, list[bool]] = {True: [], False: []}
    for row in rows:
        said, wanted = say(model, formats, row)
        answerable = wanted != [formats.none]
        none[answerable].append(formats.none in said)
        if answerable:
            text, gold = (formats.tokenizer.decode(t) for t in (said, wanted))
            scores.append(0.0 if formats.none in said else f1(text, gold))
    return {
        "n": len(rows),
        "f1_answerable": _percent(scores),
        "none_answerable": _percent(none[True]),
        "none_unanswerable": _percent(none[False]),
    }


def _percent(values: Sequence[float]) -> float:
    return round(100 * sum(values) / len(values), 1) if values else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True, help="CORPUS/tasks/valid")
    parser.add_argument("--rows", type=int, default=300, help="of each kind")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    model, formats = load_for_reading(args.model, args.device), Formats.load(args.model)
    tasks, rng = Tasks(args.tasks, formats), np.random.default_rng(0)
    families = {f for f, summary in tasks.drawn() if not summary} & SHARES.keys()
    by_family: dict[str, list[Row]] = defaultdict(list)
    for _ in range(20 * args.rows):
        if sum(map(len, by_family.values())) >= args.rows:
            break
        family = sorted(families)[int(rng.integers(len(families)))]
        row = tasks.answer(rng, family)
        if row is not None:
            by_family[family].append(row)
    report: dict[str, object] = {
        family: answers(model, formats, rows) for family, rows in sorted(by_family.items())
    }
    report["all"] = answers(model, formats, [r for rows in by_family.values() for r in rows])
    right = []
    margins: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(args.rows):
        row = tasks.marks(rng)
        if row is None:
            continue
        marks, wanted = marked(model, formats, row)
        if any(wanted) and len(marks) > 1:
            right.append(wanted[int(np.argmax(marks))])
        for mark, yes in zip(marks, wanted, strict=True):
            margins[yes].append(mark)
    above = [_percent([m > 0 for m in margins[kind]]) for kind in (True, False)]
    report["marks"] = {
        "first_right": _percent(right), "n": len(right), "yes_above_0": above[0],
        "no_above_0": above[1],
    }  # fmt: skip
    print(json.dumps(report))


if __name__ == "__main__":
    main()
