"""Pulled models: a folder per model with its files and `source.json`, which says what they are.

Nothing here needs torch or the network: finding, describing and removing models is quick.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from samba_cli.errors import ModelError, UsageError
from samba_cli.files import sha256
from samba_cli.folders import models_folder

FORMAT = 1
SOURCE = "source.json"
PARTIAL = ".partial"  # NAME.partial is a pull that was interrupted
CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"  # one file, or several
PICKLE = "pytorch_model.bin"  # what older checkpoints have
BUILT_IN = "samba"  # how the model that comes with the program is named
BUILT_IN_FOLDER = Path(__file__).parent / "model" / "weights"
HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,199}", re.ASCII)


@dataclass(frozen=True)
class ModelFile:
    """A file as it was when it was pulled."""

    name: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class StoredModel:
    """What the store knows about a model."""

    name: str
    id: str  # ORG/NAME on the hub; "" for one that was converted here
    revision: str  # what was asked for: a branch, a tag or a commit; the file that was converted
    commit: str  # what that was then; "" for one that was converted
    license: str | None  # as the repository states it
    pulled: str  # ISO 8601, UTC; or converted
    files: tuple[ModelFile, ...]

    @property
    def folder(self) -> Path:
        return models_folder() / self.name

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def names() -> list[str]:
    """The models that are complete."""
    return sorted(p.name for p in _folders() if (p / SOURCE).is_file() and not _is_partial(p))


def interrupted() -> list[str]:
    """The models whose pull was interrupted and left files to go on from."""
    return sorted(p.name.removesuffix(PARTIAL) for p in _folders() if _is_partial(p))


def _folders() -> list[Path]:
    try:
        return [path for path in models_folder().iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        return []


def _is_partial(folder: Path) -> bool:
    return folder.name.endswith(PARTIAL)


def load(name: str) -> StoredModel:
    """Raises ModelError for a model that is missing or whose source.json is damaged."""
    file = models_folder() / name / SOURCE
    if not _NAME.fullmatch(name) or not file.is_file():
        raise ModelError(missing(name))
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        files = tuple(ModelFile(**entry) for entry in raw.pop("files"))
        if raw.pop("format") == FORMAT:
            return StoredModel(**{**raw, "name": name, "files": files})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"model '{name}' is damaged: {file} is not readable; remove it with: "
            f"samba models rm {name}"
        ) from error
    raise ModelError(f"model '{name}' is of another version of samba; pull it again")


def if_sound(name: str) -> StoredModel | None:
    """`load`, or None for a model that is missing or damaged."""
    try:
        return load(name)
    except ModelError:
        return None


def find(name: str) -> StoredModel | None:
    """The model of that name or hub id, if it was pulled. Raises ModelError if it is damaged."""
    if name in names():
        return load(name)
    if not HUB_ID.fullmatch(name):
        return None
    candidates = (if_sound(n) for n in (_short(name), _long(name)))
    return next((model for model in candidates if model and model.id == name), None)


def require(name: str) -> StoredModel:
    """`find`, or a ModelError that says how to get it."""
    model = find(name)
    if model is None:
        raise ModelError(missing(name))
    return model


def check_new(name: str) -> str:
    """A name that is free. Raises UsageError."""
    if not _NAME.fullmatch(name) or name == BUILT_IN or name.endswith((PARTIAL, ".")):
        raise UsageError(
            f"'{name}' cannot name a model; use letters, digits, '-', '_' and '.', beginning "
            "with a letter or digit"
        )
    if (models_folder() / name).exists():
        raise UsageError(f"model '{name}' exists; choose another name, or: samba models rm {name}")
    return name


def name_for(hub_id: str) -> str:
    """Under which name a repository is kept: without the organisation, where that is free."""
    name = _short(hub_id)
    if name == BUILT_IN or name.endswith(PARTIAL):
        return _long(hub_id)
    there = if_sound(name)
    return name if there is None or there.id == hub_id else _long(hub_id)


def _short(hub_id: str) -> str:
    return hub_id.partition("/")[2]


def _long(hub_id: str) -> str:
    return hub_id.replace("/", "--")


def source_text(model: StoredModel) -> str:
    """What `source.json` holds."""
    described = {"format": FORMAT, **asdict(model)}
    del described["name"]  # the folder's
    return json.dumps(described, ensure_ascii=False, indent=1) + "\n"


def changed_files(model: StoredModel, verify: bool) -> dict[str, str]:
    """Files that are no longer what was pulled, by name: "missing" or "changed".

    Without `verify` a file of the right size counts as unchanged; with it, its hash decides.
    """
    found = {}
    for file in model.files:
        path = model.folder / file.name
        try:
            size = path.stat().st_size
        except OSError:
            found[file.name] = "missing"
            continue
        if size != file.size or (verify and sha256(path) != file.sha256):
            found[file.name] = "changed"
    return found


def remove(name: str) -> None:
    """Delete a model and what is left of an interrupted pull. Raises ModelError."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot name a model")
    try:
        for folder in (models_folder() / name, models_folder() / f"{name}{PARTIAL}"):
            if folder.is_dir():
                discard(folder)
    except OSError as error:
        raise ModelError(f"cannot remove model '{name}': {error.strerror}") from error


def discard(folder: Path) -> None:
    """Delete a folder of the store. Raises OSError."""
    # Out of the list first: half a deletion must not look like a damaged model.
    doomed = folder.with_name(f".removed-{folder.name}-{os.getpid()}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def missing(name: str) -> str:
    """The sentence for a model that is not there."""
    from difflib import get_close_matches

    if HUB_ID.fullmatch(name):
        return f"there is no model {name} here; pull it with: samba models pull {name}"
    known = [*names(), BUILT_IN]
    if close := get_close_matches(name, known, n=1):
        return f"there is no model '{name}'; did you mean '{close[0]}'?"
    shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
    return (
        f"there is no model '{name}'; there are: {shown}; get others with: "
        "samba models pull ORG/NAME"
    )
