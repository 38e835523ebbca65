"""What a command works on: an input read now, or a memory that was read before."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from samba_cli import memory as memories
from samba_cli import models, streams
from samba_cli.config import Settings
from samba_cli.errors import ModelError
from samba_cli.failures import Interrupted
from samba_cli.folders import cache_folder
from samba_cli.inputs import check_one_file
from samba_cli.options import CheckpointOptions, MessageOptions, ModelOptions
from samba_cli.render import Style, coverage_line, memory_line, skipped_line, waiting_line
from samba_cli.report import Coverage, Timing
from samba_cli.room import make_room
from samba_cli.session import Session, open_session
from samba_cli.units import bytes_text, count_text

if TYPE_CHECKING:
    from samba_cli.checkpoint import ReadFolder
    from samba_cli.documents import Document, Skipped
    from samba_cli.index import PassageIndex
    from samba_cli.model import State
    from samba_cli.results import ReadReport
    from samba_cli.sources.options import SourceOptions


@dataclass
class Reading:
    """A state that has read everything, the passages it read, and the model it belongs to."""

    session: Session
    state: State
    index: PassageIndex
    coverage: Coverage
    messages: MessageOptions
    report: ReadReport | None = None  # of a read in this run
    memory: memories.Memory | None = None  # that was asked, or continued
    folder: ReadFolder | None = None  # of a read in this run
    timing: Timing = field(default_factory=Timing)
    warnings: list[str] = field(default_factory=list)

    def say_coverage(self, saved_as: str | None = None) -> None:
        """The line every run ends with, on stderr."""
        if self.messages.quiet:
            return
        if self.messages.verbose:
            for skipped in self.coverage.skipped:
                streams.note(skipped_line(skipped))
        if streams.is_terminal(sys.stdout) and streams.is_terminal(sys.stderr):
            streams.note("")  # set apart from the answer above it
        peak = _peak_memory(self.session.device)
        if self.report is not None:
            line = coverage_line(self.report, self.state.nbytes, peak, saved_as)
        else:
            assert self.memory is not None
            line = memory_line(self.memory, peak)
        if self.messages.verbose and self.report is not None:
            streams.note(waiting_line(self.report))
        streams.note(Style(streams.wants_color(sys.stderr)).dim(line))


@dataclass(frozen=True)
class Input:
    """What to read and how, from the command line."""

    paths: Sequence[str]
    options: SourceOptions
    checkpoint: CheckpointOptions


@contextmanager
def read_input(
    wanted: Input,
    settings: Settings,
    messages: MessageOptions,
    partial: Path | None = None,
    base: memories.Memory | None = None,
) -> Iterator[Reading]:
    """Read everything that is wanted. `partial`: where checkpoints go, for a read that is kept;
    `base`: the memory that is continued.

    Raises Unreadable, ModelError, DeviceError; Interrupted says what a Ctrl-C left behind.
    """
    check_one_file(wanted.paths, wanted.options)
    session = open_session(settings, messages.quiet)
    if base is not None:
        _check_model(base, session)
    before = base.tokens if base is not None else 0
    # What is only kept is not answered from, and answering works on a copy of the state.
    copies = 1 if partial is not None else 2
    room = make_room(session, wanted.paths, wanted.options, before, copies)

    from samba_cli.apart import Apart, worth_a_process
    from samba_cli.checkpoint import open_read_folder, read_key, remove_stale_reads
    from samba_cli.progress import ReadProgress, total_size
    from samba_cli.reader import MAX_REPORTED, ReadOptions, read
    from samba_cli.reader import Interrupted as ReadInterrupted
    from samba_cli.sources.load import load

    warnings: list[str] = []

    def note(sentence: str) -> None:
        warnings.append(sentence)
        if not messages.quiet:
            streams.note(sentence)

    for sentence in session.warnings:
        note(sentence)
    if room is not None and not messages.quiet:
        streams.note(room.needed)
    if room is not None and room.warning:
        note(room.warning)
    model, tokenizer = session.model, session.tokenizer
    how = (replace(wanted.options, password=None), session.quantize)
    key = read_key(wanted.paths, model, tokenizer, how)
    reads = cache_folder() / "reads"
    place = partial or (reads / key if key else None)
    if wanted.checkpoint.no_checkpoint:
        place = None
    resume = key is not None and not wanted.checkpoint.restart
    remove_stale_reads(reads)
    stdin = sys.stdin.buffer if sys.stdin is not None else None
    pages: list[Skipped] = []  # without text, as the documents come to them

    def stream() -> Iterator[Document | Skipped]:
        pages.clear()
        return load(wanted.paths, wanted.options, stdin, pages.append)

    source = stream
    if session.device != "cpu" and worth_a_process(wanted.paths):
        tokenizer_folder = Path(session.folder) if session.folder else models.BUILT_IN_FOLDER
        source = Apart(tuple(wanted.paths), wanted.options, tokenizer_folder, pages)

    with open_read_folder(
        place, model, tokenizer, base=base.folder if base else None, resume=resume, note=note
    ) as folder:
        if room is not None:
            folder.state.reserve(room.reserve)
        try:
            with ReadProgress(verbose=messages.verbose, quiet=messages.quiet) as bar:
                report = read(
                    source,
                    model,
                    tokenizer,
                    folder,
                    ReadOptions(
                        total_bytes=total_size(wanted.paths),
                        prompts=_folder(settings),
                        checkpoint_seconds=settings.checkpoint_seconds,
                    ),
                    bar,
                )
        except ReadInterrupted as stop:
            raise Interrupted(_interrupted(stop.tokens, stop.resumable)) from None
        for page in pages:
            folder.index.add_skipped(page)
        report = replace(
            report,
            skipped=(*report.skipped, *pages[:MAX_REPORTED]),
            skipped_count=report.skipped_count + len(pages),
        )
        yield Reading(
            session, folder.state, folder.index, Coverage.of(report), messages, report, base,
            folder, Timing(report.seconds, 0.0, report.tokens_per_second), warnings,
        )  # fmt: skip


def _interrupted(tokens: int, resumable: bool) -> str:
    if resumable:
        return f"interrupted after {count_text(tokens)} tokens; the same command goes on from there"
    return f"interrupted after {count_text(tokens)} tokens; nothing was kept"


@contextmanager
def open_memory(
    memory: memories.Memory, settings: Settings, messages: MessageOptions
) -> Iterator[Reading]:
    """A memory, without reading anything again.

    Raises ModelError where it is damaged, or of another model.
    """
    warnings = _changes(memory)
    session = open_session(settings, messages.quiet)
    _check_model(memory, session)
    warnings += session.warnings
    room = make_room(session, before=memory.tokens, copies=2)
    if room is not None and room.warning:
        warnings.append(room.warning)
    if not messages.quiet:
        for sentence in warnings:
            streams.note(sentence)

    from samba_cli.index import PassageIndex
    from samba_cli.model import State, StateError

    try:
        state, _ = State.load(memory.state_file, session.model, session.tokenizer.fingerprint)
    except StateError as error:
        raise ModelError(
            f"memory '{memory.name}' is damaged: {error}; {memories.read_again(memory.name)}"
        ) from error
    with PassageIndex.open(memory.index_file) as index:
        counts = index.counts()
        coverage = Coverage(
            memory.documents, memory.pages, counts.bytes, memory.tokens, index.skipped(),
            counts.skipped,
        )  # fmt: skip
        yield Reading(session, state, index, coverage, messages, memory=memory, warnings=warnings)


def with_model_of(memory: memories.Memory, settings: Settings, given: ModelOptions) -> Settings:
    """A memory works with the model and the window it was read with, unless flags say others."""
    there = memory.model is None or Path(memory.model).is_dir()
    if given.model is None and there:
        settings = replace(settings, model=memory.model)
    return replace(settings, window=memory.window) if given.window is None else settings


def _peak_memory(device: str) -> str:
    """The most memory this process has used; empty where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, bytes on macOS
    text = f"peak memory {bytes_text(peak if sys.platform == 'darwin' else peak * 1024)}"
    if device.startswith("cuda"):
        import torch

        text += f" and {bytes_text(torch.cuda.max_memory_allocated(device))} on the GPU"
    return text


def _check_model(memory: memories.Memory, session: Session) -> None:
    weights, window = memories.weights_and_window(session.model.fingerprint)
    if weights == memories.weights_and_window(memory.model_sha256)[0] and window != memory.window:
        raise ModelError(
            f"memory '{memory.name}' was read with --window {memory.window}, not {window}; leave "
            f"--window out, or read again with: samba read PATH --as {memory.name} --force "
            f"--window {window}"
        )
    if session.model.fingerprint != memory.model_sha256:
        made = memory.model or "the built-in model of another version"
        raise ModelError(
            f"memory '{memory.name}' was made with another model ({made}); use that one, or read "
            f"again with: samba read PATH --as {memory.name} --force"
        )


def _changes(memory: memories.Memory) -> list[str]:
    changes = list(memories.changed_sources(memory.sources))
    if not changes:
        return []
    shown = ", ".join(f"{source.name} {how}" for source, how in changes[:3])
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return [f"note: since memory '{memory.name}' was read: {shown}{more}"]


def _folder(settings: Settings) -> Path | None:
    return Path(settings.prompts) if settings.prompts else None
