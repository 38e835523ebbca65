"""Which way of finding evidence finds it: recall of the gold spans at 1, 3 and 5 passages.

    python -m benchmarks.evidence_methods --data EVAL --quality QUALITY --model FOLDER \
        --sets fairytaleqa covid_qa proposals_sections noanswer --limit 8 --candidates 12 \
        --out out/evidence.json [--plain] [--device cuda]
    python -m benchmarks.evidence_methods --words --data ... --quality ... --out out/words.json
    python -m benchmarks.evidence_methods --table out/evidence.json [of several runs, together]

Methods: BM25; the likelihood of the question given each passage, its tokens averaged in several
ways; both fused at several weights; selection among chunks of 1,000 tokens by the entropy of the
first token of an answer, or by the likelihood (OPRM, arXiv 2505.07793), passages ordered by chunk
and then by BM25; and, for reference, the relevance marks of `--marks` (the default model).
`--plain` speaks to any checkpoint as to a base model, so that ours before its tuning can be one;
`--words` loads no model and measures BM25 and the words of the question alone.

`--out` gets all that was measured for each question; the table is made from it. Beside the recall
it holds how well some quantities tell questions with an answer in the text from those without one
(area under the ROC curve: 0.5 is chance), and the shares of both of which some candidate holds at
least so much of the words.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from samba_cli.dialect import Dialect, dialect_of
from samba_cli.evidence import BM25_WEIGHT, candidates, fuse, relevance
from samba_cli.git_text import model_text
from samba_cli.index import PassageIndex, StoredPassage
from samba_cli.likelihood import token_likelihoods
from samba_cli.model import Model, Tokenizer, default_model_path, load_checkpoint
from samba_cli.scoring import last_logits
from samba_cli.text_match import content_words, overlap
from training.calibrate import indexed
from training.evaluate import by_document, samples

CHUNK_TOKENS = 1000
WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0)  # of what stands beside BM25, whose best is 1
THRESHOLDS = (0.01, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
REFUSAL = "not in the text"  # what prompts/answer.chat.txt asks for

Row = dict[str, Any]


# Measuring


def chunks(passages: Sequence[StoredPassage]) -> list[list[StoredPassage]]:
    """Passages in a row of up to CHUNK_TOKENS together."""
    result: list[list[StoredPassage]] = []
    room = 0
    for one in passages:
        if one.tokens > room or not result:
            result.append([])
            room = CHUNK_TOKENS
        result[-1].append(one)
        room -= one.tokens
    return result


def first_tokens(
    question: str, texts: Sequence[str], model: Model, dialect: Dialect
) -> list[tuple[float, bool]]:
    """Of an answer from each text: the entropy of its first token in nats, and whether the
    likeliest first token begins the refusal (a base model has none)."""
    refusals = {dialect.none}
    if dialect.kind == "chat":
        refusals |= {dialect.tokenizer.encode(t)[0] for t in (REFUSAL, REFUSAL.capitalize())}
    rows = []
    for text in texts:
        prompt = dialect.answer(question, [text])
        rows.append(dialect.start + prompt.ids + (dialect.closing() if prompt.thinking else []))
    result = [(0.0, False)] * len(rows)
    for batch, logits in last_logits(rows, 1, model):
        log_p = logits[:, 0].log_softmax(-1)
        entropies = -(log_p.exp() * log_p).sum(-1)
        found = zip(entropies.tolist(), log_p.argmax(-1).tolist(), strict=True)
        for row, (entropy, token) in zip(batch, found, strict=True):
            result[row] = entropy, token in refusals
    return result


def measured(
    question: str, spans: Sequence[Sequence[int]], index: PassageIndex, wanted: int,
    asked: tuple[Model, Dialect] | None, oprm: bool,
) -> Row:  # fmt: skip
    """All that the table is made from, for one question. `asked`: whose likelihoods count."""
    bm25 = candidates(question, index, wanted)
    passages, everything = index.get(list(bm25)), list(index.iterate())
    words = content_words(question)
    texts = [model_text(one.passage) for one in passages]
    row: Row = {
        "candidates": [one.id for one in passages],
        "bm25": [bm25[one.id] for one in passages],
        "coverage": [overlap(words, content_words(text)) for text in texts],
        "spans": len(spans),
        "holds": [(one.id, held) for one in everything if (held := _held(one, spans))],
    }
    if not asked:
        return row
    tokens = token_likelihoods(question, [*texts, ""], *asked).tolist()
    row |= {"tokens": tokens[:-1], "alone": tokens[-1]}  # after each text, and after none
    if oprm:
        groups = chunks(everything)
        read = ["\n\n".join(model_text(one.passage) for one in group) for group in groups]
        row["chunks"] = [[one.id for one in group] for group in groups]
        row["chunk_likelihood"] = token_likelihoods(question, read, *asked).mean(-1).tolist()
        first = first_tokens(question, read, *asked)
        row["chunk_entropy"] = [entropy for entropy, _ in first]
        row["chunk_refuses"] = [refuses for _, refuses in first]
        row["bm25_all"] = list(index.search(question, len(everything)))
    return row


def _held(one: StoredPassage, spans: Sequence[Sequence[int]]) -> list[int]:
    """Numbers of the spans of which a passage covers at least half."""
    low, high = one.passage.char_start, one.passage.char_end
    return [n for n, (a, b) in enumerate(spans) if 2 * (min(b, high) - max(a, low)) >= b - a]


# The table


def weighted(row: Row) -> list[float]:
    """Mean of the tokens' gains, a token weighing by how unlikely it is without a text."""
    weights = [-alone for alone in row["alone"]]
    total = sum(weights) or 1.0
    gains = [[t - a for t, a in zip(one, row["alone"], strict=True)] for one in row["tokens"]]
    return [sum(g * w for g, w in zip(one, weights, strict=True)) / total for one in gains]


