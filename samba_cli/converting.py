"""`samba models convert`: a checkpoint of the paper's repository becomes a folder of ours."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from samba_cli import models, streams
from samba_cli.errors import ModelError, UsageError
from samba_cli.files import sha256
from samba_cli.folders import models_folder
from samba_cli.models import ModelFile, StoredModel
from samba_cli.units import bytes_text


def convert(
    file: Path,
    tokenizer: Path,
    config: str,
    d_head: int | None,
    window: int | None,
    output: Path | None,
    name: str | None,
) -> int:
    """Write the folder `output`, or a model of the store called `name`.

    Raises UsageError, and ModelError for a file that is no such checkpoint.
    """
    if (output is None) == (name is None):
        raise UsageError("say where it goes: -o FOLDER, or --as NAME to keep it with the models")
    target = output or models_folder() / models.check_new(name or "")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not an empty folder")
    if not file.is_file():
        raise ModelError(f"there is no file {file}")
    with streams.Status() as status, _staged(target) as folder:
        status.say(f"converting {file} ...", in_pipes=True)
        _convert(file, tokenizer, config, d_head, window, folder)
        if name is not None:
            (folder / models.SOURCE).write_text(
                models.source_text(_described(name, file, folder)), encoding="utf-8"
            )
    size = sum(path.stat().st_size for path in target.iterdir())
    shown = name or str(target)
    if name is None and not shown.startswith(("/", ".")):
        shown = f"./{shown}"  # a folder, not a name of the store
    streams.note(f"wrote {bytes_text(size)} to {target}; use it with --model {shown}")
    return 0


def _convert(
    file: Path, tokenizer: Path, config: str, d_head: int | None, window: int | None, folder: Path
) -> None:
    from samba_cli.model import CheckpointError, Tokenizer
    from samba_cli.model.lit_gpt import KNOWN, convert_lit_gpt

    if config not in KNOWN:
        raise UsageError(f"--config cannot be '{config}'; known are {', '.join(KNOWN)}")
    facts = KNOWN[config]
    facts = replace(facts, d_head=d_head or facts.d_head, window=window or facts.window)
    try:
        made = convert_lit_gpt(file, tokenizer, folder, facts)
        highest = Tokenizer.load(folder).highest_id
    except CheckpointError as error:
        raise ModelError(str(error)) from error
    except ValueError as error:  # the tokenizer
        raise ModelError(f"{tokenizer} is no tokenizer: {error}") from error
    if highest >= made.vocab_size:
        raise ModelError(
            f"{tokenizer} is not this model's: it has a token number {highest}, and the model "
            f"knows {made.vocab_size} tokens"
        )


def _described(name: str, file: Path, folder: Path) -> StoredModel:
    paths = sorted(folder.iterdir())
    return StoredModel(
        name=name,
        id="",
        revision=str(file.absolute()),
        commit="",
        license=None,
        pulled=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        files=tuple(ModelFile(p.name, p.stat().st_size, sha256(p)) for p in paths),
    )


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder that gets its name when all of it is there. Raises ModelError."""
    staged = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        yield staged
        os.chmod(staged, 0o755)
        if target.exists():  # empty
            target.rmdir()
        os.replace(staged, target)
    except OSError as error:
        raise ModelError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        if staged is not None and staged.exists():
            shutil.rmtree(staged, ignore_errors=True)
