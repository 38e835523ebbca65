"""Summaries: exact sentences, or what a model writes about the passages that stand out, checked.

Models that follow instructions write: what stands out is replayed on a copy of the state and
summarised, a long input section by section and then as a whole. A sentence that the text does not
support is not said. For other models, ours among them, sentences of the text are measured to be
better than what they write (training/LOG.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samba_cli.dialect import dialect_of
from samba_cli.index import PassageIndex, StoredPassage
from samba_cli.model.generation import Sampling
from samba_cli.model.network import Model
from samba_cli.model.state import State
from samba_cli.model.tokenizer import Tokenizer
from samba_cli.results import Summary, SummarySentence
from samba_cli.salience import Span, choose, sections
from samba_cli.summarize_extracts import extractive_sentences
from samba_cli.summarize_git import git_sentences, is_git
from samba_cli.support import extracts, repeats, supported
from samba_cli.text_match import sentences, words
from samba_cli.writing import replay_budget, write

Length = Literal["short", "medium", "long"] | int
Style = Literal["paragraph", "bullets", "sections"]

MOST_SECTIONS = 8  # generations for a long input, however long
SECTION_TOKENS = 4000  # of input for each section until MOST_SECTIONS are reached
MOST_REPLAYED = 6  # passages in one replay, if the attention window holds them
_WORDS = {"short": 50, "medium": 130, "long": 320}
_SENTENCE_WORDS = 22  # a sentence has about so many: from words to sentences
_TOKENS_PER_WORD = 2  # generous: bounds what is generated
_NUMBER = re.compile(r"^[ \t]*\d{1,2}[.)][ \t]+", re.MULTILINE)  # of a list
# A speaker before what was said: "[doctor] ", "Anna Weber: ".
_TURN = re.compile(r"\[[^\W\d][\w .'-]{0,30}\] |[^\W\d_][\w.'-]*(?: [\w.'-]+){0,2}: ")
_ENOUGH = 0.5  # of the words wanted; below it the summary is filled with exact sentences


@dataclass(frozen=True)
class SummaryOptions:
    """What kind of summary. `length` is a name or a number of words."""

    length: Length = "medium"
    style: Style = "paragraph"
    focus: str | None = None
    prompts: Path | None = None  # folder of the user's templates
    temperature: float = 0.0
    seed: int = 0
    thinking: bool = False  # let a model think that can be told not to, and keep its thoughts
    progress: Callable[[int, int], None] | None = None  # called with (done, total) steps
    written: bool | None = None  # by the model, not taken from the text; None: as it does better


def summarize(
    state: State,
    index: PassageIndex,
    model: Model,
    tokenizer: Tokenizer,
    options: SummaryOptions = SummaryOptions(),
) -> Summary:
    """Summarise all that was read; empty for an empty index. `state` and `index` do not change."""
    return _Summarizing(state, index, model, tokenizer, options).run()


class _Summarizing:
    def __init__(
        self, state: State, index: PassageIndex, model: Model, tokenizer: Tokenizer,
        options: SummaryOptions,
    ) -> None:  # fmt: skip
        self.state, self.index, self.model, self.tokenizer = state, index, model, tokenizer
        self.options = options
        self.dialect = dialect_of(tokenizer, options.prompts, options.thinking)
        self.thoughts: list[str] = []
        self.notes: list[str] = []
        length = options.length
        self.words = max(length, 10) if isinstance(length, int) else _WORDS[length]
        self.done = self.total = 0

    def run(self) -> Summary:
        if not self.index.last_id():
            return Summary("", ())
        if is_git(self.index):
            return self._of_git()
        spans = self._spans()
        written = self.options.written
        if not (self.dialect.kind == "chat" if written is None else written):
            return self._of_extracts(spans)
        return self._of_generations(spans)

    def _of_extracts(self, spans: Sequence[Span]) -> Summary:
        options = self.options
        if options.progress is not None:
            options.progress(0, 1)
        last = self.index.last_id()
        whole = [Span(1, last, 0)]
        chosen = extractive_sentences(
            self.index, self.words, isinstance(options.length, int), options.focus,
            spans if options.style == "sections" else whole, self.model, self.tokenizer,
            options.prompts,
        )  # fmt: skip
        chosen = chosen or extracts(self.index.get([1])[0])[:1]
        if options.progress is not None:
            options.progress(1, 1)
        return Summary(_render(chosen, options.style), tuple(chosen), self._title())

    def _of_generations(self, spans: Sequence[Span]) -> Summary:
        final = len(spans) > 1 and self.options.style != "sections" and self.words < 200
        self.total = len(spans) + final
        share = max(self.words // len(spans), _SENTENCE_WORDS)
        written: list[tuple[Span, list[StoredPassage], list[SummarySentence]]] = []
        for span in spans:
            passages = choose(
                self.index, span, self._room(share), MOST_REPLAYED, self.options.focus
            )
            said = self._summary_of(passages, self._section(span, spans), share)
            written.append((span, passages, said))
        parts = [said for _, _, said in written]
        if final:
            chosen = self._whole(written)
        elif self.options.style == "sections":
            chosen = [sentence for said in parts for sentence in self._trimmed(said, share)]
        else:
            chosen = self._trimmed([sentence for said in parts for sentence in said], self.words)
        chosen = self._filled(chosen, spans)
        if not chosen:  # nothing here reads as a sentence: show how it begins
            chosen = extracts(self.index.get([1])[0])[:1]
        return Summary(
            _render(chosen, self.options.style), tuple(chosen), self._title(),
            "\n\n".join(self.thoughts), tuple(self.notes),
        )  # fmt: skip

    def _of_git(self) -> Summary:
        by_section = self.options.style == "sections"
        chosen = git_sentences(self.index, self.words, self.options.focus, by_section)
        chosen = chosen or extracts(self.index.get([1])[0])[:1]
        return Summary(_render(chosen, self.options.style), tuple(chosen), None)

    def _spans(self) -> list[Span]:
        tokens = self.index.counts().tokens
        by_length = round(tokens / SECTION_TOKENS)
        if self.options.style == "sections":
            by_length = max(by_length, 3 if tokens > self._room(self.words) else 1)
        most = min(max(by_length, 1), MOST_SECTIONS, max(self.words // 10, 1))
        return sections(self.index, most)

    def _section(self, span: Span, spans: Sequence[Span]) -> str | None:
        return span.title if self.options.style == "sections" and len(spans) > 1 else None

    def _room(self, count: int) -> int:
        """Tokens of passages that fit beside a summary of so many words."""
        beside = self.dialect.beside_summary()
        return replay_budget(self.model, count * _TOKENS_PER_WORD + beside)

    def _summary_of(
        self, passages: Sequence[StoredPassage], title: str | None, count: int
    ) -> list[SummarySentence]:
        """A checked summary of passages in about `count` words; an exact sentence if need be."""
        texts = [one.passage.text for one in passages]
        said: list[SummarySentence] = []
        for text in self._generate(texts, count):
            sentence = supported(text, passages, self.index, title)
            if sentence is not None and not repeats(sentence, said):
                said.append(sentence)
        if not said:  # the first exact sentence, of the most salient passage that has one
            ranked = sorted(passages, key=lambda one: -(one.salience or 0.0))
            firsts = (extracts(one, title)[0] for one in ranked)
            said = [one for one in firsts if one.evidence[0].score > 0][:1]
        return said

    def _generate(self, texts: Sequence[str], count: int) -> list[str]:
        """Sentences (or bullets) that the model writes about replayed texts, unchecked."""
        options = self.options
        prompt = self.dialect.summary(texts, count, options.style == "bullets")
        sampling = Sampling(
            max_tokens=min(count * _TOKENS_PER_WORD, 600), temperature=options.temperature,
            seed=options.seed, no_repeat_ngram=5,
        )  # fmt: skip
        written = write(self.model, self.dialect, self.state.fork(), prompt, sampling)
        if options.thinking and written.thinking:
            self.thoughts.append(written.thinking)
        if written.note and written.note not in self.notes:
            self.notes.append(written.note)
        self.done += 1
        if options.progress is not None:
            options.progress(self.done, self.total)
        numbered = self.dialect.kind == "chat"  # instruct models like to count their points
        return _split(_NUMBER.sub("- ", written.text) if numbered else written.text)

    def _whole(
        self, written: Sequence[tuple[Span, list[StoredPassage], list[SummarySentence]]]
    ) -> list[SummarySentence]:
        """One summary from the sections' sentences, replayed in order like passages."""
        room, texts = self._room(self.words), []
        for _, _, said in written:
            text = " ".join(sentence.text for sentence in said)
            cost = len(self.tokenizer.encode(text)) + 2
            if text and cost <= room:
                texts.append(text)
                room -= cost
        sources = {one.id: one for _, passages, _ in written for one in passages}
        said: list[SummarySentence] = []
        for text in self._generate(texts, self.words) if texts else ():
            sentence = supported(text, list(sources.values()), self.index)
            if sentence is not None and not repeats(sentence, said):
                said.append(sentence)
        said = self._trimmed(said, self.words)
        # Sections that the whole does not mention add their first sentence while there is room.
        for span, _, parts in written:
            held = any(span.first <= one.evidence[0].passage_id <= span.last for one in said)
            first = parts[:1]
            if first and not held and _count([*said, *first]) <= self.words:
                said += [one for one in first if not repeats(one, said)]
        return sorted(said, key=_place)

    def _filled(self, said: list[SummarySentence], spans: Sequence[Span]) -> list[SummarySentence]:
        """Too short a summary gets exact sentences, one passage after another over all sections."""
        if said and _count(said) >= _ENOUGH * self.words:
            return said
        turns = min(2 * self.words // (_SENTENCE_WORDS * len(spans)) + 1, 24)
        groups = [choose(self.index, span, 10**9, turns, self.options.focus) for span in spans]
        for turn in range(turns):
            for span, group in zip(spans, groups, strict=True):
                if turn >= len(group) or _count(said) >= self.words - _SENTENCE_WORDS // 2:
                    continue
                title = self._section(span, spans)
                for sentence in extracts(group[turn], title)[:3]:
                    fits = _count([*said, sentence]) <= 1.15 * self.words
                    if fits and sentence.evidence[0].score > 0 and not repeats(sentence, said):
                        said.append(sentence)
                        break
        return sorted(said, key=_place)

    def _trimmed(self, said: Sequence[SummarySentence], count: int) -> list[SummarySentence]:
        """Sentences without repetitions, evenly thinned to about `count` words; at least one."""
        kept: list[SummarySentence] = []
        for sentence in said:
            if not repeats(sentence, kept):
                kept.append(sentence)
        while len(kept) > 1 and _count(kept) > 1.15 * count:
            # The one that is least supported goes; of equals, the last.
            weakest = min(range(1, len(kept)), key=lambda i: (kept[i].evidence[0].score, -i))
            del kept[weakest]
        return kept

    def _title(self) -> str | None:
        documents = [one for one, _ in zip(self.index.documents(), range(2), strict=False)]
        return documents[0].title if len(documents) == 1 else None


def _place(sentence: SummarySentence) -> tuple[int, int]:
    place = sentence.evidence[0]
    return place.passage_id, place.char_start


def _count(said: Sequence[SummarySentence]) -> int:
    return sum(len(words(sentence.text)) for sentence in said)


def _split(text: str) -> list[str]:
    """Generated text in sentences, list marks and line breaks taken off."""
    made = []
    for line in text.splitlines():
        line = line.strip().lstrip("-*•").strip()
        made += [" ".join(line[start:end].split()) for start, end in sentences(line)]
    # The last sentence may be cut off by the limit on tokens.
    if len(made) > 1 and made[-1][-1:] not in ".!?\"”')":
        made.pop()
    return made


def _is_turn(text: str) -> bool:
    return _TURN.match(text) is not None and (text[0] == "[" or text[0].isupper())


def _render(said: Sequence[SummarySentence], style: Style) -> str:
    """Markdown."""
    if style == "bullets":
        return "\n".join(f"- {sentence.text}" for sentence in said)
    if style == "sections" and any(sentence.section for sentence in said):
        blocks: list[str] = []
        title: str | None = None
        for sentence in said:
            if sentence.section != title or not blocks:
                title = sentence.section
                blocks.append(f"## {title}\n\n{sentence.text}" if title else sentence.text)
            else:
                blocks[-1] += " " + sentence.text
        return "\n\n".join(blocks)
    turns = [_is_turn(sentence.text) for sentence in said]
    if 2 * sum(turns) > len(said):  # of a conversation each turn is a paragraph
        breaks = ["\n\n" if turn else " " for turn in turns]
        return "".join(b + s.text for b, s in zip(breaks, said, strict=True)).strip()
    return " ".join(sentence.text for sentence in said)
