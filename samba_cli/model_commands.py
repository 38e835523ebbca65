"""The commands about models: pull, ls, show, default, rm. Only `pull` uses the network."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from samba_cli import memory, model_facts, models, streams
from samba_cli.config import load_settings
from samba_cli.errors import ModelError, SambaError, UsageError
from samba_cli.folders import config_file
from samba_cli.listing import print_json, print_table
from samba_cli.models import BUILT_IN, BUILT_IN_FOLDER, StoredModel
from samba_cli.settings_file import write_setting
from samba_cli.units import bytes_text, count_text

_TYPES = (("fp32", 4), ("bf16", 2))  # bytes a number


def pull(source: str, quiet: bool) -> int:
    from samba_cli.pull_progress import PullProgress
    from samba_cli.pulling import pull

    hub_id, _, revision = source.partition("@")
    if not models.HUB_ID.fullmatch(hub_id) or source.endswith("@"):
        raise UsageError(f"'{source}' is no model on the hub; write ORG/NAME or ORG/NAME@REVISION")
    note = (lambda sentence: None) if quiet else streams.note
    note(f"pulling {source} ...")
    with PullProgress(hub_id, quiet) as shown:
        model, fetched = pull(hub_id, revision or "main", shown, note)
    what = f"{model.name} ({bytes_text(model.size)}, revision {model.commit[:12]})"
    if not fetched:
        note(f"{what} is there already, and up to date")
    else:
        note(f"pulled {what}")
        note(f"use it with --model {model.name}, or always: samba models default {model.name}")
    return 0


def list_models(as_json: bool) -> int:
    chosen = _default()
    found, damaged = [], []
    for name in models.names():
        try:
            found.append(models.load(name))
        except ModelError as error:
            damaged.append(str(error))
    if as_json:
        entries = [_built_in_fields(chosen), *(_fields(model, chosen) for model in found)]
        print_json({"samba": 1, "models": entries, "interrupted": models.interrupted()})
    else:
        rows = [("NAME", "SIZE", "TYPE", "REVISION", "DEFAULT")]
        size = _built_in_fields(chosen)["bytes"]
        rows.append((BUILT_IN, bytes_text(size), "samba", "built in", _mark(chosen == BUILT_IN)))
        rows += [
            (m.name, bytes_text(m.size), _type(m.folder) or "?", m.commit[:12] or "converted",
             _mark(m.name == chosen))
            for m in found
        ]  # fmt: skip
        print_table(rows)
        for name in models.interrupted():
            streams.note(f"the pull of {name} was interrupted; pull it again to go on")
    for sentence in damaged:
        streams.note(f"samba: {sentence}")
    return ModelError.code if damaged else 0


def show(name: str, verify: bool, quantize: str, window: int, as_json: bool) -> int:
    if quantize not in ("none", "int8"):
        raise UsageError(f"--quantize cannot be '{quantize}': choose none or int8")
    model = None if name == BUILT_IN else models.require(name)
    chosen = _default()
    fields = _built_in_fields(chosen) if model is None else _fields(model, chosen)
    changed = {} if model is None else models.changed_files(model, verify)
    folder = Path(fields["folder"])
    fields |= _facts(folder, quantize == "int8", window)
    if model is not None:
        fields["files"] = [
            {**asdict(f), "state": changed.get(f.name, "ok" if verify else "not checked")}
            for f in model.files
        ]
    if as_json:
        print_json({"samba": 1, "model": fields})
    else:
        _print_fields(fields)
    if changed:
        what = ", ".join(f"{file} is {how}" for file, how in changed.items())
        hub_id = fields["id"]
        again = (
            f"samba models pull {hub_id}@{fields['commit'][:12]}"
            if hub_id
            else f"samba models convert {fields['revision']} --as {fields['name']}"
        )
        raise ModelError(
            f"{what}; get it again with: samba models rm {fields['name']} --yes && {again}"
        )
    return 0


def set_default(name: str | None) -> int:
    if name is None:
        print(_default())
        return 0
    chosen = None if name == BUILT_IN else models.require(name).name
    write_setting(config_file(), "model", chosen)
    streams.note(f"{chosen or BUILT_IN} is the default model now")
    if variable := os.environ.get("SAMBA_MODEL"):
        streams.note(f"but SAMBA_MODEL is set, and goes before it: {variable}")
    return 0


def remove(name: str, yes: bool) -> int:
    if name == BUILT_IN:
        raise UsageError(f"'{BUILT_IN}' comes with the program and cannot be removed")
    name = _name_to_remove(name)
    is_default = name == _default()
    if not yes:
        if is_default:
            raise UsageError(
                f"{name} is the default model; choose another one first (samba models default "
                f"{BUILT_IN}), or say --yes"
            )
        if not streams.is_terminal(sys.stdin):
            raise UsageError("no terminal to ask on; say --yes to remove the model")
        for read in _memories_of(name):
            streams.note(f"memory '{read}' was read with it and cannot be asked without it")
        streams.note(f"Remove model '{name}'? [y/N]")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            streams.note("nothing removed")
            return 1
    models.remove(name)
    streams.note(f"removed model '{name}'")
    if is_default and not os.environ.get("SAMBA_MODEL"):
        write_setting(config_file(), "model", None)
        streams.note(f"the default model is the built-in one ({BUILT_IN}) again")
    return 0


def _name_to_remove(name: str) -> str:
    """A damaged model and an interrupted pull can be removed as well."""
    unfinished = (name, models.name_for(name)) if models.HUB_ID.fullmatch(name) else (name,)
    there = [*models.names(), *models.interrupted()]
    if model := (None if name in there else models.find(name)):
        return model.name
    if found := [n for n in unfinished if n in there]:
        return found[0]
    raise ModelError(models.missing(name))


def _memories_of(name: str) -> list[str]:
    folder = str((models.models_folder() / name).absolute())
    found = []
    for read in memory.names():
        try:
            if memory.load_memory(read).model == folder:
                found.append(read)
        except SambaError:  # damaged: it cannot be asked anyway
            continue
    return found


def _default() -> str:
    """What --model is without --model: a name of the store where it is one."""
    setting = load_settings({}).model
    if setting is None or setting == BUILT_IN:
        return BUILT_IN
    try:
        model = models.find(setting)
    except ModelError:  # damaged: its name is still the default
        return setting
    folder = Path(setting).absolute()
    if model is None and folder.parent == models.models_folder().absolute():
        return folder.name
    return model.name if model else setting


def _mark(chosen: bool) -> str:
    return "*" if chosen else ""


def _type(folder: Path) -> str | None:
    try:
        return model_facts.architecture(model_facts.read_config(folder))
    except (OSError, ValueError):
        return None


def _fields(model: StoredModel, chosen: str) -> dict[str, Any]:
    return {
        "name": model.name,
        "id": model.id or None,
        "revision": model.revision,
        "commit": model.commit or None,
        "pulled": model.pulled,
        "license": model.license,
        "type": _type(model.folder),
        "bytes": model.size,
        "folder": str(model.folder),
        "default": model.name == chosen,
    }


def _built_in_fields(chosen: str) -> dict[str, Any]:
    files = BUILT_IN_FOLDER.iterdir() if BUILT_IN_FOLDER.is_dir() else ()
    return {
        "name": BUILT_IN,
        "id": None,
        "revision": None,
        "commit": None,
        "pulled": None,
        "license": "apache-2.0",
        "type": "samba",
        "bytes": sum(file.stat().st_size for file in files if file.is_file()),
        "folder": str(BUILT_IN_FOLDER),
        "default": chosen == BUILT_IN,
    }


def _facts(folder: Path, int8: bool, window: int) -> dict[str, Any]:
    """What the files say; null where they do not, or are damaged."""
    try:
        config = model_facts.read_config(folder)
    except (OSError, ValueError):
        config = {}
    try:
        tensors = model_facts.shapes(sorted(folder.glob("*.safetensors")))
    except (OSError, ValueError):
        tensors = {}
    description = model_facts.described(config, window)
    state = {
        name: asdict(model_facts.state_size(description, element)) if description else None
        for name, element in _TYPES
    }
    memory = {
        name: model_facts.memory_bytes(tensors, element, int8) if tensors else None
        for name, element in _TYPES
    }
    return {
        "parameters": model_facts.parameters(tensors) if tensors else None,
        "context": model_facts.context_length(config),
        "quantize": "int8" if int8 else "none",
        "window": window or None,
        "memory_bytes": memory,
        "state_bytes": state,
    }


def _print_fields(fields: dict[str, Any]) -> None:
    print(f"name        {fields['name']}{'  (the default)' if fields['default'] else ''}")
    if fields["id"]:
        print(f"repository  {fields['id']}")
        print(f"revision    {fields['commit']}  ({fields['revision']})")
        print(f"pulled      {fields['pulled'][:16].replace('T', ' ')} UTC")
    elif fields["revision"]:
        print(f"converted   from {fields['revision']}")
    print(f"license     {fields['license'] or 'not stated'}")
    print(f"type        {fields['type'] or 'unknown'}")
    count = fields["parameters"]
    print(f"parameters  {f'{count / 1e6:,.1f} million' if count else 'unknown'}")
    context = fields["context"]
    print(f"context     {f'{count_text(context)} tokens' if context else 'not stated'}")
    kept = ", int8 matrices" if fields["quantize"] == "int8" else ""
    for kind, size in fields["memory_bytes"].items():
        if size is not None:
            print(f"memory      {bytes_text(size)} for the weights ({kind}{kept})")
    for kind, size in fields["state_bytes"].items():
        if size is None:
            continue
        growth = f" + {bytes_text(size['per_token'])} a token" if size["per_token"] else ""
        print(f"state       {bytes_text(size['fixed'])}{growth} ({kind})")
    print(f"size        {bytes_text(fields['bytes'])}")
    print(f"folder      {fields['folder']}")
    for file in fields.get("files", ()):
        state = "" if file["state"] == "not checked" else f"  {file['state']}"
        print(f"  {file['name']}  {bytes_text(file['size'])}  {file['sha256'][:16]}{state}")
