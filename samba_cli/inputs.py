"""From the command line to what is read: which paths, under which options."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from samba_cli import streams
from samba_cli.errors import Unreadable, UsageError
from samba_cli.options import InputOptions
from samba_cli.sources.options import SourceOptions, check_options
from samba_cli.units import parse_size


def gather_paths(paths: Sequence[str], inputs: InputOptions, command: str) -> list[str]:
    """What to read. Standard input is read for "-", or when nothing else is named and it is piped.

    Raises UsageError where there is nothing to read.
    """
    if inputs.null and inputs.files_from is None:
        raise UsageError("-0 says how --files-from is written; give --files-from too")
    if inputs.files_from is not None:
        if inputs.files_from == "-" and "-" in paths:
            raise UsageError("standard input cannot be both a document and the list of paths")
        return [*paths, *_listed(inputs.files_from, inputs.null)]
    if paths:
        if list(paths).count("-") > 1:
            raise UsageError("standard input can be read only once; give '-' once")
        return list(paths)
    if streams.is_terminal(sys.stdin):
        raise UsageError(
            f"nothing to read; name a file or folder, or pipe text in (see: samba {command} --help)"
        )
    return ["-"]


def _listed(name: str, null: bool) -> list[str]:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the list of paths {name}: {error.strerror}") from error
    lines = data.split(b"\0") if null else data.splitlines()
    found = [os.fsdecode(line) for line in lines if line.strip()]
    if not found:
        raise Unreadable(f"--files-from {name} names no paths")
    return found


def source_options(inputs: InputOptions) -> SourceOptions:
    """The options as the sources take them. Raises UsageError, Unreadable for a password file."""
    try:
        size = None if inputs.max_file_size is None else parse_size(inputs.max_file_size)
    except ValueError as error:
        raise UsageError(
            f"--max-file-size cannot be '{inputs.max_file_size}'; write it as 500K, 5M or 1G"
        ) from error
    options = SourceOptions(
        include=tuple(inputs.include or ()),
        exclude=tuple(inputs.exclude or ()),
        hidden=inputs.hidden,
        gitignore=not inputs.no_gitignore,
        max_file_size=size,
        max_files=inputs.max_files,
        follow_symlinks=inputs.follow_symlinks,
        encoding=inputs.encoding,
        pages=inputs.pages,
        password=_password(inputs.password_file),
        kind=inputs.type,
    )
    check_options(options)
    return options


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read the password file {path}: {reason}") from error
    if not lines or not lines[0]:
        raise UsageError(f"the password file {path} is empty; its first line is the password")
    return lines[0]


def check_one_file(paths: Sequence[str], options: SourceOptions) -> None:
    """Tell at once, before a model is loaded, that the only file asked for cannot be read.

    Raises Unreadable for paths that are not there, or for one file that cannot be read.
    """
    from samba_cli.sources.load import load

    stream = load(paths, options, stdin=sys.stdin.buffer if sys.stdin else None)
    if len(paths) == 1 and _is_file(paths[0]):
        next(stream, None)


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def check_question(question: str, paths: Sequence[str]) -> None:
    """Raises UsageError where the question is a file, and so probably in the wrong place."""
    if not exists(question):
        return
    asked = next((p for p in paths if not exists(p) and ("?" in p or " " in p)), None)
    if asked is not None:
        raise UsageError(f'the question comes first; write: samba ask "{asked}" {question}')
    raise UsageError(
        f"'{question}' is a file or folder, not a question; "
        f'write: samba ask "QUESTION" {question}'
    )


def exists(path: str) -> bool:
    """Whether something of that name is there; any text may be asked about."""
    try:
        return bool(path.strip()) and os.path.lexists(path)
    except ValueError:  # a NUL inside
        return False
