"""`samba doctor`: whether this machine can do the work, and how fast."""

from __future__ import annotations

import json
import locale
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from samba_cli import __version__, folders, streams
from samba_cli.config import Settings, load_settings
from samba_cli.errors import SambaError
from samba_cli.options import ModelOptions, flags
from samba_cli.room import free_memory
from samba_cli.session import Session, open_session
from samba_cli.units import bytes_text, count_text
from samba_cli.warming import warm

_PROBE_TOKENS, _PROBE_SECONDS = 2048, 3.0
_OUTDATED_TORCH = (2, 6)


@dataclass(frozen=True)
class Check:
    """One line of the report. Only "problem" makes the exit code 1."""

    name: str
    status: Literal["ok", "note", "problem"]
    detail: str


def run(as_json: bool, warmed: bool, model: ModelOptions) -> int:
    checks: list[Check] = []
    for check in _checks(load_settings(flags(model)), warmed):
        checks.append(check)
        if not as_json:
            mark = {"ok": "ok", "note": "note", "problem": "PROBLEM"}[check.status]
            print(f"{mark:8} {check.name:10} {check.detail}", flush=True)
    healthy = all(check.status != "problem" for check in checks)
    if as_json:
        value = {"samba": 1, "healthy": healthy, "checks": [asdict(check) for check in checks]}
        print(json.dumps(value, ensure_ascii=False, indent=1))
    return 0 if healthy else 1


def _checks(settings: Settings, warmed: bool) -> Iterator[Check]:
    system = f"{platform.system()} {platform.machine()}"
    yield Check("samba", "ok", f"{__version__} on Python {platform.python_version()}, {system}")
    yield from _command()
    yield _encoding()
    yield from _folders()
    yield _memory()
    yield from _torch()
    session, check = _model(settings)
    yield check
    if session is not None:
        if warmed:  # first: the checks after it find their kernels compiled
            yield _checked("warm", lambda: Check("warm", "ok", warm(session).sentence))
        yield _checked("kernels", lambda: _kernels(session.device))
        yield _checked("speed", lambda: _speed(session))


def _checked(name: str, check: Callable[[], Check]) -> Check:
    """A check that fails is a finding, not the end of the report."""
    try:
        return check()
    except Exception as error:
        return Check(name, "problem", f"{type(error).__name__}: {str(error).splitlines()[0]}")


def _command() -> Iterator[Check]:
    """The SMB server of the same name (`/usr/sbin/samba`) must not be what a shell finds."""
    found = shutil.which("samba")
    if found is None:
        yield Check("command", "note", "no `samba` on the PATH; use: python -m samba_cli")
        return
    try:
        with open(found, "rb") as file:
            ours = b"samba_cli" in file.read(4096)
    except OSError:
        ours = False
    if ours:
        yield Check("command", "ok", found)
    else:
        detail = f"{found} is another program (the SMB server?); call this one samba-cli"
        yield Check("command", "note", detail)


def _encoding() -> Check:
    encoding = locale.getpreferredencoding(False)
    if encoding.upper().replace("-", "") == "UTF8":
        return Check("locale", "ok", encoding)
    return Check("locale", "note", f"{encoding}; samba writes UTF-8 all the same")


def _folders() -> Iterator[Check]:
    for name, path in (
        ("memories", folders.memories_folder()),
        ("models", folders.models_folder()),
        ("partial", folders.cache_folder()),
        ("log", folders.state_folder()),
    ):
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
            free = shutil.disk_usage(path).free
            yield Check(name, "ok", f"{path} can be written, {bytes_text(free)} free")
        except OSError as error:
            yield Check(name, "problem", f"{path} cannot be written ({error.strerror})")


def _memory() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free = free_memory()
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        total = None
    if free is None or total is None:
        return Check("machine", "ok", f"{cores} cores")
    detail = f"{cores} cores, {bytes_text(free)} of {bytes_text(total)} memory free"
    return Check("machine", "ok" if free > 500e6 else "note", detail)


