"""The files of a folder, sorted: what git would track, or a walk under the same ignore rules."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from samba_cli.sources.ignore import Rule, decide, parse_rules
from samba_cli.sources.options import SourceOptions


@dataclass(frozen=True)
class _Rules:
    """The ignore rules of one folder; they speak of paths below `base` (from the top, "a/b/")."""

    base: str
    rules: tuple[Rule, ...]


def folder_files(folder: str, options: SourceOptions) -> Iterator[str]:
    """Paths of the files below a folder, relative to it, sorted by folder and name.

    Symbolic links are given as they are, except that with `follow_symlinks` linked folders
    are walked, each folder once. The caller tells links, devices and vanished files apart.
    """
    wanted = name_filter(options)
    return (path for path in _files(folder, "", options, set()) if wanted(path))


def name_filter(options: SourceOptions) -> Callable[[str], bool]:
    """A test of relative paths: hidden names, --include and --exclude."""
    from pathspec import GitIgnoreSpec

    include = GitIgnoreSpec.from_lines(options.include) if options.include else None
    exclude = GitIgnoreSpec.from_lines(options.exclude)

    def wanted(path: str) -> bool:
        if not options.hidden and any(part.startswith(".") for part in path.split("/")):
            return False
        return (include is None or include.match_file(path)) and not exclude.match_file(path)

    return wanted


def _files(
    folder: str, prefix: str, options: SourceOptions, seen: set[tuple[int, int]]
) -> Iterator[str]:
    """Files of `folder`, each as prefix + its path below the folder. `seen`: folders walked."""
    if not _first_visit(folder, seen):
        return
    listed = git_files(folder) if options.gitignore else None
    if listed is None:
        yield from _walk(folder, prefix, options, seen)
        return
    for path in listed:
        full = os.path.join(folder, path)
        if not os.path.isdir(full) or os.path.islink(full) and not options.follow_symlinks:
            yield prefix + path
        elif os.path.islink(full) or os.path.exists(os.path.join(full, ".git")):
            # A linked folder, a submodule or a repository inside this one: git names it only.
            yield from _files(full, prefix + path.rstrip("/") + "/", options, seen)


def git_files(folder: str) -> list[str] | None:
    """What git tracks or would track below a folder, sorted; None where git does not tell.

    A folder that is itself ignored is not asked of git: who names it wants it read.
    """
    try:
        if _git(folder, "rev-parse", "--is-inside-work-tree") != b"true\n":
            return None
        if _git(folder, "check-ignore", "-q", ".") is not None:
            return None
        listed = _git(folder, "ls-files", "-co", "--exclude-standard", "-z")
    except OSError:  # there is no git
        return None
    if listed is None:
        return None
    # A file with merge conflicts is listed once per side.
    paths = {os.fsdecode(path) for path in listed.split(b"\0") if path}
    present = (path for path in paths if os.path.lexists(os.path.join(folder, path)))
    return sorted(present, key=lambda path: path.split("/"))


def _git(folder: str, *arguments: str) -> bytes | None:
    """What git prints; None where it ends with an error.

    The configuration of a repository may name a program as its file system monitor: it is not
    run. In a git hook the environment speaks of another repository: it is not heard.
    """
    places = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    run = subprocess.run(
        ["git", "-C", folder, "-c", "core.fsmonitor=false", *arguments],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name not in places},
    )
    return run.stdout if run.returncode == 0 else None


def _walk(
    folder: str, prefix: str, options: SourceOptions, seen: set[tuple[int, int]]
) -> Iterator[str]:
    """As `_files`, without git: a stack instead of recursion, for trees of any depth."""
    below_top, rules = _inherited_rules(folder) if options.gitignore else ("", ())
    wanted = name_filter(SourceOptions(exclude=options.exclude, hidden=options.hidden))
    stack = [(iter(_entries(folder)), "", rules)]
    while stack:
        entries, inside, rules = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        path = inside + entry.name
        linked = entry.is_symlink()
        is_folder = _is_folder(entry, options.follow_symlinks)
        # git takes a link for a file, so rules for folders do not apply to it.
        from_top = below_top + path + ("/" if is_folder and not linked else "")
        if entry.name == ".git" or ignored(from_top, rules) or not wanted(prefix + path):
            continue
        if not is_folder:
            yield prefix + path
        elif linked or os.path.exists(os.path.join(entry.path, ".git")):
            # Rules stay within their repository, and do not follow a link out of it.
            yield from _files(entry.path, prefix + path + "/", options, seen)
        elif _first_visit(entry.path, seen):
            found = _folder_rules(entry.path, from_top) if options.gitignore else ()
            stack.append((iter(_entries(entry.path)), path + "/", (*rules, *found)))


def ignored(path: str, rules: tuple[_Rules, ...]) -> bool:
    """Whether git would ignore a path (folders end in "/") none of whose parents is ignored.

    The rules nearest to the path decide; within one file the last that matches (gitignore(5)).
    """
    for rule in reversed(rules):
        decision = decide(rule.rules, path[len(rule.base) :].rstrip("/"), path.endswith("/"))
        if decision is not None:
            return decision
    return False


def _inherited_rules(folder: str) -> tuple[str, tuple[_Rules, ...]]:
    """Where a folder lies in its repository ("a/b/", "" at the top), and the rules there.

    Outside a repository, and in a folder that is ignored, only its own rules count.
    """
    real = os.path.realpath(folder)
    top = real
    while not os.path.exists(os.path.join(top, ".git")):
        if os.path.dirname(top) == top:
            return "", _folder_rules(folder, "")
        top = os.path.dirname(top)
    rules = _rules_of(os.path.join(top, ".git", "info", "exclude"), "")
    rules = (*rules, *_folder_rules(top, ""))
    base = ""
    for name in [] if real == top else os.path.relpath(real, top).split(os.sep):
        base += name + "/"
        if ignored(base, rules):
            return "", _folder_rules(folder, "")
        rules = (*rules, *_folder_rules(os.path.join(top, base), base))
    return base, rules


def _folder_rules(folder: str, base: str) -> tuple[_Rules, ...]:
    return _rules_of(os.path.join(folder, ".gitignore"), base)


def _rules_of(path: str, base: str) -> tuple[_Rules, ...]:
    try:
        if os.path.islink(path):  # git does not follow it either
            return ()
        with open(path, "rb") as file:
            text = os.fsdecode(file.read())
    except OSError:
        return ()
    return (_Rules(base, parse_rules(text)),)


def _is_folder(entry: os.DirEntry[str], follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # links that go round in a circle lead to no folder
        return False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _first_visit(folder: str, seen: set[tuple[int, int]]) -> bool:
    try:
        identity = _identity(folder)
    except OSError:
        return False
    if identity in seen:
        return False
    seen.add(identity)
    return True
