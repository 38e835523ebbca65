"""Memories: a folder per name with the state and the index of its passages.

What a memory says about itself lies in the index too, so that all of it is replaced in one
step. Nothing here needs the model: listing and describing memories is quick.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from samba_cli.errors import ModelError, UsageError
from samba_cli.files import sha256
from samba_cli.folders import memories_folder

FORMAT = 1
STATE, INDEX = "state.safetensors", "index.sqlite"
META = "memory"  # key of the description in the index
_NAME = re.compile(r"\w[\w.-]{0,99}")


@dataclass(frozen=True)
class Source:
    """A document as it was when it was read."""

    name: str
    path: str | None = None  # absolute; None for standard input and members of an archive
    size: int | None = None  # bytes
    modified_ns: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Memory:
    """What a memory says about itself."""

    name: str
    created: str  # ISO 8601, UTC
    updated: str
    version: str  # of samba
    model: str | None  # checkpoint folder; None is the model that comes with the program
    model_sha256: str
    tokens: int
    documents: int
    passages: int
    pages: int
    state_bytes: int
    sources: tuple[Source, ...]

    @property
    def window(self) -> int:
        """What bounded the full attention of its model; 0: nothing."""
        return weights_and_window(self.model_sha256)[1]

    @property
    def folder(self) -> Path:
        return memories_folder() / self.name

    @property
    def state_file(self) -> Path:
        return self.folder / STATE

    @property
    def index_file(self) -> Path:
        return self.folder / INDEX


def check_name(name: str) -> str:
    """The name itself. Raises UsageError where it could not be a folder's name everywhere."""
    if not _NAME.fullmatch(name) or name.endswith((".partial", ".")):
        raise UsageError(
            f"'{name}' cannot name a memory; use letters, digits, '-', '_' and '.', "
            "beginning with a letter or digit"
        )
    return name


def weights_and_window(fingerprint: str) -> tuple[str, int]:
    """A model's fingerprint taken apart: of its weights, and the window of its attention."""
    weights, _, window = fingerprint.partition("-window-")
    return weights, int(window or 0)


def exists(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and (memories_folder() / name / STATE).is_file()


def names() -> list[str]:
    try:
        folders = [path.parent.name for path in memories_folder().glob(f"*/{STATE}")]
    except OSError:
        return []
    # NAME.partial is a read that was interrupted.
    return sorted(n for n in folders if _NAME.fullmatch(n) and not n.endswith(".partial"))


def load_memory(name: str) -> Memory:
    """Raises ModelError for a memory that is missing or damaged, UsageError for a bad name."""
    folder = memories_folder() / check_name(name)
    if not (folder / STATE).is_file() and not (folder / INDEX).is_file():
        raise ModelError(_missing(name))
    for file in (folder / STATE, folder / INDEX):
        if not file.is_file():
            raise ModelError(f"memory '{name}' is damaged: {file} is missing; {read_again(name)}")
    try:
        raw = json.loads(_described(folder / INDEX))
        sources = tuple(Source(**source) for source in raw.pop("sources"))
        if raw.pop("format") == FORMAT:
            return Memory(**{**raw, "name": name, "sources": sources})
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"memory '{name}' is damaged: {folder / INDEX} is not readable; {read_again(name)}"
        ) from error
    raise ModelError(f"memory '{name}' is of another version of samba; {read_again(name)}")


def _described(index: Path) -> str:
    # `immutable`: a memory is replaced, never changed, so no lock and no journal are needed.
    with closing(sqlite3.connect(f"{index.absolute().as_uri()}?immutable=1", uri=True)) as db:
        return db.execute("SELECT value FROM meta WHERE key = ?", (META,)).fetchone()[0]


def description(memory: Memory) -> str:
    """What the index of the memory stores under META."""
    return json.dumps({"format": FORMAT, **asdict(memory)}, ensure_ascii=False)


def check_writable() -> None:
    """Find out before an hour of reading whether it can be kept. Raises ModelError."""
    import tempfile

    folder = memories_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ModelError(
            f"cannot keep memories in {folder}: {error.strerror}; set XDG_DATA_HOME to a folder "
            "that can be written"
        ) from error


def remove(name: str) -> None:
    """Delete a memory. Raises ModelError where there is none, or it cannot be deleted."""
    folder = memories_folder() / check_name(name)
    if not folder.is_dir():
        raise ModelError(_missing(name))
    try:
        # Out of the list first: half a deletion must not look like a damaged memory.
        doomed = folder.rename(folder.with_name(f".removed-{name}"))
        shutil.rmtree(doomed)
    except OSError as error:
        raise ModelError(f"cannot remove memory '{name}': {error.strerror}") from error


def fingerprint(name: str, size: int | None) -> Source:
    """A source as it is now; a file is hashed, so that a mere `touch` is no change."""
    path = Path(name)
    try:
        if name == "-" or not path.is_file():
            return Source(name, size=size)
        status = path.stat()
    except (OSError, ValueError):
        return Source(name, size=size)
    return Source(name, str(path.absolute()), status.st_size, status.st_mtime_ns, _sha256(path))


def changed_sources(sources: Iterable[Source]) -> Iterator[tuple[Source, str]]:
    """The sources that are no longer what was read: "changed" or "gone"."""
    for source in sources:
        if source.path is None:
            continue
        path = Path(source.path)
        try:
            status = path.stat()
        except OSError:
            yield source, "gone"
            continue
        if (status.st_size, status.st_mtime_ns) == (source.size, source.modified_ns):
            continue
        if status.st_size != source.size or _sha256(path) != source.sha256:
            yield source, "changed"


def _sha256(path: Path) -> str | None:
    try:
        return sha256(path)
    except OSError:
        return None


def read_again(name: str) -> str:
    """What repairs a memory."""
    return f"read again with: samba read PATH --as {name} --force"


def _missing(name: str) -> str:
    from difflib import get_close_matches

    known = names()
    if not known:
        return f"there is no memory '{name}'; make one with: samba read PATH --as {name}"
    if close := get_close_matches(name, known, n=1):
        return f"there is no memory '{name}'; did you mean '{close[0]}'?"
    shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    return f"there is no memory '{name}'; there are: {shown}"
