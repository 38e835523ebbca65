"""Settings: flags, then SAMBA_* variables, then config.toml, then defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from samba_cli.errors import UsageError
from samba_cli.folders import config_file

Style = Literal["paragraph", "bullets", "sections"]
Length = Literal["short", "medium", "long"] | int


@dataclass(frozen=True)
class Settings:
    """What a person may set once instead of saying it at every command."""

    model: str | None = None  # name of a pulled model, or a folder; None is the built-in one
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: str = "auto"  # auto (bf16 on a GPU or a CPU that multiplies it, else fp32), fp32, bf16
    quantize: Literal["none", "int8"] = "none"  # int8: a quarter of fp32
    window: int = 0  # tokens that full attention sees beside the first 4; 0: all of them
    length: Length = "medium"  # of a summary; a number is words
    style: Style = "paragraph"  # of a summary
    temperature: float = 0.0
    seed: int = 0
    thinking: bool = False  # let a reasoning model think, and show it
    max_tokens: int | None = None  # of one answer or summary
    prompts: str | None = None  # folder whose templates replace ours
    checkpoint_seconds: float = 20.0  # how often a long read notes where it is


def load_settings(
    flags: Mapping[str, Any],
    environment: Mapping[str, str] = os.environ,
    path: Path | None = None,
) -> Settings:
    """The settings that hold for this command; a flag that is None was not given.

    Raises UsageError naming the flag, variable or file that holds a wrong value.
    """
    settings = Settings()
    path = path or config_file()
    settings = _apply(settings, _read(path), str(path))
    for field in fields(Settings):
        name = f"SAMBA_{field.name.upper()}"
        if value := environment.get(name):
            settings = _apply(settings, {field.name: value}, name)
    for key, value in flags.items():
        if value is not None:
            settings = _apply(settings, {key: value}, f"--{key.replace('_', '-')}")
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def _apply(settings: Settings, values: Mapping[str, Any], source: str) -> Settings:
    known = [field.name for field in fields(Settings)]
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"{source}: unknown setting '{key}'; known are {', '.join(known)}")
        settings = replace(settings, **{key: _checked(key, value, source)})
    return settings


def _checked(key: str, value: Any, source: str) -> Any:
    try:
        return _CHECKS[key](value)
    except (TypeError, ValueError) as error:
        hint = f": {error}" if isinstance(error, _Wrong) else ""
        where = source if source.startswith(("--", "SAMBA_")) else f"{source}, {key}"
        raise UsageError(f"{where} cannot be {value!r}{hint}") from error


class _Wrong(ValueError):
    """A wrong value, with what would be right."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("a text in quotes is expected")
    return value


def _folder(value: Any) -> str:
    return str(Path(_text(value)).expanduser())


def _model(value: Any) -> str:
    # As it was written: "./name" is a folder where "name" is a model of the store.
    if not _text(value):
        raise _Wrong("a name or a folder is expected")
    return os.path.expanduser(value)


def _choice(*choices: str):
    def check(value: Any) -> str:
        if value not in choices:
            raise _Wrong(f"choose {', '.join(choices[:-1])} or {choices[-1]}")
        return value

    return check


def _device(value: Any) -> str:
    kind, _, number = _text(value).partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not number.isdecimal()):
        raise _Wrong("choose auto, cpu, cuda or cuda:N")
    return value


def _length(value: Any) -> Length:
    if value in ("short", "medium", "long"):
        return value
    if not str(value).isdecimal() or int(value) < 1:
        raise _Wrong("choose short, medium, long or a number of words")
    return int(value)


def _temperature(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 10:
        raise _Wrong("a number from 0 to 10 is expected")
    return number


def _count(value: Any) -> int:
    number = int(value)
    if isinstance(value, bool) or number < 1:
        raise _Wrong("a whole number from 1 up is expected")
    return number


def _window(value: Any) -> int:
    number = int(value)
    if isinstance(value, bool) or not 0 <= number < 1 << 31:
        raise _Wrong("a number of tokens is expected, or 0 for all")
    return number


def _seconds(value: Any) -> float:
    number = float(value)
    if not number > 0:
        raise _Wrong("a number of seconds is expected")
    return number


def _seed(value: Any) -> int:
    return int(value)


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("0", "1", "true", "false"):
        raise _Wrong("choose true or false")
    return value in ("1", "true")


_CHECKS = {
    "model": _model,
    "device": _device,
    "dtype": _choice("auto", "fp32", "bf16"),
    "quantize": _choice("none", "int8"),
    "window": _window,
    "length": _length,
    "style": _choice(*get_args(Style)),
    "temperature": _temperature,
    "seed": _seed,
    "thinking": _switch,
    "max_tokens": _count,
    "prompts": _folder,
    "checkpoint_seconds": _seconds,
}
