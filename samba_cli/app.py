"""The commands: what can be said. Signatures only; what a command does is imported when it runs.

Each function returns the call to make, and `__main__` makes it. Nothing heavy may be
imported here: `samba --help` answers in a fifth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer
from typer import Argument, Option, Typer

from samba_cli import __version__
from samba_cli.app_models import models_app
from samba_cli.config import Style
from samba_cli.options import (
    PLAIN,
    AnswerLength,
    CheckpointOptions,
    GenerationOptions,
    InputOptions,
    JsonFlag,
    MessageOptions,
    ModelOptions,
    OutputOptions,
    Paths,
    spread,
)

Call = Callable[[], int]
MemoryName = Annotated[str, Argument(metavar="NAME", help="Name of a memory.")]

app = Typer(invoke_without_command=True, **PLAIN)
memory_app = Typer(no_args_is_help=False, help="Memories: what was read and kept.", **PLAIN)
prompts_app = Typer(help="The prompt templates.", **PLAIN)
config_app = Typer(help="The configuration.", **PLAIN)
app.add_typer(memory_app, name="memory")
app.add_typer(models_app, name="models")
app.add_typer(prompts_app, name="prompts")
app.add_typer(config_app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"samba {__version__}")
        raise typer.Exit


@app.callback()
def samba(
    context: typer.Context,
    version: Annotated[
        bool,
        Option("--version", "-V", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> Call | None:
    """Summarize very long documents and ask questions about them, offline.

    \b
    Examples:
      samba summarize report.pdf
      samba ask "What is the notice period?" contract.pdf
      git diff main | samba summarize
      samba read book.epub --as book
      samba ask "Who pays for the trip?" --memory book
      samba chat book
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


