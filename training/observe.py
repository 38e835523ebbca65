"""One document as the model sees it: marks of passages, and answers from the best of them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samba_cli.answerable import log_nothing
from samba_cli.checkpoint import open_read_folder
from samba_cli.choosing import Candidate, Task, candidates_all
from samba_cli.dialect import dialect_of
from samba_cli.evidence import fuse, relevance_all
from samba_cli.explaining import about_all
from samba_cli.git_text import model_text
from samba_cli.index import PassageIndex, StoredPassage
from samba_cli.model import Model, Tokenizer
from samba_cli.reader import ReadOptions, read
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions
from samba_cli.writing import replay_budget
from training.shards import Record

MOST_MARKED = 200  # passages marked for a question; of a longer document the best by BM25
SHOWN = 8  # of the best passages that are shown alone: how likely is <|none|>, and the question?
_ANSWER_TOKENS = 160
_TOGETHER = 64  # answers written side by side


def text_key(text: str) -> str:
    """A short name for a document's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Observer:
    """A model, and what it is asked about a document."""

    def __init__(
        self, model: Model, tokenizer: Tokenizer, counts: Sequence[int] = (3,),
        marked: int = MOST_MARKED, shown: int = SHOWN,
    ) -> None:  # fmt: skip
        """`counts`: from how many passages answers are written; none for no answers.

        `marked` passages of a longer document get marks, the best by BM25; `shown` of the best are
        shown alone.
        """
        self.counts, self.marked, self.shown = counts, marked, shown
        self.model, self.tokenizer = model, tokenizer
        self.dialect = dialect_of(tokenizer)

    def document(self, text: str, records: Sequence[Record]) -> dict[str, Any]:
        """Everything about one document and its records, ready for JSON."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "document.txt"
            path.write_text(text, encoding="utf-8", newline="")
            with open_read_folder(None, self.model, self.tokenizer, resume=False) as work:
                read(
                    lambda: load([str(path)], SourceOptions(), None), self.model, self.tokenizer,
                    work, ReadOptions(),
                )  # fmt: skip
                passages = list(work.index.iterate())
                seen: dict[str, Any] = {
                    "text_key": text_key(text),
                    "passages": [
                        [p.passage.char_start, p.passage.char_end, p.tokens, _short(p.salience)]
                        for p in passages
                    ],
                    "questions": [],
                }
                summaries = [r for r in records if r["task"] not in ("qa", "code_qa")]
                if summaries:
                    seen["questions"] = [self.focus(one, passages) for one in summaries]
                questions = [r for r in records if r not in summaries]
                seen["questions"] += self.questions(questions, passages, work.index)
        return seen

    # Summaries

    def focus(self, record: Record, passages: Sequence[StoredPassage]) -> dict[str, Any]:
        """For a summary with a question: the mark of every passage."""
        question = record.get("question") or ""
        if not question:
            return {"id": record["id"]}
        texts = [model_text(one.passage) for one in passages]
        marks = relevance_all([(question, texts)], self.model, self.tokenizer)[0]
        return {"id": record["id"], "marks": [_short(m) for m in marks]}

    # Questions

    def questions(
        self, records: Sequence[Record], passages: Sequence[StoredPassage], index: PassageIndex
    ) -> Iterator[dict[str, Any]]:
        """Of each question the marks of the passages, and answers from the best of them."""
        asked = [record["question"] for record in records]
        found = [dict(index.search(question, self.marked)) for question in asked]
        whole = len(passages) <= self.marked
        chosen = [list(passages) if whole else index.get(sorted(some)) for some in found]
        texts = [[model_text(one.passage) for one in some] for some in chosen]
        marks = relevance_all(list(zip(asked, texts, strict=True)), self.model, self.tokenizer)
        best: list[list[StoredPassage]] = []
        for some, values, bm25 in zip(chosen, marks, found, strict=True):
            scores = fuse(values, [bm25.get(one.id, 0.0) for one in some])
            order = sorted(range(len(some)), key=lambda i: (-scores[i], i))
            best.append([some[i] for i in order])
        shown = [
            (question, [model_text(one.passage) for one in some[: self.shown]])
            for question, some in zip(asked, best, strict=True)
        ]
        nothing = iter(log_nothing(shown, self.model, self.dialect))
        about = about_all(shown, self.model, self.dialect)
        written = {count: self.candidates(asked, best, count) for count in self.counts}
        for i, record in enumerate(records):
            first = best[i][: self.shown]
            yield {
                "id": record["id"],
                "ids": None if whole else [one.id for one in chosen[i]],
                "marks": [_short(m) for m in marks[i]],
                "nothing": [[one.id, _short(next(nothing))] for one in first],
                "about": [
                    [one.id, _short(q.value)] for one, q in zip(first, about[i], strict=True)
                ],
                "question_tokens": about[i][0].tokens if about[i] else 0,
                "answers": {str(count): _greedy(some[i]) for count, some in written.items()},
                "candidates": {
                    str(count): [_listed(one) for one in some[i]] for count, some in written.items()
                },
            }

    def candidates(
        self, asked: Sequence[str], best: Sequence[Sequence[StoredPassage]], count: int
    ) -> list[list[Candidate]]:
        """What may be written for each question from `count` passages, answering or not."""
        dialect = replace(self.dialect, always=True)
        tasks = []
        for question, some in zip(asked, best, strict=True):
            fitting = self._fitting(question, some[:count])
            shown = [model_text(one.passage) for one in sorted(fitting, key=lambda one: one.id)]
            texts = [model_text(one.passage) for one in fitting]
            tasks.append(Task(question, texts, dialect.alone(question, shown).ids))
        state = self.model.initial_state()
        return candidates_all(tasks, state, self.model, dialect, _ANSWER_TOKENS, _TOGETHER)

    def _fitting(self, question: str, passages: Sequence[StoredPassage]) -> list[StoredPassage]:
        room = replay_budget(self.model, self.dialect.beside_answer(question) + _ANSWER_TOKENS)
        kept = []
        for one in passages:
            if not kept or one.tokens + 2 <= room:
                kept.append(one)
                room -= one.tokens + 2
        return kept


def _greedy(candidates: Sequence[Candidate]) -> str:
    """What is written where every token is the likeliest."""
    return next((one.text for one in candidates if one.greedy), "")


def _listed(one: Candidate) -> list[Any]:
    """Text, log p(answer), its tokens, log p(question | passage, answer), whether it is greedy."""
    return [one.text, _short(one.said), one.tokens, _short(one.explained.value), one.greedy]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
