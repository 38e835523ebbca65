"""Public models at full size with random weights: reading, decoding, memory, beside transformers.

    python -m benchmarks.public_models                                # about 4 minutes
    python -m benchmarks.public_models --model Bamba-9B-v2 --seconds 120 --skip-transformers
    python -m benchmarks.public_models --device cpu --tiny            # does the script run?

Prints a JSON line for each result as it comes, and a table at the end. For each model: exactness
first (logits of one pass against pieces and single tokens, and against transformers, in float32
and in bfloat16), then one reading of the longest of --tokens, reported at each of them, then
decoding, then transformers.

Nothing runs past its --seconds by more than a chunk. A reading that was stopped goes on at the
end of the text: the cache of full attention is filled up with random keys and values, and the
last chunks are read from there. `extrapolated_tokens_per_s` joins both by a line through the
seconds of every chunk; everything else is measured.

Limits of one H200 at 790 TFLOP/s of bf16 matrix products (GFLOP a token; the mean over 1,048,576
tokens of what attention adds, 4 H d a key and layer):

    model                    products   Mamba-2   attention   limit at 131,072   at 1,048,576
    falcon-mamba-7b              13.5         -           -   58,700 tokens/s    58,700 tokens/s
    granite-4.0-h-micro           6.0      0.13        17.2   95,800             33,900
    Bamba-9B-v2                  17.5      0.21        25.8   37,800             18,200
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.public_readings import Reading, decode_tokens_per_second, limit_tokens_per_s
from benchmarks.random_models import CONFIGS, TINY, random_model
from benchmarks.transformers_reference import OutOfTime, same_model
from benchmarks.transformers_reference import decode_tokens_per_second as their_decoding
from benchmarks.transformers_reference import prefill_seconds as their_prefill
from samba_cli.model import Model
from samba_cli.model.architectures import Architecture, read_architecture


@dataclass(frozen=True)
class Lengths:
    """Tokens of everything but the readings themselves."""

    pieces: dict[torch.dtype, tuple[int, int]]  # read at once, and in pieces of
    compared: dict[torch.dtype, int]  # with transformers
    # of transformers; each at least 4 times as long as the one before
    prompts: tuple[int, ...] = (1024, 4096, 16_384, 131_072)
    short: int = 64  # before decoding
    decoded: int = 64


FULL = Lengths(
    {torch.float32: (2048, 500), torch.bfloat16: (4096, 1000)},
    {torch.float32: 512, torch.bfloat16: 2048},
)
SMALL = Lengths(
    {torch.float32: (128, 50), torch.bfloat16: (128, 50)},
    {torch.float32: 48, torch.bfloat16: 48},
    prompts=(64, 256),
    short=8,
    decoded=4,
)

# Greatest ||logits - others|| / ||others||. In bfloat16 each of some 200 roundings on the way
# through the layers adds 2^-9; transformers also keeps residuals and Mamba-2 steps in bfloat16.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
TOLERANCE_OF_THEIRS = {torch.float32: 1e-3, torch.bfloat16: 2e-1}


@dataclass
class Report:
    """Lines as they come, and the rows of the table."""

    started: float = field(default_factory=time.perf_counter)
    rows: list[dict[str, Any]] = field(default_factory=list)
    wrong: int = 0

    def add(self, model: str, what: str, **values: Any) -> None:
        row = {"model": model, "what": what, **values}
        self.rows.append(row)
        self.wrong += values.get("ok") is False or values.get("finite") is False
        print(json.dumps(row | {"at_s": round(self.seconds, 1)}), flush=True)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def attempt(self, model: str, what: str, end: float, work: Callable[[], None]) -> bool:
        """Do a part that may begin before `end`; whether it succeeded. Whatever stops it is
        reported, and the next goes on: a run on a GPU is hard to repeat."""
        error = None
        try:
            if self.seconds > end:
                raise OutOfTime("no time left; see --total")
            work()
            return True
        except torch.OutOfMemoryError as reason:
            self.add(model, what, out_of_memory=". ".join(str(reason).split(". ")[:2]))
        except OutOfTime as reason:
            self.add(model, what, skipped=str(reason))
        except Exception as reason:
            error = f"{type(reason).__name__}: {str(reason)[:300]}"
        finally:
            free()
        if error:
            self.wrong += 1
            self.add(model, what, error=error)
        return False

    def table(self) -> None:
        shown = ("tokens_per_s", "share_of_limit", "peak_gb", "relative", "ok")
        print(f"\n{'model':20s} {'what':34s} {'tokens':>9s}", *(f"{key:>14s}" for key in shown))
        for row in self.rows:
            note = row.get("out_of_memory") or row.get("skipped") or row.get("error") or ""
            cells = (f"{_cell(row.get(key)):>14s}" for key in shown)
            tokens = _cell(row.get("tokens", row.get("position")))
            print(f"{row['model']:20s} {row['what']:34s} {tokens:>9s}", *cells, note[:60])


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def free() -> None:
    """Give device memory back that nothing holds."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def gigabytes() -> float | None:
    """Peak device memory since it was last reset."""
    return round(torch.cuda.max_memory_allocated() / 1e9, 2) if torch.cuda.is_available() else None