@app.command()
@spread
def summarize(
    paths: Paths = None,
    length: Annotated[
        str | None, Option(metavar="LENGTH", help="short, medium, long, or a number of words.")
    ] = None,
    style: Annotated[Style | None, Option(help="Shape of the summary.")] = None,
    focus: Annotated[
        str | None, Option(metavar="TEXT", help="What the summary should be about.")
    ] = None,
    memory: Annotated[
        str | None, Option(metavar="NAME", help="Summarize a memory instead of files.")
    ] = None,
    *,
    output: OutputOptions,
    generation: GenerationOptions,
    inputs: InputOptions,
    checkpoint: CheckpointOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> Call:
    """Read everything and print a summary; each sentence says where it comes from.

    \b
    Examples:
      samba summarize report.pdf
      samba summarize . --include '*.py' --style sections -o ARCHITECTURE.md
      git log -p | samba summarize --length short
    """
    from samba_cli import commands

    return partial(
        commands.summarize, paths or [], length, style, focus, memory, output, generation,
        inputs, checkpoint, model, messages,
    )  # fmt: skip


@app.command()
@spread
def ask(
    question: Annotated[
        str | None, Argument(metavar="QUESTION", help="What you want to know.", show_default=False)
    ] = None,
    paths: Paths = None,
    more_questions: Annotated[
        list[str] | None,
        Option("--question", "-q", metavar="TEXT", help="A further question (repeatable)."),
    ] = None,
    questions: Annotated[
        str | None,
        Option(metavar="FILE", help="Further questions, one a line or JSON ('-': stdin)."),
    ] = None,
    memory: Annotated[
        str | None, Option(metavar="NAME", help="Ask a memory instead of reading files.")
    ] = None,
    fail_if_absent: Annotated[
        bool, Option("--fail-if-absent", help="Exit 5 if a question has no answer in the text.")
    ] = False,
    json_lines: Annotated[
        bool, Option("--jsonl", help="Each answer as a line of JSON as soon as it is there.")
    ] = False,
    *,
    output: OutputOptions,
    answer_length: AnswerLength,
    generation: GenerationOptions,
    inputs: InputOptions,
    checkpoint: CheckpointOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> Call:
    """Read everything and answer a question; quotes and places show what the answer rests on.

    \b
    Examples:
      samba ask "What is the notice period?" contract.pdf
      samba ask "Where are retries handled?" .
      samba ask "Who pays?" book.epub -q "How does it end?"
      samba ask --questions questions.txt --memory book --jsonl
      samba ask "Who pays for the trip?" --memory book
      cat mail.txt | samba ask "When do we meet?"
    """
    from samba_cli import commands
    from samba_cli.questions import Asked

    return partial(
        commands.ask, Asked(question, more_questions or [], questions), paths or [], memory,
        fail_if_absent, json_lines, output, answer_length, generation, inputs, checkpoint, model,
        messages,
    )  # fmt: skip


@app.command()
@spread
def chat(
    paths: Annotated[
        list[str] | None,
        Argument(
            metavar="[PATH | MEMORY]...",
            help="What to talk about: the name of a memory, or files.",
            show_default=False,
        ),
    ] = None,
    *,
    answer_length: AnswerLength,
    generation: GenerationOptions,
    inputs: InputOptions,
    checkpoint: CheckpointOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> Call:
    """Read once, then ask as often as you like. Questions can also be piped in, one a line.

    \b
    Examples:
      samba chat book.epub
      samba chat book
      samba chat contract.pdf < questions.txt
    """
    from samba_cli import chat

    return partial(
        chat.run, paths or [], answer_length, generation, inputs, checkpoint, model, messages
    )


@app.command()
@spread
def read(
    paths: Paths = None,
    name: Annotated[
        str | None,
        Option("--as", metavar="NAME", help="Name of the memory [default: from the file]."),
    ] = None,
    force: Annotated[bool, Option("--force", "-f", help="Replace a memory of that name.")] = False,
    *,
    inputs: InputOptions,
    checkpoint: CheckpointOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> Call:
    """Read once and keep it: a memory answers later without reading again.

    \b
    Examples:
      samba read book.epub --as book
      samba ask "Who pays for the trip?" --memory book
    """
    from samba_cli import commands

    return partial(commands.read, paths or [], name, force, inputs, checkpoint, model, messages)


@app.command()
@spread
def append(
    name: MemoryName,
    paths: Paths = None,
    *,
    inputs: InputOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> Call:
    """Read more into a memory; only the new text is read.

    \b
    Examples:
      samba append book sequel.epub
      tail -n 1000 server.log | samba append logs
    """
    from samba_cli import commands

    return partial(commands.append, name, paths or [], inputs, model, messages)


@memory_app.command("ls", hidden=True)  # as with models
@memory_app.command("list")
def list_memories(as_json: JsonFlag = False) -> Call:
    """List the memories."""
    from samba_cli import listing

    return partial(listing.list_memories, as_json)


@memory_app.command("show")
def show_memory(name: MemoryName, as_json: JsonFlag = False) -> Call:
    """Show what a memory holds, and whether its sources changed since."""
    from samba_cli import listing

    return partial(listing.show_memory, name, as_json)


@memory_app.command("rm", hidden=True)
@memory_app.command("remove")
def remove_memory(
    name: MemoryName,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask.")] = False,
) -> Call:
    """Delete a memory."""
    from samba_cli import listing

    return partial(listing.remove_memory, name, yes)


@prompts_app.command("list")
def list_prompts() -> Call:
    """List the templates and where each comes from."""
    from samba_cli import listing

    return listing.list_prompts


@prompts_app.command("show")
def show_prompt(name: Annotated[str, Argument(metavar="NAME", help="Name of a template.")]) -> Call:
    """Print a template."""
    from samba_cli import listing

    return partial(listing.show_prompt, name)


@config_app.command("path")
def config_path() -> Call:
    """Print where the configuration, memories and partial reads lie."""
    from samba_cli import listing

    return listing.config_path


@config_app.command("show")
def config_show() -> Call:
    """Print every setting that holds, and its name in config.toml."""
    from samba_cli import listing

    return listing.config_show


@app.command()
@spread
def doctor(
    as_json: JsonFlag = False,
    warm: Annotated[
        bool, Option("--warm", help="Compile what the model needs, so that ask need not.")
    ] = False,
    *,
    model: ModelOptions,
) -> Call:
    """Check this machine: Python, torch, GPU, kernels, model, speed, folders.

    \b
    Examples:
      samba doctor
      samba doctor --warm --model granite-4.0-h-1b
    """
    from samba_cli import doctor

    return partial(doctor.run, as_json, warm, model)
