"""What the added lines of a diff say for themselves: new names, docstrings, comments, prose."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from samba_cli.git_text import labelled
from samba_cli.history import History
from samba_cli.index import PassageIndex
from samba_cli.sources.git import Lines
from samba_cli.text_match import plausible_sentence, sentences

_MOST_LINES = 2000  # of one file that are looked at
_MOST_CHARS = 400  # of a comment
_NAME = re.compile(
    r"\s*(?:(?:export|default|public|private|protected|internal|static|abstract|final|async|pub(?:\([a-z]+\))?"
    r"|unsafe|extern|inline|virtual|open|override|sealed|data|case)\s+)*"
    r"(?:def|class|fn|func(?:\s*\([^)]*\))?|function|struct|enum|trait|interface|type)\s+([A-Za-z]\w*)"
)
_OPENING = re.compile(
    r"\s*(?:[rRuU]?(?:\"\"\"|''')|/\*\*?|//[/!]?|#(?!!|include|define|if|end)|--)\s*(?=\S)"
)
_PROSE_FILES = (".md", ".rst", ".txt", ".adoc", ".markdown", ".tex", ".org")
_MARKUP = re.compile(r"\s*(?:#{1,6} |[|`<>=~]|- \[)")

Place = tuple[int, int, int]  # passage id, start and end in its text


@dataclass
class Said:
    """What is new in one file: names, and sentences with the place of their first line."""

    names: list[tuple[str, Place]] = field(default_factory=list)
    tests: list[Place] = field(default_factory=list)
    sentences: list[tuple[str, Place]] = field(default_factory=list)


@dataclass
class _Line:
    text: str
    place: Place
    after: bool  # it follows the added line before it directly


def added_text(index: PassageIndex, history: History, paths: Iterable[str]) -> dict[str, Said]:
    """What is new in each of these files."""
    wanted = set(paths)
    added: dict[str, list[_Line]] = {path: [] for path in wanted}
    gone: dict[str, set[str]] = {path: set() for path in wanted}
    lines, document, last = Lines(), -1, ""
    for stored in index.iterate():
        if stored.document_id != document:
            lines, document = Lines(), stored.document_id
        text = stored.passage.text
        for label, start, end in labelled(stored.passage, lines):
            path = lines.path or ""
            if path in wanted and label in ("added", "removed") and end > start:
                content = text[start + lines.width + 1 : end]
                if label == "removed":
                    if found := _NAME.match(content):
                        gone[path].add(found[1])
                elif len(added[path]) < _MOST_LINES:
                    place = (stored.id, start, end)
                    added[path].append(_Line(content, place, last == "added"))
            last = label
    return {path: _said(path, added[path], gone[path]) for path in wanted}


def _said(path: str, lines: list[_Line], gone: set[str]) -> Said:
    said = Said()
    for line in lines:
        found = _NAME.match(line.text)
        if not found or found[1] in gone:
            continue
        if found[1].casefold().startswith("test"):
            said.tests.append(line.place)
        elif not line.text[:1].isspace() and found[1] not in (name for name, _ in said.names):
            said.names.append((found[1], line.place))
    if path.endswith(_PROSE_FILES):
        said.sentences = _paragraphs(lines)
    else:
        said.sentences = _comments(lines)
    return said


def _comments(lines: list[_Line]) -> list[tuple[str, Place]]:
    """The first sentence of each docstring and comment that was added whole."""
    found = []
    before = ""
    for number, line in enumerate(lines):
        opening = _OPENING.match(line.text)
        mark = opening.group().strip() if opening else ""
        goes_on = opening and line.after and mark[:2] in ("//", "#", "--") and before == mark
        before = mark
        if not opening or goes_on:
            continue
        text = line.text[opening.end() :]
        for more in lines[number + 1 : number + 8]:
            if not more.after or len(text) > _MOST_CHARS or re.search(r"\"\"\"|'''|\*/", text):
                break
            rest = more.text.strip()
            if mark[:1] in "#/-" and not mark.startswith("/*"):
                if not rest.startswith(mark):
                    break
                rest = rest[len(mark) :]
            rest = rest.strip(" *") if mark.startswith("/*") else rest
            if not rest.strip():
                break
            text += " " + rest.strip()
        text = re.split(r"\"\"\"|'''|\*/", text)[0].strip()
        if sentence := _first_sentence(text):
            found.append((sentence, line.place))
    return found


def _paragraphs(lines: list[_Line]) -> list[tuple[str, Place]]:
    """The first sentence of each paragraph that was added."""
    found: list[tuple[str, Place]] = []
    text, place = "", None
    for line in [*lines, None]:
        starts = line is None or not line.after or not line.text.strip()
        if line is None or starts or _MARKUP.match(line.text):
            if place and (sentence := _first_sentence(text)):
                found.append((sentence, place))
            text, place = "", None
        if line is None or not line.text.strip() or _MARKUP.match(line.text):
            continue
        place = place or line.place
        text += " " + line.text.strip()
    return found


def _first_sentence(text: str) -> str | None:
    spans = sentences(text)
    if not spans:
        return None
    sentence = " ".join(text[spans[0][0] : spans[0][1]].split())
    whole = sentence[-1:] in ".!?" and sentence[:1].isupper() and sentence.count("`") % 2 == 0
    return sentence if whole and plausible_sentence(sentence) else None
