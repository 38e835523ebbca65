"""The members of zip and tar archives as sources. Nothing is ever unpacked under its own name."""

from __future__ import annotations

import bz2
import calendar
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from samba_cli.documents import Skipped
from samba_cli.sources.source import READ_ERRORS, Problem, Source, slice_of, spooled

# Limits against archives made to fill a disk. Deflate reaches about 1,000 times at most, text
# about 20 times; only large members can do harm.
MAX_BYTES = 8 << 30  # of one archive, unpacked
MAX_MEMBERS = 200_000
_MAX_RATIO = 200
_SMALL_BYTES = 16 << 20


def members(source: Source, password: str | None) -> Iterator[Source | Skipped]:
    """Members sorted by name, as "archive!path/in/it". Raises Problem: corrupt, archive-limit."""
    head = source.head()
    if head.startswith(b"PK"):
        yield from _zip_members(source, password)
    else:
        yield from _tar_members(source, head)


def check_zip(name: str, archive: zipfile.ZipFile) -> None:
    """Refuses a zip file that unpacks to far too much. Raises Problem."""
    if any(_is_bomb(info) for info in archive.infolist()) or _total(archive) > MAX_BYTES:
        raise Problem(name, "archive-limit")


def _total(archive: zipfile.ZipFile) -> int:
    return sum(info.file_size for info in archive.infolist())


def _is_bomb(info: zipfile.ZipInfo) -> bool:
    # zipfile never gives more than the size that the directory states, so it can be trusted.
    return info.file_size > max(_SMALL_BYTES, _MAX_RATIO * info.compress_size)


def _zip_members(source: Source, password: str | None) -> Iterator[Source | Skipped]:
    try:
        archive = zipfile.ZipFile(source.path or source.open())
    except READ_ERRORS:
        raise Problem(source.name, "corrupt") from None
    if len(archive.infolist()) > MAX_MEMBERS or _total(archive) > MAX_BYTES:
        raise Problem(source.name, "archive-limit")
    if password is not None:
        archive.setpassword(password.encode("utf-8"))
    for info in sorted(archive.infolist(), key=lambda info: info.filename.split("/")):
        name = f"{source.name}!{info.filename}"
        reason = None
        if info.is_dir() or info.filename.startswith("__MACOSX/"):
            continue
        if _is_unsafe(info.filename):
            reason = "unsafe-name"
        elif _is_bomb(info):
            reason = "archive-limit"
        else:
            reason = _unreadable_member(archive, info)
        if reason is not None:
            yield Skipped(name, reason)
            continue
        yield Source(
            name=name,
            open=lambda info=info: cast(BinaryIO, archive.open(info)),
            size=info.file_size,
            modified_ns=_time_ns(info),
            member=info.filename,
            sequential=True,
        )


def _time_ns(info: zipfile.ZipInfo) -> int | None:
    """The time of a member, which zip files keep without a zone; None where it makes no sense."""
    try:
        return calendar.timegm((*info.date_time, 0, 0, 0)) * 10**9
    except ValueError:
        return None


def _unreadable_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str | None:
    """Why a member does not open, told by its first byte."""
    try:
        with archive.open(info) as member:
            member.read(1)
    except (RuntimeError, *READ_ERRORS):  # RuntimeError: a missing or wrong password
        return "encrypted" if info.flag_bits & 1 else "corrupt"
    return None


def _is_unsafe(path: str) -> bool:
    """Such a path would leave the folder it is unpacked in: the archive is not to be trusted."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return not parts or parts[0] == "/" or ".." in parts or ":" in parts[0]


def _tar_members(source: Source, head: bytes) -> Iterator[Source | Skipped]:
    """Members of a tar file, or the one file in a .gz, .bz2 or .xz.

    A compressed file is decompressed once into a temporary file, so that every member can be
    read at any time without starting over.
    """
    data, size = _decompressed(source, head)
    if slice_of(data, 0, size).read(262)[257:] != b"ustar":
        inner = PurePosixPath(source.name).stem
        yield Source(
            name=f"{source.name}!{inner}",
            open=lambda: slice_of(data, 0, size),
            size=size,
            modified_ns=source.modified_ns,
            member=inner,
        )
        return
    try:
        with tarfile.open(fileobj=slice_of(data, 0, size), mode="r:") as archive:
            infos = archive.getmembers()
    except (tarfile.TarError, ValueError, *READ_ERRORS):
        raise Problem(source.name, "corrupt") from None
    if len(infos) > MAX_MEMBERS:
        raise Problem(source.name, "archive-limit")
    latest = {info.name: info for info in infos}  # a later member replaces an earlier one
    for info in sorted(latest.values(), key=lambda info: info.name.split("/")):
        path = info.name.removeprefix("./")
        name = f"{source.name}!{path}"
        if info.isdir():
            continue
        if _is_unsafe(path):
            yield Skipped(name, "unsafe-name")
        elif info.issym() or info.islnk():
            yield Skipped(name, "symlink")
        elif not info.isreg() or info.issparse():
            yield Skipped(name, "special")
        elif info.offset_data + info.size > size:
            yield Skipped(name, "corrupt")
        else:
            yield Source(
                name=name,
                open=lambda info=info: slice_of(data, info.offset_data, info.size),
                size=info.size,
                modified_ns=int(info.mtime * 10**9),
                member=path,
            )


def _decompressed(source: Source, head: bytes) -> tuple[BinaryIO, int]:
    """A file with the plain bytes, and its size. Raises Problem."""
    openers = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
    opener = openers.get(head[:2])
    if opener is None and source.path is not None and source.size is not None:
        return open(source.path, "rb"), source.size  # noqa: SIM115  lives as long as its slices
    limit = MAX_BYTES
    if source.size is not None:
        limit = min(limit, max(_SMALL_BYTES, _MAX_RATIO * source.size))
    try:
        with source.open() as stream:
            plain = cast(BinaryIO, opener(stream)) if opener is not None else stream
            return spooled(plain, limit)
    except OverflowError:
        raise Problem(source.name, "archive-limit") from None
    except READ_ERRORS:
        raise Problem(source.name, "corrupt") from None
