"""Real outputs of the default model, by a rule and not by taste: what docs/outputs.md shows.

    python -m training.outputs fetch --sources DIR
    python -m training.outputs run --sources DIR --out outputs.json [--device cuda]
    python -m training.outputs page --results outputs.json --out docs/outputs.md

`fetch` gets the documents that `training/outputs.json` names; `run` summarizes each of them and
asks its questions, once, as `samba summarize` and `samba ask` do with their defaults; `page` writes
the page, marks included. Nothing is chosen after a run.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from samba_cli.commands import make_answers, make_summary, opened
from samba_cli.config import load_settings
from samba_cli.options import CheckpointOptions, InputOptions, MessageOptions, ModelOptions, flags
from samba_cli.render import Style, answer_text, coverage_line, summary_text
from samba_cli.results import Answer, Evidence
from training.output_page import page
from training.output_sources import LIST, Source, fetch, read_list

_MOST_SKIPPED = 20  # names of files that were not read


def run_source(source: Source, model: ModelOptions) -> dict[str, Any]:
    """Read one source, summarize it, ask its questions: as printed, and where the answers rest.

    The source lies in the working folder. Raises the errors of the commands.
    """
    messages = MessageOptions(quiet=True)
    settings = load_settings(flags(model))
    inputs, checkpoints = InputOptions(), CheckpointOptions(no_checkpoint=True)
    began = time.monotonic()
    with opened(
        [source.name], None, settings, inputs, checkpoints, model, messages, "ask"
    ) as reading:
        assert reading.report is not None
        summary = make_summary(reading, settings)
        asked = [one.question for one in source.questions]
        answers = [one for some in make_answers(reading, settings, asked) for one in some]
        report = reading.report
        return {
            "name": source.name,
            "model_sha256": reading.session.model.fingerprint,
            "device": reading.session.device,
            "coverage": coverage_line(report, reading.state.nbytes, ""),
            "tokens": report.tokens,
            "seconds": round(time.monotonic() - began, 1),
            "skipped": [s.name for s in report.skipped[:_MOST_SKIPPED]],
            "summary": {
                "printed": summary_text(summary, Style()),
                "text": summary.text,
                "sentences": [
                    {"text": one.text, "extractive": one.extractive} for one in summary.sentences
                ],
            },
            "answers": [_answer(one) for one in answers],
        }


def _answer(one: Answer) -> dict[str, Any]:
    return {
        "question": one.question, "printed": answer_text(one, Style()), "text": one.text,
        "found": one.found, "extractive": one.extractive,
        "evidence": [_evidence(evidence) for evidence in one.evidence],
    }  # fmt: skip


def _evidence(one: Evidence) -> dict[str, Any]:
    kept = ("document", "page_start", "page_end", "line_start", "line_end", "verified")
    return {name: value for name, value in asdict(one).items() if name in kept}


def run(
    sources: Sequence[Source], folder: Path, out: Path, model: ModelOptions, seconds: float
) -> None:
    """All sources that the time allows, in their order; what was done is written after each."""
    began, done = time.monotonic(), []
    out = out.resolve()
    model_folder = Path(model.model).resolve() if model.model else None
    if model_folder is not None:
        model = ModelOptions(model=str(model_folder), device=model.device)
    before = Path.cwd()
    os.chdir(folder)  # so that documents have their own names, as a user sees them
    try:
        for source in sources:
            if time.monotonic() - began > seconds:
                break
            done.append(run_source(source, model))
            out.write_text(json.dumps(done, ensure_ascii=False) + "\n", encoding="utf-8")
            print(json.dumps({k: done[-1][k] for k in ("name", "tokens", "seconds")}), flush=True)
    finally:
        os.chdir(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    step = {name: steps.add_parser(name) for name in ("fetch", "run", "page")}
    for one in step.values():
        one.add_argument("--list", type=Path, default=LIST, help="sources and questions (.json)")
    for name in ("fetch", "run"):
        step[name].add_argument("--sources", type=Path, required=True, help="their folder")
    step["run"].add_argument("--out", type=Path, required=True, help="the JSON file to write")
    step["run"].add_argument("--model", help="a checkpoint's folder; the default model without")
    step["run"].add_argument("--device", default="auto")
    step["run"].add_argument("--only", nargs="*", default=[], help="names of sources")
    step["run"].add_argument("--seconds", type=float, default=float("inf"), help="in all, about")
    step["page"].add_argument("--results", type=Path, required=True, nargs="+")
    step["page"].add_argument("--remarks", type=Path, help="what was checked by hand (.json)")
    step["page"].add_argument("--out", type=Path, required=True, help="the page to write")
    args = parser.parse_args()
    rule, sources = read_list(args.list)
    if args.step == "fetch":
        for line in fetch(sources, args.sources):
            print(line)
    elif args.step == "run":
        wanted = [s for s in sources if not args.only or s.name in args.only]
        options = ModelOptions(model=args.model, device=args.device)
        run(wanted, args.sources, args.out, options, args.seconds)
    else:
        results = [r for path in args.results for r in json.loads(path.read_text())]
        remarks = json.loads(args.remarks.read_text()) if args.remarks else {}
        args.out.write_text(page(rule, sources, results, remarks), encoding="utf-8")


if __name__ == "__main__":
    main()