def distances(got: Tensor, wanted: Tensor) -> dict[str, float]:
    """Of logits [1, T, V], over all positions and at the worst one."""
    apart, size = (got - wanted).norm(dim=-1), wanted.norm(dim=-1)
    return {
        "relative": float(f"{float(apart.norm() / size.norm()):.1e}"),
        "worst_position": float(f"{float((apart / size).max()):.1e}"),
        "same_argmax": round(float((got.argmax(-1) == wanted.argmax(-1)).float().mean()), 4),
    }


def random_ids(model: Model, length: int, seed: int) -> Tensor:
    generator = torch.Generator(model.device).manual_seed(seed)
    shape, device = (1, length), model.device
    return torch.randint(model.description.vocab_size, shape, device=device, generator=generator)


def named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@torch.inference_mode()
def check_pieces(report: Report, name: str, model: Model, length: int, piece: int) -> None:
    """Logits of one pass against pieces, the last eight tokens one by one."""
    ids, state = random_ids(model, length, 1), model.initial_state()
    whole = model(ids, model.initial_state())
    parts = [*ids[:, :-8].split(piece, dim=1), *ids[:, -8:].split(1, dim=1)]
    cut = torch.cat([model(part, state) for part in parts], dim=1)
    far = distances(cut, whole)
    ok = far["relative"] <= TOLERANCE[model.dtype] and bool(torch.isfinite(whole).all())
    report.add(
        name, f"pieces of {piece}, {named(model.dtype)}", tokens=length, **far, ok=ok,
        tolerance=TOLERANCE[model.dtype],
    )  # fmt: skip


@torch.inference_mode()
def check_theirs(report: Report, name: str, model: Model, theirs: Any, length: int) -> None:
    ids = random_ids(model, length, 2)
    wanted = theirs(ids).logits.float()
    far = distances(model(ids, model.initial_state()), wanted)
    ok = far["relative"] <= TOLERANCE_OF_THEIRS[model.dtype]
    report.add(
        name, f"against transformers, {named(model.dtype)}", tokens=length, **far, ok=ok,
        tolerance=TOLERANCE_OF_THEIRS[model.dtype],
    )  # fmt: skip


