"""Changing one setting in config.toml; everything else in it stays as the person wrote it."""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from pathlib import Path

from samba_cli.errors import UsageError


def write_setting(path: Path, key: str, value: str | None) -> None:
    """Set `key` to a text, or take it out (None). Raises UsageError where that cannot be done."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        before = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from error
    wanted = {name: was for name, was in before.items() if name != key}
    if value is not None:
        wanted[key] = value
    if wanted == before:
        return
    changed = _changed(text, key, value)
    try:
        understood = tomllib.loads(changed) == wanted
    except tomllib.TOMLDecodeError:
        understood = False
    if not understood:  # a value over several lines, for one
        what = f"set {key} to {json.dumps(value)}" if value is not None else f"take {key} out"
        raise UsageError(f"{path} is written in a way samba cannot change; {what} there yourself")
    try:
        _replace(path, changed)
    except OSError as error:
        raise UsageError(f"cannot write the configuration {path}: {error.strerror}") from error


def _changed(text: str, key: str, value: str | None) -> str:
    lines = text.splitlines(keepends=True)
    line = f"{key} = {json.dumps(value, ensure_ascii=False)}\n" if value is not None else ""
    for number, old in enumerate(lines):
        if old.lstrip().startswith("["):  # a table: what follows is in it
            break
        if re.match(rf"\s*{re.escape(key)}\s*=", old):
            return "".join([*lines[:number], line, *lines[number + 1 :]])
    return line + text


def _replace(path: Path, text: str) -> None:
    path = path.resolve()  # what a link points to changes, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
