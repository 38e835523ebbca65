"""One document as the model sees it: marks, likelihoods of sentences, answers by several ways."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from samba_cli.checkpoint import open_read_folder
from samba_cli.dialect import dialect_of
from samba_cli.evidence import fuse, relevance
from samba_cli.extraction import units
from samba_cli.git_text import model_text
from samba_cli.index import PassageIndex, StoredPassage
from samba_cli.model import Model, State, Tokenizer
from samba_cli.model.cuda_graph import decoding
from samba_cli.model.generation import Sampling, choose, prefill
from samba_cli.prompting import encode
from samba_cli.reader import ReadOptions, read
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions
from samba_cli.writing import replay_budget
from training.shards import Record

MOST_MARKED = 200  # passages marked for a question; of a longer document the best by BM25
MOST_SENTENCES = 1200  # of a document that are scored
_TOKENS = 1 << 13  # of a batch of sentences: bounds the logits
_SENTENCE_TOKENS = 96  # of a sentence that count
Scores = list[float]


def text_key(text: str) -> str:
    """A short name for a document's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class Way:
    """A way to answer: from so many passages, with so many tokens at most (0: none is written)."""

    passages: int
    tokens: int
    fresh: bool = False  # from an empty state, not from one that has read everything
    copied: bool = False  # only what stands in a passage word for word


ALL_WAYS = {
    "3": Way(3, 96), "1": Way(1, 40), "5": Way(5, 40), "3 copied": Way(3, 40, copied=True),
    "3 fresh": Way(3, 0, fresh=True), "1 fresh": Way(1, 0, fresh=True),
}  # fmt: skip
FEW_WAYS = {"3": Way(3, 24), "1": Way(1, 0), "1 fresh": Way(1, 0, fresh=True)}


