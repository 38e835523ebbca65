"""Memories: a folder per name with the state, the passages and `memory.json` about them.

Nothing here needs the model: listing and describing memories is quick.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from samba_cli.errors import ModelError, UsageError
from samba_cli.folders import memories_folder

FORMAT = 1
DESCRIPTION, STATE, INDEX = "memory.json", "state.safetensors", "index.sqlite"
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
    """What `memory.json` says."""

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


def exists(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and (memories_folder() / name / DESCRIPTION).is_file()


def names() -> list[str]:
    try:
        return sorted(p.parent.name for p in memories_folder().glob(f"*/{DESCRIPTION}")
                      if _NAME.fullmatch(p.parent.name) and p.parent.suffix != ".partial")  # fmt: skip
    except OSError:
        return []


def load_memory(name: str) -> Memory:
    """Raises ModelError for a memory that is missing or damaged, UsageError for a bad name."""
    path = memories_folder() / check_name(name) / DESCRIPTION
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise ModelError(f"memory '{name}' was written by another version of samba; read again")
        sources = tuple(Source(**source) for source in raw.pop("sources"))
        del raw["format"]
        memory = Memory(**{**raw, "name": name, "sources": sources})
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(_missing(name)) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"memory '{name}' is damaged ({path} is not readable); remove it and read again"
        ) from error
    for file in (memory.state_file, memory.index_file):
        if not file.is_file():
            raise ModelError(f"memory '{name}' is damaged ({file} is missing); read again")
    return memory


def write_description(folder: Path, memory: Memory) -> None:
    """Write `memory.json` into a folder that is not a memory yet. Raises OSError."""
    text = json.dumps({"format": FORMAT, **asdict(memory)}, indent=1, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


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


def fingerprint(name: str, size: int | None, modified_ns: int | None) -> Source:
    """A source as it is now; the file is hashed, so that a mere `touch` is no change."""
    path = Path(name)
    if name == "-" or not path.is_file():
        return Source(name, None, size, modified_ns)
    return Source(name, str(path.absolute()), size, modified_ns, _sha256(path))


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
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _missing(name: str) -> str:
    from difflib import get_close_matches

    known = names()
    if not known:
        return f"there is no memory '{name}'; make one with: samba read PATH --as {name}"
    if close := get_close_matches(name, known, n=1):
        return f"there is no memory '{name}'; did you mean '{close[0]}'?"
    shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    return f"there is no memory '{name}'; there are: {shown}"
