"""Tables and pictures from the results of `training.passkey` and `training.positions`.

    python -m training.evidence --passkey a.json b.json --positions positions.json \\
        --out docs/evidence --pages docs/evidence/README.md model/weights/MODEL_CARD.md

Results of several processes are added up. --out gets the results and the pictures (SVG); in each
page the text between `<!-- evidence -->` and `<!-- end of evidence -->` is replaced.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- evidence -->", "<!-- end of evidence -->"
_TESTS = {
    "one": "through the program, one in a text",
    "ten": "through the program, ten in a text",
    "state": "from the state alone",
}
_COUNTS = ("right", "asked", "first")
Report = dict[str, Any]


def merged(reports: Sequence[Report]) -> Report:
    """One report of passkeys from several: counts of the same test are added.

    Raises ValueError where they are of other weights, lengths or depths, or share a seed.
    """
    result: Report = {"what": "passkey", "model_sha256": reports[0]["model_sha256"]}
    result["device"] = ", ".join(sorted({report["device"] for report in reports}))
    if any(report["model_sha256"] != result["model_sha256"] for report in reports):
        raise ValueError("the results are of different weights")
    for test in _TESTS:
        parts = [report[test] for report in reports if test in report]
        if not parts:
            continue
        if any(part[name] != parts[0][name] for part in parts for name in ("lengths", "depths")):
            raise ValueError(f"{test}: the results are of different lengths or depths")
        seeds = sorted(seed for part in parts for seed in part["seeds"])
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"{test}: a seed was counted twice")
        result[test] = {
            "lengths": parts[0]["lengths"], "depths": parts[0]["depths"], "seeds": seeds,
            "seconds": round(sum(part["seconds"] for part in parts), 1),
            "left_out": sum(part["left_out"] for part in parts),
            "wrong": [wrong for part in parts for wrong in part["wrong"]],
        }  # fmt: skip
        for name in _COUNTS:
            if name in parts[0]:
                result[test][name] = _added([part[name] for part in parts])
    return result


def _added(tables: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*tables, strict=True)]


def length_text(tokens: int) -> str:
    """4096 -> "4K", 1048576 -> "1M"."""
    for size, unit in ((1 << 20, "M"), (1 << 10, "K")):
        if tokens >= size and tokens % size == 0:
            return f"{tokens // size}{unit}"
    return f"{tokens:,}"


def share(right: int, asked: int) -> str:
    """Percent to a tenth; 0 and 100 only where they are exact, a dash where nothing was asked."""
    if not asked:
        return "-"
    text = f"{100 * right / asked:.1f}".removesuffix(".0")
    if text == "100" and right < asked:
        return ">99.9"
    return "<0.1" if text == "0" and right else text


def passkey_tables(report: Report) -> str:
    """Markdown: for each test, percent right by length and depth."""
    blocks = []
    for test, name in _TESTS.items():
        if test not in report:
            continue
        part = report[test]
        head = ["tokens", *(f"{depth:.0%}" for depth in part["depths"]), "all"]
        lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for length, right, asked in zip(part["lengths"], part["right"], part["asked"], strict=True):
            cells = [share(r, a) for r, a in zip(right, asked, strict=True)]
            total = f"**{share(sum(right), sum(asked))}** ({sum(right)}/{sum(asked)})"
            lines.append(f"| {length_text(length)} | {' | '.join(cells)} | {total} |")
        blocks.append(f"Passkeys {name}, percent right by length and depth:\n\n" + "\n".join(lines))
    return "\n\n".join(blocks)


def positions_table(report: Report) -> str:
    """Markdown: bits per byte by position, of each kind of text, beside the control."""
    kinds: Mapping[str, Report] = report["kinds"]
    places = sorted({row["to"] for kind in kinds.values() for row in kind["doublings"]})
    head = ["tokens", *(kind.replace(",", ", ") for kind in kinds)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for before, place in zip([0, *places], places, strict=False):
        cells = []
        for kind in kinds.values():
            row = next((row for row in kind["doublings"] if row["to"] == place), None)
            cells.append(f"{row['carried']:.3f} ({row['control']:.3f})" if row else "-")
        start = length_text(before) if before else "0"
        lines.append(f"| {start} to {length_text(place)} | {' | '.join(cells)} |")
    return (
        "Bits per byte by position on held-out text, state carried from the first token on (in "
        "brackets: from at most 8K tokens before):\n\n" + "\n".join(lines)
    )


def section(passkey: Report | None, positions: Report | None) -> str:
    """What goes into a page, with the commands behind it."""
    blocks = []
    if passkey is not None:
        seeds = "; ".join(
            f"{name}: {len(passkey[test]['seeds'])}"
            + (f", {passkey[test]['left_out']} texts left out for lack of time"
               if passkey[test]["left_out"] else "")
            for test, name in _TESTS.items() if test in passkey
        )  # fmt: skip
        blocks.append(
            "`python -m training.passkey --text HELDOUT --out passkey.json`: numbers hidden in "
            "held-out documents laid end to end, and asked for. Through the program: as "
            "`samba ask` does. From the state alone: right after reading, with nothing found or "
            "shown again. "
            f"On {passkey['device']}, weights {passkey['model_sha256'][:12]}. Seeds, each with its "
            f"own texts and numbers: {seeds}."
        )
        blocks.append(passkey_tables(passkey))
    if positions is not None:
        kinds = positions["kinds"].values()
        orders = sorted({kind["orders"] for kind in kinds})
        blocks.append(
            "`python -m training.positions --text HELDOUT --out positions.json`: documents of a "
            f"kind laid end to end in {' or '.join(map(str, orders))} orders, on "
            f"{positions['device']}; weights {positions['model_sha256'][:12]}."
        )
        blocks.append(positions_table(positions))
    return "\n\n".join(blocks)


def filled(page: str, text: str) -> str:
    """The page with the text between its marks. Raises ValueError for a page without them."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"put {BEGIN} and {END} where the tables are to stand")
    return pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", page, count=1)


