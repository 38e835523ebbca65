"""Rows: tokens, the token wanted after each, and how much each counts.

The formats are those of the prompt templates, cut once into tokens and fields, so that a row
is mostly a concatenation of passages tokenised before. A piece says for every token how much
predicting it counts; a row shifts that by one position. The `<|end|>` that follows an answer
is no part of a row: the lanes put one before every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samba_cli.prompts import Segment, render, template, worded
from training.encoder import Encoder

Tokens = npt.NDArray[np.uint16]
Weights = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Losses:
    """How much predicting a token counts, by what it is.

    There is one mark in some 200 tokens, and one relevant passage among several; an answer is ten
    tokens under a thousand of passages: with weights near 1 both are lost in the gradient of text.
    """

    read: float = 1.0  # a document that is read
    text: float = 0.6  # a passage inside a task
    answer: float = 4.0
    question: float = 2.0  # after the passage that answers it
    summary: float = 1.5  # written by people; longer than an answer
    yes: float = 10.0
    no: float = 4.0


PRETRAINING_LOSSES = Losses()
# In tuning, what is wanted of the model counts about a third of all.
TUNING_LOSSES = Losses(read=0.5, text=0.1, answer=12.0, question=6.0, summary=3.0)


@dataclass(frozen=True)
class Row:
    """Tokens uint16 [n]; targets int32 [n], -1 without loss; weights float16 [n]; its kind."""

    tokens: Tokens
    targets: npt.NDArray[np.int32]
    weights: Weights
    kind: str = ""


@dataclass(frozen=True)
class Piece:
    """Tokens, and how much predicting each of them counts."""

    tokens: Tokens
    loss: Weights


def piece(tokens: Sequence[int] | Tokens, loss: float) -> Piece:
    array = np.asarray(tokens, np.uint16)
    return Piece(array, np.full(len(array), loss, np.float16))


def join(pieces: Sequence[Piece]) -> Piece:
    if not pieces:
        return piece([], 0.0)
    return Piece(
        np.concatenate([p.tokens for p in pieces]), np.concatenate([p.loss for p in pieces])
    )


class Formats:
    """The prompt templates as tokens; `fill` gives exactly what rendering and encoding gives."""

    def __init__(self, tokenizer: Encoder, losses: Losses = Losses()) -> None:
        self.tokenizer, self.losses = tokenizer, losses
        control = tokenizer.control
        self.end, self.mark = control["<|end|>"], control["<|mark|>"]
        self.yes, self.no, self.none = control["<|yes|>"], control["<|no|>"], control["<|none|>"]
        self._templates: dict[str, list[Piece | str]] = {}

    @classmethod
    def load(cls, folder: Path | str, losses: Losses = Losses()) -> Formats:
        """From the folder of tokenizer.json. Raises FileNotFoundError where it is missing."""
        return cls(Encoder(folder), losses)

    def encode(self, text: str, loss: float = 0.0) -> Piece:
        return piece(self.tokenizer.encode(text), loss)

    def fill(self, name: str, /, **fields: Piece) -> Piece:
        """A template with its fields. Raises KeyError naming a field that is missing."""
        parts = self._templates.get(name)
        if parts is None:
            parts = self._templates[name] = self._parse(name)
        return join([fields[part] if isinstance(part, str) else part for part in parts])

    def _parse(self, name: str) -> list[Piece | str]:
        names = {word for word in _FIELDS if f"${word}" in template(name)}
        # a field renders as itself, marked, so that the parts and their order are render's own
        segments: list[Segment] = render(name, None, **{field: f"${field}" for field in names})
        return [
            piece(self.tokenizer.encode_template(s.text), 0.0) if s.control else s.text[1:]
            for s in segments
        ]

    def passages(self, texts: Sequence[Tokens]) -> Piece:
        """Passages shown again, each after `<|passage|>`."""
        loss = self.losses.text
        return join([self.fill("passage", passage=piece(text, loss)) for text in texts])

    def reading(
        self,
        name: str,
        passages: Sequence[Tokens],
        salient: Sequence[bool] | None = None,
        share: float = 1.0,
    ) -> Row:
        """A document as the program reads it; `salient` says what the marks are, if known.

        `share` scales the loss of its text, where it is read for the sake of what follows.
        """
        head = self.fill("read_document", name=self.encode(name))
        mark = np.array([self.mark], np.uint16)
        parts = [head.tokens]
        for passage in passages:
            parts += [passage, mark]
        tokens = np.concatenate(parts)
        weights = np.full(len(tokens), share * self.losses.read, np.float16)
        weights[: len(head.tokens)] = 0.0
        places = len(head.tokens) - 1 + np.cumsum([len(p) + 1 for p in passages])
        weights[places] = 0.0  # a mark is put there by the program, never predicted
        row = shift(Piece(tokens, weights))
        row.targets[places] = -1  # at a mark, the next passage is not what is wanted
        row.weights[places] = 0.0
        if salient is not None:
            self.judge(row, places, np.asarray(salient, bool))
        return row

    def judge(
        self,
        row: Row,
        places: npt.NDArray[np.int64],
        wanted: npt.NDArray[np.bool_],
        share: float = 1.0,
    ) -> None:
        """Say at the marks of a row, in place, which of the passages before them matter."""
        row.targets[places] = np.where(wanted, self.yes, self.no)
        row.weights[places] = share * np.where(wanted, self.losses.yes, self.losses.no)

    def plain(self, name: str, passages: Sequence[Tokens]) -> Row:
        """A document without marks: text as any other program would have it."""
        head = self.fill("read_document", name=self.encode(name))
        tokens = np.concatenate([head.tokens, *passages])
        weights = np.full(len(tokens), self.losses.read, np.float16)
        weights[: len(head.tokens)] = 0.0
        return shift(Piece(tokens, weights))

    def marking(self, question: str, passages: Sequence[Tokens], relevant: Sequence[bool]) -> Row:
        """A question and passages, each judged at its mark."""
        asked = self.encode(worded(question))
        parts = [
            self.fill("mark_next", passage=piece(tokens, self.losses.text))
            if i
            else self.fill("mark", question=asked, passage=piece(tokens, self.losses.text))
            for i, tokens in enumerate(passages)
        ]
        row = shift(join(parts))
        places = np.cumsum([len(part.tokens) for part in parts]) - 1
        self.judge(row, places, np.asarray(relevant, bool))
        return row

    def answering(
        self,
        question: str,
        passages: Sequence[Tokens],
        answer: str | None,
        share: float = 1.0,
    ) -> Row:
        """A question, passages shown again, and the answer; None: they do not answer it."""
        loss = share * self.losses.answer
        asked = self.encode(worded(question))
        prompt = self.fill("answer", question=asked, passages=self.passages(passages))
        wanted = piece([self.none], loss) if answer is None else self.encode(worded(answer), loss)
        return shift(join([prompt, wanted]), self.end, loss)

    def written(self, name: str, text: str, /, loss: float = 1.0, **fields: Piece) -> Row:
        """A template and the text wanted after it: a summary, a title, a docstring."""
        wanted = self.encode(worded(text), loss)
        return shift(join([self.fill(name, **fields), wanted]), self.end, loss)


_FIELDS = ("name", "passage", "passages", "question", "answer", "code")


def shift(content: Piece, last: int = -1, last_loss: float = 0.0) -> Row:
    """A row that wants each token after the one before it, and `last` after the last one."""
    targets = np.empty(len(content.tokens), np.int32)
    targets[:-1] = content.tokens[1:]
    targets[-1] = last
    weights = np.empty(len(content.tokens), np.float16)
    weights[:-1] = content.loss[1:]
    weights[-1] = last_loss if last >= 0 else 0.0
    targets[weights == 0] = -1
    return Row(content.tokens, targets, weights)


def chain(rows: Sequence[Row], end: int, reading: bool = True) -> Row:
    """Several rows as one; `<|end|>` stands between them, but not after a first that is read."""
    separator = Row(np.array([end], np.uint16), np.array([-1], np.int32), np.zeros(1, np.float16))
    parts: list[Row] = []
    for i, row in enumerate(rows):
        parts += [separator, row] if i > reading else [row]
    return Row(
        np.concatenate([p.tokens for p in parts]),
        np.concatenate([p.targets for p in parts]),
        np.concatenate([p.weights for p in parts]),
        rows[0].kind,
    )
