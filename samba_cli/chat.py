"""`samba chat`: one reading, then questions as they come to mind, each on a fork of the state."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from samba_cli import memory as memories
from samba_cli import streams
from samba_cli.commands import make_answer, make_summary, opened
from samba_cli.config import Settings, load_settings
from samba_cli.errors import SambaError, Unreadable, UsageError
from samba_cli.folders import state_folder
from samba_cli.keeping import keep_copy
from samba_cli.options import (
    AnswerLength,
    CheckpointOptions,
    GenerationOptions,
    InputOptions,
    MessageOptions,
    ModelOptions,
    flags,
)
from samba_cli.reading import Reading
from samba_cli.render import Style, answer_text, summary_text
from samba_cli.units import bytes_text, count_text

_HELP = """\
Ask anything about the text, one question a line.
  /summary      summarize it; also /summary short, /summary long, /summary 80 (words)
  /sources      what was read
  /save NAME    keep it as a memory
  /help         this help
  /exit         leave (also Ctrl-D); Ctrl-C stops an answer"""


def run(
    paths: Sequence[str],
    answer_length: AnswerLength,
    generation: GenerationOptions,
    inputs: InputOptions,
    checkpoint: CheckpointOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> int:
    settings = load_settings({**flags(model), **flags(generation), **flags(answer_length)})
    if not paths and inputs.files_from is None:
        raise UsageError("chat about what?  Name a memory, a file or a folder: samba chat PATH")
    if "-" in paths or inputs.files_from == "-":
        raise UsageError("standard input holds the questions of a chat; give the text as a file")
    memory = _memory_named(paths)
    paths = [] if memory is not None else paths
    with opened(paths, memory, settings, inputs, checkpoint, model, messages, "chat") as reading:
        reading.say_coverage()
        style = Style.of_stdout()
        if streams.is_terminal(sys.stdin):
            _converse(reading, settings, style, messages.quiet)
        else:
            for line in sys.stdin:
                _answer_line(reading, settings, line.strip(), style, with_question=True)
    return 0


def _memory_named(paths: Sequence[str]) -> str | None:
    """The memory that is meant: a name that is no path. `./book` is never a memory."""
    if len(paths) != 1 or os.path.lexists(paths[0]):
        return None
    name = paths[0]
    if memories.exists(name):
        return name
    if not any(c in name for c in "/\\.*?[~"):
        known = ", ".join(memories.names()[:10]) or "none yet"
        raise Unreadable(f"'{name}' is neither a file nor a memory (memories: {known})")
    return None


def _converse(reading: Reading, settings: Settings, style: Style, quiet: bool) -> None:
    if not quiet:
        streams.note("Ask away; /help lists the commands, Ctrl-D leaves.")
    for line in _prompted():
        if line in ("/exit", "/quit"):
            return
        try:
            _answer_line(reading, settings, line, style)
        except KeyboardInterrupt:
            streams.note("stopped")


def _prompted() -> Iterator[str]:
    """What a person types, until Ctrl-D. Ctrl-C drops the line."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.output import create_output

    try:
        state_folder().mkdir(parents=True, exist_ok=True)
        history = FileHistory(str(state_folder() / "chat-history"))
    except OSError:
        history = InMemoryHistory()
    # The prompt is no answer: where stdout goes into a file, it is shown on stderr.
    screen = sys.stdout if streams.is_terminal(sys.stdout) else sys.stderr
    session: PromptSession[str] = PromptSession(
        "> ", history=history, output=create_output(stdout=screen)
    )
    while True:
        try:
            yield session.prompt().strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _answer_line(
    reading: Reading, settings: Settings, line: str, style: Style, with_question: bool = False
) -> None:
    """Reply to one line on stdout. What is wrong with a line does not end the chat."""
    if not line:
        return
    try:
        if line.startswith("/"):
            text = _command(reading, settings, line, style)
        else:
            text = answer_text(make_answer(reading, settings, line), style, with_question)
    except SambaError as error:
        streams.note(f"samba: {str(error).rstrip('.')}")
        return
    sys.stdout.write(text.rstrip("\n") + "\n\n")
    sys.stdout.flush()


def _command(reading: Reading, settings: Settings, line: str, style: Style) -> str:
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if command == "/help":
        return _HELP
    if command == "/sources":
        return _sources(reading)
    if command == "/summary":
        length = load_settings({"length": rest}).length if rest else settings.length
        return summary_text(make_summary(reading, replace(settings, length=length)), style)
    if command == "/save":
        return _save(reading, rest)
    raise UsageError(f"there is no command {command}; /help lists them")


def _sources(reading: Reading) -> str:
    return "\n".join(
        f"{document.name}  {count_text(document.tokens)} tokens"
        + (f", {bytes_text(document.size)}" if document.size is not None else "")
        for document in reading.index.documents()
    )


def _save(reading: Reading, name: str) -> str:
    if not name:
        raise UsageError("give the memory a name: /save NAME")
    if memories.exists(memories.check_name(name)):
        raise UsageError(f"memory '{name}' exists; choose another name")
    keep_copy(reading, name)
    return f'saved as {name}; ask it later with: samba ask "QUESTION" --memory {name}'