class Observer:
    """A model, and what it is asked about a document."""

    def __init__(self, model: Model, tokenizer: Tokenizer, ways: dict[str, Way]) -> None:
        self.ways = ways
        self.model, self.tokenizer = model, tokenizer
        self.dialect = dialect_of(tokenizer)
        control = tokenizer.control
        self.yes, self.no = control["<|yes|>"], control["<|no|>"]
        self.none, self.end = self.dialect.none, control["<|end|>"]
        self.banned = sorted(self.dialect.banned | {self.none})

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
                    seen["sentences"] = self.sentences(passages, work.state)
                for record in records:
                    about = (
                        self.focus(record, passages)
                        if record in summaries
                        else self.question(record, passages, work.index, work.state)
                    )
                    seen["questions"].append({"id": record["id"], **about})
        return seen

    # Summaries

    def sentences(
        self, passages: Sequence[StoredPassage], state: State
    ) -> list[list[float | None]]:
        """[start, end, as a summary, as a title, mark] of each sentence.

        The likelihoods are of a token, in nats, after everything was read.
        """
        spans = [
            (one.passage.char_start + start, one.passage.char_start + end, number)
            for number, one in enumerate(passages)
            for start, end in units(one.passage.text)
        ][:MOST_SENTENCES]
        texts = [
            passages[n].passage.text[a - passages[n].passage.char_start :][: b - a]
            for a, b, n in spans
        ]
        rows = [ids[:_SENTENCE_TOKENS] for ids in self.tokenizer.encode_batch(texts)]
        alone = self._likelihoods(rows, self.dialect.summary((), 100, False).ids, state)
        titled = self._likelihoods(rows, encode(self.tokenizer, "title", passages=[]), state)
        marks = self._marks(rows, state)
        return [
            [a, b, _short(x), _short(y), _short(m)]
            for (a, b, _), x, y, m in zip(spans, alone, titled, marks, strict=True)
        ]

    def focus(self, record: Record, passages: Sequence[StoredPassage]) -> dict[str, Any]:
        """For a summary with a question: the mark of every passage, and of every sentence."""
        question = record.get("question") or ""
        if not question:
            return {}
        texts = [model_text(one.passage) for one in passages]
        parts = [
            one.passage.text[start:end] for one in passages
            for start, end in units(one.passage.text)
        ][:MOST_SENTENCES]  # fmt: skip
        marks, fine = (
            relevance(question, some, self.model, self.tokenizer) for some in (texts, parts)
        )
        return {"marks": [_short(m) for m in marks], "sentence_marks": [_short(m) for m in fine]}

    # Questions

    def question(
        self, record: Record, passages: Sequence[StoredPassage], index: PassageIndex, state: State
    ) -> dict[str, Any]:
        """Marks of the passages, and answers from the best of them."""
        question = record["question"]
        found = dict(index.search(question, MOST_MARKED))
        ids = sorted(found) if len(passages) > MOST_MARKED else [one.id for one in passages]
        chosen = index.get(ids)
        marks = relevance(
            question, [model_text(one.passage) for one in chosen], self.model, self.tokenizer
        )
        scores = fuse(marks, [found.get(one.id, 0.0) for one in chosen])
        order = sorted(range(len(chosen)), key=lambda i: (-scores[i], i))
        best = [chosen[i] for i in order]
        answers: dict[str, Any] = {}
        known: dict[tuple[object, ...], list[Any]] = {}
        for name, way in self.ways.items():
            shown = sorted(self._fitting(question, best[: way.passages]), key=lambda one: one.id)
            texts = [model_text(one.passage) for one in shown]
            before = self.model.initial_state() if way.fresh else state
            written = answers.get("3", [""])[0]
            if way.copied and written and " ".join(written.split()) in _held(texts):
                continue  # the free answer is copied already
            key = (*(one.id for one in shown), way.fresh, way.copied, way.tokens == 0)
            if key not in known:
                known[key] = self.answer(question, texts, before, way.tokens, way.copied)
            answers[name] = known[key]
        return {
            "ids": ids if len(ids) < len(passages) else None,
            "marks": [_short(m) for m in marks],
            "answers": answers,
        }

    def _fitting(self, question: str, passages: Sequence[StoredPassage]) -> list[StoredPassage]:
        room = replay_budget(self.model, self.dialect.beside_answer(question) + 96)
        kept = []
        for one in passages:
            if not kept or one.tokens + 2 <= room:
                kept.append(one)
                room -= one.tokens + 2
        return kept

    @torch.inference_mode()
    def answer(
        self, question: str, texts: Sequence[str], before: State, most: int, copied: bool
    ) -> list[Any]:
        """The greedy answer that is not <|none|>: [text, tokens, finished, log-probabilities of
        <|none|>, of the first token, and the mean of all with <|end|>]. `copied`: only what
        stands in a passage word for word."""
        prompt = self.dialect.answer(question, texts).ids
        state = before.fork()
        if before.position == 0:
            prompt = [self.end, *prompt]
        logits = prefill(self.model, state, prompt)
        forbidden = torch.tensor(self.banned, device=logits.device)
        chances = logits.log_softmax(-1)
        none, first = float(chances[self.none]), chances.index_fill(0, forbidden, -torch.inf).max()
        sampling = Sampling(max_tokens=most, no_repeat_ngram=8)
        generator = torch.Generator()
        made: list[int] = []
        said: Scores = []
        held = _held(texts)
        finished = False
        with decoding(self.model, state) as step:
            while len(made) < most:
                logits = logits.log_softmax(-1).index_fill(0, forbidden, -torch.inf)
                if copied:
                    token = self._continuing(logits, made, held)
                else:
                    token = choose(logits, made, sampling, generator)
                said.append(float(logits[token]))
                if token == self.end:
                    finished = True
                    break
                made.append(token)
                logits = step(torch.tensor([[token]], device=logits.device))[0, -1]
        text = self.tokenizer.decode(made)
        mean = sum(said) / max(len(said), 1)
        return [text, len(made), finished, _short(none), _short(float(first)), _short(mean)]

    def _continuing(self, logits: torch.Tensor, made: list[int], held: str) -> int:
        """The likeliest of the next tokens with which what was written still stands in `held`."""
        for token in logits.topk(48).indices.tolist():
            if token == self.end and made:
                return token
            text = " ".join(self.tokenizer.decode([*made, token]).split())
            if text and text in held:
                return token
        return self.end

    # Batches

    @torch.inference_mode()
    def _likelihoods(self, rows: list[list[int]], prompt: list[int], state: State) -> Scores:
        before = state.fork()
        first = prefill(self.model, before, prompt).log_softmax(-1)
        result = [0.0] * len(rows)
        for batch, tokens in _batches(rows):
            logits = self.model(tokens.to(self.model.device), before.expand(len(batch)))
            wanted = tokens.to(logits.device)
            values = logits[:, :-1].log_softmax(-1).gather(2, wanted[:, 1:, None])[..., 0]
            for i, row in enumerate(batch):
                ids = rows[row]
                total = float(first[ids[0]]) + float(values[i, : len(ids) - 1].sum())
                result[row] = total / len(ids)
        return result

    @torch.inference_mode()
    def _marks(self, rows: list[list[int]], state: State) -> Scores:
        """The salience mark of each row, read once more after everything."""
        marked = [[*row, self.tokenizer.control["<|mark|>"]] for row in rows]
        result = [0.0] * len(rows)
        for batch, tokens in _batches(marked):
            at = torch.tensor([[len(marked[row]) - 1] for row in batch], device=self.model.device)
            logits = self.model(tokens.to(self.model.device), state.expand(len(batch)), at=at)
            values = (logits[:, 0, self.yes] - logits[:, 0, self.no]).tolist()
            for row, value in zip(batch, values, strict=True):
                result[row] = value
        return result


def _batches(rows: list[list[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Row numbers with their tokens [B, T], padded on the right, of similar length."""
    order = sorted((i for i in range(len(rows)) if rows[i]), key=lambda i: len(rows[i]))
    while order:
        width = len(rows[order[-1]])
        some = order[-max(1, _TOKENS // width) :]
        del order[-len(some) :]
        tokens = torch.zeros(len(some), width, dtype=torch.long)
        for i, row in enumerate(some):
            tokens[i, : len(rows[row])] = torch.tensor(rows[row])
        yield some, tokens


def _held(texts: Sequence[str]) -> str:
    return "\n".join(" ".join(text.split()) for text in texts)


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
