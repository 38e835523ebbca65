"""Paths as a person gives them -> a lazy, stably ordered stream of documents.

Paths come in the order given, the files of a folder sorted. What cannot be read is in the
stream too, as Skipped with its reason, unless it is all that was asked for: then it is an error.
"""

from __future__ import annotations

import difflib
import glob
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from samba_cli.documents import Document, Skipped
from samba_cli.errors import Unreadable, UsageError
from samba_cli.sources import sniff
from samba_cli.sources.options import SourceOptions, check_options
from samba_cli.sources.reading import open_document, stream_document
from samba_cli.sources.source import READ_ERRORS, Problem, Source, file_source, read_problem, shown
from samba_cli.sources.walk import folder_files, name_filter

Report = Callable[[Skipped], None]


def load(
    paths: Sequence[str],
    options: SourceOptions | None = None,
    stdin: BinaryIO | None = None,
    report: Report = lambda skipped: None,
) -> Iterator[Document | Skipped]:
    """Documents of files, folders, glob patterns, archives and standard input ("-").

    Nothing is read before the iteration gets there. With no paths, `stdin` is read.
    `report` receives what `Document.parts()` leaves out: pages without a text layer.
    Raises UsageError (options) and Unreadable (a path that is not there) at once; Unreadable
    also while iterating, where the only input cannot be read, and from `Document.parts()`.
    """
    options = options or SourceOptions()
    check_options(options)
    if not paths and stdin is None:
        raise UsageError("Nothing to read: give a file or folder, or - for standard input.")
    if stdin is None and "-" in paths:
        raise UsageError("There is no standard input to read: give a file or folder.")
    inputs = [found for path in paths or ["-"] for found in _expand(path, options)]
    return _counted(_documents(inputs, options, stdin, report), options)


def _expand(path: str, options: SourceOptions) -> list[str]:
    """A path as it is, or what matches it as a glob pattern. Raises Unreadable."""
    if path == "-" or os.path.lexists(path):
        return [path]
    path = os.path.expanduser(path)
    if glob.has_magic(path):
        found = glob.glob(path, recursive=True, include_hidden=options.hidden)
        if "**" in path:  # gives a folder and also what is in it
            found = [match for match in found if not os.path.isdir(match)]
        if found:
            return sorted(found, key=lambda match: match.split(os.sep))
        raise Unreadable(f"Nothing matches the pattern {shown(path)}: check it, or name a folder.")
    if os.path.lexists(path):
        return [path]
    raise Unreadable(f"{shown(path)}: no such file or folder. {_suggestion(path)}")


def _suggestion(path: str) -> str:
    """What to do about a path that is not there: the closest name on the way to it."""
    missing = Path(path)
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    try:
        names = os.listdir(missing.parent)
    except OSError:
        names = []
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(missing.name.lower(), list(lower), 1)
    if close:
        return f"Did you mean {shown(str(missing.parent / lower[close[0]]))}?"
    return "Check the path; a path with spaces needs quotes."


def _counted(
    stream: Iterator[Document | Skipped], options: SourceOptions
) -> Iterator[Document | Skipped]:
    count = 0
    for item in stream:
        if isinstance(item, Document):
            count += 1
            if options.max_files is not None and count > options.max_files:
                item = Skipped(item.name, "too-many")
        yield item


def _documents(
    inputs: list[str], options: SourceOptions, stdin: BinaryIO | None, report: Report
) -> Iterator[Document | Skipped]:
    seen: set[str] = set()
    for path in inputs:
        if path == "-":
            assert stdin is not None
            items = _stream("-", stdin, options, report)
        elif os.path.isdir(path):
            items = _folder(path, options, report, seen)
        elif _first(path, seen):
            items = _named_file(path, options, report)
        else:
            continue
        if len(inputs) > 1:
            items = _forgiving(items)
        yield from items


