"""Train the default model: `torchrun --nproc-per-node N -m training.train --stage pretrain ...`.

Each row of the batch is a lane: its text goes on in the next step, and the state is carried there
(truncated back-propagation through time), so the model learns to use a state that has read far more
than one sequence. Now and then all lanes begin again from the empty state, as every run of the
program does. Resumable: the folder given by --out holds the last checkpoint of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from samba_cli.model import Samba, SambaConfig, State, load_checkpoint
from training.muon import Muon
from training.rows import PRETRAINING_LOSSES, TUNING_LOSSES, Losses


@dataclass(frozen=True)
class Stage:
    """What a stage reads, and what of it counts."""

    mix: tuple[float, float, float]  # plain reading, made tasks, human-made tasks: shares of tokens
    losses: Losses


STAGES = {
    "pretrain": Stage((0.5, 0.5, 0.0), PRETRAINING_LOSSES),
    "tune": Stage((0.3, 0.25, 0.45), TUNING_LOSSES),
}


@dataclass(frozen=True)
class Plan:
    """The hyperparameters of a stage."""

    steps: int
    lanes: int  # per process
    length: int
    lr: float  # of AdamW
    muon_lr: float
    warmup: int
    decay: float  # share of the steps at the end in which the learning rate falls to zero
    weight_decay: float
    restart: int  # on average, lanes begin from the empty state every so many steps
    seed: int

    def schedule(self, step: int) -> float:
        """The share of the learning rates at a step: warm-up, stable, decay (linear)."""
        falling = self.steps * self.decay
        tail = min(1.0, (self.steps - step) / falling) if falling else 1.0
        return min(1.0, (step + 1) / self.warmup if self.warmup else 1.0) * tail


def optimizers(model: Samba, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers; AdamW for the rest, of which only the embedding decays
    (never A_log, D, norms and biases)."""
    matrices = [p for p in model.backbone.layers.parameters() if p.dim() == 2 and p.shape[1] > 16]
    chosen = {id(p) for p in matrices}
    embedding = model.backbone.embeddings.weight
    rest = [p for p in model.parameters() if id(p) not in chosen and p is not embedding]
    adam = torch.optim.AdamW(
        [
            {"params": [embedding], "weight_decay": plan.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ],
        lr=plan.lr,
        betas=(0.9, 0.95),
        fused=next(model.parameters()).is_cuda,
    )
    return [Muon(matrices, plan.muon_lr, weight_decay=plan.weight_decay), adam]


def cross_entropy(model: Samba, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Sum of weight x loss over the positions with a target >= 0."""
    logits = model.logits(hidden)
    losses = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none"
    )
    return (losses * weights.flatten()).sum()


class Trainer:
    """A model in training: one object per process."""

    def __init__(
        self, config: SambaConfig, plan: Plan, device: torch.device, compiled: bool
    ) -> None:
        self.plan, self.device = plan, device
        self.model = Samba(config, torch.bfloat16).initialise(plan.seed).to(device)
        self.optimizers = optimizers(self.model, plan)
        self.state: State | None = None
        self.loss = cross_entropy
        if compiled:
            for layer in self.model.backbone.layers:
                layer.compile(dynamic=False)
            self.loss = torch.compile(cross_entropy, dynamic=False)

    def step(self, index: int, tokens: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """One update from [lanes, length] tokens. Returns the weighted mean loss, on the device."""
        plan = self.plan
        for optimizer, rate in zip(self.optimizers, (plan.muon_lr, plan.lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * plan.schedule(index)
        chance = torch.rand((), generator=torch.Generator().manual_seed(plan.seed + index))
        if self.state is None or chance < 1 / plan.restart:
            self.state = self.model.initial_state(len(tokens))
        state = self.state
        total = weights.sum()
        if dist.is_initialized():
            dist.all_reduce(total)
        hidden = self.model.hidden(tokens, state)
        rows = max(1, len(tokens) // 4)  # the logits of a quarter of the batch at a time
        leaf = hidden.detach().requires_grad_()
        loss = torch.zeros((), device=self.device)
        for part in range(0, len(tokens), rows):
            take = slice(part, part + rows)
            piece = self.loss(self.model, leaf[take], targets[take], weights[take]) / total
            piece.backward()
            loss += piece.detach()
        hidden.backward(leaf.grad)
        state.detach_()
        parameters = list(self.model.parameters())
        if dist.is_initialized():
            flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
            dist.all_reduce(flat)
            dist.all_reduce(loss)
            start = 0
            for p in parameters:
                if p.grad is not None:
                    p.grad.copy_(flat[start : start + p.numel()].view_as(p))
                    start += p.numel()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss

    def save(self, folder: Path, step: int, tokens: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / ".training.pt"
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizers": [o.state_dict() for o in self.optimizers],
                "step": step,
                "tokens": tokens,
                "config": self.model.config.to_dict(),
            },
            temporary,
        )
        os.replace(temporary, folder / "training.pt")

    def load(self, path: Path, weights_only: bool) -> tuple[int, int]:
        """Go on from a saved run; with `weights_only` take the weights and begin at step 0.
        `path` may then also be a checkpoint folder."""
        if path.is_dir():
            model = load_checkpoint(path, self.device, torch.float32)
            self.model.load_state_dict(model.state_dict())
            return 0, 0
        saved = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(saved["model"])
        if weights_only:
            return 0, saved["tokens"]
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        return saved["step"], saved["tokens"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=list(STAGES), required=True)
    parser.add_argument(
        "--mix",
        type=float,
        nargs=3,
        metavar=("READ", "PRETEXT", "TASKS"),
        help="shares of plain reading, made tasks, human-made tasks, instead of the stage's",
    )
    parser.add_argument(
        "--rows",
        type=json.loads,
        metavar="JSON",
        help='shares of the tokens by kind of row, instead of a mix: {"task_asking": 1}',
    )
    parser.add_argument(
        "--later-mix",
        type=float,
        nargs=3,
        metavar=("READ", "PRETEXT", "TASKS"),
        help="other shares from --later on",
    )
    parser.add_argument("--later", type=float, default=0.6, help="a share of the steps")
    parser.add_argument(
        "--losses",
        type=json.loads,
        default={},
        metavar="JSON",
        help="what to count otherwise than the stage does, as training.rows.Losses names it",
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder made by training.corpus")
    parser.add_argument(
        "--model", type=Path, default=Path("model/weights"), help="config, tokenizer"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="training.pt or checkpoint to begin from")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--lanes", type=int, default=64, help="rows per process")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--lr", type=float, default=2e-3, help="of AdamW")
    parser.add_argument("--muon-lr", type=float, default=4e-3)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--decay", type=float, default=0.3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--restart", type=int, default=12)
    parser.add_argument("--workers", type=int, default=12, help="data processes per process")
    parser.add_argument("--save-every", type=float, default=120.0, help="seconds")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="stop (and save) after so long"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


def main() -> None:
    from training.mix import mixed
    from training.stream import Lanes

    args = parse()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
    plan = Plan(
        args.steps,
        args.lanes,
        args.length,
        args.lr,
        args.muon_lr,
        args.warmup,
        args.decay,
        args.weight_decay,
        args.restart,
        args.seed,
    )
    config = SambaConfig.from_dict(json.loads((args.model / "config.json").read_text()))
    trainer = Trainer(config, plan, device, compiled=cuda and not args.no_compile)
    first, tokens = 0, 0
    if (args.out / "training.pt").exists():
        first, tokens = trainer.load(args.out / "training.pt", weights_only=False)
    elif args.init:
        first, tokens = trainer.load(args.init, weights_only=True)
    lanes = Lanes(
        args.corpus,
        args.rows or mixed(*(args.mix or STAGES[args.stage].mix)),
        plan.lanes,
        plan.length,
        seed=plan.seed,
        rank=rank,
        world=world,
        workers=args.workers,
        tokenizer=args.model,
        start_step=first,
        losses=replace(STAGES[args.stage].losses, **args.losses),
        turn=round(args.later * plan.steps),
        later=mixed(*args.later_mix) if args.later_mix else None,
    )
    batches = iter(lanes)
    started = saved = time.monotonic()
    shown_at, shown_tokens, step = started, tokens, first
    for step in range(first, plan.steps):
        arrays = next(batches)
        batch = [
            torch.from_numpy(a).pin_memory().to(device, non_blocking=True)
            if cuda
            else torch.from_numpy(a)
            for a in arrays
        ]
        loss = trainer.step(step, *batch)
        tokens += plan.lanes * plan.length * world
        if rank == 0 and (step % 20 == 0 or step + 1 == plan.steps):
            now = time.monotonic()
            record = {
                "step": step,
                "tokens": tokens,
                "loss": round(loss.item(), 4),
                "lr": round(plan.lr * plan.schedule(step), 6),
                "seconds": round(now - started, 1),
                "tokens_per_s": round((tokens - shown_tokens) / (time.monotonic() - shown_at)),
            }
            shown_at, shown_tokens = time.monotonic(), tokens
            args.out.mkdir(parents=True, exist_ok=True)
            with open(args.out / "log.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps(record) + "\n")
            print(json.dumps(record), flush=True)
        last = step + 1 == plan.steps
        if step % 10 and not last:  # asking the clock means waiting for the device
            continue
        # every process must decide alike: rank 0's clock counts
        times = torch.tensor([time.monotonic() - started, time.monotonic() - saved], device=device)
        if world > 1:
            dist.broadcast(times, 0)
        over, due = (times > torch.tensor([args.seconds, args.save_every], device=device)).tolist()
        if over or due or last:
            if rank == 0:
                trainer.save(args.out, step + 1, tokens)
            saved = time.monotonic()
        if over:
            break
    lanes.close()
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
