"""Parsing in a process of its own, for a model that reads faster than one process can do both.

Cutting and encoding hold Python's lock, and launching the model's kernels needs it. The process
is a fresh interpreter, not a fork: threads and a GPU's context do not survive one. It gets its
task as a pickle on standard input and answers with pickles on standard output; when either pipe
closes, it ends. In a session of its own it sees no Ctrl-C, which is the reader's to handle.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from samba_cli.background import Ahead
from samba_cli.dialect import dialect_of
from samba_cli.documents import Document, Part, Skipped
from samba_cli.errors import SambaError
from samba_cli.model.tokenizer import Tokenizer
from samba_cli.parsing import Parsed, Piece, Position, cuts, encoded
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions

_WORTH_BYTES = 1 << 20  # parsed in about the time that a process takes to start
_CUT_AHEAD = 4  # batches cut while others are encoded
_PROGRAM = "from samba_cli.apart import work; work()"


@dataclass(frozen=True)
class Task:
    """What to parse, and from where on."""

    paths: tuple[str, ...]
    options: SourceOptions
    tokenizer: Path  # folder of the checkpoint
    prompts: Path | None
    position: Position


@dataclass(frozen=True)
class _Answer:
    parsed: Parsed
    pages: list[Skipped]  # left out by the documents themselves


@dataclass(frozen=True)
class _Raised:
    """An exception in parts: not every one can be made again from its arguments alone."""

    kind: type[BaseException]
    arguments: tuple
    fields: dict
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> _Raised:
        trace = "".join(traceback.format_exception(error))
        return cls(type(error), error.args, vars(error), trace)

    def error(self) -> BaseException:
        error = self.kind.__new__(self.kind, *self.arguments)
        error.args = self.arguments
        vars(error).update(self.fields)
        if not isinstance(error, SambaError):
            error.add_note(f"In the process that parses the input:\n{self.trace}")
        return error


@dataclass(frozen=True)
class Apart:
    """Inputs on disk. `pages` receives what documents leave out: pages without a text layer."""

    paths: tuple[str, ...]
    options: SourceOptions
    tokenizer: Path  # folder of the checkpoint
    pages: list[Skipped] = field(default_factory=list)

    def parse(self, position: Position, prompts: Path | None = None) -> Iterator[Parsed]:
        """As `parsing.parse`, in another process. Raises SambaError where that is killed."""
        self.pages.clear()
        process = _started(Task(self.paths, self.options, self.tokenizer, prompts, position))
        assert process.stdout is not None and process.stdin is not None
        try:
            while (answer := _received(process.stdout)) is not None:
                if isinstance(answer, _Raised):
                    raise answer.error()
                self.pages.extend(answer.pages)
                yield answer.parsed
            if code := process.wait():
                raise SambaError(
                    f"The process that parses the input was ended (exit code {code}); free some "
                    "memory, and give the same command again."
                )
        finally:
            process.stdout.close()
            process.stdin.close()
            process.kill()
            process.wait()


def worth_a_process(paths: Sequence[str]) -> bool:
    """Whether all of it can be opened by name, and may take longer than a process to start."""
    if not all(os.path.isfile(path) or os.path.isdir(path) for path in paths):
        return False  # standard input, a pipe, a pattern
    folders = any(os.path.isdir(path) for path in paths)
    return folders or sum(map(os.path.getsize, paths)) >= _WORTH_BYTES


def _started(task: Task) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # its exit code will be seen
        pickle.dump(task, process.stdin)
        process.stdin.flush()  # and left open: its end tells the process that nobody listens
    return process


def _received(stream: IO[bytes]) -> _Answer | _Raised | None:
    try:
        return pickle.load(stream)
    except (EOFError, pickle.UnpicklingError):  # the end, or the middle of what was to come
        return None


def work() -> None:
    """What the process does: parse one task."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not speak in between
    task: Task = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_reader, daemon=True).start()
    with suppress(BrokenPipeError):
        for answer in _answers(task):
            pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
    os._exit(0)  # a document that hangs, in its thread, must not delay it


def _end_with_reader() -> None:
    """End this process with the one that wanted it, whatever it is doing."""
    while os.read(0, 1):
        pass
    os._exit(0)


def _answers(task: Task) -> Iterator[_Answer | _Raised]:
    pages: list[Skipped] = []
    try:
        dialect = dialect_of(Tokenizer.load(task.tokenizer), task.prompts)
        documents = load(task.paths, task.options, report=pages.append)
        with Ahead(cuts(documents, task.position), _CUT_AHEAD) as ahead:
            for parsed in encoded(ahead, dialect):
                told = pages[:]
                del pages[: len(told)]  # others may have come since
                yield _Answer(_portable(parsed), told)
    except (Exception, KeyboardInterrupt) as error:
        yield _Raised.of(error)


def _portable(parsed: Parsed) -> Parsed:
    """Without the functions that open the documents: nobody reads them twice."""
    documents: dict[int, Document] = {}  # each once, so that a pickle holds it once
    for i, one in enumerate(parsed):
        if isinstance(one, Piece):
            given = one.document
            told = (given.size, given.modified_ns, given.title)
            kept = documents.setdefault(
                id(given), Document(given.name, given.kind, _elsewhere, *told)
            )
            parsed[i] = replace(one, document=kept)
    return parsed


def _elsewhere() -> Iterator[Part]:
    raise RuntimeError("this document is read in another process")
