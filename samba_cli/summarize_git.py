"""Summaries of logs, patches and diffs: what was counted, and what the commits say themselves.

Nothing is written by the model here: its marks choose. The sentences are counts, subjects and
sentences of commit messages as they stand, and names and comments that a diff adds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence

from samba_cli.diff_text import Said, added_text
from samba_cli.git_text import KIND, is_trivial, message_spans, said
from samba_cli.history import Commit, FileChange, History, read_history
from samba_cli.index import PassageIndex
from samba_cli.quotes import evidence, span_quote
from samba_cli.results import Evidence, SummarySentence
from samba_cli.text_match import content_words, overlap, plausible_sentence, words

_MOST_SECTIONS = 8
_COMMITS_IN_SECTION = 6  # a section has at least so many, where there are more than one
_GROUPS = 6  # stretches of a log of which each is heard
_GROUP_BONUS, _REPEAT_COST, _FOCUS_BONUS = 1.0, 3.0, 8.0
_MOST_NAMES = 4  # new names told of a file
_MOST_FILES = 40  # files looked into
_NEARLY_ALL = 0.9  # of the changed lines
_DUPLICATE = 0.7  # share of a subject's words said before

Place = tuple[int, int, int]


def is_git(index: PassageIndex) -> bool:
    """Whether all that was read are logs, patches or diffs."""
    kinds = {document.kind for document in index.documents()}
    return kinds == {KIND}


def git_sentences(
    index: PassageIndex, count: int, focus: str | None = None, by_section: bool = False
) -> list[SummarySentence]:
    """About `count` words on everything that was read, in order; `by_section`: by time."""
    return _Telling(index, count, focus).run(by_section)


class _Telling:
    def __init__(self, index: PassageIndex, count: int, focus: str | None) -> None:
        self.index, self.count, self.focus = index, count, focus
        self.history = read_history(index)
        self.told: list[SummarySentence] = []

    def run(self, by_section: bool) -> list[SummarySentence]:
        history = self.history
        if history.commit_count:
            self._overview_of_commits()
        elif history.has_changes:
            self._overview_of_changes()
        if history.has_changes and self.count >= 80 and len(history.files) > 2:
            self._areas()
        if history.commits:
            if by_section and len(history.commits) >= 2 * _COMMITS_IN_SECTION:
                self._sections()
            else:
                self._commits(history.commits, self._left(), None)
        if self._left() > 0.25 * self.count and history.has_changes:
            self._files()
        return self.told

    def _left(self) -> int:
        return self.count - sum(len(words(one.text)) for one in self.told)

    # What was counted

    def _overview_of_commits(self) -> None:
        history = self.history
        assert history.ends is not None
        if history.commit_count == 1:
            commit = history.commits[0]
            by = f" by {commit.author}" if commit.author else ""
            text = f"Commit {commit.name[:10]}{by}{_days(history.dates)}"
        else:
            text = f"{_of(history.commit_count, 'commit')}{_by(history)}{_days(history.dates)}"
        places = list(dict.fromkeys(history.ends))
        if history.has_changes:
            one = history.commit_count == 1
            text += f" {'changes' if one else 'change'} {_changes(history)}"
        self._count(text + ".", places)

    def _overview_of_changes(self) -> None:
        files = list(self.history.files.values())
        places = [files[0].place, files[-1].place] if files else []
        self._count(f"Changes of {_changes(self.history)}.", list(dict.fromkeys(places)))

    def _areas(self) -> None:
        """Where most lines were changed."""
        files, total = self.history.files.values(), self.history.added + self.history.removed
        folders: Counter[str] = Counter()
        largest: dict[str, FileChange] = {}
        for depth in range(1, 5):  # deeper where nearly all is in one folder
            folders.clear()
            for one in files:
                folder = _folder(one.path, depth)
                folders[folder] += one.lines
                if one.lines >= largest.setdefault(folder, one).lines:
                    largest[folder] = one
            if max(folders.values()) <= _NEARLY_ALL * total:
                break
        most = [(name, lines) for name, lines in folders.most_common(3) if lines >= 0.1 * total]
        if not total or not most or len(folders) < 2:
            return
        parts = [f"{name} ({100 * lines / total:.0f}%)" for name, lines in most]
        self._count(
            f"Most of the changed lines are in {_joined(parts)}.",
            [largest[name].place for name, _ in most],
        )

    def _count(self, text: str, places: Sequence[Place], section: str | None = None) -> None:
        found = [self._evidence(place, 0.0, False) for place in places]
        self.told.append(SummarySentence(text, tuple(found), section, counted=True))

    # What the commits say

    def _sections(self) -> None:
        commits = self.history.commits
        most = min(_MOST_SECTIONS, len(commits) // _COMMITS_IN_SECTION, max(self._left() // 20, 1))
        groups = _even(commits, most)
        share = self._left() // len(groups)
        for group in groups:
            dates = sorted(commit.date for commit in group if commit.date)
            title = _days((dates[0], dates[-1])).strip() if dates else ""
            title = title.removeprefix("on ").removeprefix("from ")
            hashes = f"{group[0].name[:10]} to {group[-1].name[:10]}"
            self._commits(group, share, f"{title}: {hashes}" if title else hashes)

    def _commits(self, commits: Sequence[Commit], room: int, section: str | None) -> None:
        chosen = self._chosen(commits, room)
        spent = sum(len(words(commit.subject)) for commit in chosen)
        bodies = self._bodies(chosen, room - spent)
        for commit in sorted(chosen, key=lambda one: one.subject_at or one.place):
            assert commit.subject_at is not None
            self._quote(_stopped(commit.subject), commit.subject_at, section)
            for text, place in bodies.get(commit.place, ()):
                self._quote(text, place, section)

    def _chosen(self, commits: Sequence[Commit], room: int) -> list[Commit]:
        """Commits that matter most, from all over the log, none that says the same again."""
        pool = [commit for commit in commits if commit.subject_at and len(commit.subject) > 2]
        group_of = {
            id(commit): number
            for number, group in enumerate(_even(pool, _GROUPS))
            for commit in group
        }
        focus = self._focus_scores(pool)
        stems = {id(commit): content_words(commit.subject) for commit in pool}
        chosen: list[Commit] = []
        covered: set[str] = set()
        heard: set[int] = set()
        while pool and room > 0:
            best = max(
                pool,
                key=lambda one: (
                    one.worth
                    + _FOCUS_BONUS * focus.get(id(one), 0.0)
                    + _GROUP_BONUS * (group_of[id(one)] not in heard)
                    - _REPEAT_COST * overlap(stems[id(one)], covered)
                ),
            )
            pool.remove(best)
            length = len(words(best.subject))
            repeated = overlap(stems[id(best)], covered) >= _DUPLICATE
            nothing = is_trivial(best.subject)
            if chosen and (length > room + 4 or repeated or nothing):
                continue
            chosen.append(best)
            covered |= stems[id(best)]
            heard.add(group_of[id(best)])
            room -= length
        return chosen

    def _focus_scores(self, pool: Sequence[Commit]) -> dict[int, float]:
        if not self.focus or not pool:
            return {}
        starts = [commit.place[0] for commit in pool]
        scores: dict[int, float] = {}
        found = self.index.search(self.focus, 256)
        for passage, score in found:
            number = bisect_right(starts, passage) - 1
            if number >= 0:
                key = id(pool[number])
                scores[key] = max(scores.get(key, 0.0), score / (found[0][1] or 1.0))
        asked = content_words(self.focus)
        for commit in pool:
            shared = overlap(asked, content_words(commit.subject))
            if shared:
                scores[id(commit)] = max(scores.get(id(commit), 0.0), shared)
        return scores

    def _bodies(self, chosen: Sequence[Commit], room: int) -> dict[Place, list[tuple[str, Place]]]:
        """Sentences of the messages' bodies as far as there is room, the best commits first."""
        waiting = {commit.place: list(self._body(commit)) for commit in chosen}
        taken: dict[Place, list[tuple[str, Place]]] = {}
        ranked = sorted(chosen, key=lambda one: -one.worth)
        while room > 0 and any(waiting.values()):
            for commit in ranked:
                if not waiting[commit.place]:
                    continue
                text, place = waiting[commit.place].pop(0)
                length = len(words(text))
                if length <= room:
                    taken.setdefault(commit.place, []).append((text, place))
                    room -= length
        return taken

    def _body(self, commit: Commit) -> Iterable[tuple[str, Place]]:
        assert commit.subject_at is not None
        found = self.index.get([commit.subject_at[0]])
        for stored in found if commit.body_words else ():
            for start, end in message_spans(stored.passage):
                text = said(stored.passage.text[start:end])
                if start >= commit.subject_at[2] and plausible_sentence(text):
                    yield _stopped(text), (stored.id, start, end)

    def _quote(self, text: str, place: Place, section: str | None = None) -> None:
        self.told.append(
            SummarySentence(text, (self._evidence(place, 1.0, True),), section, extractive=True)
        )

    # What the changes say

    def _files(self) -> None:
        """The files with most changes, in turn: what is new in each."""
        ranked = sorted(self.history.files.values(), key=lambda one: (-one.lines, one.path))
        ranked = self._focused(ranked)[:_MOST_FILES]
        found = added_text(self.index, self.history, (one.path for one in ranked))
        silent: list[FileChange] = []
        covered: list[SummarySentence] = []
        for one in ranked:
            sentence = self._about(one, found[one.path])
            if sentence is None:
                silent.append(one)
                continue
            if len(words(sentence.text)) <= self._left():
                self.told.append(sentence)
                covered.append(sentence)
        if silent and self._left() >= 8:
            parts = [f"{one.path} ({_lines(one)})" for one in silent[:3]]
            also = "Also changed" if covered else "Most changed"
            self._count(f"{also}: {_joined(parts)}.", [one.place for one in silent[:3]])

    def _focused(self, files: list[FileChange]) -> list[FileChange]:
        asked = content_words(self.focus or "")

        def rank(one: FileChange) -> float:
            return -overlap(asked, content_words(one.path.replace("/", " ").replace("_", " ")))

        return sorted(files, key=rank) if asked else files

    def _about(self, one: FileChange, found: Said) -> SummarySentence | None:
        """`path (new, 40 lines): Its first comment.` or `path (+12 -3) adds a, b and 2 tests.`"""
        title = f"{one.path} ({_lines(one)})"
        quotes = found.sentences[:1]
        names = found.names[:_MOST_NAMES]
        parts = [name for name, _ in names]
        if more := len(found.names) - len(names):
            parts.append(f"{more} more")
        places = [place for _, place in names]
        if found.tests:
            parts.append(_of(len(found.tests), "test"))
            places.append(found.tests[0])
        if quotes and (one.status == "new" or not parts):
            text, place = quotes[0]
            return SummarySentence(f"{title}: {text}", (self._evidence(place, 1.0, True),))
        if not parts:
            return None
        unique = tuple(self._evidence(place, 1.0, True) for place in places[:3])
        return SummarySentence(f"{title} adds {_joined(parts)}.", unique, counted=True)

    def _evidence(self, place: Place, score: float, verified: bool) -> Evidence:
        (stored,) = self.index.get([place[0]])
        return evidence(stored, span_quote(stored.passage, place[1], place[2]), score, verified)


