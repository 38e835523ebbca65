"""Markdown text cut at its headings, and the same cutting for text made from other formats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from samba_cli.documents import Part
from samba_cli.sources.text import PART_CHARS, line_parts

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")


@dataclass(frozen=True)
class Block:
    """A piece of text with its line end; a heading of `level` 1 to 6, or 0 for anything else."""

    text: str
    level: int = 0
    title: str = ""


class _Path:
    """The headings a place stands under, as "Chapter > Section"."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, title: str) -> str | None:
        self._open = [item for item in self._open if item[0] < level]
        if title:
            self._open.append((level, title))
        return " > ".join(title for _, title in self._open) or None


def markdown_parts(chunks: Iterable[str]) -> Iterator[Part]:
    """Parts that begin at ATX headings (CommonMark 4.2), with line and heading path."""
    path, heading, fence, front_matter = _Path(), None, "", False
    for part in line_parts(chunks):
        assert part.line is not None
        start, first_line, line = 0, part.line, part.line
        offset = 0
        for content in _lines(part.text):
            bare = content.rstrip("\n")
            if line == 1 and bare == "---":
                front_matter = True
            elif front_matter:
                front_matter = bare not in ("---", "...")
            elif (mark := _FENCE.match(bare)) and _toggles(mark, fence):
                fence = "" if fence else mark[1]
            elif not fence and (found := _heading(bare)):
                if offset > start:
                    yield Part(part.text[start:offset], line=first_line, heading=heading)
                start, first_line = offset, line
                heading = path.enter(*found)
            offset += len(content)
            line += 1
        yield Part(part.text[start:], line=first_line, heading=heading)


def _lines(text: str) -> list[str]:
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _heading(line: str) -> tuple[int, str] | None:
    """Level and title of an ATX heading line."""
    if "#" not in line[:4]:
        return None
    marks = line.lstrip(" ")
    level = len(marks) - len(marks.lstrip("#"))
    title = marks[level:]
    if not 1 <= level <= 6 or title[:1] not in ("", " ", "\t"):
        return None
    title = title.strip()
    unclosed = title.rstrip("#")
    if unclosed != title and unclosed[-1:] in ("", " ", "\t"):
        title = unclosed.rstrip()
    return level, title


def _toggles(mark: re.Match[str], fence: str) -> bool:
    """Whether a line of backticks or tildes opens a code block, or closes the one open."""
    if not fence:
        return not (mark[1][0] == "`" and "`" in mark[2])
    return mark[1].startswith(fence) and not mark[2].strip()


def block_parts(blocks: Iterable[Block]) -> Iterator[Part]:
    """Parts that begin at heading blocks, at most PART_CHARS characters each; no lines."""
    path, heading, pending, size = _Path(), None, [], 0
    for block in blocks:
        if pending and (block.level or size + len(block.text) > PART_CHARS):
            yield from _cut("".join(pending), heading)
            pending, size = [], 0
        if block.level:
            heading = path.enter(block.level, block.title)
        pending.append(block.text)
        size += len(block.text)
    if pending:
        yield from _cut("".join(pending), heading)


def _cut(text: str, heading: str | None) -> Iterator[Part]:
    for part in line_parts([text]):
        yield Part(part.text, heading=heading)
