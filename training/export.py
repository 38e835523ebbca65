"""From a training run to the checkpoint that ships: int8 weights, and what rounding them costs.

python -m training.export --run RUN --tokenizer model/weights/tokenizer.json --out model/weights
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from samba_cli.model import Samba, SambaConfig, save_checkpoint


def load_run(path: Path) -> tuple[Samba, int]:
    """The model of a training.pt and the tokens it has seen."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model = Samba(SambaConfig.from_dict(saved["config"]))
    model.load_state_dict(saved["model"])
    return model, saved["tokens"]


@torch.no_grad()
def average(models: Sequence[Samba]) -> Samba:
    """The mean of the weights of several checkpoints of one run."""
    first = models[0]
    others = [dict(m.named_parameters()) for m in models[1:]]
    for name, parameter in first.named_parameters():
        total = sum((o[name] for o in others), parameter.clone())
        parameter.copy_(total / len(models))
    return first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="training.pt files")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--no-int8", action="store_true")
    args = parser.parse_args()
    loaded = [load_run(path) for path in args.run]
    model = average([m for m, _ in loaded])
    save_checkpoint(model, args.out, args.tokenizer, int8=not args.no_int8)
    size = (args.out / "model.safetensors").stat().st_size
    print(f"{args.out}: {size / 2**20:.1f} MiB after {max(t for _, t in loaded):,} tokens")


if __name__ == "__main__":
    main()
