"""What reading, answering and summarising give back: plain values, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from samba_cli.documents import Skipped, location


@dataclass(frozen=True)
class Progress:
    """How far a read has come. Sent about four times a second and once at the end."""

    tokens: int  # read by the model in this run and, after a resume, before it
    tokens_per_second: float  # in this run
    documents: int  # documents begun
    current: str  # name of the document being read
    bytes_done: int | None  # None while the place inside a document cannot be told in bytes
    bytes_total: int | None  # None when the caller gave no estimate
    finished: bool = False


@dataclass(frozen=True)
class ReadReport:
    """What was read: everything the coverage line says."""

    documents: int
    passages: int
    tokens: int  # tokens that went through the model, control tokens included
    characters: int
    pages: int  # pages with text, 0 for input without pages
    bytes: int  # bytes of the documents read, where their size is known
    skipped: tuple[Skipped, ...]  # the first MAX_REPORTED; `skipped_count` counts all
    skipped_count: int
    seconds: float  # of this run
    tokens_per_second: float  # of this run
    waited_text: float = 0.0  # seconds of them in which the model waited for text to be parsed
    waited_index: float = 0.0  # and in which it waited for the index to be written
    resumed_at: int = 0  # tokens that an earlier, interrupted run had read; 0: none
    notes: tuple[str, ...] = ()  # one-sentence warnings: no checkpoints, started over, ...


@dataclass(frozen=True)
class Evidence:
    """A place in the input that supports an answer or a sentence; `quote` is its exact text."""

    passage_id: int
    document: str
    char_start: int  # of the quote, in the document's text
    char_end: int
    quote: str
    page_start: int | None = None  # of the quote
    page_end: int | None = None
    line_start: int | None = None
    line_end: int | None = None
    heading: str | None = None
    score: float = 0.0  # relevance of the passage; higher is better, scales with the model
    verified: bool = False  # the answer (or sentence) itself stands in this quote's passage
    commit: str | None = None  # of a log or patch: the short name of the commit
    date: str | None = None  # and its day, YYYY-MM-DD
    passage_start: int | None = None  # of the whole passage, in the document's text
    passage_end: int | None = None

    @property
    def location(self) -> str:
        """`report.pdf p. 12`, `src/app.py:40-58`, `log.txt:12 (commit 1a2b3c4d5e, 2026-11-02)`."""
        place = location(
            self.document, self.page_start, self.page_end, self.line_start, self.line_end
        )
        if self.commit is None:
            return place
        return f"{place} (commit {self.commit}{f', {self.date}' if self.date else ''})"


@dataclass(frozen=True)
class Answer:
    """The answer to one question. `found` False: `text` is empty, `evidence` the nearest places."""

    question: str
    text: str
    found: bool
    evidence: tuple[Evidence, ...]
    extractive: bool = False  # `text` is a quote: the generated answer had no support in the text
    thinking: str = ""  # of the model before it wrote, where that was asked for
    notes: tuple[str, ...] = ()  # sentences for the user


@dataclass(frozen=True)
class SummarySentence:
    """One sentence (or bullet) of a summary with the places that support it."""

    text: str
    evidence: tuple[Evidence, ...]
    section: str | None = None  # title of its section with style "sections"
    extractive: bool = False  # exact text of the document, but for a full stop at its end
    counted: bool = False  # the program counted what it says (commits, files, lines)


@dataclass(frozen=True)
class Summary:
    """A summary; `text` is Markdown without citations, in the style asked for."""

    text: str
    sentences: tuple[SummarySentence, ...]
    title: str | None = None
    thinking: str = ""  # of the model before it wrote, where that was asked for
    notes: tuple[str, ...] = ()  # sentences for the user
