"""Passages of logs, patches and diffs: which commit they are of, and what in them is prose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from samba_cli.documents import Passage
from samba_cli.sources.git import FILE_MARK, SHORT_HASH, Label, Lines
from samba_cli.text_match import occurs, sentences, words

KIND = "git"
_HEADING = re.compile(r"commit (\w+)(?: \((\d{4}-\d\d-\d\d)\))?")
_ONELINE = re.compile(r"[*|\\/_.\- ]*?([0-9a-f]{7,40}) (?:\([^)]*\) )?")
_SUBJECT = re.compile(r"Subject: *(?:\[[^\]]*\] *)*")
_TRAILER = re.compile(
    r"\s*(?:[A-Z][A-Za-z]*(?:-[A-Za-z]+)*-(?:[Bb]y|[Ii]d|[Tt]o|[Oo]n|[Uu]rl): |(?:Cc|Link|Fixes|"
    r"BUG|Message-ID|Closes|Ref|Refs|See|Bug|PR|Issue): |\(cherry picked from |git-svn-id: )"
)
_TRIVIAL = re.compile(
    r"(?:merge (?:branch|remote|pull request|tag|commit|origin|main|master)|wip\b|fixup!|squash!"
    r"|typo|fix typos?\b|bump |format\.?$|reformat|lint\b|whitespace|update (?:deps|dependenc|lock)"
    r"|satisfy the (?:type checker|linter)|initial commit|version \d|v\d|release v?\d|revert\b"
    r"|chore(?:\(deps|:)|auto|cleanup\b|clean up\b|tidy\b|minor\b|update (?:readme|changelog)\b)",
    re.IGNORECASE,
)


def is_message(passage: Passage) -> bool:
    """Whether a passage is (part of) a commit's message, not the changes of a file."""
    heading = passage.heading
    return heading is None or heading.startswith("commit ") and FILE_MARK not in heading


def is_trivial(subject: str) -> bool:
    """Whether a commit says of itself that there is nothing to tell."""
    return len(words(subject)) < 2 or _TRIVIAL.match(subject) is not None


def labelled(
    passage: Passage, lines: Lines | None = None, whole: bool = True
) -> Iterator[tuple[Label, int, int]]:
    """Each line of a passage: what it is, where it starts and ends (without its end).

    `lines` goes on over passages. `whole`: the passage does not begin inside a line.
    """
    lines = lines or _lines_for(passage)
    start = 0
    for line in passage.text.removesuffix("\n").split("\n"):
        yield lines.label(line) if whole else "other", start, start + len(line)
        start += len(line) + 1
        whole = True


def commit_at(passage: Passage, place: int) -> tuple[str | None, str | None]:
    """Name (shortened) and date of the commit that the character at `place` belongs to."""
    found = _HEADING.match(passage.heading or "")
    if found or passage.heading:
        return (found[1], found[2]) if found else (None, None)
    line = passage.text[passage.text.rfind("\n", 0, place) + 1 :]
    short = _ONELINE.match(line)
    return (short[1][:SHORT_HASH], None) if short else (None, None)


def message_spans(passage: Passage) -> list[tuple[int, int]]:
    """Spans of the sentences of commit messages in a passage; the subject is the first one."""
    kept: list[str] = []
    lines = _lines_for(passage)
    found: list[tuple[int, int]] = []
    for label, start, end in labelled(passage, lines):
        line = passage.text[start:end]
        if label == "oneline":
            short = _ONELINE.match(line)
            found.append((start + (short.end() if short else 0), end))
        kept.append(_prose(line, label, lines.width, lines.mail or lines.commit is None))
    return found or sentences("\n".join(kept))


def line_spans(passage: Passage) -> list[tuple[int, int]]:
    """Spans of the lines that are no white space, for quoting changes and headers."""
    found = []
    for _, start, end in labelled(passage):
        line = passage.text[start:end]
        if line.strip():
            found.append((start + len(line) - len(line.lstrip()), start + len(line.rstrip())))
    return found


def quotable_spans(passage: Passage) -> list[tuple[int, int]]:
    """Spans that may be quoted: sentences of messages, or single lines where there are none."""
    return (is_message(passage) and message_spans(passage)) or line_spans(passage)


def model_text(passage: Passage) -> str:
    """What a model is shown of a passage: of a message what it says, without hashes and dates."""
    if passage.kind != KIND or not is_message(passage):
        return passage.text
    told = [said(passage.text[start:end]) for start, end in message_spans(passage)]
    return "\n".join(told) or passage.text


def whole_sentence(text: str, passages: Iterable[Passage]) -> str:
    """The sentence of a commit message that holds `text`; `text` itself where none does."""
    for passage in passages:
        if passage.kind == KIND and is_message(passage):
            for start, end in message_spans(passage):
                if occurs(text, sentence := said(passage.text[start:end])):
                    return sentence
    return text


def said(text: str) -> str:
    """The words of a sentence in a message without line breaks and what --graph draws."""
    return " ".join(re.sub(r"\n[|*\\/ \t]*", " ", text).split())


def _lines_for(passage: Passage) -> Lines:
    """The reader of lines for a passage that may be the rest of a longer text."""
    lines = Lines()
    found = _HEADING.match(passage.heading or "")
    first = passage.text.lstrip("\n|*\\/_ ").partition("\n")[0]
    begins = re.match(r"(?:commit|From) [0-9a-f]{7,}", first)
    if passage.heading is None or begins or first.startswith(("diff ", "--- ", "tag ")):
        return lines
    if not is_message(passage):
        lines.inside = "file"
        return lines
    lines.inside = "message"
    lines.commit = found[1] if found else None
    lines.mail = not re.search(r"^(?:    |\t)\S", passage.text, re.MULTILINE)
    return lines


def _prose(line: str, label: Label, width: int, mail: bool) -> str:
    """A line as it is where it is prose, else as many spaces."""
    if label == "subject":
        found = _SUBJECT.match(line)
        cut = found.end() if found else 0
        return " " * cut + line[cut:]
    body = line[width:]
    indented = body[0 if mail else 4 :].startswith(("    ", "\t"))
    if label != "message" or indented or _TRAILER.match(body):
        return " " * len(line)
    return " " * (len(line) - len(body)) + body
