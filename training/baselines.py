"""What the program reaches, as a table beside the classical tools.

Their figures are those of BASELINES.md; for a set that it does not have, SQLite's FTS5 ranks the
document's passages here.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from samba_cli.text_match import STOP_WORDS

FTS5 = {  # method -> tokenizer, whether stop words are left out of the query
    "fts5 unicode61": ("unicode61", False),
    "fts5 porter": ("porter unicode61", False),
    "fts5 porter -stop": ("porter unicode61", True),
}
PASSAGE = 1000  # characters of a passage at most
_NAMED = 10  # passages named for a question
_BOUNDS = (r"\n[ \t]*\n\s*", r"[.!?][\"'”’)\]]*\s+", r"\n", r"\s")  # the best first
Span = tuple[int, int]
Rows = dict[str, dict[str, list[float]]]  # set -> method -> figures, percent
_FIGURES = re.compile(r"^(?:[\d.]+|-)(?: / (?:[\d.]+|-))+$")
_BEST = {  # which method of each table a set is held against, and what the table is called
    "summaries": ("Summaries", lambda method: method != "oracle"),
    "evidence": ("Evidence", lambda method: method.startswith("fts5")),
    "answers": ("Answers", lambda method: method == "bm25 sentence"),
}


def passages(text: str) -> list[Span]:
    """Spans that share a text: whole paragraphs, as many as fit; a longer one by its sentences."""
    spans: list[Span] = []
    for start, end in _pieces(text, 0, len(text), _BOUNDS):
        if spans and end - spans[-1][0] <= PASSAGE:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return spans


def _pieces(text: str, start: int, end: int, bounds: Sequence[str]) -> Iterator[Span]:
    """Pieces of at most PASSAGE characters, cut at the first bounds that make them so short."""
    if not bounds:
        yield from ((at, min(at + PASSAGE, end)) for at in range(start, end, PASSAGE))
        return
    places = [match.end() for match in re.compile(bounds[0]).finditer(text, start, end)]
    for begin, stop in zip([start, *places], [*places, end], strict=True):
        if stop - begin > PASSAGE:
            yield from _pieces(text, begin, stop, bounds[1:])
        elif stop > begin:
            yield begin, stop


def fts5(text: str, questions: Iterable[str], method: str) -> Iterator[list[Span]]:
    """The passages that SQLite ranks first for each question, by bm25() of any of its words."""
    tokenizer, stopped = FTS5[method]
    spans = passages(text)
    with sqlite3.connect(":memory:") as index:
        index.execute(f"CREATE VIRTUAL TABLE passages USING fts5(text, tokenize='{tokenizer}')")
        index.executemany("INSERT INTO passages VALUES (?)", ((text[a:b],) for a, b in spans))
        for question in questions:
            words = re.findall(r"[^\W_]+", question.lower())
            kept = [word for word in words if not stopped or word not in STOP_WORDS] or words
            rows = index.execute(
                "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY bm25(passages), rowid"
                " LIMIT ?",
                (" OR ".join(f'"{word}"' for word in kept) or '""', _NAMED),
            )
            yield [spans[row - 1] for (row,) in rows]
    index.close()


def baselines(path: Path) -> dict[str, Rows]:
    """The tables of BASELINES.md: part ("Summaries", ...) -> set -> method -> figures."""
    found: dict[str, Rows] = defaultdict(lambda: defaultdict(dict))
    part = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            part = line[3:].strip()
        cells = [cell.strip() for cell in line.strip("| \n").split("|")]
        if line.startswith("|") and len(cells) >= 3 and _FIGURES.match(cells[2]):
            figures = [0.0 if x == "-" else float(x) for x in cells[2].split(" / ")]
            found[part][cells[0]][cells[1]] = figures
    return found


def best(rows: dict[str, list[float]], kind: str) -> list[float]:
    """The best figure of each column among the methods that a kind of task is held against."""
    _, counts = _BEST[kind]
    chosen = [figures for method, figures in rows.items() if counts(method)]
    return [max(column) for column in zip(*chosen, strict=False)] if chosen else []


def table(results: dict[str, Any], path: Path) -> str:
    """Markdown: for every set what was reached and the best of the baselines' columns."""
    known = baselines(path)
    lines = ["| set | n | measure | samba | best baseline |", "|---|---|---|---|---|"]

    def add(
        name: str, n: int, measure: str, reached: list[float | None], base: list[float]
    ) -> None:
        values = (
            " / ".join("-" if v is None else f"{v:.1f}" for v in row) for row in (reached, base)
        )
        lines.append(f"| {name} | {n} | {measure} | " + " | ".join(v or "-" for v in values) + " |")

    for name, result in results.items():
        if "summary" in result:
            s = result["summary"]
            base = best(known["Summaries"].get(name, {}), "summaries")
            reached = [100 * s[key] for key in ("rouge1", "rouge2", "rougeLsum")]
            add(name, s["n"], "ROUGE-1/2/Lsum", reached, base)
            names = s["names_numbers_in_doc"]
            add(name, s["n"], "words, names held", [s["words"], names and 100 * names], [])
        if "qa" in result:
            q = result["qa"]
            if "evidence" in q:
                rows = known["Evidence"].get(name) or result.get("baselines", {})
                base = best(rows, "evidence")[:3]
                reached = [100 * q["evidence"][f"recall@{k}"] for k in (1, 3, 5)]
                add(name, q["evidence"]["n"], "recall@1/3/5", reached, base)
                add(name, q["evidence"]["n"], "characters@1/3/5",
                    [q["evidence"][f"chars@{k}"] for k in (1, 3, 5)], [])  # fmt: skip
            base = best(known["Answers"].get(name, {}), "answers")[1:2]
            f1 = q["f1_answerable"]
            add(name, q["n"], "F1 of the answerable", [f1 if f1 is None else 100 * f1], base)
            found = [q["answerable_accuracy"], q["unanswerable_accuracy"]]
            add(name, q["n"], "answered / recognised as not there",
                [v if v is None else 100 * v for v in found], [])  # fmt: skip
    return "\n".join(lines) + "\n"