def clipped(row: Row) -> list[float]:
    """Mean of the tokens' gains, losses left out."""
    return [
        sum(max(t - a, 0.0) for t, a in zip(one, row["alone"], strict=True)) / len(one)
        for one in row["tokens"]
    ]


def average(row: Row) -> list[float]:
    """Mean of the tokens: the order is that of the sum, and of the mean gain."""
    return [sum(one) / len(one) for one in row["tokens"]]


def standardised(values: Sequence[float]) -> list[float]:
    """Of mean 0 and deviation 1, so that what stands beside BM25 is on one scale."""
    mean = sum(values) / max(len(values), 1)
    deviation = (sum((value - mean) ** 2 for value in values) / max(len(values), 1)) ** 0.5
    return [(value - mean) / (deviation + 1e-6) for value in values]


VALUES: dict[str, Callable[[Row], list[float]]] = {
    "mean": lambda row: standardised(average(row)),
    "mean, not standardised": average,
    "weighted gain": lambda row: standardised(weighted(row)),
    "clipped gain": lambda row: standardised(clipped(row)),
}


def chunk_values(row: Row) -> dict[str, list[float]]:
    """What OPRM chooses a chunk by. Those that refuse come last."""
    found = {"entropy": [-x for x in row["chunk_entropy"]], "likelihood": row["chunk_likelihood"]}
    return {
        name: [
            min(values) - 1 if refuses else value
            for value, refuses in zip(values, row["chunk_refuses"], strict=True)
        ]
        for name, values in found.items()
    }


def orders(row: Row) -> dict[str, list[int]]:
    """Passages best first, by method."""
    ids, bm25 = row["candidates"], row["bm25"]
    best = max(bm25, default=0.0) or 1.0

    def ranked(scores: Sequence[float]) -> list[int]:
        return [i for _, i in sorted(zip(scores, ids, strict=True), key=lambda x: (-x[0], x[1]))]

    found = {"bm25": ranked(bm25)}
    values: dict[str, list[float]] = {}
    if "tokens" in row:
        values |= {f"likelihood, {name}": value(row) for name, value in VALUES.items()}
    if "chunks" in row:
        for name, scores in chunk_values(row).items():
            everywhere, by_chunk = dict(row["bm25_all"]), {}
            for score, group in zip(standardised(scores), row["chunks"], strict=True):
                by_chunk |= {i: score for i in group}
            order = sorted(by_chunk, key=lambda i: (-by_chunk[i], -everywhere.get(i, 0.0), i))
            found[f"OPRM, {name}"] = order
            values[f"OPRM, {name}, of a candidate's chunk"] = [by_chunk[i] for i in ids]
    for name, scores in values.items():
        found[name] = ranked(scores)
        for weight in WEIGHTS:
            fused = [weight * score + b / best for score, b in zip(scores, bm25, strict=True)]
            found[f"{name}, x {weight} + bm25"] = ranked(fused)
    if "marks" in row:
        found["marks"] = ranked(row["marks"])
        found[f"marks + bm25 x {BM25_WEIGHT}"] = ranked(fuse(row["marks"], bm25, BM25_WEIGHT))
    return found


