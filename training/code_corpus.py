"""Make a corpus of code from the standard library and permissively licensed packages.

    python -m training.code_corpus --wheels DIR --out DIR

Downloads the wheels of PACKAGES and HELD_OUT into --wheels (those already there are kept) and
writes code.jsonl.xz, heldout-code.jsonl.xz (packages never trained on) and
code_packages.json (name, version, licence, split) into --out. One file is one document.
"""

from __future__ import annotations

import argparse
import email.parser
import json
import platform
import random
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from training.shards import Record, write_shard

PACKAGES = (
    "requests", "flask", "django", "click", "rich", "attrs", "httpx", "pytest", "jinja2",
    "werkzeug", "sqlalchemy", "aiohttp", "sympy", "pandas", "scikit-learn", "scipy", "numpy",
    "black", "mypy", "poetry-core", "celery", "boto3", "fastapi", "pydantic", "starlette", "pyyaml",
    "packaging", "setuptools", "twisted", "nltk", "sphinx", "babel", "pillow",
    "matplotlib", "transformers", "urllib3", "pip", "bokeh", "dask",
)  # fmt: skip
HELD_OUT = (
    "bottle", "peewee", "arrow", "marshmallow", "tornado", "networkx", "textual", "scrapy",
)  # fmt: skip

STDLIB_CHARACTERS = 8_000_000
PACKAGE_CHARACTERS = 1_700_000  # of one package, so that none dominates
_SUFFIXES = {".py", ".pyi", ".md", ".rst"}
_SHORTEST, _LONGEST = 300, 120_000  # characters of a file; longer ones are mostly tables
_LEFT_OUT = {
    "test", "tests", "testing", "_vendor", "vendor", "vendored", "_vendored_packages", "idlelib",
    "lib2to3", "turtledemo", "encodings", "ensurepip", "pydoc_data", "site-packages",
    "__pycache__", "locale", "locale-data", "externals", "conformance",
}  # fmt: skip


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    licence: str
    split: str  # "train" or "held out"


def download(names: tuple[str, ...], folder: Path) -> None:
    """Fetch the wheels that `folder` lacks. Raises CalledProcessError when pip fails."""
    folder.mkdir(parents=True, exist_ok=True)
    have = {_canonical(path.name.split("-")[0]) for path in folder.glob("*.whl")}
    missing = [name for name in names if _canonical(name) not in have]
    if missing:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        subprocess.run([*command, "--only-binary=:all:", *missing], check=True)


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def metadata(wheel: zipfile.ZipFile, split: str) -> Package:
    """Name, version and licence as the wheel states them. Raises ValueError for copyleft."""
    path = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    fields = email.parser.Parser().parsestr(wheel.read(path).decode(), headersonly=True)
    classifiers = [
        c.split(" :: ")[-1] for c in fields.get_all("Classifier", []) if c.startswith("License")
    ]
    # a licence field may hold the whole text of a licence: its first line names it
    lines = (fields["License-Expression"] or fields["License"] or "").strip().splitlines()
    licence = lines[0][:80] if lines else "; ".join(classifiers)
    if any(word in " ".join([licence, *classifiers]) for word in ("GPL", "MPL", "Mozilla")):
        raise ValueError(f"{fields['Name']}: {licence} is not a permissive licence")
    return Package(fields["Name"], fields["Version"], licence or "unstated", split)


def _wanted(path: PurePosixPath) -> bool:
    return (
        path.suffix in _SUFFIXES
        and not _LEFT_OUT.intersection(path.parts)
        and not path.stem.endswith(("_pb2", "_tables"))
    )


def _documents(files: Iterator[tuple[str, bytes]], package: str, budget: int) -> Iterator[Record]:
    taken = list(files)
    random.Random(package).shuffle(taken)
    for title, raw in taken:
        try:
            text = raw.decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue
        if not _SHORTEST <= len(text) <= _LONGEST or max(map(len, text.splitlines())) > 1000:
            continue
        budget -= len(text)
        if budget < 0:
            return
        yield {"source": f"code:{package}", "kind": "code", "title": title, "text": text}


def standard_library() -> Iterator[Record]:
    root = Path(sysconfig.get_path("stdlib"))
    paths = (p for p in sorted(root.rglob("*.py")) if _wanted(PurePosixPath(p.relative_to(root))))
    files = ((str(p.relative_to(root)), p.read_bytes()) for p in paths)
    return _documents(files, "python", STDLIB_CHARACTERS)


def wheel_files(wheel: zipfile.ZipFile, package: str) -> Iterator[Record]:
    names = [n for n in sorted(wheel.namelist()) if _wanted(PurePosixPath(n))]
    return _documents(((n, wheel.read(n)) for n in names), package, PACKAGE_CHARACTERS)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the corpus of code.")
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    download(PACKAGES + HELD_OUT, arguments.wheels)
    licences = [Package("python", platform.python_version(), "PSF-2.0", "train")]
    records: dict[str, list[Record]] = {"train": list(standard_library()), "held out": []}
    splits = {_canonical(n): "train" for n in PACKAGES} | dict.fromkeys(HELD_OUT, "held out")
    for path in sorted(arguments.wheels.glob("*.whl")):
        name = _canonical(path.name.split("-")[0])
        if name not in splits:
            continue
        with zipfile.ZipFile(path) as wheel:
            licences.append(metadata(wheel, splits[name]))
            records[splits[name]] += wheel_files(wheel, name)
    for split, file in (("train", "code.jsonl.xz"), ("held out", "heldout-code.jsonl.xz")):
        random.Random(0).shuffle(records[split])
        write_shard(arguments.out / file, records[split])
        size = sum(len(record["text"]) for record in records[split])
        print(f"{file}: {len(records[split])} files, {size / 1e6:.1f} million characters")
    text = json.dumps([asdict(licence) for licence in licences], indent=1)
    (arguments.out / "code_packages.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
