"""The default model on this machine's CPU, beside its matrix products alone.

It runs `python -m benchmarks.reading --device cpu`: in float32, and in what reading takes there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.speed.environment import ROOT
from benchmarks.speed.rows import Row, Setting

THREADS = 2  # as many as a small laptop gives


def measure(how: Setting) -> Iterator[Row]:
    command = [sys.executable, "-m", "benchmarks.reading", "--device", "cpu"]
    command += ["--threads", str(THREADS)]
    command += ["--chunk", "32", "--length", "64"] if how.tiny else []
    run = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=how.left()
    )
    for line in run.stdout.splitlines():
        values = json.loads(line)
        shape = f"{values['dtype']}, {THREADS} threads, chunks of {values['chunk']:,} tokens"
        share = {"its matrix products alone": values["share_of_products_alone"]}
        facts = {
            "tokens/s of its products alone": values["products_alone_tokens_per_s"],
            "decoding tokens/s": values["decode_tokens_per_s"],
            "state MB": values["state_mb"],
        }
        rate = values["tokens_per_s"]
        yield Row("reading, default model, CPU", shape, rate, "tokens/s", limits=share, facts=facts,
                  headline=True)  # fmt: skip