def _torch() -> Iterator[Check]:
    try:
        import torch
    except Exception as error:  # a broken installation fails in many ways
        yield Check("torch", "problem", f"cannot be imported ({error})")
        return
    version = torch.__version__
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    if numbers < _OUTDATED_TORCH:
        yield Check("torch", "problem", f"{version} is too old; 2.6 or newer is needed")
    else:
        yield Check("torch", "ok", version)
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f"torch has CUDA {built}, but no GPU answers" if built else "torch has no CUDA"
        yield Check("gpu", "note", f"none ({why}); the CPU does the work")
        return
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        yield Check(
            "gpu", "ok",
            f"cuda:{number} {device.name}, {bytes_text(free)} of {bytes_text(total)} free, "
            f"CUDA {torch.version.cuda}",
        )  # fmt: skip


def _model(settings: Settings) -> tuple[Session | None, Check]:
    try:
        session = open_session(settings, quiet=not streams.is_terminal(sys.stderr))
    except SambaError as error:
        return None, Check("model", "problem", str(error))
    parameters = sum(p.numel() for p in session.model.parameters())
    place = session.folder or str(Path(__file__).parent / "model" / "weights")
    growth = session.model.description.state_bytes(session.model.dtype.itemsize)[1]
    grows = f", state grows by {bytes_text(growth)} per token" if growth else ""
    detail = f"{parameters / 1e6:.1f}M parameters, sha256 {session.model.fingerprint[:16]}, {place}"
    detail += grows
    return session, Check("model", "ok", detail)


def _kernels(device: str) -> Check:
    """The fast kernels of this device against their readable reference, on small inputs."""
    import torch

    from samba_cli.kernels.causal_conv1d import causal_conv1d
    from samba_cli.kernels.dispatch import backend_for, force
    from samba_cli.kernels.selective_scan import selective_scan
    from samba_cli.kernels.ssd_scan import ssd_scan
    from samba_cli.kernels.window_attention import window_attention

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    generator = torch.Generator().manual_seed(0)
    u, delta, b, c = random(1, 70, 32), random(1, 70, 32), random(1, 70, 16), random(1, 70, 16)
    a, d, w = -random(32, 16).exp(), random(32), random(32, 4)
    x, dt, g = random(1, 70, 4, 16), random(1, 70, 4), random(1, 70, 1, 16)
    q, k, v = random(1, 70, 4, 16), random(1, 70, 2, 16), random(1, 70, 2, 16)
    operations: dict[str, Callable[[], torch.Tensor]] = {
        "selective scan": lambda: selective_scan(u, delta, a, b, c, d)[0],
        "Mamba-2 scan": lambda: ssd_scan(x, dt, a[:4, 0], g, g)[0],
        "convolution": lambda: causal_conv1d(u, w)[0],
        "attention": lambda: window_attention(q, k, v, 32),
    }
    backend = backend_for(u)
    for name, operation in operations.items():
        fast = operation()
        with force("ref"):
            expected = operation()
        error = ((fast - expected).norm() / expected.norm()).item()
        if not error < 1e-3:
            detail = f"{backend} {name} is wrong here (relative error {error:.1e})"
            return Check("kernels", "problem", f"{detail}; set SAMBA_KERNELS=torch")
    return Check("kernels", "ok", f"{backend}, equal to the reference")


def _speed(session: Session) -> Check:
    import torch

    state = session.model.initial_state()
    tokens = torch.randint(32, session.tokenizer.vocab_size, (1, 512), device=session.model.device)
    nothing = torch.zeros(0, dtype=torch.long, device=session.model.device)

    def step() -> None:
        with torch.inference_mode():
            session.model(tokens, state, at=nothing)
        if session.model.device.type == "cuda":
            torch.cuda.synchronize()

    step()  # the first one compiles
    count, start = 0, time.monotonic()
    while count < _PROBE_TOKENS and time.monotonic() - start < _PROBE_SECONDS:
        step()
        count += 512
    rate = count / (time.monotonic() - start)
    detail = f"reads {count_text(int(rate))} tokens/s on {session.device}"
    return Check("speed", "ok", f"{detail}, state {bytes_text(state.nbytes)}")
