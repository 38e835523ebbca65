"""From the command line to an exit code: the only place where errors become sentences."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from samba_cli import __version__, streams

if TYPE_CHECKING:
    from typer.exceptions import TyperException


def main() -> int:
    """Run `samba` with the arguments of this process; return its exit code."""
    streams.prepare()
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["-V"]):  # before any import that takes time
        print(f"samba {__version__}")
        return 0
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        streams.abandon_stdout()
        return 141
    except OSError as error:  # the rest of the output found no room
        streams.abandon_stdout()
        streams.note(f"samba: cannot write the output: {error.strerror}")
        return 1
    except KeyboardInterrupt:  # a second Ctrl-C, or one while the first was being reported
        return 130


def run(arguments: Sequence[str]) -> int:
    """Parse, run, and report a failure. Raises BrokenPipeError when stdout is closed."""
    if "--no-color" in arguments:
        os.environ["NO_COLOR"] = "1"  # rich, which draws the progress bar, reads it too
    try:
        return _parse_and_run(arguments)
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("SAMBA_DEBUG"):
            raise
        return _report(error, arguments)


def _parse_and_run(arguments: Sequence[str]) -> int:
    from typer.exceptions import TyperException

    from samba_cli.app import app
    from samba_cli.errors import UsageError

    stdout = sys.stdout
    try:
        command: Callable[[], int] | int | None = app(
            list(arguments), prog_name="samba", standalone_mode=False
        )
    except TyperException as error:
        raise UsageError(_usage_sentence(error)) from error
    except SystemExit as stop:  # completion scripts, or a closed pipe while printing help
        if sys.stdout is not stdout:
            raise BrokenPipeError from None
        return stop.code if isinstance(stop.code, int) else 0
    # A parsed command comes back as a function, so that it runs out of typer's reach:
    # typer would end a closed pipe with code 1. An int is the code of help and the like.
    code: int = command() if callable(command) else command or 0
    return code


def _usage_sentence(error: TyperException) -> str:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "samba"
    return f"{message[:1].lower()}{message[1:]} (see: {path} --help)"


def _report(error: BaseException, arguments: Sequence[str]) -> int:
    from samba_cli.failures import failure

    what = failure(error, arguments)
    streams.note(f"samba: {what.message}")
    # With codes 5 and 6 the report is complete and on stdout already; a full disk takes nothing.
    full = isinstance(error, OSError) and error.filename is None
    if "--json" in arguments and what.code not in (5, 6) and not full:
        import json

        fields = {"code": what.code, "kind": what.kind, "message": what.message}
        print(json.dumps({"samba": 1, "error": fields}, ensure_ascii=False))
    return what.code


if __name__ == "__main__":
    sys.exit(main())
