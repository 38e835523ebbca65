"""Cutting a document into passages at its natural boundaries, without holding it whole.

The passages of a document partition its text exactly. Where a cut falls depends on the
text alone (not on how it came in parts), so the training pipeline and the program see the
same passages. Lengths are in characters (about four to a token): cutting needs no tokenizer.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from samba_cli.documents import Document, Part, Passage

TARGET_CHARS = 850
MAX_CHARS = 1000  # no passage is longer
_LOOKAHEAD = (
    240  # characters beyond MAX_CHARS that may decide about a cut: bounds regular expressions
)

_UNDERLINE = r"(?:={3,}|-{3,}|~{3,}|\*{3,})[ \t]*(?=\n|\Z)"
_HEADING = re.compile(
    r"^(?:"
    r"(?P<hash>\#{1,6})[ \t]+(?P<markdown>[^\n]{1,160}?)[ \t]*\#*[ \t]*(?=\n)"
    r"|(?P<underlined>[^\s][^\n]{1,100})\n"
    + _UNDERLINE
    + r"|(?P<numbered>(?:\d{1,2}\.)*\d{1,2}\.?[ \t]{1,4}[A-Z][^\n.!?;,]{2,70})(?=\n[ \t]*(?:\n|\Z))"
    r"|(?P<chapter>(?:CHAPTER|Chapter|PART|Part|BOOK|Book|Appendix|APPENDIX|Section|SECTION|Article|ARTICLE)"
    r"[ \t]+(?:\d{1,3}|[IVXLC]{1,7}|[A-Z])\b[^\n]{0,80})(?=\n)"
    r"|(?P<change>diff --git [^\n]{1,200}|commit [0-9a-f]{40}[^\n]{0,60})(?=\n)"
    r")",
    re.MULTILINE,
)
_DEFINITION = re.compile(
    r"^(?:(?:export|default|public|private|protected|internal|static|abstract|final|async|pub(?:\([a-z]+\))?"
    r"|unsafe|extern|inline|virtual|open|override|sealed|data|case)[ \t]+)*"
    r"(?:def|class|fn|func|function|struct|enum|trait|impl|interface|module|namespace|object|type|sub|proc|macro"
    r"|package|CREATE[ \t]+(?:TABLE|VIEW|INDEX|FUNCTION))\b[^\n]{0,160}",
    re.MULTILINE,
)
_HUNK = re.compile(r"\n@@+ -")
_TOP_LEVEL = re.compile(r"\n[ \t]*\n(?=[^\s})\]])")
_PARAGRAPH = re.compile(r"\n(?:[ \t]*\n)+")
_SENTENCE = re.compile(r"[.!?…][\"'”’)\]]*\s+(?=[\"'“‘(\[A-Z0-9])|[。！？]")
_LINE = re.compile(r"\n")
_WORD = re.compile(r"[ \t]")

# What a cut is worth: its kind, less the distance from the target in targets (`_best_cut`).
_WORTH_HEADING, _WORTH_DEFINITION, _WORTH_PARAGRAPH = 1.0, 0.9, 0.7
_WORTH_SENTENCE, _WORTH_LINE, _WORTH_CODE_LINE, _WORTH_SPACE = 0.3, 0.15, 0.3, 0.0
_WORTH_END = 0.8  # leaving the rest of the text uncut
_SLICE = 1 << 14  # a part is taken in slices, so that a huge one costs linear time
_LEAST = 200  # no cut leaves less than this before it, and none after it at the end if avoidable


def cut(document: Document, target_chars: int = TARGET_CHARS) -> Iterator[Passage]:
    """Cut a document into passages of at most MAX_CHARS characters, lazily.

    The texts concatenate to the document's text and the offsets are consecutive. A passage
    never crosses a page, nor the border of a commit or of a file's changes. Lines are those of
    the first and last character that is not whitespace. Raises whatever `document.parts()` raises.
    """
    cutter = _Cutter(document.name, document.kind, target_chars)
    for part in document.parts():
        yield from cutter.add(part)
    yield from cutter.flush()


def cut_text(text: str, kind: str = "text", target_chars: int = TARGET_CHARS) -> list[str]:
    """The passages of a whole text, by the same rules: for training and evaluation."""
    document = Document("", kind, lambda: iter([Part(text)]))
    return [passage.text for passage in cut(document, target_chars)]


@dataclass
class _Cutter:
    name: str
    kind: str
    target: int
    text: str = ""  # not cut yet
    offset: int = 0  # of `text` in the document
    page: int | None = None
    line: int | None = None  # of text[0]
    next_line: int | None = None  # of the character after `text`
    heading: str | None = None
    anchors: list[tuple[int, int]] = field(default_factory=list)  # line jumps in `text`
    headings: list[tuple[int, str]] = field(default_factory=list)  # part headings in `text`
    part_heading: str | None = None

    def add(self, part: Part) -> Iterator[Passage]:
        new_change = self.kind == "git" and part.heading != self.part_heading
        if part.page != self.page or new_change:
            yield from self.flush()
            self.page = part.page
        if part.heading is not None and part.heading != self.part_heading:
            self.headings.append((len(self.text), part.heading))
            self.part_heading = part.heading
        if not part.text:
            return
        if part.line is not None and part.line != self.next_line:
            if self.text:
                self.anchors.append((len(self.text), part.line))
            else:
                self.line = part.line
            self.next_line = part.line
        for begin in range(0, len(part.text), _SLICE):
            yield from self._extend(part.text[begin : begin + _SLICE])

    def _extend(self, text: str) -> Iterator[Passage]:
        if self.next_line is not None:
            self.next_line += text.count("\n")
        self.text += text
        start = 0
        while len(self.text) - start > MAX_CHARS + _LOOKAHEAD:
            end = start + self._best_cut(
                self.text[start : start + MAX_CHARS + _LOOKAHEAD], start, False
            )
            yield self._passage(start, end)
            start = end
        self._drop(start)

    def flush(self) -> Iterator[Passage]:
        """Cut what is left: the end of the document or of a page."""
        start = 0
        while start < len(self.text):
            end = start + self._best_cut(
                self.text[start : start + MAX_CHARS + _LOOKAHEAD], start, True
            )
            yield self._passage(start, end)
            start = end
        self._drop(start)

    def _best_cut(self, window: str, base: int, last: bool) -> int:
        """Where the next passage ends in `window`, which starts at text[base]."""
        limit = min(MAX_CHARS, len(window))
        best, best_worth = limit, -2.0
        if last and len(window) <= MAX_CHARS:
            best_worth = _WORTH_END - abs(limit - self.target) / self.target
        for places in (self._boundaries(window, base, limit), _words(window, limit)):
            for place, worth in places:
                if last and len(window) - place < _LEAST:
                    worth -= 0.4
                worth -= abs(place - self.target) / self.target
                if place >= _LEAST and worth > best_worth:
                    best, best_worth = place, worth
            if best_worth >= _WORTH_SPACE:  # no word is worth more
                break
        return best

    def _boundaries(self, window: str, base: int, limit: int) -> Iterator[tuple[int, float]]:
        """Possible cuts and their worth. Only what lies well inside `window` may matter."""
        code = self.kind == "code"
        if self.kind == "git":
            for match in _HUNK.finditer(window, 1, limit):
                yield match.start() + 1, _WORTH_DEFINITION
        elif code:
            for match in _TOP_LEVEL.finditer(window, 0, limit):
                yield match.end(), _WORTH_DEFINITION
            for match in _DEFINITION.finditer(window, 1, limit):
                if window[match.start() - 1] == "\n":
                    yield match.start(), _WORTH_DEFINITION - 0.2
        else:
            for match in _headings(window):
                if 0 < match.start() <= limit:
                    yield match.start(), _WORTH_HEADING
            for match in _SENTENCE.finditer(window, 0, limit + 1):
                if match.end() <= limit:
                    yield match.end(), _WORTH_SENTENCE
        for place, _ in self.headings:
            if base < place <= base + limit:
                yield place - base, _WORTH_HEADING
        for match in _PARAGRAPH.finditer(window, 0, limit + 1):
            if match.end() <= limit:
                yield match.end(), _WORTH_PARAGRAPH
        for match in _LINE.finditer(window, 0, limit):
            yield match.end(), _WORTH_CODE_LINE if code else _WORTH_LINE

    def _passage(self, start: int, end: int) -> Passage:
        text = self.text[start:end]
        heading = self._heading_for(text, start)
        first = start + len(text) - len(text.lstrip())
        final = start + len(text.rstrip())
        first, final = (first, final - 1) if final > first else (start, start)
        line_start = self._line_at(first)
        line_end = None if line_start is None else self._line_at(final)
        return Passage(
            self.name,
            self.kind,
            self.offset + start,
            self.offset + end,
            text,
            self.page,
            self.page,
            line_start,
            line_end,
            heading,
        )

    def _heading_for(self, text: str, start: int) -> str | None:
        """The heading this passage stands under; later headings count for the next passages."""
        while self.headings and self.headings[0][0] <= start:
            self.heading = self.headings.pop(0)[1]
        heading = self.heading
        lead = len(text) - len(text.lstrip())
        if self.kind == "git":  # a commit or a file, as its parts tell
            return heading
        for match in _DEFINITION.finditer(text) if self.kind == "code" else _headings(text):
            found = _heading_text(match, self.kind == "code")
            self.heading = found
            if match.start() <= lead:
                heading = found
        return heading

    def _line_at(self, place: int) -> int | None:
        if self.line is None:
            return None
        index = bisect_right(self.anchors, place, key=lambda anchor: anchor[0])
        begin, line = self.anchors[index - 1] if index else (0, self.line)
        return line + self.text.count("\n", begin, place)

    def _drop(self, start: int) -> None:
        """Forget text[:start]."""
        if not start:
            return
        if start == len(self.text) and not self.anchors:
            self.line = self.next_line
        else:
            self.line = self._line_at(start)
        self.anchors = [(place - start, line) for place, line in self.anchors if place > start]
        self.headings = [(max(0, place - start), text) for place, text in self.headings]
        self.text = self.text[start:]
        self.offset += start


def _words(window: str, limit: int) -> Iterator[tuple[int, float]]:
    """Words matter only near the limit, where nothing better may be in reach."""
    for match in _WORD.finditer(window, max(0, limit - 300), limit):
        yield match.end(), _WORTH_SPACE


def _headings(text: str) -> Iterator[re.Match[str]]:
    for match in _HEADING.finditer(text):
        # The last line of a paragraph above a rule is no heading.
        if not match["underlined"] or text[max(0, match.start() - 2) : match.start()] in (
            "",
            "\n\n",
        ):
            yield match


def _heading_text(match: re.Match[str], code: bool) -> str:
    if code:
        return match.group().rstrip(" \t{:(").strip()
    groups = match.groupdict()
    text = next(
        groups[key]
        for key in ("markdown", "underlined", "numbered", "chapter", "change")
        if groups[key]
    )
    return text.strip(" \t*_")
