"""Pulling a model: what is needed of a repository, checked, into the store, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from samba_cli import models
from samba_cli.errors import ModelError
from samba_cli.failures import Interrupted
from samba_cli.files import lock as lock_file
from samba_cli.files import sha256
from samba_cli.hub import HubFile, Repository, fetch, look_up
from samba_cli.model_facts import architecture
from samba_cli.models import CONFIG, INDEX, PICKLE, WEIGHTS, ModelFile, StoredModel
from samba_cli.units import bytes_text

BESIDE = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "chat_template.jinja",
)  # fmt: skip
_PART = ".part"  # what has come of a file
_COMMIT, _LOCK = ".commit", ".lock"  # in the folder of an unfinished pull
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_LARGEST_CONFIG = 50_000_000


class Shown(Protocol):
    """How far a pull has come, for a person."""

    def begin(self, total: int, there: int) -> None: ...

    def arrived(self, count: int) -> None: ...


def pull(
    hub_id: str, revision: str, shown: Shown, note: Callable[[str], None]
) -> tuple[StoredModel, bool]:
    """Fetch what a model needs and put it into the store; whether anything had to be fetched.

    An interrupted pull is gone on with. Raises ModelError with one sentence, Interrupted on
    Ctrl-C; then the store is as it was.
    """
    repository = look_up(hub_id, revision)
    name = models.name_for(hub_id)
    again = hub_id if revision == "main" else f"{hub_id}@{revision}"
    with _pull_folder(models.models_folder() / f"{name}{models.PARTIAL}", again) as partial:
        there = models.if_sound(name)
        if there and there.commit == repository.commit and not models.changed_files(there, False):
            return there, False
        _begin(partial, repository.commit)
        files = _choose(repository, partial, note)
        total, arrived = sum(f.size for f in files), _arrived(partial, files)
        _check_space(partial, hub_id, total - arrived)
        shown.begin(total, arrived)
        model = StoredModel(
            name=name,
            id=hub_id,
            revision=revision,
            commit=repository.commit,
            license=repository.license,
            pulled=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            files=tuple(_get(repository, file, partial, shown.arrived) for file in files),
        )
        _install(model, partial)
    return model, True


def _choose(
    repository: Repository, partial: Path, note: Callable[[str], None]
) -> tuple[HubFile, ...]:
    """The files a model needs; those it takes to know that are fetched on the way."""
    # Nothing of a sub-folder is ever needed, and no name leads out of the folder.
    files = {f.name: f for f in repository.files if Path(f.name).name == f.name}

    def read(name: str) -> dict[str, Any]:
        if files[name].size > _LARGEST_CONFIG:
            raise ModelError(f"{name} of {repository.id} is too large to be one")
        _get(repository, files[name], partial, lambda count: None)
        try:
            value = json.loads((partial / name).read_bytes())
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{name} of {repository.id} is not valid JSON") from error
        if not isinstance(value, dict):
            raise ModelError(f"{name} of {repository.id} holds no JSON object")
        return value

    if CONFIG not in files:
        raise ModelError(f"{repository.id} is no model for samba: it has no {CONFIG}")
    _check_architecture(repository.id, read(CONFIG))
    chosen = [CONFIG, *(name for name in BESIDE if name in files)]
    if WEIGHTS in files:
        chosen.append(WEIGHTS)
    elif INDEX in files:
        shards = read(INDEX).get("weight_map")
        wanted = sorted({str(s) for s in shards.values()}) if isinstance(shards, dict) else []
        lost = [shard for shard in wanted if shard not in files]
        if lost or not wanted:
            what = lost[0] if lost else "weights"
            raise ModelError(f"{repository.id} is incomplete: it has no {what}")
        chosen += [INDEX, *wanted]
    elif PICKLE in files:
        chosen.append(PICKLE)
    else:
        raise ModelError(f"{repository.id} has no weights that samba can read: no {WEIGHTS}")
    if "tokenizer.json" not in files:
        note(
            f"{repository.id} has no tokenizer.json; put the one it was trained with into "
            f"{models.models_folder() / models.name_for(repository.id)}"
        )
    return tuple(files[name] for name in chosen)


def _check_architecture(hub_id: str, config: dict[str, Any]) -> None:
    from samba_cli.model.architectures import read_architecture
    from samba_cli.model.architectures.names import KNOWN, known

    found = architecture(config)
    if found is None or not known(found):
        is_a = f"a '{found}' model" if found else "of a kind its config.json does not name"
        raise ModelError(
            f"{hub_id} is {is_a}, which samba cannot run; it runs {', '.join(sorted(KNOWN))}"
        )
    try:
        read_architecture(config)
    except ValueError as error:  # a variant of the family, with experts for one
        raise ModelError(f"{hub_id} is a '{found}' model that samba cannot run: {error}") from error


def _get(
    repository: Repository, file: HubFile, folder: Path, arrived: Callable[[int], None]
) -> ModelFile:
    """A file, whole and checked, under its name in `folder`."""
    path, part = folder / file.name, folder / f"{file.name}{_PART}"
    if path.is_file():  # it got its name after it was checked
        return ModelFile(file.name, file.size, file.sha256 or sha256(path))
    with part.open("ab") as target:
        if target.tell() > file.size:
            target.truncate(0)
        fetch(repository, file, target, arrived)
        target.flush()
        os.fsync(target.fileno())
    digest = sha256(part)
    if not _is(part, file, digest):
        part.unlink()
        raise ModelError(
            f"{file.name} of {repository.id} arrived damaged (not the content the hub states); "
            "run the same command again"
        )
    os.replace(part, path)
    return ModelFile(file.name, file.size, digest)


def _is(path: Path, file: HubFile, digest: str) -> bool:
    if path.stat().st_size != file.size:
        return False
    if file.sha256:
        return digest == file.sha256
    if file.git_id:  # a small file lies in git itself
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.git_id
    return True


def _begin(partial: Path, commit: str) -> None:
    """Go on with what came of this commit; nothing of another one is mixed in."""
    note = partial / _COMMIT
    if note.is_file() and note.read_text() == commit:
        return
    for path in partial.iterdir():
        if path.name != _LOCK:
            path.unlink()
    note.write_text(commit)


def _arrived(partial: Path, files: Sequence[HubFile]) -> int:
    """Bytes that need not be fetched again."""
    paths = (partial / f"{file.name}{end}" for file in files for end in ("", _PART))
    return sum(path.stat().st_size for path in paths if path.is_file())


def _check_space(partial: Path, hub_id: str, needed: int) -> None:
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise ModelError(
            f"{hub_id} takes {bytes_text(needed)} more, but only {bytes_text(free)} are free in "
            f"{partial.parent}; make room, or set XDG_DATA_HOME to a folder on a larger disk"
        )


def _install(model: StoredModel, partial: Path) -> None:
    """The folder gets its name when everything in it is on the disk."""
    with (partial / models.SOURCE).open("w", encoding="utf-8") as file:
        file.write(models.source_text(model))
        file.flush()
        os.fsync(file.fileno())
    needed = {models.SOURCE, *(file.name for file in model.files)}
    for path in partial.iterdir():
        if path.name not in needed:
            path.unlink()
    _sync(partial)
    if model.folder.exists():  # another revision
        models.discard(model.folder)
    os.replace(partial, model.folder)
    _sync(model.folder.parent)


def _sync(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _pull_folder(partial: Path, again: str) -> Iterator[Path]:
    """The folder of this pull, locked; what goes wrong with it as a sentence."""
    lock, ours = None, False
    try:
        partial.mkdir(parents=True, exist_ok=True)
        lock = lock_file(partial / _LOCK)
        ours = True
        yield partial
    except BlockingIOError as error:
        raise ModelError(f"another samba is pulling {again} right now") from error
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; go on with: samba models pull {again}") from None
    except OSError as error:
        if error.errno in _FULL:
            raise ModelError(
                f"no room left in {partial.parent}: make some and go on with: samba models pull "
                f"{again} (or give it up with: samba models rm {partial.stem})"
            ) from error
        reason = error.strerror or str(error)
        raise ModelError(f"cannot keep models in {partial.parent}: {reason}") from error
    finally:
        if lock is not None:
            os.close(lock)
        if ours and partial.is_dir() and not _worth_keeping(partial):
            shutil.rmtree(partial, ignore_errors=True)


def _worth_keeping(partial: Path) -> bool:
    paths = (p for p in partial.iterdir() if p.name not in (_COMMIT, _LOCK, CONFIG, INDEX))
    return any(path.stat().st_size for path in paths)
