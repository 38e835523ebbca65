"""Tokens per second of a training step of the default model on one GPU, and where its time goes.

python -m benchmarks.training_step [--lanes 64] [--length 2048] [--profile]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from samba_cli.model import SambaConfig
from training.train import Plan, Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--model", type=Path, default=Path("model/weights"), help="config.json")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    config = SambaConfig.from_dict(json.loads((args.model / "config.json").read_text()))
    device = torch.device("cuda")
    plan = Plan(10_000, args.lanes, args.length, 1e-3, 1e-3, 10, 0.0, 0.1, 10**9, 0)
    trainer = Trainer(config, plan, device, compiled=not args.no_compile)
    shape = (args.lanes, args.length)

    def step(index: int) -> torch.Tensor:
        tokens = torch.randint(config.vocab_size, shape, device=device)
        return trainer.step(index, tokens, tokens.roll(-1, 1), torch.ones(shape, device=device))

    start = time.perf_counter()
    losses = [step(i).item() for i in range(3)]
    compile_seconds = time.perf_counter() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    last = [step(3 + i) for i in range(args.steps)][-1]
    losses.append(last.item())  # waits for the device
    seconds = (time.perf_counter() - start) / args.steps
    print(
        json.dumps(
            {
                "gpu": torch.cuda.get_device_name(),
                "torch": torch.__version__,
                "lanes": args.lanes,
                "length": args.length,
                "tokens_per_s": round(args.lanes * args.length / seconds),
                "ms_per_step": round(seconds * 1e3, 2),
                "first_steps_s": round(compile_seconds, 1),
                "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1),
                "losses": [round(x, 3) for x in losses],
            }
        ),
        flush=True,
    )
    if args.profile:
        with torch.profiler.profile() as profile:
            for i in range(3):
                step(i)
            torch.cuda.synchronize()
        table = profile.key_averages().table(
            sort_by="self_cuda_time_total", row_limit=30, max_name_column_width=70
        )
        print(table)


if __name__ == "__main__":
    main()
