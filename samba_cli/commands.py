"""The commands that read: summarize, ask, read, append."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from samba_cli import memory as memories
from samba_cli import streams
from samba_cli.config import Settings, load_settings
from samba_cli.dry_run import dry_run
from samba_cli.errors import NotFoundInDocument, PartlyRead, UsageError
from samba_cli.inputs import gather_paths, source_options
from samba_cli.keeping import keep, partial_folder
from samba_cli.options import (
    AnswerLength,
    CheckpointOptions,
    GenerationOptions,
    InputOptions,
    MessageOptions,
    ModelOptions,
    OutputOptions,
    flags,
)
from samba_cli.output import check_output, emit
from samba_cli.questions import Asked, gather_questions
from samba_cli.reading import Input, Reading, open_memory, read_input, with_model_of
from samba_cli.render import Style, answers_text, count_of, safe, summary_text
from samba_cli.report import Report, answer_line, report_json
from samba_cli.results import Answer, Summary


def summarize(
    paths: Sequence[str],
    length: str | None,
    style: str | None,
    focus: str | None,
    memory: str | None,
    output: OutputOptions,
    generation: GenerationOptions,
    inputs: InputOptions,
    checkpoint: CheckpointOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> int:
    settings = load_settings(
        {**flags(model), **flags(generation), "length": length, "style": style}
    )
    check_output(output.output)
    if inputs.dry_run and memory is None:
        return _dry_run(paths, inputs, output, messages, "summarize")
    with opened(
        paths, memory, settings, inputs, checkpoint, model, messages, "summarize"
    ) as reading:
        summary = make_summary(reading, settings, focus)
        if output.json:
            text = report_json(_report("summarize", reading, summary=summary))
        else:
            text = summary_text(summary, _style(output))
        emit(text, output.output)
        reading.say_coverage()
        _check_strict(reading, inputs)
    return 0


def ask(
    asked: Asked,
    paths: Sequence[str],
    memory: str | None,
    fail_if_absent: bool,
    json_lines: bool,
    output: OutputOptions,
    answer_length: AnswerLength,
    generation: GenerationOptions,
    inputs: InputOptions,
    checkpoint: CheckpointOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> int:
    settings = load_settings({**flags(model), **flags(generation), **flags(answer_length)})
    if json_lines and output.json:
        raise UsageError("--json and --jsonl are two forms of one result; choose one")
    questions, paths = gather_questions(asked, paths, memory, inputs.files_from)
    check_output(output.output)
    if inputs.dry_run and memory is None:
        return _dry_run(paths, inputs, output, messages, "ask")
    with opened(paths, memory, settings, inputs, checkpoint, model, messages, "ask") as reading:
        answers: list[Answer] = []
        for some in make_answers(reading, settings, questions):
            answers += some
            if json_lines and output.output is None:
                emit("\n".join(map(answer_line, some)), None)
        if json_lines and output.output is not None:
            emit("\n".join(map(answer_line, answers)), output.output)
        elif output.json:
            emit(report_json(_report("ask", reading, answers=answers)), output.output)
        elif not json_lines:
            emit(answers_text(answers, _style(output)), output.output)
        reading.say_coverage()
        absent = sum(not answer.found for answer in answers)
        if fail_if_absent and absent:
            which = f"{absent} of {len(answers)} questions" if len(answers) > 1 else "the question"
            raise NotFoundInDocument(f"the text does not answer {which}")
        _check_strict(reading, inputs)
    return 0


def read(
    paths: Sequence[str],
    name: str | None,
    force: bool,
    inputs: InputOptions,
    checkpoint: CheckpointOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> int:
    settings = load_settings(flags(model))
    if inputs.dry_run:
        return _dry_run(paths, inputs, OutputOptions(), messages, "read")
    wanted = Input(gather_paths(paths, inputs, "read"), source_options(inputs), checkpoint)
    name = memories.check_name(name or _name_from(wanted.paths))
    if memories.exists(name) and not force:
        raise UsageError(
            f"memory '{name}' exists; choose another name with --as, replace it with --force, or "
            f"read more into it with: samba append {name} PATH"
        )
    memories.check_writable()
    with read_input(wanted, settings, messages, partial=partial_folder(name)) as reading:
        _save(reading, name, inputs)
    return 0


def append(
    name: str,
    paths: Sequence[str],
    inputs: InputOptions,
    model: ModelOptions,
    messages: MessageOptions,
) -> int:
    memory = memories.load_memory(name)
    settings = with_model_of(memory, load_settings(flags(model)), model)
    if inputs.dry_run:
        return _dry_run(paths, inputs, OutputOptions(), messages, "append")
    found = gather_paths(paths, inputs, "append")
    wanted = Input(found, source_options(inputs), CheckpointOptions())
    memories.check_writable()
    with read_input(wanted, settings, messages, partial_folder(name), base=memory) as reading:
        _save(reading, name, inputs)
    return 0


def _save(reading: Reading, name: str, inputs: InputOptions) -> None:
    keep(reading, name)
    print(name)
    reading.say_coverage(saved_as=name)
    if not reading.messages.quiet:
        streams.note(f'ask it with: samba ask "QUESTION" --memory {name}')
    _check_strict(reading, inputs)


def _name_from(paths: Sequence[str]) -> str:
    """report.pdf -> "report", "." -> the name of this folder."""
    stem = Path(paths[0]).resolve().stem if len(paths) == 1 and paths[0] != "-" else ""
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")
    if not name:
        raise UsageError("what should the memory be called? Give it a name with --as NAME")
    return name


@contextmanager
def opened(
    paths: Sequence[str],
    memory: str | None,
    settings: Settings,
    inputs: InputOptions,
    checkpoint: CheckpointOptions,
    model: ModelOptions,
    messages: MessageOptions,
    command: str,
) -> Iterator[Reading]:
    """What is asked: the memory of that name, or else the paths, read now."""
    if memory is None:
        if len(paths) == 1 and memories.exists(paths[0]) and not os.path.lexists(paths[0]):
            raise UsageError(f"'{paths[0]}' is a memory, not a file; write: --memory {paths[0]}")
        wanted = Input(gather_paths(paths, inputs, command), source_options(inputs), checkpoint)
        with read_input(wanted, settings, messages) as reading:
            yield reading
        return
    if paths or inputs.files_from is not None:
        raise UsageError(
            f"a memory is asked without reading; leave out the paths, or read them into it with: "
            f"samba append {memory} {paths[0] if paths else 'PATH'}"
        )
    found = memories.load_memory(memory)
    with open_memory(found, with_model_of(found, settings, model), messages) as reading:
        yield reading


def make_answer(reading: Reading, settings: Settings, question: str) -> Answer:
    return next(make_answers(reading, settings, [question]))[0]


def make_answers(
    reading: Reading, settings: Settings, questions: Sequence[str]
) -> Iterator[list[Answer]]:
    """The answers in order, as many at a time as are made together."""
    from samba_cli.answer import AnswerOptions, answer_all, together
    from samba_cli.room import rows_at_once

    options = AnswerOptions(
        prompts=_prompts(settings), temperature=settings.temperature, seed=settings.seed,
        thinking=settings.thinking,
    )  # fmt: skip
    if settings.max_tokens is not None:
        options = replace(options, max_tokens=settings.max_tokens)
    session, done = reading.session, 0
    rows = rows_at_once(reading.state, session.device, together(session.model))
    while done < len(questions):
        some = questions[done : done + rows]
        with _working(reading) as status:
            which = f" {done + 1} to {done + len(some)} of {len(questions)}"
            status.say(f"answering{which if len(questions) > 1 else ''} ...")
            answers = answer_all(
                some, reading.state, reading.index, session.model, session.tokenizer, options, rows
            )
        for result in answers:
            _say_notes(reading, result)
        done += len(some)
        yield answers


def make_summary(reading: Reading, settings: Settings, focus: str | None = None) -> Summary:
    from samba_cli.summarize import SummaryOptions, summarize

    session = reading.session
    with _working(reading) as status:
        status.say("summarizing ...")
        options = SummaryOptions(
            length=settings.length, style=settings.style, focus=focus, prompts=_prompts(settings),
            temperature=settings.temperature, seed=settings.seed, thinking=settings.thinking,
            progress=lambda done, total: status.say(f"summarizing part {done} of {total} ..."),
        )  # fmt: skip
        result = summarize(reading.state, reading.index, session.model, session.tokenizer, options)
    _say_notes(reading, result)
    return result


def _say_notes(reading: Reading, result: Answer | Summary) -> None:
    """What the model thought, where that was asked for, and what went wrong with it."""
    reading.warnings.extend(note for note in result.notes if note not in reading.warnings)
    if reading.messages.quiet:
        return
    if result.thinking:
        streams.note(Style(streams.wants_color(sys.stderr)).dim(safe(result.thinking)))
    for note in result.notes:
        streams.note(note)


def _prompts(settings: Settings) -> Path | None:
    return Path(settings.prompts) if settings.prompts else None


@contextmanager
def _working(reading: Reading) -> Iterator[streams.Status]:
    start = time.monotonic()
    try:
        with streams.Status(reading.messages.quiet) as status:
            yield status
    finally:
        reading.timing.answer += time.monotonic() - start


def _style(output: OutputOptions) -> Style:
    to_file = output.output is not None and str(output.output) != "-"
    return Style() if to_file else Style.of_stdout()


def _report(
    command: str,
    reading: Reading,
    answers: Sequence[Answer] = (),
    summary: Summary | None = None,
) -> Report:
    return Report(
        command=command,
        model_id=reading.session.name,
        model_sha256=memories.weights_and_window(reading.session.model.fingerprint)[0],
        quantize=reading.session.quantize,
        window=reading.session.window or None,
        state_id=_state_id(reading),
        state_bytes=reading.state.nbytes,
        memory=reading.memory.name if reading.memory else None,
        coverage=reading.coverage,
        timing=reading.timing,
        answers=answers,
        summary=summary,
        warnings=reading.warnings,
    )


def _state_id(reading: Reading) -> str:
    """The same for the same text read with the same model on the same machine."""
    import hashlib

    digest = hashlib.sha256(reading.state.model_fingerprint.encode())
    for name, tensor in sorted(reading.state.tensors().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_strict(reading: Reading, inputs: InputOptions) -> None:
    if inputs.strict and reading.coverage.skipped_count:
        count = count_of(reading.coverage.skipped_count, "file or page", "files or pages")
        raise PartlyRead(f"{count} skipped (--strict); --verbose says which")


def _dry_run(
    paths: Sequence[str],
    inputs: InputOptions,
    output: OutputOptions,
    messages: MessageOptions,
    command: str,
) -> int:
    listed = dry_run(gather_paths(paths, inputs, command), source_options(inputs), sys.stdin)
    emit(listed.json(command) if output.json else listed.text(), output.output)
    if not messages.quiet:
        for line in listed.notes(messages.verbose):
            streams.note(line)
    if inputs.strict and listed.skipped:
        raise PartlyRead(f"{count_of(len(listed.skipped), 'file')} would be skipped (--strict)")
    return 0
