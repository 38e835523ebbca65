"""From a reading to a memory: written whole, or not at all."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samba_cli import __version__
from samba_cli import memory as memories
from samba_cli.errors import ModelError
from samba_cli.folders import memories_folder
from samba_cli.memory import Memory
from samba_cli.reading import Reading


def partial_folder(name: str) -> Path:
    """Where the checkpoints of a read that becomes a memory lie."""
    return memories_folder() / f"{name}.partial"


def keep(reading: Reading, name: str) -> Memory:
    """Make what was read in this run a memory, replacing one of that name.

    The reading cannot be used afterwards. Raises ModelError where it cannot be written.
    """
    assert reading.folder is not None
    memory = _describe(reading, name)
    with _written(name):
        reading.index.set_meta(memories.META, memories.description(memory))
        reading.folder.keep(memory.folder)
    return memory


def keep_copy(reading: Reading, name: str) -> Memory:
    """Copy a reading into a new memory and go on using it. Raises ModelError."""
    from samba_cli.index import PassageIndex

    memory = _describe(reading, name)
    with _written(name):
        memories_folder().mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=memories_folder(), prefix=f".{name}."))
        try:
            reading.index.copy_to(staged / memories.INDEX)
            with PassageIndex.open(staged / memories.INDEX) as copy:
                copy.set_meta(memories.META, memories.description(memory))
                copy.seal()
            reading.state.save(staged / memories.STATE, reading.session.tokenizer.fingerprint)
            os.chmod(staged, 0o755)
            os.replace(staged, memory.folder)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
    return memory


@contextmanager
def _written(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"cannot keep memory '{name}' in {memories_folder()}: {reason}") from error


def _describe(reading: Reading, name: str) -> Memory:
    session, counts, old = reading.session, reading.index.counts(), reading.memory
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    known = {source.name: source for source in old.sources} if old is not None else {}
    return Memory(
        name=name,
        created=old.created if old is not None and old.name == name else now,
        updated=now,
        version=__version__,
        model=str(Path(session.folder).absolute()) if session.folder else None,
        model_sha256=session.model.fingerprint,
        tokens=reading.state.position,
        documents=counts.documents,
        passages=counts.passages,
        pages=counts.pages,
        state_bytes=reading.state.nbytes,
        sources=tuple(
            known.get(document.name) or memories.fingerprint(document.name, document.size)
            for document in reading.index.documents()
        ),
    )
