"""The human-made questions and summaries, in the formats of the pretext rows.

    python -m training.tasks --tasks TASKS --tokenizer model/weights \
        --out DIR/tasks --workers N

builds two corpora of the documents, DIR/tasks/train and DIR/tasks/valid (5% of the documents,
kept back), each document with its questions; `Tasks` makes rows of them.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from training.corpus import build
from training.library import Library
from training.paraphrase import paraphrase
from training.pretext_spans import NEARLY, how_many, how_many_shown, judged, nearly
from training.pretext_summaries import fit, length_of, salient
from training.rows import Formats, Row, Tokens, chain
from training.shards import Record, read_shard, shards, write_shard
from training.words import content_words, hashed

_KEPT_BACK = 20  # one document in twenty
_LONGEST_ANSWER = 950  # characters, about 250 tokens
_NOTHING = 0.2  # share of the answerable questions asked over passages that do not answer
_TOGETHER = 4  # more questions about the same passages, at most
_OTHERWISE = 0.5  # share of the questions in which some words may become others
_LOWER = 0.12  # share of the questions without capitals, and of those without a question mark
_READ_PASSAGES = 48  # of a document that is read before it is asked about
_KEPT = ("task", "question", "answer", "answerable", "evidence", "style")

# Shares of the rows by file: its number of questions says little about its worth.
SHARES: dict[str, float] = {
    "squadshifts_new_wiki": 14, "fairytaleqa": 10, "wiki_qa": 9, "cuad": 10, "covid_qa": 5,
    "policyqa": 4, "medquad": 6, "tables": 8, "pubmedqa": 2, "noanswer": 7, "docs": 8,
    "proposals": 12, "qmsum": 6, "squality": 5, "scitldr": 5, "clinical": 4,
    "legal_plain_english": 1, "self_instruct_human": 1,
}  # fmt: skip


def collect(path: Path) -> list[Record]:
    """The documents of a file of tasks, each once, with their questions."""
    family = path.name.split(".")[0]
    documents: dict[str, Record] = {}
    for record in read_shard(path):
        name = str(record["id"]).split(":", 1)[-1].split("#")[0]
        entry = documents.setdefault(
            record["doc"],
            {"source": family, "kind": "task", "title": name, "text": record["doc"],
             "questions": []},
        )  # fmt: skip
        entry["questions"].append({key: record[key] for key in _KEPT if key in record})
    return list(documents.values())


def is_kept_back(document: Record) -> bool:
    """Whether training never sees this document: one in twenty, by its text."""
    return zlib.crc32(document["text"].encode("utf-8", "ignore")) % _KEPT_BACK == 0


def shorten(text: str, most: int = _LONGEST_ANSWER) -> str:
    """At most so many characters, ended at a sentence or a line."""
    text = text.strip()
    if len(text) <= most:
        return text
    end = max(text.rfind(mark, 0, most) for mark in (". ", ".\n", "\n", "? "))
    return text[: end + 1 if end > most // 3 else most].strip()


class Tasks:
    """Rows of questions and summaries from a corpus that this module built."""

    def __init__(self, folder: Path, formats: Formats) -> None:
        """Raises FileNotFoundError for a folder that is no corpus."""
        self.library, self.formats = Library(folder), formats
        self._documents: dict[tuple[str, bool], list[int]] = {}  # by file and whether it asks
        for number, document in enumerate(self.library.documents):
            for summary in {_is_summary(q) for q in document["questions"]}:
                self._documents.setdefault((document["source"], summary), []).append(number)

    def drawn(self) -> list[tuple[str, bool]]:
        """The files there are rows of, and whether of their summaries or of their questions."""
        return list(self._documents)

    def draw(
        self, summary: bool, rng: np.random.Generator, only: str | None = None
    ) -> tuple[int, Record]:
        """A document and one of its questions: summaries without a question, or questions."""
        families = [f for f, kind in self._documents if kind == summary and f == (only or f)]
        odds = np.array([SHARES.get(f, 1) for f in families], np.float64)
        while True:
            family = families[int(rng.choice(len(families), p=odds / odds.sum()))]
            documents = self._documents[family, summary]
            document = documents[int(rng.integers(len(documents)))]
            asked = [
                q for q in self.library.documents[document]["questions"]
                if _is_summary(q) == summary
            ]  # fmt: skip
            question = asked[int(rng.integers(len(asked)))]
            # many pages describe themselves so: a model would learn to begin like that
            if not question["answer"].startswith("Learn ") or rng.random() < 0.1:
                return document, question

    def gold(self, document: int, question: Record) -> list[int]:
        """The passages that answer, best first: by evidence, by the answer's text, by its words."""
        if not question["answerable"]:
            return []
        first, last = self.library.span(document)
        texts = [self.library.text(p) for p in range(first, last)]
        ends = np.cumsum([len(text) for text in texts])
        found: list[int] = []
        for start, end in question.get("evidence") or []:
            low, high = np.searchsorted(ends, [start, max(start, end - 1)], "right")
            found += range(first + int(low), first + min(int(high), len(texts) - 1) + 1)
        answer = question["answer"].strip()
        if not found and 0 < len(answer) < 200:
            wanted = answer.lower()
            found = [first + i for i, text in enumerate(texts) if wanted in text.lower()][:3]
        found = sorted(set(found))
        if 0 < len(found) <= 3:
            return found
        low, high = (found[0], found[-1] + 1) if found else (first, last)
        return salient(self.library, hashed(content_words(answer)), low, high, 5) or found[:3]

    def _query(self, question: Record) -> Any:
        return hashed(content_words(question["question"]))

    def _shown(self, passage: int) -> Tokens:
        return self.library.tokens(passage)

    def marks(self, rng: np.random.Generator) -> Row | None:
        """A question over passages of its document, each to be judged."""
        document, question = self.draw(False, rng)
        if question["task"] == "instruct" or len(self._query(question)) == 0:
            return None
        gold = self.gold(document, question)
        first, last = self.library.span(document)
        count = how_many(rng)
        chosen: list[int] = []
        if gold and (count > 1 or rng.random() < 0.5):
            chosen = [gold[int(rng.integers(len(gold)))]]
            if len(gold) > 1 and count > 2 and rng.random() < 0.5:
                chosen = list(dict.fromkeys([*chosen, gold[0]]))
        anchor = gold[0] if gold else int(rng.integers(first, last))
        negatives = self.library.negatives(
            self._query(question), anchor, count - len(chosen), rng, taken=gold
        )
        entries = [(self._shown(p), True) for p in chosen]
        entries += [(self._shown(p), False) for p in negatives]
        if not gold and question["answerable"]:
            return None  # nobody knows which passage answers
        return judged(self.formats, asked_otherwise(question, rng), entries, rng)

    def _answering(
        self, document: int, question: Record, rng: np.random.Generator
    ) -> tuple[Row | None, list[int]]:
        """The row of a question, and the passages of the corpus that it shows."""
        if question["task"] == "instruct":
            return self._instruction(document, question), []
        gold = self.gold(document, question)
        query = self._query(question)
        if len(query) == 0 or (question["answerable"] and not gold):
            return None, []
        first, last = self.library.span(document)
        answerable = bool(gold) and (rng.random() > _NOTHING or last - first < 3)
        chosen = fit(self.library, gold) if answerable else []
        anchor = gold[0] if gold else first
        scores = self.library.overlap(query, first, last)
        similar = [first + int(i) for i in np.argsort(-scores, kind="stable")]
        wanted = max(len(chosen), min(3, how_many_shown(rng)))
        answer = shorten(question["answer"])
        for passage in similar:
            if len(chosen) >= wanted:
                break
            if passage in gold or passage in chosen:
                continue
            if not answerable and gold and answer.lower() in self.library.text(passage).lower():
                continue
            chosen.append(passage)
        if not chosen:
            chosen = self.library.negatives(query, anchor, 1, rng, taken=gold)
        passages = [self._shown(p) for p in sorted(chosen)]
        said = answer if answerable else None
        return self.formats.answering(asked_otherwise(question, rng), passages, said), chosen

    def _instruction(self, document: int, question: Record) -> Row | None:
        text = "".join(self.library.text(p) for p in range(*self.library.span(document))).strip()
        answer = shorten(question["answer"])
        if not question["question"]:
            return self.formats.answering(text, [], answer)
        tokens = np.array(self.formats.tokenizer.encode(text), np.uint16)
        return self.formats.answering(question["question"], [tokens], answer)

    def answer(self, rng: np.random.Generator, family: str | None = None) -> Row | None:
        """A question, the passages the program would show again, and the answer or that none is."""
        return self._answering(*self.draw(False, rng, family), rng)[0]

    def answers(self, rng: np.random.Generator) -> Row | None:
        """The same, then more questions about the document, answered if these passages do."""
        document, question = self.draw(False, rng)
        row, shown = self._answering(document, question, rng)
        if row is None or not shown:
            return row
        rows = [row, *self._nearly(question, shown, rng)]
        rows += self._more(document, question, shown, rng)
        return chain(rows, self.formats.end, reading=False)

    def _nearly(self, question: Record, shown: list[int], rng: np.random.Generator) -> list[Row]:
        """A question like this one that the passages do not answer, where one is found."""
        if not question["answerable"] or rng.random() > NEARLY:
            return []
        near = nearly(self.library, question["question"], shown, rng)
        return [self.formats.answering(near, [], None)] if near is not None else []

    def _more(
        self, document: int, question: Record, shown: list[int], rng: np.random.Generator
    ) -> list[Row]:
        """Other questions about a document of which these passages stand in the window."""
        others = [
            q for q in self.library.documents[document]["questions"]
            if q is not question and not _is_summary(q) and q["task"] != "instruct"
        ]  # fmt: skip
        texts = [self.library.text(p).lower() for p in shown]
        rows: list[Row] = []
        for i in rng.permutation(len(others))[:8]:
            answer, gold = shorten(others[i]["answer"]), set(self.gold(document, others[i]))
            inside = bool(gold) and gold <= set(shown)
            if others[i]["answerable"] and not inside:
                known = not gold or gold & set(shown) or any(answer.lower() in t for t in texts)
                if known or rng.random() > _NOTHING:
                    continue
            wanted = answer if inside else None
            rows.append(self.formats.answering(asked_otherwise(others[i], rng), [], wanted))
            if len(rows) == _TOGETHER:
                break
        return rows

    def session(self, rng: np.random.Generator) -> Row | None:
        """A stretch of a document is read, then questions about it are answered."""
        document, question = self.draw(False, rng)
        if question["task"] == "instruct":
            return None
        first, last = self.library.span(document)
        gold = self.gold(document, question)
        begin = max(first, (gold[0] if gold else first) - int(rng.integers(0, _READ_PASSAGES // 2)))
        end = min(last, begin + _READ_PASSAGES)
        passages = [self.library.tokens(p) for p in range(begin, end)]
        rows = [self.formats.reading(self._name(document), passages, share=0.6)]
        others = [q for q in self.library.documents[document]["questions"] if not _is_summary(q)]
        order = [question, *(others[i] for i in rng.permutation(len(others))[:3])]
        for number, asked in enumerate(order):
            inside = all(begin <= p < end for p in self.gold(document, asked))
            if inside and (number == 0 or asked is not question):
                row, _ = self._answering(document, asked, rng)
                rows += [row] if row is not None else []
        return chain(rows, self.formats.end)

    def _name(self, document: int) -> str:
        return str(self.library.documents[document]["title"])[:80]

    def summary(self, rng: np.random.Generator) -> Row | None:
        """The passages that a summary covers, and the summary."""
        document, question = self.draw(True, rng)
        answer = shorten(question["answer"], 1100)
        first, last = self.library.span(document)
        best = salient(self.library, hashed(content_words(answer)), first, last, 8)
        if rng.random() < 0.4 and first not in best:
            best.insert(1, first)
        if not best:
            return None
        shown = [self._shown(p) for p in fit(self.library, best)]
        passages = self.formats.passages(shown)
        loss = self.formats.losses.summary
        return self.formats.written(length_of(answer), answer, loss, passages=passages)

    def read(self, rng: np.random.Generator) -> Row | None:
        """A document read, its marks telling what its summary covers."""
        document, question = self.draw(True, rng)
        first, last = self.library.span(document)
        if last - first < 3 or last - first > 200:
            return None
        words = hashed(content_words(question["answer"]))
        most = max(1, min(10, round(0.2 * (last - first))))
        best = salient(self.library, words, first, last, most)
        passages = [self.library.tokens(p) for p in range(first, last)]
        wanted = [p in best for p in range(first, last)]
        return self.formats.reading(self._name(document), passages, wanted, share=0.6)


def asked_otherwise(question: Record, rng: np.random.Generator) -> str:
    """The question, now and then in other words or as it may be typed.

    There are few of them and each is seen several times: what is learnt by heart is of no use.
    """
    text = question["question"]
    if rng.random() < _OTHERWISE:
        text = paraphrase(text, question["answer"], rng, share=1.0)
    if rng.random() < _LOWER:
        text = text.lower()
    return text.rstrip("?") if rng.random() < _LOWER else text


def _is_summary(question: Record) -> bool:
    """A summary of the whole document; one that answers a question is asked as a question."""
    asked = question["question"]
    whole = not re.search(r"\w", asked) or asked == "Summarize the whole meeting."
    return question["task"] == "summarize" and whole


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the corpora of the human-made tasks.")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of shards")
    parser.add_argument("--tokenizer", type=Path, default=Path("model/weights"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        groups: dict[str, list[tuple[Path, bool]]] = {"train": [], "valid": []}
        for path in shards(arguments.tasks):
            documents = collect(path)
            for split, back in (("train", False), ("valid", True)):
                part = [document for document in documents if is_kept_back(document) == back]
                shard = Path(folder) / f"{split}-{path.name.split('.')[0]}.jsonl"
                write_shard(shard, part)
                groups[split].append((shard, False))
        for split, paths in groups.items():
            count = build(paths, arguments.tokenizer, arguments.out / split, arguments.workers)
            print(f"{split}: {count} passages", flush=True)


if __name__ == "__main__":
    main()
