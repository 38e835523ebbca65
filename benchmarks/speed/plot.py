"""Throughput and memory against length, as a small SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.result import Result
from benchmarks.speed.rows import Row

OURS, THEIRS = "#0072b2", "#d55e00"  # told apart by every eye (Okabe & Ito 2008)
EXTRAPOLATED = ", extrapolated"


def draw(result: Result, path: Path) -> None:
    """Two panels from the part `reading`. Raises ValueError where it was not measured."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    rows = [row for row in result["reading"].rows if row.ours] if "reading" in result else []
    if not rows:
        raise ValueError("the result has no readings to plot")
    # The same data gives the same file; text stays text.
    plt.rcParams.update({"svg.hashsalt": "samba", "svg.fonttype": "none", "font.size": 9})
    figure, (speed, memory) = plt.subplots(1, 2, figsize=(7.6, 2.9), layout="constrained")
    _throughput(speed, rows)
    _memory(memory, rows)
    for axes in (speed, memory):
        axes.set_xscale("log", base=2)
        lengths = _lengths(rows)
        axes.set_xticks(lengths[::2], [_short(length) for length in lengths[::2]])
        axes.set_xlabel("tokens read")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    plt.close(figure)
    # matplotlib leaves spaces at ends of lines
    path.write_text("\n".join(map(str.rstrip, path.read_text().splitlines())) + "\n")


def _throughput(axes: Any, rows: Sequence[Row]) -> None:
    axes.set_title("tokens/s reading, one GPU, batch 1", fontsize=9)
    axes.plot(_lengths(rows), [row.ours for row in rows], "o-", color=OURS, label="SAMBA 1.7B")
    measured, guessed = [], []
    for row in rows:
        for name, rate in row.peers.items():
            if "compiled" in name:
                kind = guessed if name.endswith(EXTRAPOLATED) else measured
                kind.append((row.facts["tokens"], rate))
    if measured:
        axes.plot(*zip(*measured, strict=True), "s-", color=THEIRS, label="transformer, 1.6B")
    if measured and guessed:
        line = zip(*[measured[-1], *guessed], strict=True)
        axes.plot(*line, "s--", color=THEIRS, markerfacecolor="white", label="extrapolated")


def _memory(axes: Any, rows: Sequence[Row]) -> None:
    axes.set_title("peak GPU memory, GB", fontsize=9)
    for name, key, mark, color in (
        ("SAMBA 1.7B, in chunks", "peak GB", "o-", OURS),
        ("transformer, 1.6B", "peak GB of the transformer", "s-", THEIRS),
    ):
        points = [(row.facts["tokens"], row.facts[key]) for row in rows if row.facts.get(key)]
        if points:
            axes.plot(*zip(*points, strict=True), mark, color=color, label=name)


def _lengths(rows: Sequence[Row]) -> list[int]:
    return [row.facts["tokens"] for row in rows]


def _short(tokens: int) -> str:
    return f"{tokens >> 20}M" if tokens >= 1 << 20 else f"{tokens >> 10}K"
