"""The folder a read happens in, and its checkpoints: a killed read goes on where it was.

`index.sqlite` holds the passages, `state.safetensors` the state. A checkpoint is the state
file alone: its metadata says how many passages the state has read, and renaming it into
place is what makes a checkpoint valid. Rows that the index got later are deleted on resume.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from samba_cli.errors import ModelError
from samba_cli.files import lock as lock_file
from samba_cli.index import PassageIndex
from samba_cli.memory import read_again
from samba_cli.model.network import Model
from samba_cli.model.state import State, StateError
from samba_cli.model.tokenizer import Tokenizer
from samba_cli.parsing import Position

INDEX, STATE, LOCK = "index.sqlite", "state.safetensors", "lock"


@dataclass(frozen=True)
class Base:
    """What the index and the state held before this read: nothing, or a memory continued."""

    passages: int = 0
    documents: int = 0
    skipped: int = 0
    tokens: int = 0


def read_key(
    paths: Sequence[str | Path], model: Model, tokenizer: Tokenizer, options: object
) -> str | None:
    """A name for "this input, read this way", equal when the same command is given again.

    None when standard input ("-") is among the paths: it cannot be read again. `options` must
    have a stable repr (a dataclass). Files inside a folder are not looked at: the read itself
    verifies the text it resumes over.
    """
    parts: list[object] = [model.fingerprint, tokenizer.fingerprint, repr(options)]
    for path in paths:
        if str(path) == "-":
            return None
        parts.append(os.path.abspath(path))
        try:
            stat = os.stat(path)
            parts.append((stat.st_size, stat.st_mtime_ns) if not os.path.isdir(path) else "folder")
        except OSError:
            parts.append("missing")
    return hashlib.sha256(repr(parts).encode(errors="replace")).hexdigest()[:32]


class ReadFolder:
    """Where a read keeps its index and state. Made by `open_read_folder`; use it with `with`.

    On leaving, the folder is removed unless it was kept (`keep`), or an exception ended the
    read after a checkpoint: then it stays, and the same command resumes from it.
    """

    def __init__(
        self, path: Path | None, model: Model, tokenizer: Tokenizer, base: Path | None,
        lock: int | None, resumable: bool, note: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.path = path
        self.resumable = resumable  # checkpoints can be written
        self.checkpoints = 0  # written, or found when resuming
        self.notes: list[str] = []
        self._model, self._tokenizer, self._from, self._lock = model, tokenizer, base, lock
        self._note, self._done = note, False
        self.index: PassageIndex
        self.state: State
        self.base = Base()
        self.position = Position()

    @property
    def resumed_at(self) -> int:
        """Tokens that an interrupted run had read; 0 for a new read."""
        return self._resumed_at

    _resumed_at = 0

    def note(self, sentence: str) -> None:
        """Pass a warning on, and keep it for the report."""
        self.notes.append(sentence)
        self._note(sentence)

    def begin(self) -> None:
        """Start from nothing, or from the memory continued. Raises OSError, sqlite3.Error."""
        if self._from is not None:
            with PassageIndex.open(self._from / INDEX) as source:
                source.copy_to(self._file(INDEX))
            self.index = (
                PassageIndex.open(Path(self._file(INDEX))) if self.path else PassageIndex.create("")
            )
            self.state, _ = _load_state(self._from / STATE, self._model, self._tokenizer)
            counts = self.index.counts()
            self.base = Base(counts.passages, counts.documents, counts.skipped, self.state.position)
        else:
            self.index = PassageIndex.create(self._file(INDEX))
            self.state = self._model.initial_state()
        self.position, self._resumed_at, self.checkpoints = Position(), 0, 0

    def start_over(self) -> None:
        """Forget what was read since the base. Raises OSError, sqlite3.Error."""
        self.index.close()
        self._clear()
        self.begin()

    def resume(self) -> bool:
        """Go back to the last checkpoint in this folder; False when there is none of use."""
        if self.path is None or not (self.path / STATE).is_file():
            return False
        try:
            state, metadata = State.load(
                self.path / STATE, self._model, self._tokenizer.fingerprint
            )
            saved = json.loads(metadata["read"])
            position, base = Position(**saved["position"]), Base(**saved["base"])
            index = PassageIndex.open(self.path / INDEX)
        except (StateError, ModelError, KeyError, TypeError, ValueError):
            return False
        try:
            index.truncate(
                base.passages + position.passages, base.documents + position.documents, base.skipped
            )
            whole = index.counts().passages == base.passages + position.passages
        except sqlite3.Error:
            whole = False
        if not whole:
            index.close()
            return False
        self.index, self.state, self.base, self.position = index, state, base, position
        self._resumed_at, self.checkpoints = state.position - base.tokens, 1
        return True

    def checkpoint(self, position: Position) -> bool:
        """Write a checkpoint. A failure is noted once, and reading goes on without."""
        if not self.resumable or self.path is None:
            return False
        saved = json.dumps({"position": asdict(position), "base": asdict(self.base)})
        try:
            self.index.commit()
            self.state.save(self.path / STATE, self._tokenizer.fingerprint, {"read": saved})
        except (OSError, sqlite3.Error) as error:
            self.resumable = False
            self.note(
                f"{self.path}: no checkpoint could be written ({_reason(error)});"
                " if interrupted, this read starts over."
            )
            return False
        self.position = position
        self.checkpoints += 1
        return True

    def keep(
        self,
        target: Path,
        metadata: Mapping[str, str] | None = None,
        describe: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """Make this a finished memory at `target`, replacing one that is there.

        `describe` may write more files into the folder before it is renamed into place. Call
        `keep` last: the index is closed. Raises OSError, and leaves `target` as it was then.
        """
        self.index.seal()
        self.index.close()
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            if self.path is None:
                raise OSError("the passages of this read are on no disk")
            self.state.save(staged / STATE, self._tokenizer.fingerprint, metadata)
            shutil.move(self.path / INDEX, staged / INDEX)
            describe(staged)
            os.chmod(staged, 0o755)
            old = staged.with_name(staged.name + ".old")
            if target.exists():
                os.replace(target, old)
            os.replace(staged, target)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        self._done = True
        self._remove()

    def __enter__(self) -> ReadFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._done:
            return
        self._done = True
        with contextlib.suppress(sqlite3.Error):  # a full disk: what was committed is consistent
            self.index.close()
        if kind is None or not self.checkpoints or not self.resumable:
            self._remove()
        elif self._lock is not None:
            os.close(self._lock)

    def _file(self, name: str) -> str:
        return str(self.path / name) if self.path else ""

    def _clear(self) -> None:
        for file in self.path.iterdir() if self.path else ():
            if file.name.startswith((INDEX, STATE, f".{STATE}")):
                file.unlink()

    def _remove(self) -> None:
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


def open_read_folder(
    path: Path | None,
    model: Model,
    tokenizer: Tokenizer,
    *,
    base: Path | None = None,
    resume: bool = True,
    note: Callable[[str], None] = lambda sentence: None,
) -> ReadFolder:
    """A folder for one read, at its last checkpoint if it has one (and `resume`).

    `path` None, not writable, or in use by another process: a temporary folder without
    checkpoints. `base` is a finished memory that the read continues. Raises ModelError when
    `base` is missing, damaged, or of another model.
    """
    if path is not None:
        lock = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = _lock(path / LOCK)
            folder = ReadFolder(path, model, tokenizer, base, lock, True, note)
            if resume and folder.resume():
                folder.note(
                    f"resuming after {folder.resumed_at:,} tokens read by an interrupted run"
                )
                return folder
            folder._clear()
            folder.begin()
            return folder
        except (OSError, sqlite3.Error) as error:
            if lock is not None:
                os.close(lock)
            note(
                f"{path}: cannot be used for checkpoints ({_reason(error)});"
                " if interrupted, this read starts over."
            )
    try:
        folder = ReadFolder(
            Path(tempfile.mkdtemp(prefix="samba-read-")), model, tokenizer, base, None, False, note
        )
        folder.begin()
    except (OSError, sqlite3.Error):
        folder = ReadFolder(None, model, tokenizer, base, None, False, note)
        folder.begin()
    return folder


def remove_stale_reads(folder: Path, days: float = 14.0) -> int:
    """Delete interrupted reads in a cache folder that nobody resumed; returns how many."""
    removed = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        newest = max((file.stat().st_mtime for file in path.glob("*")), default=0.0)
        if path.is_dir() and time.time() - newest > days * 86_400:
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def _load_state(path: Path, model: Model, tokenizer: Tokenizer) -> tuple[State, dict[str, str]]:
    try:
        return State.load(path, model, tokenizer.fingerprint)
    except StateError as error:
        name = path.parent.name
        raise ModelError(f"memory '{name}' is damaged: {error}; {read_again(name)}") from None


def _lock(path: Path) -> int | None:
    """Hold a folder for this process. Raises OSError when another one holds it."""
    try:
        return lock_file(path)
    except BlockingIOError:
        raise OSError("another process is reading the same input") from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
