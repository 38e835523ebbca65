"""Bytes with a name, and the ways they can turn out to be unreadable."""

from __future__ import annotations

import io
import lzma
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, cast

from samba_cli.errors import Unreadable

HEAD_BYTES = 65536  # what the kind of a file is told from

# Reason of a Skipped -> the sentence for a person who asked for just this file.
SENTENCES = {
    "archive": "is an archive inside another input: unpack it, or name it as a path of its own.",
    "archive-limit": "unpacks to more than is safe to read: unpack it and give the files.",
    "binary": "is a binary file: give text, code, PDF, DOCX, EPUB, HTML or a notebook.",
    "corrupt": "is damaged or cut off: get a whole copy of it.",
    "decode": "is not text in any known encoding: name it with --encoding.",
    "drm": "is protected by DRM: it can only be read in its publisher's reader.",
    "empty": "is empty: there is nothing to read.",
    "encrypted": "is encrypted: give its password with --password-file FILE.",
    "excluded": "is left out by --exclude.",
    "generated": "is minified or generated code: give its source.",
    "lock-file": "is a lock file: give the source files.",
    "no-pages": "has none of the pages that --pages asks for.",
    "password": "does not open with the password given: check the file named by --password-file.",
    "permission": "cannot be opened: you have no permission to read it.",
    "special": "is a device or socket: give a file or a folder.",
    "symlink": "is a symbolic link: use --follow-symlinks to read it.",
    "too-large": "is larger than --max-file-size.",
    "too-many": "comes after the --max-files limit.",
    "unreadable": "cannot be read.",
    "unsafe-name": "has a path that leaves its archive: it is not read.",
}

# What reading a file, or a member of a damaged archive, can raise.
READ_ERRORS = (
    OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    NotImplementedError, UnicodeDecodeError,
)  # fmt: skip


class Problem(Unreadable):
    """A document that cannot be read. `reason` is what a Skipped of it carries."""

    def __init__(self, name: str, reason: str, sentence: str | None = None) -> None:
        subject = "Standard input" if name == "-" else name
        super().__init__(f"{subject} {SENTENCES[reason]}" if sentence is None else sentence)
        self.name = name
        self.reason = reason


def read_problem(name: str, error: Exception) -> Problem:
    """One of READ_ERRORS as a problem of the file that was read."""
    if isinstance(error, PermissionError):
        return Problem(name, "permission")
    if isinstance(error, OSError) and error.errno is not None:
        return Problem(name, "unreadable", f"{name} cannot be read: {error.strerror}.")
    return Problem(name, "corrupt")


@dataclass(frozen=True)
class Source:
    """One file, archive member or spooled stream, before its kind is known.

    `open()` gives a fresh seekable binary stream each time; the caller closes it.
    """

    name: str
    open: Callable[[], BinaryIO]
    size: int | None = None  # bytes
    modified_ns: int | None = None
    path: str | None = None  # where the bytes are a file of their own
    member: str | None = None  # its path, where it is inside an archive
    sequential: bool = False  # seeking back in open() costs reading again from the start

    def head(self) -> bytes:
        with self.open() as stream:
            return stream.read(HEAD_BYTES)

    def open_random(self) -> BinaryIO:
        """As `open()`, for formats whose directory is at the end."""
        if not self.sequential:
            return self.open()
        with self.open() as stream:
            copy, _ = spooled(stream)
        copy.seek(0)
        return copy


def shown(path: str) -> str:
    """A path as text that can be printed and stored, whatever bytes the file system holds."""
    return os.fsencode(path).decode("utf-8", "replace")


def file_source(path: str, name: str | None = None) -> Source:
    """A file on disk. Raises OSError where it is not there."""
    status = os.stat(path)
    return Source(
        name=shown(path) if name is None else name,
        open=lambda: open(path, "rb"),
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        path=path,
    )


def spooled(stream: BinaryIO, limit: int | None = None) -> tuple[BinaryIO, int]:
    """A copy of a stream in a temporary file, and its size in bytes.

    Raises OverflowError beyond `limit` bytes.
    """
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  lives as long as its slices
    size = 0
    while chunk := stream.read(1 << 20):
        size += len(chunk)
        if limit is not None and size > limit:
            copy.close()
            raise OverflowError
        copy.write(chunk)
    copy.flush()
    return copy, size


class Slice(io.RawIOBase):
    """The bytes [start, start + size) of an open file, as a read-only stream.

    Reads with `pread`, so that slices of one file do not disturb each other.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        count = max(0, min(len(buffer), self._size - self._position))
        data = os.pread(self._file.fileno(), count, self._start + self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def slice_of(file: BinaryIO, start: int, size: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(Slice(file, start, size)))
