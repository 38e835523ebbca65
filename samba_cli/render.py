"""Answers, summaries and the coverage line as a person reads them."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from samba_cli import streams
from samba_cli.documents import Skipped
from samba_cli.memory import Memory
from samba_cli.results import Answer, Evidence, ReadReport, Summary
from samba_cli.units import bytes_text, count_text, rate_text

ABSENT = "The text does not say."
_QUOTE, _SHORT_QUOTE = 400, 90  # characters shown; --json has the whole quote
_MOST_PLACES = 3  # shown under an answer; --json has all


@dataclass(frozen=True)
class Style:
    """How a stream is written to: plain text that is stable in a pipe, or for a terminal."""

    color: bool = False
    width: int | None = None  # columns to wrap at; None does not wrap

    @staticmethod
    def of_stdout() -> Style:
        if not streams.is_terminal(sys.stdout):
            return Style()
        return Style(streams.wants_color(sys.stdout), _columns())

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.color else text

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.color else text

    def place(self, text: str) -> str:
        return f"\x1b[36m{text}\x1b[0m" if self.color else text

    def wrap(self, text: str, indent: str = "") -> str:
        """Paragraphs kept, long lines folded; a list item hangs under its own text."""
        if self.width is None:
            return textwrap.indent(text, indent)
        lines = []
        for line in text.splitlines():
            hang = "  " if line.startswith("- ") else ""
            folded = textwrap.wrap(
                line, self.width, initial_indent=indent, subsequent_indent=indent + hang,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
            lines += folded or [""]
        return "\n".join(lines)


def answers_text(answers: Sequence[Answer], style: Style) -> str:
    return "\n\n".join(answer_text(a, style, with_question=len(answers) > 1) for a in answers)


def answer_text(answer: Answer, style: Style, with_question: bool = False) -> str:
    """The answer, then the places it rests on; without an answer, the places that come nearest."""
    lines = [style.bold(f"> {_one_line(answer.question)}")] if with_question else []
    lines.append(style.wrap(safe(answer.text) if answer.found else ABSENT))
    if answer.evidence:
        lines.append("")
        if not answer.found:
            lines.append("Nearest places:")
        lines += [_evidence_text(evidence, style) for evidence in _shown(answer)]
    return "\n".join(lines)


def _shown(answer: Answer) -> Sequence[Evidence]:
    """The few places a person will look at: those that hold the answer word for word go first."""
    ordered = sorted(answer.evidence, key=lambda evidence: not evidence.verified)
    return ordered[:_MOST_PLACES]


def _evidence_text(evidence: Evidence, style: Style) -> str:
    quote = f'"{_shortened(evidence.quote, _QUOTE)}"'
    return f"  {style.place(_place(evidence))}\n{style.dim(style.wrap(quote, '    '))}"


def _place(evidence: Evidence) -> str:
    location = safe(evidence.location)
    return f"stdin{location[1:]}" if evidence.document == "-" else location


def summary_text(summary: Summary, style: Style) -> str:
    """The summary with numbers behind its sentences, and the places the numbers stand for."""
    text, numbers = safe(summary.text), {}
    at = 0
    for sentence in summary.sentences:
        place = text.find(safe(sentence.text), at)
        if place < 0 or not sentence.evidence:
            continue
        at = place + len(safe(sentence.text))
        marks = []
        for evidence in sentence.evidence:
            location = _place(evidence)
            number, _ = numbers.setdefault(location, (len(numbers) + 1, evidence))
            marks.append(f"[{number}]")
        mark = " " + "".join(dict.fromkeys(marks))
        text = text[:at] + mark + text[at:]
        at += len(mark)
    lines = [_heading(line, style) for line in style.wrap(text).splitlines()]
    if numbers:
        lines.append("")
        for location, (number, evidence) in numbers.items():
            quote = style.dim(f'"{_shortened(evidence.quote, _SHORT_QUOTE)}"')
            lines.append(f"[{number}] {style.place(location)}  {quote}")
    return "\n".join(lines)


def _heading(line: str, style: Style) -> str:
    return style.bold(line) if line.startswith("#") else line


def coverage_line(
    report: ReadReport, state_bytes: int, peak: str, saved_as: str | None = None
) -> str:
    """`read 412 of 412 pages, 31 of 33 files (2 skipped: 1 binary, 1 too-large), ...`."""
    pages = [s for s in report.skipped if s.page is not None]
    files = [s for s in report.skipped if s.page is None]
    parts = []
    if report.pages or pages:
        parts.append(_of(report.pages, len(pages), "page", reasons_text(pages)))
    skipped_files = report.skipped_count - len(pages)
    more = "" if skipped_files == len(files) else ", ..."
    parts.append(_of(report.documents, skipped_files, "file", reasons_text(files) + more))
    parts.append(count_of(report.tokens, "token"))
    if report.resumed_at:
        parts[-1] += f" ({count_text(report.resumed_at)} of them before the interruption)"
    parts.append(f"{rate_text(report.tokens_per_second)} tokens/s")
    parts.append(f"state {bytes_text(state_bytes)}")
    if peak:
        parts.append(peak)
    if saved_as:
        parts.append(f"saved as {saved_as}")
    return "read " + ", ".join(parts)


def waiting_line(report: ReadReport) -> str:
    """What bounded the speed of a read: `reading took 12.3 s; of these it waited ...`."""
    return (
        f"reading took {report.seconds:.1f} s; of these the model waited {report.waited_text:.1f} s"
        f" for text to be parsed and {report.waited_index:.1f} s for the index to be written"
    )


def memory_line(memory: Memory, peak: str) -> str:
    """`memory book: 160,689 tokens of 412 pages, 1 file, read on 2026-11-22; ...`."""
    inside = [count_of(memory.documents, "file")]
    if memory.pages:
        inside.insert(0, count_of(memory.pages, "page"))
    line = f"memory {memory.name}: {count_of(memory.tokens, 'token')} of {', '.join(inside)}"
    line += f", read on {memory.updated[:10]}; nothing read again"
    line += f", state {bytes_text(memory.state_bytes)}"
    return f"{line}, {peak}" if peak else line


def skipped_line(skipped: Skipped) -> str:
    page = f" p. {skipped.page}" if skipped.page is not None else ""
    return f"skipped {safe(skipped.name)}{page}: {skipped.reason}"


def reasons_text(skipped: Sequence[Skipped]) -> str:
    """`2 binary, 1 too-large`."""
    reasons = Counter(s.reason for s in skipped).most_common()
    return ", ".join(f"{count_text(n)} {reason}" for reason, n in reasons)


def _of(read: int, skipped: int, unit: str, reasons: str) -> str:
    text = f"{count_text(read)} of {count_of(read + skipped, unit)}"
    return f"{text} ({count_text(skipped)} skipped: {reasons})" if skipped else text


def count_of(number: int, unit: str, units: str | None = None) -> str:
    """`1 file`, `2 files`."""
    return f"{count_text(number)} {unit if number == 1 else units or unit + 's'}"


def _one_line(text: str) -> str:
    return " ".join(safe(text).split())


def _shortened(text: str, length: int) -> str:
    text = _one_line(text)
    if len(text) <= length:
        return text
    cut = text.rfind(" ", length // 2, length)
    return text[: cut if cut > 0 else length].rstrip() + " ..."


def safe(text: str) -> str:
    """Without control characters: a document must not be able to steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def _columns() -> int:
    return max(40, min(100, shutil.get_terminal_size((80, 24)).columns))
