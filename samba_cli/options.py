"""Options that commands share: a dataclass per group, spread over the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from typer import Argument, Option

Paths = Annotated[
    list[str] | None,
    Argument(
        metavar="[PATH]...",
        help="File, folder, glob or archive; '-' is standard input.",
        show_default=False,
    ),
]

JsonFlag = Annotated[bool, Option("--json", help="JSON instead of text.")]
PLAIN: dict[str, Any] = {  # of every group of commands
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


@dataclass(frozen=True)
class InputOptions:
    """Which files are read, and how."""

    include: Annotated[
        list[str] | None, Option(metavar="GLOB", help="Read only files that match (repeatable).")
    ] = None
    exclude: Annotated[
        list[str] | None, Option(metavar="GLOB", help="Leave out files that match (repeatable).")
    ] = None
    no_gitignore: Annotated[bool, Option("--no-gitignore", help="Read ignored files too.")] = False
    hidden: Annotated[bool, Option("--hidden", help="Read hidden files too.")] = False
    max_file_size: Annotated[
        str | None, Option(metavar="SIZE", help="Leave out larger files, e.g. 5M.")
    ] = None
    max_files: Annotated[
        int | None, Option(min=1, metavar="N", help="Read at most so many files.")
    ] = None
    follow_symlinks: Annotated[
        bool, Option("--follow-symlinks", help="Follow links to folders.")
    ] = False
    type: Annotated[
        str | None,
        Option(metavar="TYPE", help="pdf, text, md, html, docx, epub, ipynb or code, if unclear."),
    ] = None
    encoding: Annotated[
        str | None, Option(metavar="NAME", help="Encoding of text files, if detection is wrong.")
    ] = None
    pages: Annotated[str | None, Option(metavar="RANGES", help="Pages of a PDF, e.g. 1-20,45.")] = (
        None
    )
    password_file: Annotated[
        Path | None, Option(metavar="FILE", help="File with the password of an encrypted PDF.")
    ] = None
    files_from: Annotated[
        str | None, Option(metavar="FILE", help="Read the list of paths from FILE ('-': stdin).")
    ] = None
    null: Annotated[
        bool, Option("--null", "-0", help="Paths in --files-from end with NUL, not newline.")
    ] = False
    strict: Annotated[bool, Option("--strict", help="Exit 6 if anything was skipped.")] = False
    dry_run: Annotated[
        bool, Option("--dry-run", "-n", help="List what would be read; read nothing.")
    ] = False


@dataclass(frozen=True)
class CheckpointOptions:
    """What happens to a read that is interrupted."""

    restart: Annotated[
        bool, Option("--restart", help="Start over instead of resuming an interrupted read.")
    ] = False
    no_checkpoint: Annotated[
        bool, Option("--no-checkpoint", help="Keep nothing on disk to resume from.")
    ] = False


@dataclass(frozen=True)
class ModelOptions:
    """Which model runs where. None means: as the configuration says."""

    model: Annotated[
        str | None,
        Option("--model", "-m", metavar="MODEL", help="A pulled model, or a checkpoint's folder."),
    ] = None
    device: Annotated[str | None, Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")] = (
        None
    )
    dtype: Annotated[str | None, Option(metavar="TYPE", help="auto, fp32 or bf16.")] = None
    quantize: Annotated[
        str | None, Option(metavar="TYPE", help="Keep the weights as int8, or none.")
    ] = None
    window: Annotated[
        int | None,
        Option(
            metavar="N",
            help="Full attention sees the last N tokens and the first 4 only: lossy. 0: all.",
        ),
    ] = None


@dataclass(frozen=True)
class GenerationOptions:
    """How text is written. None means: as the configuration says."""

    temperature: Annotated[
        float | None, Option(metavar="T", help="0 (default) always gives the same words.")
    ] = None
    seed: Annotated[int | None, Option(metavar="N", help="For a temperature above 0.")] = None
    thinking: Annotated[
        bool | None, Option("--thinking", help="Show what a reasoning model thinks, on stderr.")
    ] = None


@dataclass(frozen=True)
class AnswerLength:
    """How long an answer may be."""

    max_tokens: Annotated[int | None, Option(metavar="N", help="Longest answer, in tokens.")] = None


@dataclass(frozen=True)
class MessageOptions:
    """What is said on stderr."""

    quiet: Annotated[bool, Option("--quiet", help="Only errors on stderr.")] = False
    verbose: Annotated[
        bool, Option("--verbose", "-v", help="Say every skipped file and its reason.")
    ] = False
    no_color: Annotated[bool, Option("--no-color", help="No colors.")] = False


@dataclass(frozen=True)
class OutputOptions:
    """Where the result goes."""

    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE", help="Write the result to FILE.")
    ] = None
    json: Annotated[bool, Option("--json", help="JSON, as described in docs/json.md.")] = False


def flags(options: Any) -> dict[str, Any]:
    """The fields of an options group by name."""
    return {field.name: getattr(options, field.name) for field in fields(options)}


def spread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show typer a flag for each field of the option groups that `function` takes."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        group = groups.get(parameter.name)
        if group is None:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        types = get_type_hints(group, include_extras=True)
        parameters.extend(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=types[field.name],
            )
            for field in fields(group)
        )

    def command(**values: Any) -> Any:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        return function(**values)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command
