"""The whole program: reading a large file, memory against length, and many questions at once.

Everything counts: starting Python and PyTorch, the weights, parsing, tokens, passages, the index,
the state on disk. Kernels that are compiled once for a machine are compiled before (`samba doctor
--warm`).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed import program, text
from benchmarks.speed.rows import Row, Setting

LARGE, SMALL = 50_000_000, 250_000  # bytes
TINY_LARGE, TINY_SMALL = 6_000, 1_500
QUESTIONS = 64


def measure(how: Setting) -> Iterator[Row]:
    large, small = (TINY_LARGE, TINY_SMALL) if how.tiny else (LARGE, SMALL)
    count = 2 if how.tiny else QUESTIONS
    device = ["--device", how.device]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = program.home(folder)
        if how.cuda:
            program.run(["doctor", "--warm", *device], environment, how.left())
        ran: dict[str, program.Ran] = {}
        for size, label in ((small, "small"), (large, "large")):
            path = folder / f"{label}.txt"
            names = text.write(path, size)
            command = ["read", str(path), "--as", label, *device]
            ran[label] = program.run(command, environment, how.left())
            yield _reading(ran[label], path, headline=label == "large")
        yield from _memory(ran["small"], ran["large"])
        questions = folder / "questions.txt"
        asked = [f"What was it in {names[index]}?" for index in range(count)]
        questions.write_text("\n".join(asked), encoding="utf-8")
        options = ["--memory", "large", "--json", *device]
        one = program.run(["ask", asked[0], *options], environment, how.left())
        many = program.run(
            ["ask", "--questions", str(questions), *options], environment, how.left()
        )
        yield from _questions(one, many, count)


def _reading(ran: program.Ran, path: Path, headline: bool) -> Row:
    size = path.stat().st_size
    found = re.search(r"^read .*?([\d,]+) tokens,.*$", ran.messages, re.MULTILINE)  # its report
    if found is None:
        raise program.Failed(f"samba read did not say how many tokens it read: {ran.messages}")
    tokens = int(found.group(1).replace(",", ""))
    facts = {
        "tokens": tokens,
        "seconds": round(ran.seconds, 2),
        "bytes a token": round(size / tokens, 2),
        "MB/s": round(size / ran.seconds / 1e6, 2),
        "peak RSS, MB": round(ran.peak_rss / 1e6),
        "peak RSS of its largest part, MB": round(ran.peak_parts / 1e6),
        "peak GPU, MB": None if ran.peak_gpu is None else round(ran.peak_gpu / 1e6),
    }
    return Row("samba read, all included", f"{size:,} bytes of text", tokens / ran.seconds,
               "tokens/s", facts=facts, note=found.group(0), headline=headline)  # fmt: skip


def _memory(small: program.Ran, large: program.Ran) -> Iterator[Row]:
    """Does it grow with the input?"""
    for where, first, last in (
        ("host", small.peak_rss, large.peak_rss),
        ("GPU", small.peak_gpu, large.peak_gpu),
    ):
        if first and last:
            ratio = last / first
            yield Row(f"peak memory of samba read, {where}", "the large text", last / 1e6, "MB",
                      facts={"of the small one, MB": first / 1e6, "ratio": round(ratio, 3)},
                      headline=True)  # fmt: skip


def _questions(one: program.Ran, many: program.Ran, count: int) -> Iterator[Row]:
    """By the clock of the whole process, and of answering alone, as --json tells it."""
    answered = [json.loads(ran.output)["timing"]["answer_s"] for ran in (one, many)]
    found = sum(answer["found"] for answer in json.loads(many.output)["answers"])
    shape = f"{count} questions about a memory"
    for what, first, all_of_them in (
        ("samba ask, all included", one.seconds, many.seconds),
        ("samba ask, answering alone", *answered),
    ):
        facts = {
            "seconds of one question": round(first, 3),
            f"{count} questions cost as much as": f"{all_of_them / first:.1f} single ones",
            "answers found": found,
        }
        yield Row(what, shape, all_of_them, "s", {"one after another": count * first},
                  facts=facts, headline=what.endswith("included"))  # fmt: skip
