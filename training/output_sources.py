"""The documents of docs/outputs.md: what they are, what is asked of them, and where they come from.

`outputs.json` has the rule they were chosen by, and for each its package, version and SHA-256, the
questions, the expected answers and where these stand.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

LIST = Path(__file__).with_name("outputs.json")


@dataclass(frozen=True)
class Place:
    """Where an answer stands: a page of a PDF file, or lines of a file of a repository."""

    page: int | None = None
    file: str = ""  # the end of its path
    first: int = 0
    last: int = 0

    def __str__(self) -> str:
        return f"p. {self.page}" if self.page else f"{self.file}:{self.first}-{self.last}"


@dataclass(frozen=True)
class Asked:
    """A question. `answer`: any of these sets of words is right; None: the text does not say."""

    question: str
    answer: tuple[tuple[str, ...], ...] | None
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Source:
    name: str  # of the file or folder
    kind: Literal["pdf", "repository"]
    title: str
    sha256: str  # of the PDF file, or of the archive
    questions: tuple[Asked, ...]
    about: tuple[tuple[str, ...], ...]  # a summary should mention one word of each
    debian: str = ""  # package of Debian 12
    path: str = ""  # of the file in that package
    pypi: str = ""  # distribution
    version: str = ""

    @property
    def origin(self) -> str:
        return f"{self.pypi} {self.version}" if self.pypi else f"Debian package {self.debian}"


def read_list(path: Path = LIST) -> tuple[list[str], list[Source]]:
    """The rule, sentence by sentence, and the sources in their order."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return found["rule"], [_source(fields) for fields in found["sources"]]


def _source(fields: dict[str, Any]) -> Source:
    questions = tuple(
        Asked(
            one["question"],
            None if one["answer"] is None else tuple(map(tuple, one["answer"])),
            tuple(Place(**place) for place in one["places"]),
        )
        for one in fields["questions"]
    )
    about = tuple(map(tuple, fields["about"]))
    return Source(**{**fields, "questions": questions, "about": about})


def fetch(sources: list[Source], folder: Path) -> Iterator[str]:
    """Get what `folder` lacks with pip and apt-get; a sentence for each source.

    Raises CalledProcessError where one of these fails: apt-get has the packages of Debian 12 only
    on Debian 12.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if (folder / source.name).exists():
            yield f"{source.name}: there already"
            continue
        with tempfile.TemporaryDirectory() as temporary:
            get = _from_pypi if source.pypi else _from_debian
            found = get(source, Path(temporary), folder)
        same = found == source.sha256
        yield f"{source.name}: " + (
            "as asked about" if same else "ANOTHER EDITION, see outputs.json"
        )


def _from_pypi(source: Source, temporary: Path, folder: Path) -> str:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    wanted = f"{source.pypi}=={source.version}"
    subprocess.run([*command, "-d", str(temporary), wanted], check=True)
    archive = next(temporary.glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(temporary / "inside", filter="data")
    next((temporary / "inside").iterdir()).rename(folder / source.name)
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def _from_debian(source: Source, temporary: Path, folder: Path) -> str:
    subprocess.run(["apt-get", "download", "-q", source.debian], cwd=temporary, check=True)
    package = next(temporary.glob("*.deb"))
    inside = temporary / "inside"
    subprocess.run(["dpkg-deb", "-x", str(package), str(inside)], check=True)
    content = (inside / source.path).read_bytes()
    content = gzip.decompress(content) if source.path.endswith(".gz") else content
    (folder / source.name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()
