"""What a log or a diff adds up to: commits, files and lines, counted over all its passages.

One pass over the index. Of very many commits those that matter most of each stretch are kept,
so memory does not grow with the input.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field

from samba_cli.git_text import is_message, is_trivial, labelled, message_spans, said
from samba_cli.index import PassageIndex, StoredPassage
from samba_cli.sources.git import Lines
from samba_cli.text_match import content_words, words

MOST_KEPT = 4096  # commits and files of which more than the number is kept
_MARK_WEIGHT, _SIZE_WEIGHT, _BODY_WEIGHT, _TRIVIAL_COST = 0.5, 0.4, 0.3, 3.0
_WORD_WEIGHT = 0.2  # of a subject, to 8 words: a longer one tells more
_STAT = re.compile(
    r" (\d+) files? changed(?:, (\d+) insertions?\(\+\))?(?:, (\d+) deletions?\(-\))?"
)
_STAT_FILE = re.compile(r" (\S.*?) +\| +(?:\d+|Bin)\b")
_NUMSTAT = re.compile(r"(\d+|-)\t(\d+|-)\t(.+)$")
_NAME_STATUS = re.compile(r"([ACDMRT])\d*\t(?:.*\t)?(.+)$")
_STATUS = {"new file": "new", "deleted file": "deleted", "rename from": "renamed"}


@dataclass
class Commit:
    """One commit. `passage` and `start` are where its subject stands, if it has one."""

    name: str
    date: str | None = None
    author: str | None = None
    place: tuple[int, int, int] = (0, 0, 0)  # passage id, start and end of its first line
    subject: str = ""
    subject_at: tuple[int, int, int] | None = None
    body_words: int = 0
    mark: float | None = None  # the model's, of its message; at last in standard deviations
    added: int = 0
    removed: int = 0
    files: int = 0

    @property
    def worth(self) -> float:
        """How much it belongs in a summary: the model's mark, its size, what it tells."""
        worth = _SIZE_WEIGHT * math.log1p(self.added + self.removed)
        worth += _WORD_WEIGHT * min(len(content_words(self.subject)), 8)
        worth += _BODY_WEIGHT * math.log1p(self.body_words) + _MARK_WEIGHT * (self.mark or 0.0)
        return worth - _TRIVIAL_COST * is_trivial(self.subject)


@dataclass
class FileChange:
    """The changes of one file, over all commits."""

    path: str
    place: tuple[int, int, int]  # passage id, start and end of the line that names it
    added: int = 0
    removed: int = 0
    status: str = "changed"
    times: int = 1

    @property
    def lines(self) -> int:
        return self.added + self.removed


@dataclass
class History:
    """The whole input, added up."""

    commits: list[Commit] = field(default_factory=list)  # in order; of very many, a choice
    commit_count: int = 0
    authors: Counter[str] = field(default_factory=Counter)
    dates: tuple[str, str] | None = None  # first and last day
    ends: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None  # first, last commit
    files: dict[str, FileChange] = field(default_factory=dict)
    files_uncounted: bool = False  # there are more than `files` holds
    added: int = 0
    removed: int = 0
    has_changes: bool = False  # with diffs or statistics, not messages only

    @property
    def statuses(self) -> Counter[str]:
        return Counter(one.status for one in self.files.values())


def read_history(index: PassageIndex) -> History:
    """Count through all passages, in order."""
    counting = _Counting()
    for stored in index.iterate():
        counting.add(stored)
    counting.end_commit()
    history = counting.history
    _standardise(history.commits)
    if history.has_changes and not history.added and not history.removed:
        history.has_changes = bool(history.files)
    return history


def _standardise(commits: list[Commit]) -> None:
    marks = [commit.mark for commit in commits if commit.mark is not None]
    mean = sum(marks) / max(len(marks), 1)
    deviation = (sum((mark - mean) ** 2 for mark in marks) / max(len(marks), 1)) ** 0.5
    for commit in commits:
        if commit.mark is not None:
            commit.mark = (commit.mark - mean) / (deviation + 1e-6)


