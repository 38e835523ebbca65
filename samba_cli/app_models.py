"""What can be said of models: `samba models ...`. Signatures only, as in app.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from samba_cli.options import PLAIN, JsonFlag

Call = Callable[[], int]
ModelName = Annotated[
    str, Argument(metavar="NAME", help="Name of a pulled model, or ORG/NAME; samba: ours.")
]

models_app = Typer(help="Models: what was pulled, and which one is used.", **PLAIN)


@models_app.command("pull")
def pull_model(
    source: Annotated[
        str, Argument(metavar="ORG/NAME[@REVISION]", help="On the Hugging Face hub.")
    ],
    quiet: Annotated[bool, Option("--quiet", help="Only errors on stderr.")] = False,
) -> Call:
    """Download a model; the only command that uses the network.

    \b
    Examples:
      samba models pull ai21labs/AI21-Jamba2-3B
      samba models default AI21-Jamba2-3B
    """
    from samba_cli import model_commands

    return partial(model_commands.pull, source, quiet)


@models_app.command("convert")
def convert_model(
    file: Annotated[Path, Argument(metavar="FILE.pth", help="Checkpoint of microsoft/Samba.")],
    tokenizer: Annotated[
        Path, Option("--tokenizer", metavar="FILE", help="Its tokenizer.json.", show_default=False)
    ],
    config: Annotated[
        str, Option("--config", metavar="NAME", help="Its configuration there.")
    ] = "Samba_421M",
    d_head: Annotated[
        int | None, Option("--d-head", min=1, metavar="N", help="Width of a head, if another.")
    ] = None,
    window: Annotated[
        int | None, Option("--window", min=1, metavar="N", help="Attention window, if another.")
    ] = None,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FOLDER", help="Write a folder.")
    ] = None,
    name: Annotated[
        str | None, Option("--as", metavar="NAME", help="Keep it with the pulled models.")
    ] = None,
) -> Call:
    """Convert a checkpoint of the paper's repository (lit_gpt).

    \b
    Examples:
      samba models convert iter-200000-ckpt.pth --tokenizer tokenizer.json --as samba-421m
      samba models convert mine.pth --tokenizer tokenizer.json --config Samba_1.3B -o mine
    """
    from samba_cli import converting

    return partial(converting.convert, file, tokenizer, config, d_head, window, output, name)


@models_app.command("list", hidden=True)  # as the other groups call it
@models_app.command("ls")
def list_models(as_json: JsonFlag = False) -> Call:
    """List the models that can be used."""
    from samba_cli import model_commands

    return partial(model_commands.list_models, as_json)


@models_app.command("show")
def show_model(
    name: ModelName,
    verify: Annotated[bool, Option("--verify", help="Check the hashes of the files.")] = False,
    quantize: Annotated[
        str, Option(metavar="TYPE", help="What it takes with this --quantize.")
    ] = "none",
    window: Annotated[
        int, Option(min=0, metavar="N", help="What it takes with this --window.")
    ] = 0,
    as_json: JsonFlag = False,
) -> Call:
    """Show what a model is: size, memory, state, license, files."""
    from samba_cli import model_commands

    return partial(model_commands.show, name, verify, quantize, window, as_json)


@models_app.command("default")
def default_model(
    name: Annotated[
        str | None,
        Argument(metavar="[NAME]", help="samba: the built-in model.", show_default=False),
    ] = None,
) -> Call:
    """Print the model that is used without --model, or choose it."""
    from samba_cli import model_commands

    return partial(model_commands.set_default, name)


@models_app.command("remove", hidden=True)
@models_app.command("rm")
def remove_model(
    name: ModelName,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask.")] = False,
) -> Call:
    """Delete a pulled model, or what an interrupted pull left."""
    from samba_cli import model_commands

    return partial(model_commands.remove, name, yes)