def draw_passkey(report: Report, path: Path) -> None:
    """The heat map as SVG: a panel for each test."""
    plt = _pyplot()
    tests = [test for test in _TESTS if test in report]
    figure, axes = plt.subplots(1, len(tests), figsize=(4.6 * len(tests), 2.6), squeeze=False)
    for axis, test in zip(axes[0], tests, strict=True):
        part = report[test]
        shares = [
            [r / a if a else float("nan") for r, a in zip(right, asked, strict=True)]
            for right, asked in zip(part["right"], part["asked"], strict=True)
        ]
        axis.imshow(shares, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto", alpha=0.7)
        for y, row in enumerate(shares):
            for x, value in enumerate(row):
                if value == value:
                    text = share(part["right"][y][x], part["asked"][y][x])
                    axis.text(x, y, text, ha="center", va="center", fontsize=7)
        axis.set_xticks(range(len(part["depths"])), [f"{d:.0%}" for d in part["depths"]])
        axis.set_yticks(range(len(part["lengths"])), map(length_text, part["lengths"]))
        axis.tick_params(labelsize=7, length=0)
        axis.set_xlabel("depth of the number in the text", fontsize=8)
        axis.set_title(f"{_TESTS[test]}, % right", fontsize=9)
    axes[0][0].set_ylabel("tokens", fontsize=8)
    _save(plt, figure, path)


def draw_positions(report: Report, path: Path) -> None:
    """Bits per byte by position as SVG: lines with the state carried, dots for the control."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(7, 3.2))
    for kind, part in report["kinds"].items():
        places = [row["to"] for row in part["curve"]]
        carried = [row["carried"] for row in part["curve"]]
        line = axis.plot(places, carried, label=kind.replace(",", " + "), linewidth=1.2)[0]
        control = [row["control"] for row in part["curve"]]
        axis.plot(places, control, ".", color=line.get_color(), markersize=3)
    axis.set_xscale("log", base=2)
    ticks = sorted({row["to"] for part in report["kinds"].values() for row in part["doublings"]})
    axis.set_xticks(ticks, map(length_text, ticks))
    axis.tick_params(labelsize=7)
    axis.set_xlabel("tokens read (dots: the same text, at most 8K tokens read)", fontsize=8)
    axis.set_ylabel("bits per byte", fontsize=8)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7, frameon=False)
    _save(plt, figure, path)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "samba"  # the same picture for the same numbers
    matplotlib.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot

    return matplotlib.pyplot


def _save(plt: Any, figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passkey", type=Path, nargs="*", default=[])
    parser.add_argument("--positions", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of results and pictures")
    parser.add_argument("--pages", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    passkey = merged([json.loads(p.read_text()) for p in args.passkey]) if args.passkey else None
    positions = json.loads(args.positions.read_text()) if args.positions else None
    for report, name, draw in (
        (passkey, "passkey", draw_passkey), (positions, "positions", draw_positions)
    ):  # fmt: skip
        if report is not None:
            (args.out / f"{name}.json").write_text(json.dumps(report) + "\n", encoding="utf-8")
            draw(report, args.out / f"{name}.svg")
    for page in args.pages:
        text = section(passkey, positions)
        pictures = [
            f"![{name}]({os.path.relpath(args.out / name, page.parent)}.svg)"
            for name, report in (("passkey", passkey), ("positions", positions))
            if report is not None
        ]
        text = "\n\n".join([text, *pictures])
        page.write_text(filled(page.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