def recall(row: Row, ranked: Sequence[int]) -> list[float]:
    """Share of the spans found in the first 1, 3 and 5, in percent."""
    holds = dict(row["holds"])
    found = [{n for i in ranked[:k] for n in holds.get(i, ())} for k in (1, 3, 5)]
    return [100 * len(numbers) / row["spans"] for numbers in found]


def auc(yes: Sequence[float], no: Sequence[float]) -> float | None:
    """Probability that one of `yes` is larger than one of `no`."""
    pairs = [(a > b) + 0.5 * (a == b) for a in yes for b in no]
    return round(sum(pairs) / len(pairs), 3) if pairs else None


def mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [round(sum(column) / len(rows), 1) for column in zip(*rows, strict=True)]


def telling(rows: Sequence[Row]) -> dict[str, list[float]]:
    """What might tell that the text has an answer, for each of the rows that have it."""
    gained = [max(average(r)) - sum(r["alone"]) / len(r["alone"]) for r in rows if "alone" in r]
    return {
        "coverage": [max(row["coverage"], default=0.0) for row in rows],
        "likelihood gained": gained,
        "mark": [max(row["marks"]) for row in rows if "marks" in row],
        "entropy": [-min(row["chunk_entropy"]) for row in rows if "chunk_entropy" in row],
    }


def table(rows: Sequence[Row]) -> Row:
    """Recall in percent by method: the mean over the sets, and each set."""
    recalls: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name, ranked in orders(row).items() if row["spans"] else ():
            recalls[name][row["set"]].append(recall(row, ranked))
    by_set = {m: {s: mean(found) for s, found in sets.items()} for m, sets in recalls.items()}
    yes, no = (telling([r for r in rows if r["answerable"] is kind]) for kind in (True, False))
    return {
        "questions": Counter(row["set"] for row in rows),
        "recall": {name: {"mean": mean([*s.values()]), **s} for name, s in by_set.items()},
        "tells answerable (AUC)": {name: auc(yes[name], no[name]) for name in yes},
        "coverage of answerable, unanswerable": {
            at: [round(sum(x >= at for x in of) / max(len(of), 1), 3) for of in coverages]
            for coverages in [(yes["coverage"], no["coverage"])]
            for at in THRESHOLDS
        },
    }


def show(rows: Sequence[Row]) -> None:
    result = table(rows)
    for name, recalled in result.pop("recall").items():
        print(json.dumps({"method": name, **recalled}))
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, nargs="+", help="what earlier runs wrote")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quality", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model", type=Path, default=default_model_path())
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--words", action="store_true")
    parser.add_argument("--marks", type=Path, nargs="?", const=default_model_path())
    parser.add_argument("--no-oprm", action="store_true", help="spare reading every document")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=0, help="questions a set (0: all sampled)")
    parser.add_argument("--candidates", type=int, default=24)
    args = parser.parse_args()
    if args.table:
        show([row for path in args.table for row in json.loads(path.read_text())["rows"]])
        return
    if not (args.data and args.quality and args.out):
        parser.error("--data, --quality and --out are needed to measure")
    tokenizer, asked = Tokenizer.load(args.model), None
    if args.plain:
        tokenizer.control, tokenizer.chat_template = {}, None
    if not args.words:
        asked = load_checkpoint(args.model, args.device), dialect_of(tokenizer)
        if asked[1].kind == "native":
            parser.error("a model with marks is not asked for likelihoods: --plain does so")
    marking = None
    if args.marks:
        marking = load_checkpoint(args.marks, args.device), Tokenizer.load(args.marks)
    rows: list[Row] = []
    started = time.monotonic()
    for name, records in samples(args.data, args.quality, args.sets, args.limit).items():
        for text, group in by_document(records):
            index = indexed(text, Path(":memory:"), tokenizer)
            for record in group:
                question = record["question"]
                spans = record.get("evidence") or []
                oprm = not args.no_oprm
                row = measured(question, spans, index, args.candidates, asked, oprm)
                if marking:
                    passages = index.get(row["candidates"])
                    texts = [model_text(one.passage) for one in passages]
                    row["marks"] = relevance(question, texts, *marking)
                row |= {"set": name, "answerable": bool(record.get("answerable", True))}
                rows.append(row)
            index.close()
            print(f"{name}: {len(rows)} in {time.monotonic() - started:.0f} s", flush=True)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps({"rows": rows, "torch": torch.__version__}) + "\n")
    show(json.loads(args.out.read_text())["rows"])


if __name__ == "__main__":
    main()
