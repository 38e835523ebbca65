"""From a result file to README's section on speed and its plot.

    python -m benchmarks.speed.show benchmarks/results/speed-2026-01-31.json

Draws docs/speed.svg and replaces what stands between `<!-- speed -->` and `<!-- /speed -->` in
README.md: the plot, a table of what matters most, and the commands behind them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.speed import plot
from benchmarks.speed.environment import ROOT
from benchmarks.speed.markdown import TITLES, number
from benchmarks.speed.result import Result, load
from benchmarks.speed.rows import Row

BEGIN, END = "<!-- speed -->", "<!-- /speed -->"
PLOT = Path("docs/speed.svg")


def section(result: Result, source: str) -> str:
    """The Markdown between the marks. `source`: the result file, as README links to it."""
    rows = [row for name in TITLES if name in result for row in result[name].rows if row.headline]
    lines = [
        f"![tokens per second and GPU memory against the length that is read]({PLOT})",
        "",
        "| what | shape | measured | fastest peer | times as fast | share of the limit |",
        "|---|---|---|---|---|---|",
        *map(_row, rows),
        "",
        *_footer(result, source),
    ]
    return "\n".join(lines)


def _row(row: Row) -> str:
    assert row.ours is not None
    peer = row.fastest_peer
    theirs = "" if peer is None else f"{number(row.peers[peer])} {row.unit} ({peer})"
    ratio = "" if row.ratio is None else f"**{row.ratio:.2f}**"
    # of several limits the one that binds
    share = max(row.limits.items(), key=lambda limit: limit[1], default=None)
    limit = "" if share is None else f"{share[1]:.0%} of {share[0]}"
    cells = (row.what, row.shape, f"{number(row.ours)} {row.unit}", theirs, ratio, limit)
    return f"| {' | '.join(cells)} |"


def _footer(result: Result, source: str) -> list[str]:
    """The command, and where and when each part ran."""
    places: dict[str, list[str]] = {}
    for name, part in result.items():
        where = part.environment
        if where:
            when = where["date"].partition(" ")[0]
            places.setdefault(f"{where['device']}, {when}, commit {where['commit']}", []).append(
                name
            )
    told = "; ".join(f"{place} ({', '.join(names)})" for place, names in places.items())
    return [
        f"Measured by `python -m benchmarks.speed`, peers and limits in the same run: {told}.",
        f"Every row, error and note: [{source}]({source}).",
    ]


def replaced(text: str, new: str) -> str:
    """Raises ValueError where the marks are not there, once each and in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"the text needs {BEGIN} and {END}, once each")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.show",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("result", type=Path)
    args = parser.parse_args()
    readme = ROOT / "README.md"
    try:
        result = load(args.result)
        plot.draw(result, ROOT / PLOT)
        source = args.result.resolve().with_suffix(".md").relative_to(ROOT)
        text = replaced(readme.read_text(encoding="utf-8"), section(result, source.as_posix()))
    except (OSError, ValueError) as problem:
        sys.exit(str(problem))
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
