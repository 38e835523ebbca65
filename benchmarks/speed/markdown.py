"""A result file in words: a table for each part, with what was not measured and why."""

from __future__ import annotations

from benchmarks.speed.result import Measured, Result
from benchmarks.speed.rows import Row

TITLES = {
    "scan": "Selective scan",
    "ssd": "Scan of Mamba-2",
    "conv": "Causal convolution",
    "attention": "Window attention",
    "reading": "Reading, SAMBA 1.7B and a transformer of its size (random weights)",
    "decoding": "Decoding, batch 1",
    "batch": "Generating, batch 16",
    "default": "The default model on the device",
    "endtoend": "The whole program",
    "training": "Training step",
    "cpu": "On the CPU",
}


def number(value: float) -> str:
    """Three significant digits, in full and with thousands set apart."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 or value == 0 else f"{value:.2g}"


def render(result: Result) -> str:
    """The file that stands beside the JSON."""
    lines = ["# Speed", "", "Made by `python -m benchmarks.speed`. Ratios above 1: ours is faster."]
    for name in TITLES:
        if name in result:
            lines += ["", f"## {TITLES[name]}", "", *_part(name, result[name])]
    return "\n".join(lines) + "\n"


def _part(name: str, part: Measured) -> list[str]:
    lines = [
        _where(part),
        "",
        f"`python -m benchmarks.speed --only {name}`, {part.seconds:.0f} s.",
        "",
    ]
    if part.rows:
        lines += [
            "| what | shape | ours | peers | ratio | share of limits | error | notes |",
            "|---|---|---|---|---|---|---|---|",
            *map(_row, part.rows),
        ]
    if part.problem:
        lines += ["", f"Incomplete: {part.problem}"]
    return lines


def _where(part: Measured) -> str:
    where = part.environment
    if not where:
        return "Where it ran is not known: it ended before it could say."
    versions = ", ".join(
        f"{name} {where[name]}"
        for name in ("torch", "triton", "transformers", "mamba-ssm", "causal-conv1d")
        if where.get(name)
    )
    allowed = ", ".join(f"{name} {value}" for name, value in where["limits"].items())
    return (
        f"{where['device']}, {where['cores']} cores, {where['date']}, commit {where['commit']}; "
        f"Python {where['python']}, {versions}. Measured there: {allowed}."
    )


def _row(row: Row) -> str:
    ours = "not measured" if row.ours is None else f"{number(row.ours)} {row.unit}"
    others = "; ".join(f"{name} {number(value)}" for name, value in row.peers.items())
    ratio = ""
    if row.ratio is not None:
        ratio = f"{row.ratio:.2f}"
        if row.goal is not None:
            ratio += f" (goal {row.goal:g}: {'met' if row.ratio >= row.goal else 'missed'})"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in row.limits.items())
    error = "" if row.error is None else f"{row.error:.0e}"
    facts = ", ".join(
        f"{key} {_fact(value)}" for key, value in row.facts.items() if value is not None
    )
    notes = "; ".join(text for text in (row.note, facts) if text)
    cells = (row.what, row.shape, ours, others, ratio, shares, error, notes)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _fact(value: object) -> str:
    return number(value) if isinstance(value, (int, float)) else str(value)