def _forgiving(items: Iterator[Document | Skipped]) -> Iterator[Document | Skipped]:
    """One bad input among several does not end the reading."""
    try:
        yield from items
    except Problem as problem:
        yield Skipped(problem.name, problem.reason)


def _first(path: str, seen: set[str]) -> bool:
    """Whether a file comes for the first time: `samba read docs docs/a.md` reads it once."""
    real = os.path.realpath(path)
    if real in seen:
        return False
    seen.add(real)
    return True


def _named_file(path: str, options: SourceOptions, report: Report) -> Iterator[Document | Skipped]:
    """A file that a person named. Raises Problem."""
    name = shown(path)
    if options.exclude:
        wanted = name_filter(SourceOptions(exclude=options.exclude, hidden=True))
        if not wanted(os.path.basename(path)):
            raise Problem(name, "excluded")
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISFIFO(mode):  # process substitution: <(command)
            pipe = open(path, "rb")  # noqa: SIM115  read by Document.parts(), maybe much later
            yield from _stream(name, pipe, options, report)
            return
        if not stat.S_ISREG(mode):
            raise Problem(name, "special")
        yield from _read(file_source(path), options, report)
    except READ_ERRORS as error:
        raise read_problem(name, error) from None


def _stream(
    name: str, stream: BinaryIO, options: SourceOptions, report: Report
) -> Iterator[Document | Skipped]:
    found = stream_document(name, stream, options, report)
    if isinstance(found, Document):
        yield found
    else:
        yield from _read(found, options, report)


def _read(source: Source, options: SourceOptions, report: Report) -> Iterator[Document | Skipped]:
    """The document of a source that was named, or the members of an archive. Raises Problem."""
    _check_size(source, options)
    head = source.head()
    kind = sniff.kind_of(source, head) if options.kind is None else options.kind
    if kind == "archive":
        from samba_cli.sources.archive import members

        wanted = name_filter(options)
        for member in members(source, options.password):
            if isinstance(member, Skipped):
                inside = member.name.removeprefix(source.name + "!")
                if member.reason == "unsafe-name" or wanted(inside):
                    yield member
            elif wanted(member.member or ""):
                yield _of_many(member, options, report)
    else:
        yield open_document(source, kind, head, options, report)


def _folder(
    folder: str, options: SourceOptions, report: Report, seen: set[str]
) -> Iterator[Document | Skipped]:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise Problem(shown(folder), "permission")
    for path in folder_files(folder, options):
        full = str(Path(folder) / path)
        try:
            mode = os.lstat(full).st_mode
            if stat.S_ISLNK(mode):
                if not options.follow_symlinks:
                    yield Skipped(shown(full), "symlink")
                    continue
                mode = os.stat(full).st_mode
            if not stat.S_ISREG(mode):
                yield Skipped(shown(full), "special")
            elif _first(full, seen):
                yield _of_many(file_source(full), options, report)
        except FileNotFoundError:
            if os.path.islink(full):
                yield Skipped(shown(full), "symlink")
        except OSError as error:
            yield Skipped(shown(full), read_problem(full, error).reason)


def _of_many(source: Source, options: SourceOptions, report: Report) -> Document | Skipped:
    """A file among others: what is no use to a reader is left out too."""
    try:
        _check_size(source, options)
        head = source.head()
        kind = sniff.kind_of(source, head)
        reason = "archive" if kind == "archive" else sniff.unwanted(source, kind, head)
        if reason is not None:
            return Skipped(source.name, reason)
        if options.kind is not None and kind in sniff.TEXT_KINDS:
            kind = options.kind
        return open_document(source, kind, head, options, report)
    except Problem as problem:
        return Skipped(problem.name, problem.reason)
    except READ_ERRORS as error:
        return Skipped(source.name, read_problem(source.name, error).reason)


def _check_size(source: Source, options: SourceOptions) -> None:
    limit = options.max_file_size
    if limit is not None and source.size is not None and source.size > limit:
        raise Problem(source.name, "too-large")
