"""Generating texts on states that may be thrown away, bounded in every way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from samba_cli.dialect import Dialect, Prompt
from samba_cli.model.generation import Sampling, generate
from samba_cli.model.generation_batch import generate_batch
from samba_cli.model.network import Model
from samba_cli.model.state import State
from samba_cli.thinking import Thinking

THINKING_TOKENS = 2048  # that a model may think, beside the tokens of its answer
_LOOP = 24  # tokens: instruct models repeat names and thoughts, but never so many in a row
# Markdown that would hide from a string match that an answer stands in the text.
_BOLD = re.compile(r"(?<!\w)\*\*(\S|\S[^*\n]*\S)\*\*(?!\w)")


@dataclass(frozen=True)
class Written:
    """What was generated. `none`: the model said that there is nothing to say."""

    text: str
    none: bool
    thinking: str = ""  # of a model that thinks before it answers
    note: str = ""  # a sentence for the user


def write(
    model: Model, dialect: Dialect, state: State, prompt: Prompt, sampling: Sampling
) -> Written:
    """Read the prompt into the state and generate until the text ends. The state moves.

    Thinking of a chat model is taken off and has tokens of its own.
    """
    # Full attention keeps every token: without room it would copy all that was read, again.
    thinking = THINKING_TOKENS if dialect.kind == "chat" else 0
    state.reserve(state.position + len(prompt.ids) + 2 * sampling.max_tokens + thinking + 64)
    if dialect.kind == "chat":
        return _write_chat(model, dialect, state, prompt, sampling)
    text = _Text(dialect)
    for token in _generate(model, dialect, state, prompt.ids, sampling):
        if not text.push(token):
            break
    return text.written()


def write_all(
    model: Model, dialect: Dialect, state: State, prompts: Sequence[Prompt], sampling: Sampling,
    rows: int = 1,
) -> list[Written]:  # fmt: skip
    """What `write` gives for each prompt on a copy of the state; `rows` of them side by side.

    A chat model writes one after the other: where its thinking ends, each goes its own way.
    """
    if rows < 2 or len(prompts) < 2 or dialect.kind == "chat":
        return [write(model, dialect, state.fork(), prompt, sampling) for prompt in prompts]
    # Rows of like length wait least for each other.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
    texts = [_Text(dialect) for _ in prompts]
    for begin in range(0, len(order), rows):
        some = order[begin : begin + rows]
        generate_batch(
            model, state, [prompts[i].ids for i in some], sampling,
            lambda row, token, some=some: texts[some[row]].push(token),
            dialect.stop, never(model, dialect),
        )  # fmt: skip
    return [text.written() for text in texts]


def said_by(dialect: Dialect, tokens: Sequence[int]) -> str:
    """The text of what a native or a base model wrote."""
    text = _Text(dialect)
    for token in tokens:
        if not text.push(token):
            break
    return text.written().text


class _Text:
    """What a native or a base model writes, token by token."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect, self._stream = dialect, dialect.tokenizer.stream()
        self._text, self._none = "", False
        self._nothing, self._ends = dialect.none, dialect.ends

    def push(self, token: int) -> bool:
        """Whether the text goes on after this token."""
        if token == self._nothing:
            self._none = True
            return False
        self._text += self._stream.push(token)
        return not any(end in self._text.lstrip() for end in self._ends)

    def written(self) -> Written:
        if self._none:
            return Written("", none=not self._text.strip())
        text = _clean(self._text + self._stream.flush())
        for end in self._ends:
            text = text.partition(end)[0].strip()
        return Written(text, none=False)


def _write_chat(
    model: Model, dialect: Dialect, state: State, prompt: Prompt, sampling: Sampling
) -> Written:
    sampling = replace(sampling, no_repeat_ngram=_LOOP if sampling.no_repeat_ngram else 0)
    think_ids = dialect.think_ids
    stream, block, note = dialect.tokenizer.stream(), Thinking(prompt.thinking), ""
    both = replace(sampling, max_tokens=sampling.max_tokens + THINKING_TOKENS)
    unread: list[int] = []  # generated, but not in the state yet
    count = 0  # tokens of the thinking, or of the answer while there is no thinking
    for token in _generate(model, dialect, state, prompt.ids, both):
        count += 1
        was_open, unread = block.open, [token]
        block.push(think_ids.get(token) or stream.push(token))
        if block.closed or (block.open and count >= THINKING_TOKENS):
            break
        if not block.open and not was_open and count >= sampling.max_tokens:
            break
    else:
        unread = []
    if block.open:
        why = f"did not finish thinking in {count:,} tokens" if unread else "stopped while thinking"
        note = f"note: the model {why} and was told to answer; the answer may be poor"
        block.push(stream.flush())
        block.close()
        unread += dialect.closing()
    if block.closed and unread:
        # A new beginning for what must not repeat: an answer says what was thought before.
        for token in _generate(model, dialect, state, unread, sampling):
            block.push(think_ids.get(token) or stream.push(token))
    block.push(stream.flush())
    text = _BOLD.sub(r"\1", _clean(block.text))
    return Written(text, False, _clean(block.thoughts), note)


def _generate(
    model: Model, dialect: Dialect, state: State, ids: list[int], sampling: Sampling
) -> Iterator[int]:
    return generate(model, state, ids, sampling, dialect.stop, never(model, dialect))


def never(model: Model, dialect: Dialect) -> set[int]:
    """Tokens that are no text."""
    # Models have more rows than their tokenizer has tokens where that suits the hardware.
    padding = range(dialect.tokenizer.highest_id + 1, model.description.vocab_size)
    return dialect.banned | set(padding)


def _clean(text: str) -> str:
    return text.replace("�", "").strip()


def replay_budget(model: Model, taken: int) -> int:
    """Tokens of replayed passages that fit the attention window beside `taken` other tokens."""
    window = model.description.window or 2048
    return max(window - taken, window // 4)