def read(report: Report, name: str, model: Model, args: argparse.Namespace, seconds: float) -> None:
    """One reading, reported at every length of --tokens, then decoding behind it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    reading = Reading(model, args.chunk, seconds)
    longest = max(args.tokens)
    for tokens in sorted(args.tokens):
        reading.until(tokens)
        limit = limit_tokens_per_s(model.description, tokens)
        facts = reading.facts(tokens, limit) | {"peak_gb": gigabytes()}
        report.add(name, "reading" if reading.done(tokens) else "reading, stopped", **facts)
    if not reading.done(longest):
        facts = reading.at_depth(longest) | {"peak_gb": gigabytes()}
        report.add(name, "reading at depth", **facts)
    speed = decode_tokens_per_second(model, reading.state, 1, args.lengths.decoded)
    report.add(name, "decoding", position=reading.state.position, tokens_per_s=round(speed, 1))


@dataclass(frozen=True)
class Subject:
    """A model and what it is measured with; no part begins after `end`."""

    report: Report
    name: str
    raw: dict[str, Any]
    architecture: Architecture
    args: argparse.Namespace
    end: float

    def attempt(self, what: str, work: Callable[[], None]) -> bool:
        return self.report.attempt(self.name, what, self.end, work)

    def random(self, dtype: torch.dtype) -> Model:
        return random_model(self.architecture.description, torch.device(self.args.device), dtype)

    def exactness(self, dtype: torch.dtype) -> None:
        """Whatever is held in `dtype` is gone afterwards."""
        model, lengths = self.random(dtype), self.args.lengths
        check_pieces(self.report, self.name, model, *lengths.pieces[dtype])
        if not self.args.skip_transformers:
            free()
            theirs = same_model(self.raw, self.architecture, model)
            check_theirs(self.report, self.name, model, theirs, lengths.compared[dtype])

    def ours(self, model: Model) -> None:
        report, name, args, lengths = self.report, self.name, self.args, self.args.lengths

        def read_on() -> None:
            read(report, name, model, args, min(args.seconds, self.end - report.seconds))

        def decode() -> None:
            state = model.initial_state()
            speed = decode_tokens_per_second(model, state, lengths.short, lengths.decoded)
            report.add(name, "decoding", position=state.position, tokens_per_s=round(speed, 1))

        fixed, growth = self.architecture.description.state_bytes(2)
        report.add(
            name, "model", parameters=sum(p.numel() for p in model.parameters()),
            state_fixed_bytes=fixed, state_bytes_a_token=growth,
        )  # fmt: skip
        self.attempt("reading", read_on)
        self.attempt("decoding", decode)

    def theirs(self, model: Model) -> None:
        """transformers with the same weights: its speed of decoding and of reading."""
        report, name, lengths = self.report, self.name, self.args.lengths
        theirs = same_model(self.raw, self.architecture, model)

        def limit() -> float:
            return min(self.args.reference_seconds, self.end - report.seconds)

        def decode() -> None:
            ids = random_ids(model, lengths.short, 3)
            speed = their_decoding(theirs, ids, lengths.decoded // 2, limit())
            report.add(
                name, "transformers decoding", position=lengths.short, tokens_per_s=round(speed, 1)
            )

        def prefill(tokens: int, before: list[float]) -> None:
            if before and before[-1] > limit():
                raise OutOfTime(f"{tokens} tokens would take {before[-1]:.0f} s at least")
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            if not before:
                their_prefill(theirs, random_ids(model, 64, 4), limit())  # warm
            seconds = their_prefill(theirs, random_ids(model, tokens, 4), limit())
            before.append(seconds * 4)  # the next prompt is at least four times as long
            report.add(
                name, "transformers reading", tokens=tokens,
                tokens_per_s=round(tokens / seconds, 1), peak_gb=gigabytes(),
            )  # fmt: skip

        self.attempt("transformers decoding", decode)
        before: list[float] = []
        for tokens in lengths.prompts:
            what = f"transformers reading {tokens}"
            if not self.attempt(what, lambda tokens=tokens: prefill(tokens, before)):
                break


def measure(subject: Subject) -> None:
    """Everything of one model: exactness, reading, decoding, then transformers."""
    if not subject.args.skip_float32:
        subject.attempt("exactness, float32", lambda: subject.exactness(torch.float32))
    subject.attempt("exactness, bfloat16", lambda: subject.exactness(torch.bfloat16))

    def at_speed() -> None:
        model = subject.random(torch.bfloat16)
        subject.ours(model)
        if not subject.args.skip_transformers:
            subject.attempt("transformers", lambda: subject.theirs(model))

    subject.attempt("speed", at_speed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--model", choices=list(CONFIGS), nargs="+", default=list(CONFIGS))
    parser.add_argument("--tokens", type=int, nargs="+", help="lengths to read (131072 1048576)")
    parser.add_argument("--chunk", type=int, help="tokens read at a time (8192)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of one reading")
    parser.add_argument("--reference-seconds", type=float, default=20.0, help="of transformers'")
    parser.add_argument("--total", type=float, default=240.0, help="seconds, shared by the models")
    parser.add_argument("--skip-transformers", action="store_true")
    parser.add_argument("--skip-float32", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="the same on toy sizes")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("No NVIDIA GPU is here; try --device cpu --tiny.")
    args.tokens = args.tokens or ([256, 1024] if args.tiny else [131_072, 1_048_576])
    args.chunk = args.chunk or (64 if args.tiny else 8192)
    args.lengths = SMALL if args.tiny else FULL
    torch.backends.cudnn.allow_tf32 = False  # transformers' convolutions in float32
    report = Report()
    where = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    report.add("", "machine", device=where, torch=torch.__version__, chunk=args.chunk)
    for i, name in enumerate(args.model):
        share = (args.total - report.seconds) / (len(args.model) - i)
        raw = CONFIGS[name] | (TINY[name] if args.tiny else {})
        subject = Subject(report, name, raw, read_architecture(raw), args, report.seconds + share)
        measure(subject)
    report.table()
    if report.wrong:
        raise SystemExit(f"{report.wrong} of the results above are wrong.")


if __name__ == "__main__":
    main()