def _even(commits: Sequence[Commit], most: int) -> list[Sequence[Commit]]:
    """Consecutive groups of about the same number of commits."""
    most = max(1, min(most, len(commits)))
    edges = [len(commits) * number // most for number in range(most + 1)]
    return [commits[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def _stopped(text: str) -> str:
    """A subject as a sentence among others."""
    return text if text[-1:] in ".!?:;…" else text + "."


def _folder(path: str, depth: int) -> str:
    """The first `depth` folders of a path, "a/b/"; the path where it has no more."""
    parts = path.split("/")
    return path if len(parts) <= depth else "/".join(parts[:depth]) + "/"


def _of(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _lines(one: FileChange) -> str:
    if one.status == "new" and one.times == 1:
        return f"new, {_of(one.added, 'line')}"
    if one.status == "deleted" and one.times == 1:
        return "deleted"
    return f"+{one.added} -{one.removed}"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _by(history: History) -> str:
    names = [name for name, _ in history.authors.most_common(3)]
    if not names:
        return ""
    if len(history.authors) <= 3:
        return f" by {_joined(names)}"
    leading = [f"{name} ({number:,})" for name, number in history.authors.most_common(2)]
    return f" by {_of(len(history.authors), 'author')}, most by {_joined(leading)},"


def _days(dates: tuple[str, str] | None) -> str:
    if dates is None:
        return ""
    return f" on {dates[0]}" if dates[0] == dates[1] else f" from {dates[0]} to {dates[1]}"


def _changes(history: History) -> str:
    """`12 files (3 new and 1 deleted): 340 lines added, 20 removed`."""
    more = "more than " if history.files_uncounted else ""
    text = f"{more}{_of(len(history.files), 'file')}"
    statuses = history.statuses
    told = [f"{statuses[key]:,} {key}" for key in ("new", "deleted", "renamed") if statuses[key]]
    if told:
        text += f" ({_joined(told)})"
    if history.added or history.removed:
        text += f": {_of(history.added, 'line')} added, {history.removed:,} removed"
    return text
