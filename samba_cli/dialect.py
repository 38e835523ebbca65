"""How a checkpoint is spoken to: in our control tokens, through its chat template, or plainly.

`native` is what our own models are trained on. An instruct model reads the text as plain text
and gets the task, with the passages replayed, as one user turn of its chat template. A base
model gets the task as text that it continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samba_cli.chat_template import Frame, chat_frame
from samba_cli.model.tokenizer import Tokenizer
from samba_cli.prompting import (
    encode,
    encode_many,
    encode_segments,
    has_marks,
    passages_segments,
)
from samba_cli.prompts import Segment, render, worded

OPEN, CLOSE = "<think>", "</think>"
_SENTENCE_WORDS = 22  # a sentence has about so many
# Where a base model has ended its text and goes on with something else.
_PLAIN_ENDS = ("\n\n", "\nQuestion:", "\nAnswer:", "\nDocument:", "\nSummary")


@dataclass(frozen=True)
class Prompt:
    """Token ids to read before generating; `thinking`: they leave a <think> block open."""

    ids: list[int]
    thinking: bool = False


@dataclass(frozen=True)
class Dialect:
    """What each task needs, for one checkpoint. Made by `dialect_of`.

    The methods raise KeyError naming the field that a user's template lacks.
    """

    kind: Literal["native", "chat", "plain"]
    tokenizer: Tokenizer
    prompts: Path | None = None  # folder of the user's templates
    frame: Frame | None = None  # of `chat`: what surrounds the user's turn
    always: bool = False  # something is written, never <|none|>

    # Reading

    @property
    def start(self) -> list[int]:
        """What the text of a fresh state begins with."""
        bos = self.tokenizer.bos
        if self.kind == "native":
            return []
        if self.frame is not None and self.frame.starts_text:
            bos = self.tokenizer.control.get(self.tokenizer.special.get("bos_token", ""), bos)
        return [] if bos is None else [bos]

    @property
    def fresh(self) -> list[int]:
        """What our own model reads before a task from a fresh state: the end of another text."""
        end = self.tokenizer.control.get("<|end|>")
        return [] if end is None else [end]

    def document(self, name: str) -> list[int]:
        """What is read before a document."""
        return encode(self.tokenizer, self._read("read_document"), self.prompts, name=name)

    def passages(self, texts: Sequence[str]) -> list[list[int]]:
        """Each passage as it is read."""
        return encode_many(
            self.tokenizer, self._read("read_passage"), self.prompts, "passage", texts
        )

    # Tasks

    def likelihood(self, passage: str) -> list[int]:
        """A passage, and the announcement of a question about it. From a fresh state."""
        prompt = self._framed("likelihood", passage=passage.strip())
        return self.start + prompt.ids + (self.closing() if prompt.thinking else [])

    def about(self, passage: str) -> list[int]:
        """A passage, and the announcement of a question it answers. Native, from a fresh state."""
        return self.fresh + encode(self.tokenizer, "question", self.prompts, passage=passage)

    def explained(self, passage: str, answer: str) -> list[int]:
        """As `about`, with the answer to the question between. Native, from a fresh state."""
        return self.fresh + encode(
            self.tokenizer, "question_answered", self.prompts, passage=passage,
            answer=worded(answer),
        )  # fmt: skip

    def question(self, question: str) -> list[int]:
        """A question as it follows `likelihood`, `about` and `explained`."""
        if self.kind == "native":
            return self.tokenizer.encode(worded(question))
        if self.kind == "chat":
            return self.tokenizer.encode(question)
        # Some tokenizers put a space before any text: what follows ":" is seen behind it only.
        before, both = self.tokenizer.encode(":"), self.tokenizer.encode(f": {question}")
        joined = both[: len(before)] == before
        return both[len(before) :] if joined else self.tokenizer.encode(f" {question}")

    def answer(self, question: str, passages: Sequence[str]) -> Prompt:
        """Passages shown again and the question."""
        if self.kind == "native":
            question = worded(question)
        return self._task("answer", passages, question=question)

    def alone(self, question: str, passages: Sequence[str]) -> Prompt:
        """As `answer`, from a fresh state: nothing but the passages is known. Native."""
        return Prompt(self.fresh + self.answer(question, passages).ids)

    def summary(self, passages: Sequence[str], words: int, bullets: bool) -> Prompt:
        """Passages shown again and the wish for a summary of about so many words."""
        if self.kind == "native":
            length = "short" if words < 80 else "medium" if words < 220 else "long"
            return self._task(f"summarize_{'bullets' if bullets else length}", passages)
        count = max(round(words / _SENTENCE_WORDS), 1)
        unit = ("point" if bullets else "sentence") + "s" * (count > 1)
        name = "summarize_bullets" if bullets else "summarize"
        return self._task(name, passages, length=f"{count if count > 1 else 'one'} {unit}")

    def beside_answer(self, question: str) -> int:
        """About how many tokens an answer's prompt has beside the passages."""
        if self.kind == "native":
            return 2 * len(self.tokenizer.encode(worded(question))) + 8
        return len(self.answer(question, ()).ids)

    def beside_summary(self) -> int:
        """About how many tokens a summary's prompt has beside the passages."""
        return 8 if self.kind == "native" else len(self.summary((), 100, True).ids)

    # What comes back

    @property
    def stop(self) -> set[int]:
        """Ids that end what is generated."""
        control = self.tokenizer.control
        if self.kind == "native":
            return {control["<|end|>"]} if "<|end|>" in control else set()
        # Whatever else steers a model, such as another turn, ends its answer too.
        return {*self.tokenizer.stop, *control.values()} - {*self.think_ids}

    @property
    def banned(self) -> set[int]:
        """Ids that are never generated."""
        if self.kind != "native":
            return set()
        kept = self.stop if self.always else self.stop | {self.none}
        return {*self.tokenizer.control.values()} - kept

    @property
    def none(self) -> int:
        """The id that says that there is nothing to say; -1 where that is said in words."""
        return self.tokenizer.control.get("<|none|>", -1) if self.kind == "native" else -1

    @property
    def ends(self) -> tuple[str, ...]:
        """Texts that end what is generated."""
        return _PLAIN_ENDS if self.kind == "plain" else ()

    @property
    def think_ids(self) -> dict[int, str]:
        """The tags of a thinking block that are one token. Only chat models think."""
        control = self.tokenizer.control
        tags = (OPEN, CLOSE) if self.kind == "chat" else ()
        return {control[tag]: tag for tag in tags if tag in control}

    def closing(self) -> list[int]:
        """What ends a thinking block in the model's stead."""
        return encode_segments(self.tokenizer, [Segment(f"\n{CLOSE}\n\n", True)])

    def _read(self, name: str) -> str:
        return name if self.kind == "native" else f"{name}.plain"

    def _task(self, name: str, passages: Sequence[str], **fields: str) -> Prompt:
        if self.kind == "native":
            shown = passages_segments(passages, self.prompts)
            return Prompt(encode(self.tokenizer, name, self.prompts, passages=shown, **fields))
        texts = [text.strip() for text in passages]
        shown = passages_segments(texts, self.prompts, "passage.plain")
        return self._framed(name, passages=shown, **fields)

    def _framed(self, name: str, **fields: str | Sequence[Segment]) -> Prompt:
        """A task of a model of others: in its turn of a chat, or as it is."""
        segments = render(f"{name}.{self.kind}", self.prompts, **fields)
        if self.frame is None:
            return Prompt(encode_segments(self.tokenizer, segments))
        framed = [Segment(self.frame.parts[0], True)]
        for part in self.frame.parts[1:]:
            framed += [*segments, Segment(part, True)]
        return Prompt(encode_segments(self.tokenizer, framed), self.frame.thinking)


def dialect_of(
    tokenizer: Tokenizer, prompts: Path | None = None, thinking: bool = False
) -> Dialect:
    """Decide by what the checkpoint's tokenizer has. `thinking`: a model that can be told not
    to think may think.

    Raises ModelError for a chat template that cannot be used.
    """
    if has_marks(tokenizer):
        return Dialect("native", tokenizer, prompts)
    if tokenizer.chat_template is None:
        return Dialect("plain", tokenizer, prompts)
    frame = chat_frame(tokenizer.chat_template, tokenizer.special, thinking)
    return Dialect("chat", tokenizer, prompts, frame)
