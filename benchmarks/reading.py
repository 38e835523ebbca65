"""Reading speed at batch 1, against what the same matrix products alone reach.

    python -m benchmarks.reading --device cpu                     # the default model
    python -m benchmarks.reading --device cuda --config 1.7b      # random weights, bfloat16
    python -m benchmarks.reading --device cuda --config 1.7b --length 131072 --chunk 16384

Prints one JSON line: tokens/s of the model, of its matrix products alone (same shapes, same dtype,
measured in the same run), decoding tokens/s, the share of time of each part on a CPU, and on a GPU
the share of the ceiling that its matrix units set (790 TFLOP/s in bfloat16 measured on an H200).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from samba_cli.model import Samba, SambaConfig, default_model_path

# Ren et al. 2024, arXiv 2406.07522: the 1.7B model of the paper's speed figures.
SAMBA_1_7B = SambaConfig(
    vocab_size=50_304, d_model=2048, n_layer=24, d_ff=8192, n_head=32, n_kv_head=4, window=2048
)
PEAK_FLOPS = 790e12


def matrices(config: SambaConfig) -> list[tuple[int, int, int]]:
    """(out, in, how many) of every matrix product of the layers, the head left out."""
    c, half = config, config.n_layer // 2
    kv = c.n_kv_head * c.d_head
    return [
        (2 * c.d_inner, c.d_model, half),
        (c.dt_rank + 2 * c.d_state, c.d_inner, half),
        (c.d_inner, c.dt_rank, half),
        (c.d_model, c.d_inner, half),
        (c.d_model, c.d_model, 2 * half),
        (kv, c.d_model, 2 * half),
        (c.d_ff, c.d_model, 2 * c.n_layer),
        (c.d_model, c.d_ff, c.n_layer),
    ]


def median_seconds(run: Callable[[], object], repeats: int, cuda: bool) -> float:
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])  # the first two warm up


def product_seconds(config: SambaConfig, chunk: int, device: str, dtype: torch.dtype) -> float:
    """One chunk through the matrix products alone."""
    pairs = []
    for out, inner, count in matrices(config):
        weights = [torch.randn(out, inner, device=device, dtype=dtype) for _ in range(count)]
        pairs.append((torch.randn(chunk, inner, device=device, dtype=dtype), weights))

    def run() -> None:
        for x, weights in pairs:
            for weight in weights:
                torch.nn.functional.linear(x, weight)

    return median_seconds(run, 5, device == "cuda")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--config", choices=["default", "1.7b"], default="default")
    parser.add_argument("--chunk", type=int, help="tokens a chunk (512 on a CPU, 8192 on a GPU)")
    parser.add_argument("--length", type=int, help="tokens to read (8 chunks)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cuda = args.device == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    config = SAMBA_1_7B
    if args.config == "default":
        raw = json.loads((Path(default_model_path()) / "config.json").read_text())
        config = SambaConfig.from_dict(raw)
    chunk = args.chunk or (8192 if cuda else 512)
    length = args.length or 8 * chunk
    with torch.device(args.device):
        model = Samba(config, dtype)
    model.initialise(0).to(dtype)
    for name, parameter in model.named_parameters():
        if name.endswith((".A_log", ".D", ".dt_proj.bias")):
            parameter.data = parameter.data.float()
    model.eval().requires_grad_(False)
    state = model.initial_state()
    nothing = torch.tensor([], dtype=torch.long, device=args.device)

    def read() -> None:
        model(torch.randint(config.vocab_size, (1, chunk), device=args.device), state, nothing)

    seconds = median_seconds(read, max(4, length // chunk), cuda)
    token = torch.randint(config.vocab_size, (1, 1), device=args.device)
    decode = median_seconds(lambda: model(token, state), 20, cuda)
    products = product_seconds(config, chunk, args.device, dtype)
    flops = 2 * sum(out * inner * count for out, inner, count in matrices(config))
    attention = 4 * config.d_model * config.window * (config.n_layer // 2)
    report = {
        "config": args.config,
        "device": args.device,
        "dtype": str(dtype),
        "chunk": chunk,
        "tokens_read": state.position,
        "tokens_per_s": round(chunk / seconds),
        "products_alone_tokens_per_s": round(chunk / products),
        "share_of_products_alone": round(products / seconds, 3),
        "decode_tokens_per_s": round(1 / decode, 1),
        "state_mb": round(state.nbytes / 1e6, 2),
    }
    if cuda:
        ceiling = PEAK_FLOPS / (flops + attention)
        report["gpu"] = torch.cuda.get_device_name()
        report["ceiling_tokens_per_s"] = round(ceiling)
        report["share_of_ceiling"] = round(chunk / seconds / ceiling, 3)
        report["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    print(json.dumps(report), flush=True)
    if args.profile:
        with torch.profiler.profile() as profile:
            read()
            if cuda:
                torch.cuda.synchronize()
        key = "self_cuda_time_total" if cuda else "self_cpu_time_total"
        print(profile.key_averages().table(sort_by=key, row_limit=20, max_name_column_width=60))


if __name__ == "__main__":
    main()
