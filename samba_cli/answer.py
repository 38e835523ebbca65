"""Answering a question: show the best passages again, generate, choose, check.

Our own model answers from a fresh state: beside the passages, what it remembers of the text only
distracts it (training/LOG.md, 2026-11-27). Models of others go on from a copy of the state.

What the model writes is believed only as far as the text supports it. Quotes and places come
from string matches, never from the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from samba_cli.answerable import judge_all
from samba_cli.choosing import NO_REPEAT, Task, best, candidates_all
from samba_cli.dialect import Dialect, dialect_of
from samba_cli.evidence import EvidenceOptions, Scored, find_all
from samba_cli.git_text import model_text, whole_sentence
from samba_cli.index import PassageIndex
from samba_cli.model.generation import Sampling
from samba_cli.model.network import Model
from samba_cli.model.state import State
from samba_cli.model.tokenizer import Tokenizer
from samba_cli.quotes import evidence, quote
from samba_cli.refusals import says_nothing
from samba_cli.results import Answer, Evidence
from samba_cli.text_match import (
    content_words,
    names_and_numbers,
    normalise,
    occurs,
    overlap,
    plausible_sentence,
    words,
)
from samba_cli.writing import Written, replay_budget, write_all

# Without marks: such a share of them in one of the passages replayed, see benchmarks/RESULTS.md.
FOUND_COVERAGE_UNMARKED = 0.6
NAMED = 5  # passages named as evidence, at least, where there are so many
LEAD = 1.0  # of a passage's score before the next: then it is shown alone
SUPPORTED = 0.6  # share of a free answer's content words that the replayed passages must hold
QUOTE_COVERAGE = 0.5  # share of the question's words in a passage for its quote to stand in
_SHORT_ANSWERS = frozenset({"yes", "no", "true", "false"})


_TOGETHER_CPU, _TOGETHER_ACCELERATOR = 1, 64  # questions answered together, where there is room


@dataclass(frozen=True)
class AnswerOptions:
    """How to answer."""

    max_tokens: int = 160
    passages: int = 3  # replayed at most; fewer where they do not fit the window, or one leads
    candidates: int | None = None  # passages that the model scores; None: by device
    prompts: Path | None = None  # folder of the user's templates
    temperature: float = 0.0
    seed: int = 0
    thinking: bool = False  # let a model think that can be told not to, and keep its thoughts


def answer(
    question: str,
    state: State,
    index: PassageIndex,
    model: Model,
    tokenizer: Tokenizer,
    options: AnswerOptions = AnswerOptions(),
) -> Answer:
    """Answer one question from what was read. `state` and `index` are not changed."""
    return answer_all([question], state, index, model, tokenizer, options)[0]


def answer_all(
    questions: Sequence[str],
    state: State,
    index: PassageIndex,
    model: Model,
    tokenizer: Tokenizer,
    options: AnswerOptions = AnswerOptions(),
    rows: int = 1,
) -> list[Answer]:
    """Answer each question as `answer` does.

    The passages of all questions are scored together, and `rows` answers written side by side:
    the tokens are those of one question alone, up to rounding.
    """
    dialect = dialect_of(tokenizer, options.prompts, options.thinking)
    how = EvidenceOptions(options.candidates, options.prompts)
    scored = [
        some if question.strip() else []
        for question, some in zip(
            questions, find_all(questions, index, model, tokenizer, how), strict=True
        )
    ]
    held: list[bool] | None = None
    if dialect.kind == "native":
        judged = judge_all(questions, scored, index.last_id(), model, dialect)
        scored, held = [one.scored for one in judged], [one.answerable for one in judged]
        dialect = replace(dialect, always=True)
    chosen = [
        _choose(question, some, model, dialect, options) if some else []
        for question, some in zip(questions, scored, strict=True)
    ]
    if held is None:
        held = [may_hold(some, dialect.kind) for some in chosen]
    asked = [i for i, some in enumerate(chosen) if some and held[i]]
    pairs = [(questions[i], chosen[i]) for i in asked]
    texts = dict(zip(asked, _generate(pairs, state, model, dialect, options, rows), strict=True))
    nothing = Written("", none=True)
    return [
        _made(
            question,
            some,
            _named(scored[i], some),
            texts.get(i, nothing),
            index,
            options,
            dialect.always,
        )  # fmt: skip
        for i, (question, some) in enumerate(zip(questions, chosen, strict=True))
    ]


def _made(
    question: str, chosen: Sequence[Scored], named: Sequence[Scored], written: Written,
    index: PassageIndex, options: AnswerOptions, sure: bool,
) -> Answer:  # fmt: skip
    text, extractive = checked(question, written, chosen, index, sure)
    return Answer(
        question, text, bool(text), _evidence(question, text, named), extractive,
        written.thinking if options.thinking else "", (written.note,) if written.note else (),
    )  # fmt: skip


def together(model: Model) -> int:
    """How many questions to answer together at most."""
    return _TOGETHER_CPU if model.device.type == "cpu" else _TOGETHER_ACCELERATOR


def may_hold(chosen: Sequence[Scored], kind: Literal["native", "chat", "plain"]) -> bool:
    """Whether it is worth asking a model of others for an answer.

    A likelihood only ranks: no value of it means that the answer is there. A chat model says
    itself when the text has none. A base model cannot, so the words of the question decide.
    """
    return kind == "chat" or any(one.coverage >= FOUND_COVERAGE_UNMARKED for one in chosen)


def _choose(
    question: str, scored: list[Scored], model: Model, dialect: Dialect, options: AnswerOptions
) -> list[Scored]:
    """The best passages that fit the attention window together, best first; at least one.

    Where our own model has a clear favourite, that one alone: beside others a small model copies
    from the wrong one more often than it needs them.
    """
    if dialect.kind == "native" and len(scored) > 1 and scored[0].score - scored[1].score > LEAD:
        return scored[:1]
    room = replay_budget(model, dialect.beside_answer(question) + options.max_tokens)
    chosen = scored[:1]
    room -= scored[0].stored.tokens + 2
    for one in scored[1:]:
        if len(chosen) == options.passages:
            break
        if one.stored.tokens + 2 <= room:
            chosen.append(one)
            room -= one.stored.tokens + 2
    return chosen


def _generate(
    pairs: Sequence[tuple[str, Sequence[Scored]]], state: State, model: Model, dialect: Dialect,
    options: AnswerOptions, rows: int,
) -> list[Written]:  # fmt: skip
    """What the model writes for each question with its passages.

    Of our own model, unless the answer is to be drawn by chance, it is the best of several texts.
    """
    texts = [
        [model_text(one.stored.passage) for one in sorted(chosen, key=lambda one: one.stored.id)]
        for _, chosen in pairs
    ]
    native, asked = dialect.kind == "native", dialect.answer
    if native:
        state, asked = model.initial_state(), dialect.alone
    prompts = [asked(pairs[i][0], some) for i, some in enumerate(texts)]
    if native and options.temperature <= 0:
        tasks = [
            Task(question, [model_text(one.stored.passage) for one in chosen], prompt.ids)
            for (question, chosen), prompt in zip(pairs, prompts, strict=True)
        ]
        found = candidates_all(tasks, state, model, dialect, options.max_tokens, rows)
        return [Written(best(some), none=False) for some in found]
    sampling = Sampling(
        max_tokens=options.max_tokens, temperature=options.temperature, seed=options.seed,
        no_repeat_ngram=NO_REPEAT,
    )  # fmt: skip
    written = write_all(model, dialect, state, prompts, sampling, rows)
    return [_refused(one, some, dialect) for one, some in zip(written, texts, strict=True)]


def _refused(written: Written, texts: Sequence[str], dialect: Dialect) -> Written:
    """Our own model has a token for that. What stands in the text is an answer all the same."""
    held = any(occurs(written.text, text) for text in texts)
    if dialect.kind == "chat" and says_nothing(written.text) and not held:
        return replace(written, text="", none=True)
    return written


def checked(
    question: str, written: Written, chosen: Sequence[Scored], index: PassageIndex,
    sure: bool = False,
) -> tuple[str, bool]:  # fmt: skip
    """The answer if the text supports it (False), else the best quote (True), else nothing.

    Supported is what stands in a replayed passage word for word, or uses their words and no
    name or number that the document does not have. `sure`: that the text has an answer was
    decided before, so some quote it is; so our own model, which copies, must also begin with a
    word of the text or the question, as any word there may be a name with its capital. To say the
    question again answers nothing: then a quote tells more.
    """
    if written.none:
        return "", False
    text = "" if _echoes(written.text, question) else written.text
    if text and any(occurs(text, one.stored.passage.text) for one in chosen):
        return whole_sentence(text, (one.stored.passage for one in chosen)), False
    if normalise(text).strip(" .!") in _SHORT_ANSWERS:
        return text, False
    held = set().union(*(content_words(one.stored.passage.text) for one in chosen))
    known = not sure or content_words("".join(words(text)[:1])) <= held | content_words(question)
    if (
        known
        and overlap(content_words(text), held) >= SUPPORTED
        and all(
            any(occurs(name, one.stored.passage.text) for one in chosen) or index.contains(name)
            for name in names_and_numbers(text)
        )
    ):
        return text, False
    for one in chosen:
        if sure or one.coverage >= QUOTE_COVERAGE:
            found = quote(one.stored.passage, question, "").text
            if plausible_sentence(found) or one.stored.passage.kind in ("code", "git"):
                return " ".join(found.split()), True
    if sure and chosen:
        return " ".join(quote(chosen[0].stored.passage, question, "").text.split()), True
    return "", False


def _echoes(text: str, question: str) -> bool:
    """Whether an answer has no word beside those of the question, which offers no choice."""
    said, asked = content_words(text), content_words(question)
    return bool(said) and said <= asked and "or" not in words(question)


def _evidence(question: str, text: str, named: Sequence[Scored]) -> tuple[Evidence, ...]:
    """Quotes of the passages, best first; verified is what holds the answer word for word."""
    places = []
    for one in named:
        holds = bool(text) and occurs(text, one.stored.passage.text)
        found = quote(one.stored.passage, question, text)
        places.append(evidence(one.stored, found, one.score, holds))
    return tuple(places)


def _named(scored: Sequence[Scored], chosen: Sequence[Scored]) -> list[Scored]:
    """The passages an answer names: the best, and whichever it was written from, best first."""
    ids = {one.stored.id for one in (*scored[:NAMED], *chosen)}
    return [one for one in scored if one.stored.id in ids]
