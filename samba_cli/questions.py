"""Which questions are asked: on the command line, in a file, or on standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samba_cli.errors import UsageError
from samba_cli.inputs import check_question, exists

_NONE = 'ask what?  Write: samba ask "QUESTION" PATH (see: samba ask --help)'


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    question: str | None  # the first argument
    more: Sequence[str] = ()  # --question
    file: str | None = None  # --questions; "-" is standard input


def gather_questions(
    asked: Asked, paths: Sequence[str], memory: str | None, files_from: str | None
) -> tuple[list[str], list[str]]:
    """All questions in order (the first argument, --question, --questions), and the paths.

    With --question or --questions the first argument may be a path as well. Raises UsageError
    where there is no question, or one is empty.
    """
    question, more, file = asked.question, asked.more, asked.file
    if (
        question is not None
        and (more or file is not None)
        and (question == "-" or exists(question))
    ):
        question, paths = None, [question, *paths]
    if question is not None:
        check_question(question, paths)
    if file == "-":
        _check_stdin(paths, memory, files_from)
    given = [*([] if question is None else [question]), *more]
    questions = [one.strip() for one in given]
    if file is not None:
        questions += _listed(file)
    if not questions:
        raise UsageError(_NONE)
    if not all(questions):
        raise UsageError("a question is empty; write what you want to know")
    return questions, list(paths)


def _check_stdin(paths: Sequence[str], memory: str | None, files_from: str | None) -> None:
    if "-" in paths:
        raise UsageError("standard input cannot be both a document and the list of questions")
    if files_from == "-":
        raise UsageError("standard input cannot be both the list of paths and of questions")
    if not paths and memory is None and files_from is None:
        raise UsageError("standard input holds the questions; name a file or folder to read")


def _listed(name: str) -> list[str]:
    """The questions of a file: one a line, as text or as JSON, or one JSON array."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        text = data.decode("utf-8-sig").strip()
    except OSError as error:
        raise UsageError(f"cannot read the questions in {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the questions in {name} are not UTF-8 text") from error
    shown = "standard input" if name == "-" else name
    if text.startswith("["):
        questions = [_of_json(value, f"{shown}") for value in _array(text, shown)]
    else:
        lines = enumerate(text.splitlines(), 1)
        questions = [_of_line(line, f"line {i} of {shown}") for i, line in lines if line.strip()]
    if not questions:
        raise UsageError(f"there are no questions in {shown}; write one on each line")
    return questions


def _array(text: str, place: str) -> list[Any]:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} begins like a JSON array and is none ({error})") from error


def _of_line(line: str, place: str) -> str:
    line = line.strip()
    if not line.startswith("{"):
        return line
    try:
        return _of_json(json.loads(line), place)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} begins like a JSON object and is none ({error})") from error


def _of_json(value: Any, place: str) -> str:
    if isinstance(value, dict):
        value = value.get("question")
    if not isinstance(value, str) or not value.strip():
        raise UsageError(
            f'{place} holds no question; write "TEXT" or {{"question": "TEXT"}} for each'
        )
    return value.strip()
