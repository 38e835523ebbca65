"""The commands that only look: memories, templates, configuration. No model is loaded."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields
from pathlib import Path

from samba_cli import folders, memory, streams
from samba_cli.config import Settings, load_settings
from samba_cli.errors import ModelError, UsageError
from samba_cli.units import bytes_text, count_text


def list_memories(as_json: bool) -> int:
    memories, damaged = [], []
    for name in memory.names():
        try:
            memories.append(memory.load_memory(name))
        except ModelError as error:
            damaged.append(str(error))
    if as_json:
        print_json({"samba": 1, "memories": [_memory_fields(m) for m in memories]})
    elif memories:
        rows = [("NAME", "TOKENS", "DOCUMENTS", "STATE", "CREATED")]
        rows += [
            (m.name, count_text(m.tokens), count_text(m.documents), bytes_text(m.state_bytes),
             m.created[:10])
            for m in memories
        ]  # fmt: skip
        print_table(rows)
    elif not damaged:
        streams.note("no memories yet; make one with: samba read PATH --as NAME")
    for sentence in damaged:
        streams.note(f"samba: {sentence}")
    return ModelError.code if damaged else 0


def show_memory(name: str, as_json: bool) -> int:
    found = memory.load_memory(name)
    changes = {source.name: how for source, how in memory.changed_sources(found.sources)}
    if as_json:
        print_json({"samba": 1, "memory": _memory_fields(found), "sources_changed": changes})
        return 0
    print(f"name       {found.name}")
    print(f"created    {_time(found.created)}")
    if found.updated != found.created:
        print(f"updated    {_time(found.updated)}")
    print(f"tokens     {count_text(found.tokens)}")
    if found.pages:
        print(f"pages      {count_text(found.pages)}")
    print(f"passages   {count_text(found.passages)}")
    print(f"state      {bytes_text(found.state_bytes)}")
    print(f"model      {found.model or 'the one that comes with samba'}")
    print(f"           sha256 {found.model_sha256[:16]}")
    if found.window:
        print(f"window     the last {count_text(found.window)} tokens and the first 4 (lossy)")
    print(f"folder     {found.folder}")
    print(f"documents  {count_text(found.documents)}")
    for source in found.sources:
        how = changes.get(source.name)
        size = f"  {bytes_text(source.size)}" if source.size is not None else ""
        print(f"  {source.name}{size}{f'  ({how} since)' if how else ''}")
    return 0


def remove_memory(name: str, yes: bool) -> int:
    memory.check_name(name)
    if not (folders.memories_folder() / name).is_dir():
        memory.load_memory(name)  # says what there is instead
    if not yes:
        if not streams.is_terminal(sys.stdin):
            raise UsageError("no terminal to ask on; say --yes to remove the memory")
        streams.note(f"Remove memory '{name}'? It cannot be brought back. [y/N]")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            streams.note("nothing removed")
            return 1
    memory.remove(name)
    streams.note(f"removed memory '{name}'")
    return 0


def list_prompts() -> int:
    folder = _prompts_folder()
    ours = _template_names()
    width = max(map(len, ours))
    for name in sorted(ours):
        replaced = folder is not None and (folder / f"{name}.txt").is_file()
        print(f"{name:{width}}  {folder / f'{name}.txt' if folder and replaced else 'built in'}")
    return 0


def show_prompt(name: str) -> int:
    from samba_cli.prompts import template

    known = _template_names()
    if name not in known:
        raise UsageError(f"there is no template '{name}'; there are: {', '.join(sorted(known))}")
    print(template(name, _prompts_folder()))
    return 0


def config_path() -> int:
    print(f"config    {folders.config_file()}")
    print(f"memories  {folders.memories_folder()}")
    print(f"models    {folders.models_folder()}")
    print(f"partial   {folders.cache_folder()}")
    print(f"log       {folders.log_file()}")
    return 0


def config_show() -> int:
    """As config.toml would say it, so that it can be pasted there."""
    import json

    settings, defaults = asdict(load_settings({})), asdict(Settings())
    for field in fields(Settings):
        value = settings[field.name]
        line = f"{field.name} = {json.dumps(value, ensure_ascii=False)}"
        if value == defaults[field.name]:
            line = f"# {field.name}" if value is None else f"# {line}"
        print(line)
    return 0


def _prompts_folder() -> Path | None:
    folder = load_settings({}).prompts
    return Path(folder) if folder else None


def _template_names() -> set[str]:
    from importlib.resources import files

    entries = files("samba_cli.prompts").iterdir()
    return {e.name.removesuffix(".txt") for e in entries if e.name.endswith(".txt")}


def _time(iso: str) -> str:
    return iso[:16].replace("T", " ") + " UTC"


def _memory_fields(found: memory.Memory) -> dict:
    weights, window = memory.weights_and_window(found.model_sha256)
    named = {"model_sha256": weights, "window": window or None, "folder": str(found.folder)}
    return {**asdict(found), **named}


def print_json(value: dict) -> None:
    import json

    print(json.dumps(value, ensure_ascii=False, indent=1))


def print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if i in (0, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
