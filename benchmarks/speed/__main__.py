"""Measure the speed of everything, beside peers and physical limits, on one GPU (or the CPU).

    python -m benchmarks.speed                                 # every part; 15 minutes on an H200
    python -m benchmarks.speed --only scan conv attention      # some of them
    python -m benchmarks.speed --only reading --merge out/speed-2026-01-31.json
    python -m benchmarks.speed --only --merge a.json b.json    # none: put results together
    python -m benchmarks.speed --device cpu --tiny             # does it run?

Writes speed-DATE.json and speed-DATE.md to --out after every part. --merge takes over the parts of
earlier files that are not measured now. Peers (mamba-ssm, causal-conv1d) are used where they can
be imported, else the result says that they were missing.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.speed import markdown, result, worker

LEAST = 15  # seconds that no part can do without


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = list(worker.PARTS)
    parser.add_argument("--only", nargs="*", metavar="PART", help=", ".join(names))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, help="limit of each part, instead of its own")
    parser.add_argument("--total", type=float, default=math.inf, help="seconds of all of it")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder (default: out)")
    parser.add_argument("--merge", type=Path, nargs="+", default=[], help="earlier results")
    parser.add_argument("--commit", help="what is measured, where git cannot tell")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: only shows that it runs")
    parser.add_argument("--worker", choices=names, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if unknown := [part for part in args.only or [] if part not in names]:
        parser.error(f"there is no part {', '.join(unknown)}; choose from {', '.join(names)}")
    return args


def save(measured: result.Result, path: Path) -> None:
    """The result and the same in words."""
    result.save(measured, path)
    path.with_suffix(".md").write_text(markdown.render(measured), encoding="utf-8")


def main() -> None:
    args = parse()
    if args.worker:
        worker.work(args.worker, args.device, args.tiny, args.seconds, args.commit, args.out)
        return
    try:
        measured = result.merge([result.load(path) for path in args.merge])
    except (OSError, ValueError) as problem:
        sys.exit(f"--merge: {problem}")
    path = args.out / f"speed-{datetime.now(UTC):%Y-%m-%d}.json"
    end = time.monotonic() + args.total
    save(measured, path)
    for part in worker.PARTS if args.only is None else args.only:
        seconds = min(args.seconds or worker.PARTS[part][1], end - time.monotonic() - worker.GRACE)
        if seconds < LEAST:
            print(f"{part}: not measured, no time was left", flush=True)
            continue
        device = "cpu" if part == "cpu" else args.device
        new = worker.measure(part, device, args.tiny, seconds, args.commit)
        measured = result.merge([measured, {part: new}])
        save(measured, path)
        print(markdown.render({part: new}).partition("\n## ")[2], flush=True)
    print(f"written to {path} and {path.with_suffix('.md')}")


if __name__ == "__main__":
    main()