class _Counting:
    def __init__(self) -> None:
        self.history = History()
        self.lines = Lines()
        self.document = -1
        self.whole = True  # the next passage begins with a whole line
        self.commit: Commit | None = None
        self.file: FileChange | None = None
        self.counted_lines = False  # of this commit, from the diff itself
        self.stat = (0, 0, 0)  # files and lines of this commit as --stat tells them

    def add(self, stored: StoredPassage) -> None:
        if stored.document_id != self.document:
            self.end_commit()
            self.document, self.lines, self.whole = stored.document_id, Lines(), True
        text = stored.passage.text
        for label, start, end in labelled(stored.passage, self.lines, self.whole):
            line, place = text[start:end], (stored.id, start, end)
            if label == "commit":
                self.end_commit()
                self.commit = Commit(self.lines.commit or "", place=place)
            elif label == "oneline":
                self.end_commit()
                self.commit = Commit(line.split()[0], place=place)
                self.end_commit()
            elif label == "file":
                self._begin_file(place)
            elif label in ("added", "removed"):
                self._changed(label == "added")
            elif label == "about" and self.file is not None:
                self._about(line)
            elif label == "stat":
                self._stat(line, place)
        self.whole = text.endswith("\n")
        self._tell(stored)

    def _tell(self, stored: StoredPassage) -> None:
        """Take subject, body and mark of the commits whose messages this passage holds."""
        if not is_message(stored.passage):
            return
        spans = message_spans(stored.passage)
        if stored.passage.heading is None:
            recent = self.history.commits[-len(spans) :] if spans else []
            by_place = {commit.place: commit for commit in recent}
            text = stored.passage.text
            for start, end in spans:
                line = text.rfind("\n", 0, start) + 1
                if commit := by_place.get((stored.id, line, end)):
                    commit.subject = said(text[start:end])
                    commit.subject_at = (stored.id, start, end)
                    commit.mark = stored.salience
            return
        if self.commit is None:
            return
        commit = self.commit
        commit.date, commit.author = self.lines.date, self.lines.author
        if stored.salience is not None and (commit.mark is None or stored.salience > commit.mark):
            commit.mark = stored.salience
        texts = [said(stored.passage.text[start:end]) for start, end in spans]
        if not commit.subject and spans:
            first = 0
            if texts[0].startswith("Merge pull request") and len(spans) > 1:
                first = 1  # the title of what was merged
            commit.subject = texts[first]
            commit.subject_at = (stored.id, *spans[first])
            texts = texts[first + 1 :]
        commit.body_words += sum(len(words(text)) for text in texts)

    def _begin_file(self, place: tuple[int, int, int]) -> None:
        self.history.has_changes = True
        if self.commit is not None:
            self.commit.files += 1
        self.counted_lines = True
        self.file = self._file_of(self.lines.path or "", place)

    def _file_of(self, path: str, place: tuple[int, int, int]) -> FileChange | None:
        files = self.history.files
        if path in files:
            files[path].times += 1
        elif len(files) < 16 * MOST_KEPT:
            files[path] = FileChange(path, place)
        else:
            self.history.files_uncounted = True
        return files.get(path)

    def _changed(self, is_added: bool) -> None:
        for one in (self.history, self.commit, self.file):
            if one is not None:
                one.added += is_added
                one.removed += not is_added

    def _about(self, line: str) -> None:
        assert self.file is not None
        line = line[self.lines.width :]
        for start, status in _STATUS.items():
            # The oldest commit comes last in a log: a file it adds was new.
            if line.startswith(start) and self.file.status in ("changed", "renamed"):
                self.file.status = status
        path = self.lines.path or ""
        if self.file.path != path and (not self.file.path or line.startswith(("rename to", "+++"))):
            files = self.history.files
            if path in files:
                return
            files.pop(self.file.path, None)
            self.file.path = path
            files[path] = self.file

    def _stat(self, line: str, place: tuple[int, int, int]) -> None:
        """What --stat and --numstat tell, for a log without the changes themselves."""
        line = line[self.lines.width :]
        self.history.has_changes = True
        if self.commit is None or self.counted_lines:
            return
        files, added, removed = self.stat
        if found := _STAT.match(line):
            self.stat = (int(found[1]), int(found[2] or 0), int(found[3] or 0))
        elif found := _STAT_FILE.match(line):
            self._file_of(found[1], place)
        elif found := _NUMSTAT.match(line):
            more = [0 if number == "-" else int(number) for number in found.groups()[:2]]
            self.stat = (files + 1, added + more[0], removed + more[1])
            self._file_of(found[3], place)
        elif found := _NAME_STATUS.match(line):
            self.stat = (files + 1, added, removed)
            self._file_of(found[2], place)

    def end_commit(self) -> None:
        commit, history = self.commit, self.history
        self.commit = self.file = None
        (files, added, removed), counted = self.stat, self.counted_lines
        self.stat, self.counted_lines = (0, 0, 0), False
        if commit is None:
            return
        if not counted:
            commit.files = files
            for one in (commit, history):
                one.added += added
                one.removed += removed
        history.commit_count += 1
        history.ends = (history.ends[0] if history.ends else commit.place, commit.place)
        if commit.author:
            history.authors[commit.author] += 1
        if commit.date:
            low, high = history.dates or (commit.date, commit.date)
            history.dates = (min(low, commit.date), max(high, commit.date))
        history.commits.append(commit)
        if len(history.commits) >= 2 * MOST_KEPT:
            pairs = zip(history.commits[::2], history.commits[1::2], strict=True)
            history.commits = [max(pair, key=lambda one: one.worth) for pair in pairs]
