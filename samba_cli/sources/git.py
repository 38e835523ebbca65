"""What git prints and mails: logs, patches and diffs, told by content and cut at commits and files.

Formats: git-log(1) with its pretty formats, git-format-patch(1), unified and combined diffs as in
git-diff(1), and plain `diff -u`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from samba_cli.documents import Part
from samba_cli.sources.text import line_parts

Label = Literal[
    "commit",  # the first line of a commit: `commit 1a2b...` or `From 1a2b... Mon Sep 17 ...`
    "header",  # Author, Date, Merge, ... of a commit
    "subject",  # the mail header that holds the first line of the message
    "message",  # a line of the message
    "oneline",  # `1a2b3c4 The subject` of git log --oneline
    "stat",  # ` path | 12 ++--`, `2 files changed, ...`, and names of files after a message
    "file",  # where the changes of a file begin
    "about",  # index, mode, rename, `---` and `+++` lines
    "hunk",  # @@ -1,2 +3,4 @@
    "added",
    "removed",
    "context",
    "other",
]

SHORT_HASH = 10  # digits shown of a commit's name: enough for all but the largest repositories
FILE_MARK = " > "  # in a heading, between the commit and the file

_GRAPH = r"(?:[*|\\/_.\- ]*[*|\\/] ?)?"
_COMMIT = re.compile(rf"({_GRAPH})commit ([0-9a-f]{{7,64}})(?: .*)?$")
_MAIL = re.compile(r"From ([0-9a-f]{40,64}) \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}$")
_ONELINE = re.compile(rf"{_GRAPH}([0-9a-f]{{7,40}}) (?:\([^)]*\) )?\S")
_FILE = re.compile(r"diff (?:--git|--cc|--combined) \S")
_OTHER_FILE = re.compile(r"diff -\S.*|Index: \S|Only in .*: ")
_HUNK = re.compile(r"(@@+) ((?:-\d+(?:,\d+)? )+)\+(\d+)(?:,(\d+))? @@")
_STAT = re.compile(r" (?:\S.* \| +(?:\d+|Bin)\b|\d+ files? changed)")
_OLD, _NEW = re.compile(r"--- (\S.*)"), re.compile(r"\+\+\+ (\S.*)")
_HEADER = re.compile(r"([A-Za-z][\w-]*): ?(.*)|(tree|parent|author|committer|gpgsig) (.*)")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ISO = re.compile(r"\b(\d{4}-\d\d-\d\d)\b")
_WORDS = re.compile(rf"\b({'|'.join(_MONTHS)}) (\d{{1,2}}) .*?\b(\d{{4}})\b")
_MAIL_DATE = re.compile(rf"\b(\d{{1,2}}) ({'|'.join(_MONTHS)}) (\d{{4}})\b")
_EPOCH = re.compile(r"> (\d{9,11}) [+-]\d{4}$")
_GIT_START = re.compile(
    r"""(?:commit\ [0-9a-f]{7,64}(?:\ \(.*\))?\n(?:[A-Z]\w+:\ |tree\ [0-9a-f]{7})
    |\*\ {1,3}commit\ [0-9a-f]{7,64}(?:\ \(.*\))?\n[|\\/\ ]*[A-Z]\w+:\ 
    |tag\ \S+\nTagger:\ 
    |From\ [0-9a-f]{40,64}\ \w{3}\ \w{3}\ [ \d]\d\ \d\d:\d\d:\d\d\ \d{4}\n
    |diff\ (?:--git|--cc|--combined)\ \S
    )""",
    re.VERBOSE,
)
_DIFF_ANYWHERE = re.compile(r"^(?:diff --git \S.*\n|--- \S.*\n\+\+\+ \S.*\n@@ -\d)", re.MULTILINE)
_DIFF_START = re.compile(r"(?:(?:diff|Index:|Only in|=====).*\n){0,4}--- \S.*\n\+\+\+ \S.*\n@@ -\d")
_LEAST_ONELINES = 3


def is_git_text(head: str, suffix: str = "") -> bool:
    """Whether a text is a log, a patch or a diff, by its beginning.

    `suffix`: a file called `.patch` or `.diff` may begin with prose, if a diff follows.
    """
    start = head[:4096].lstrip("\ufeff\r\n").replace("\r\n", "\n")
    if _GIT_START.match(start) or _DIFF_START.match(start):
        return True
    if suffix in (".patch", ".diff") and _DIFF_ANYWHERE.search(head.replace("\r\n", "\n")):
        return True
    lines = start.split("\n")
    whole = lines if len(head) < 4096 else lines[:-1]
    whole = whole[:-1] if whole and not whole[-1] else whole
    hashes = {len(found[1]) for line in whole if (found := _ONELINE.match(line))}
    ours = sum(1 for line in whole if _ONELINE.match(line) or not line.strip(" *|\\/_"))
    # Hex numbers of one length, some with a letter, before every line: no list of plain numbers.
    lettered = any(re.match(rf"{_GRAPH}\d*[a-f]", line) for line in whole)
    return _LEAST_ONELINES <= ours == len(whole) and len(hashes) <= 2 and lettered


@dataclass
class Lines:
    """Tells what each line is, one after another; what was told so far are the attributes.

    `inside`: how a text begins that is the rest of a longer one ("message", "hunk").
    """

    inside: Literal["start", "header", "message", "mail", "stat", "file", "hunk"] = "start"
    commit: str | None = None  # as it is written
    date: str | None = None  # YYYY-MM-DD
    author: str | None = None
    path: str | None = None  # of the file whose changes come now
    width: int = 0  # of what --graph draws before each line
    mail: bool = False  # the message is not indented
    _left: list[int] = field(default_factory=lambda: [0, 0])  # old and new lines of the hunk
    _columns: int = 1  # of marks before a line: one for each parent
    _had_hunk: bool = False
    _folded: Label = "header"

    def label(self, line: str) -> Label:
        """What this line (without its end) is. Call it for every line, in order."""
        if self.width and not _COMMIT.match(line) and not line[: self.width].strip("|\\/_*. -"):
            line = line[self.width :]
        if self.inside == "hunk" and (found := self._changed(line)):
            return found
        if found := _COMMIT.match(line) if not self.mail else None:
            self.width = len(found[1])
            return self._begin(found[2], mail=False)
        if found := _MAIL.match(line):
            return self._begin(found[1], mail=True)
        if self.inside == "header":
            return self._header(line)
        if self.inside == "start" and line.startswith("tag "):
            self.inside = "header"
            return "header"
        if found := _HUNK.match(line):
            self.inside, self._had_hunk = "hunk", True
            old = found[2].split()[0].partition(",")[2]
            self._left = [int(old or 1), int(found[4] or 1)]
            self._columns = len(found[1]) - 1
            return "hunk"
        between = self.inside in ("start", "file")  # outside of messages, more lines begin a file
        if _FILE.match(line) or between and _OTHER_FILE.match(line):
            return self._file(line)
        if _OLD.match(line) and (self.inside != "file" or self._had_hunk):
            self._file("")
            self.path = _name(line[4:])
            return "file"
        if self.inside == "file":
            return self._about(line)
        return self._told(line)

    def _begin(self, name: str, mail: bool) -> Label:
        self.inside, self.commit, self.mail = "header", name, mail
        self.date = self.author = self.path = None
        return "commit"

    def _header(self, line: str) -> Label:
        if not line.strip():
            self.inside = "message"
            return "other"
        if line[0] in " \t":
            return self._folded
        found = _HEADER.match(line)
        if not found:
            return "header"
        key, value = (found[1] or found[3]).lower(), found[2] or found[4] or ""
        self._folded = "subject" if key == "subject" else "header"
        if key in ("author", "from", "tagger"):
            self.author = value.partition("<")[0].strip(' "') or value
        if key in ("date", "authordate", "author", "taggerdate"):
            self.date = _date(value) or self.date
        return self._folded

    def _file(self, line: str) -> Label:
        self.inside, self._had_hunk = "file", False
        self.path = _path_of(line) if line else None
        return "file"

    def _about(self, line: str) -> Label:
        if line == "-- " and self.mail:
            self.inside = "stat"
            return "other"
        if found := _NEW.match(line) or _OLD.match(line):
            self.path = _name(found[1]) or self.path
        elif line.startswith("rename to "):
            self.path = line[10:]
        return "about" if line.strip() else "other"

    def _changed(self, line: str) -> Label | None:
        """A line inside a hunk; None where it has ended."""
        marks = line[: self._columns]
        if not any(count > 0 for count in self._left):
            if line.startswith("\\"):
                return "context"
            self.inside = "file"
            return None
        if marks[:1] not in (" ", "+", "-", "\\", ""):
            self.inside = "file"
            return None
        if marks[:1] == "\\":
            return "context"
        if self._columns == 1:
            self._left[0] -= marks != "+"
            self._left[1] -= marks != "-"
        elif "-" not in marks:
            self._left[0] = 0
            self._left[1] -= 1
        return "added" if "+" in marks else "removed" if "-" in marks else "context"

    def _told(self, line: str) -> Label:
        if not line.strip():
            return "other"
        if self.inside == "stat":
            return "stat"
        if self.inside == "message":
            if _STAT.match(line):
                return "stat"
            if self.mail:
                if line == "---":
                    self.inside = "stat"
                    return "other"
                return "message"
            if self.commit is None or line.startswith(("    ", "\t")):
                return "message"
            if line.startswith("Notes") and line.endswith(":"):
                return "other"
            return "stat"
        if self.commit is None and _ONELINE.match(line):
            return "oneline"
        return "message"


def _path_of(line: str) -> str | None:
    """The file of a `diff` line, after the change."""
    if line.startswith("diff --git "):
        names = line[11:]
        if found := re.fullmatch(r'"?a/(.*?)"? "?b/(.*?)"?', names):
            half = len(names) // 2  # `a/NAME b/NAME`, with spaces in NAME
            same = names[half : half + 1] == " " and names[2:half] == names[half + 3 :]
            return names[2:half] if same else found[2]
        return names.split(" ")[-1]
    if line.startswith(("diff --cc ", "diff --combined ", "Index: ")):
        return line.split(" ", 2)[-1] if line.startswith("diff") else line[7:]
    if line.startswith("Only in "):
        return "/".join(line[8:].split(": ", 1))
    return line.split(" ")[-1]


def _name(path: str) -> str | None:
    """The path of a `---` or `+++` line; None for /dev/null."""
    path = path.split("\t")[0].strip().strip('"')
    if path == "/dev/null":
        return None
    return path[2:] if path[:2] in ("a/", "b/", "i/", "w/", "c/", "o/") else path


def _date(value: str) -> str | None:
    if found := _ISO.search(value):
        return found[1]
    if found := _MAIL_DATE.search(value):
        return f"{found[3]}-{_MONTHS.index(found[2]) + 1:02}-{int(found[1]):02}"
    if found := _WORDS.search(value):
        return f"{found[3]}-{_MONTHS.index(found[1]) + 1:02}-{int(found[2]):02}"
    if found := _EPOCH.search(value):
        import datetime

        return datetime.datetime.fromtimestamp(int(found[1]), datetime.UTC).date().isoformat()
    return None


def commit_heading(commit: str, date: str | None) -> str:
    """`commit 1a2b3c4d5e (2026-11-02)`."""
    return f"commit {commit[:SHORT_HASH]}" + (f" ({date})" if date else "")


def git_parts(chunks: Iterable[str]) -> Iterator[Part]:
    """Parts that are a commit with its message, or the changes of one file.

    The heading of the first is `commit 1a2b3c4d5e (2026-11-02)`, of the second the path, after
    the commit's heading and " > " where there is a commit.
    """
    lines, whole = Lines(), True
    for part in line_parts(chunks):
        assert part.line is not None
        begin, first, line, place, heading = 0, part.line, part.line, 0, _heading(lines)
        contents = part.text.split("\n")
        for number, content in enumerate(contents, start=1):
            ended = number < len(contents)
            label = lines.label(content) if whole and (content or ended) else "other"
            if label in ("commit", "file") and place > begin:
                yield Part(part.text[begin:place], line=first, heading=heading)
                begin, first = place, line
            heading = _heading(lines)
            place += len(content) + ended
            line += ended
            whole = ended or not content  # only a very long line is cut inside
        yield Part(part.text[begin:], line=first, heading=heading)


def _heading(lines: Lines) -> str | None:
    commit = commit_heading(lines.commit, lines.date) if lines.commit else None
    if lines.inside in ("file", "hunk") and lines.path:
        return f"{commit}{FILE_MARK}{lines.path}" if commit else lines.path
    return commit
