"""Does memory grow with the input? Peak memory of `samba read` over texts of growing length.

    python benchmarks/memory.py [--device cpu|cuda] [--tokens 50000 1000000] [--model FOLDER]

Each length runs in a process of its own, through the whole program: file, passages, index,
progress, model. The text is pseudo-random English-like words from a fixed seed, on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

WORDS = re.findall(
    r"\w+",
    """the of and to in a is that it was for on are with as his they be at one have this from or had
    by hot but some what there we can out other were all your when up use word how said an each she
    which do their time if will way about many then them would write like so these her long make
    thing see him two has look more day could go come did my sound no most number who over know""",
)

# Runs in the measured process: the program itself, then what the kernel and the device say.
PROBE = """
import resource, sys, json
from samba_cli.__main__ import main
code = 0
try:
    main()
except SystemExit as leaving:
    code = leaving.code or 0
import torch
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
print(json.dumps({"code": code, "peak_rss": peak, "peak_gpu": gpu}), file=sys.stderr)
"""


def write_text(path: Path, tokens: int) -> None:
    """About `tokens` tokens: every word here is one token of the default tokenizer."""
    random.seed(0)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(0, tokens, 75):
            file.write(" ".join(random.choices(WORDS, k=73)).capitalize() + ".\n\n")


def measure(tokens: int, arguments: list[str], folder: Path) -> dict[str, object]:
    text = folder / f"{tokens}.txt"
    write_text(text, tokens)
    name = f"memory-{tokens}"
    command = [sys.executable, "-c", PROBE, "read", str(text), "--as", name, *arguments]
    environment = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = run.stderr.strip().splitlines()
    if run.returncode or not lines:
        raise SystemExit(f"reading {tokens} tokens failed:\n{run.stderr}")
    coverage = next((line for line in lines if line.startswith("read ")), "")
    return {"tokens": tokens, **json.loads(lines[-1]), "coverage": coverage}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[50_000, 1_000_000])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model")
    args = parser.parse_args()
    arguments = ["--device", args.device, *(["--model", args.model] if args.model else [])]
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(tokens, arguments, Path(folder)) for tokens in args.tokens]
    for row in rows:
        print(json.dumps(row))
    first = rows[0]
    for row in rows[1:]:
        for key in ("peak_rss", "peak_gpu"):
            if first[key]:
                ratio = float(str(row[key])) / float(str(first[key]))
                print(f"{key}: {row['tokens']:,} tokens / {first['tokens']:,} tokens = {ratio:.3f}")


if __name__ == "__main__":
    main()
