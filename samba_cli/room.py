"""What a state that grows will need for an input, and where there is room for it.

Models with full attention keep the keys and values of every token they read. That is said before
anything is read; where the device is too small for it they stay in host memory, and where that
is too small as well nothing is begun.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from samba_cli.documents import TEXT_KINDS, Document
from samba_cli.errors import DeviceError, SambaError
from samba_cli.session import Session
from samba_cli.units import bytes_text, count_text

if TYPE_CHECKING:
    from samba_cli.model import State, Tokenizer
    from samba_cli.sources.options import SourceOptions

_BYTES_PER_TOKEN = 4.0  # where there is no sample
_SAMPLE = 65_536  # bytes of the first texts, encoded to measure that
_SLACK = 1.05  # more room is reserved than estimated
_DEVICE_MARGIN = 2_000_000_000  # bytes left to the activations of a chunk and the allocator
_HOST_MARGIN = 500_000_000
_ROWS_SHARE = 8  # answers written side by side take at most this part of the free memory
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Estimate:
    """Tokens of an input, from the bytes on disk. `complete`: nothing of it is left out."""

    tokens: int = 0
    complete: bool = False  # False with pipes, and with formats whose size says little: PDF


@dataclass(frozen=True)
class Needs:
    """Bytes of a model and of its state."""

    weights: int
    fixed: int  # of the state, whatever is read
    per_token: int  # that each token adds to it
    input: Estimate = Estimate()
    before: int = 0  # tokens in the state already
    copies: int = 1  # of the growing part: answering works on a copy of the state

    @property
    def growing(self) -> int:
        """Bytes of keys and values once everything that can be told was read."""
        return self.per_token * (self.before + self.input.tokens)

    def sentence(self, name: str) -> str:
        state = f"state {bytes_text(self.fixed)} and {bytes_text(self.per_token)} per token"
        line = f"model {name}: weights {bytes_text(self.weights)}, {state}"
        tokens = self.per_token * self.input.tokens
        if not tokens:
            return line
        least = "about" if self.input.complete else "at least"
        return (
            f"{line}; {least} {bytes_text(tokens)} for this input "
            f"(about {count_text(self.input.tokens)} tokens)"
        )


def needs_of(session: Session) -> Needs:
    """What the model takes before it reads anything."""
    model = session.model
    tensors = [*model.parameters(), *model.buffers()]  # tied weights come once
    weights = sum(t.numel() * t.element_size() for t in tensors)
    return Needs(weights, *model.description.state_bytes(model.dtype.itemsize))


def estimate(paths: Sequence[str], options: SourceOptions, tokenizer: Tokenizer) -> Estimate:
    """Count the bytes of what is text, and encode some of it to see how many make a token.

    Nothing is read whole: files of any size, sparse ones too, take the same fraction of a second.
    """
    from samba_cli.sources.load import load

    files = [path for path in paths if path != "-"]
    complete, size, sampled, tokens = len(files) == len(paths), 0, 0, 0
    try:
        for item in load(files, options) if files else ():
            if not isinstance(item, Document):
                continue
            if item.kind not in TEXT_KINDS or item.size is None:
                complete = False
                continue
            size += item.size
            if sampled < _SAMPLE and item.sample is not None:
                text, taken = item.sample(_SAMPLE - sampled)
                sampled, tokens = sampled + taken, tokens + len(tokenizer.encode(text))
    except SambaError:  # the reading will say it
        return Estimate()
    per_token = sampled / tokens if tokens else _BYTES_PER_TOKEN
    return Estimate(int(size / per_token), complete)


@dataclass(frozen=True)
class Room:
    """What a person should know of it, and how many positions to reserve at once (0: unknown)."""

    needed: str
    warning: str | None
    reserve: int


def make_room(
    session: Session,
    paths: Sequence[str] = (),
    options: SourceOptions | None = None,
    before: int = 0,
    copies: int = 1,
) -> Room | None:
    """Decide where the state of this model grows; without `options` nothing will be read.

    None for models whose state has a fixed size. Raises DeviceError where there is no room.
    """
    needs = replace(needs_of(session), before=before, copies=copies)
    if not needs.per_token:
        return None
    if options is not None:
        needs = replace(needs, input=estimate(paths, options, session.tokenizer))
    device, warning = free_device_memory(session.device), None
    if not fits(needs, device, free_memory()):
        session.model.cache_on_host = True
        warning = (
            f"{session.device} has {bytes_text(device or 0)} free: too little for the growing "
            "part of the state, which stays in host memory (slower)"
        )
    whole = before + int(needs.input.tokens * _SLACK) + 256  # a few more are no waste
    return Room(needs.sentence(session.name), warning, whole if needs.input.complete else 0)


def fits(needs: Needs, device: int | None, host: int | None) -> bool:
    """Whether the growing part fits the device (None: the CPU); False: only host memory.

    `device` and `host` are free bytes; an unknown host counts as enough. Raises DeviceError
    where neither has room.
    """
    wanted = needs.growing * needs.copies
    if device is not None and wanted <= device - _DEVICE_MARGIN:
        return True
    if host is not None and wanted > host - _HOST_MARGIN:
        twice = ", held twice while answering" if needs.copies > 1 else ""
        raise DeviceError(
            f"the state would grow to about {bytes_text(needs.growing)}{twice}, and "
            f"{bytes_text(host)} of memory are free; bound it with --window N (8192, for one; "
            "lossy), or use a model whose state does not grow"
        )
    return device is None


def rows_at_once(state: State, device: str, most: int) -> int:
    """How many copies of a state may be written on side by side: 1 to `most`.

    Each is held twice, by a graph too, and the whole takes a part of what is free.
    """
    free = free_device_memory(device) if device.startswith("cuda") else free_memory()
    if free is None:
        return 1
    return max(1, min(most, free // _ROWS_SHARE // (2 * max(state.nbytes, 1))))


def free_device_memory(device: str) -> int | None:
    """Bytes; None for the CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def free_memory() -> int | None:
    """Bytes of host memory that can be taken without swapping; None where nothing tells."""
    known = [size for size in (_free_of_system(), _free_of_group()) if size is not None]
    return min(known, default=None)


def _free_of_system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return None


def _free_of_group() -> int | None:
    """What the limit of a container leaves; files in its cache can be dropped."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
        return None if limit == "max" else max(int(limit) - used, 0)
    except (OSError, ValueError, IndexError):
        return None
