"""Reading speed at batch 1, against what the same matrix products alone reach.

    python -m benchmarks.reading --device cpu                     # the default model, in each dtype
    python -m benchmarks.reading --device cpu --int8              # its matrices kept as in the file
    python -m benchmarks.reading --device cpu --sweep             # chunks
    python -m benchmarks.reading --device cuda --config 1.7b      # random weights, bfloat16
    python -m benchmarks.reading --device cuda --config 1.7b --length 131072 --chunk 16384
    python -m benchmarks.reading --device cuda --graphs off --fused off
    python -m benchmarks.reading --device cuda --sweep            # every switch, chunk and model

Prints one JSON line for each dtype: tokens/s of the model, of its matrix products alone (same
shapes, same dtype, measured in the same run), decoding tokens/s (greedy, as `generate` does it) and
on a GPU the share of the ceiling that its matrix units set (790 TFLOP/s in bfloat16 measured on an
H200). Chunks follow each other without waiting, as in the reader. `--sweep` prints a table instead.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from samba_cli.chunk_size import chunk_tokens
from samba_cli.model import Samba, SambaConfig, default_model_path
from samba_cli.model.cuda_graph import read_chunk
from samba_cli.model.generation import Sampling, generate
from samba_cli.model.parts import Embedding, Linear
from samba_cli.model.precision import reading_dtype
from samba_cli.model.quantization import quantize

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


DECODED = 96  # tokens a measurement of decoding generates
CHUNKS = (2048, 4096, 8192, 16384, 32768)  # of the sweep
CHUNKS_CPU = (256, 512, 1024, 2048, 4096)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@contextmanager
def switched(graphs: str, fused: str) -> Iterator[None]:
    """Run everything inside with these switches (`on` or `off`)."""
    wanted = {"SAMBA_GRAPHS": "auto" if graphs == "on" else "off", "SAMBA_FUSED": fused}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


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


def config_of(name: str) -> SambaConfig:
    if name == "1.7b":
        return SAMBA_1_7B
    raw = json.loads((Path(default_model_path()) / "config.json").read_text())
    return SambaConfig.from_dict(raw)


def random_model(config: SambaConfig, device: str, dtype: torch.dtype) -> Samba:
    """As a checkpoint is loaded: its matrices in `dtype`, what the recurrence needs in float32."""
    with torch.inference_mode(False):
        with torch.device(device):
            model = Samba(config, dtype)
        model.initialise(0).to(dtype)
        for name, parameter in model.named_parameters():
            if name.endswith((".A_log", ".D", ".dt_proj.bias")):
                parameter.data = parameter.data.float()
        model.eval().requires_grad_(False)
        return model.join() if device == "cuda" else model  # type: ignore[return-value]


def keep_int8(model: Samba) -> None:
    """As a checkpoint of int8 matrices stays on a CPU: a scale for each row beside them."""
    kept: dict[int, tuple[torch.nn.Parameter, torch.Tensor]] = {}  # embedding and head share one
    for module in model.modules():
        if isinstance(module, (Embedding, Linear)):
            key = id(module.weight)
            if key not in kept:
                weight, scale = quantize(module.weight)
                kept[key] = torch.nn.Parameter(weight, requires_grad=False), scale
            module.weight, module.weight_scale = kept[key]


def read_seconds(model: Samba, chunk: int, length: int) -> float:
    """Of one chunk, when chunks follow each other: the median of three runs of `length` tokens."""
    device, state = model.device, model.initial_state()
    tokens = torch.randint(model.config.vocab_size, (1, chunk), device=device)
    at = torch.arange(min(255, chunk - 1), chunk, 256, device=device)  # a mark every 256 tokens
    count = max(2, length // chunk)

    def run() -> None:
        for _ in range(count):
            read_chunk(model, tokens, state, at)

    for _ in range(2):  # fills the windows, so that graphs serve from here on
        read_chunk(model, tokens, state, at)
    return median_seconds(run, 3, device.type == "cuda") / count


def decode_seconds(model: Samba) -> float:
    """Of one greedy token, after a short prompt: the prompt's time is taken off."""

    def made(count: int) -> None:
        for _ in generate(model, model.initial_state(), [1] * 64, Sampling(max_tokens=count)):
            pass

    cuda = model.device.type == "cuda"
    few = median_seconds(lambda: made(1), 3, cuda)
    return (median_seconds(lambda: made(DECODED + 1), 3, cuda) - few) / DECODED


@torch.inference_mode()
def sweep(names: list[str], device: str, dtype: torch.dtype, chunks: Sequence[int]) -> None:
    """A table of each switch's effect, the last row of a model being how it runs by default."""
    cuda = device == "cuda"
    print(f"{dtype}")
    print("| model | fused | graphs | chunk | tokens/s reading | decoding tokens/s | peak GB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in names:
        model = random_model(config_of(name), device, dtype)
        switches = (("off", "off"), ("on", "off"), ("on", "on")) if cuda else (("on", "on"),)
        for fused, graphs in switches:
            with switched(graphs, fused):
                decoded = f"{1 / decode_seconds(model):,.0f}"
                for chunk in chunks:
                    if cuda:
                        torch.cuda.reset_peak_memory_stats()
                    speed = chunk / read_seconds(model, chunk, 4 * chunk)
                    peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else 0.0
                    row = [name, fused, graphs, chunk, f"{speed:,.0f}", decoded, f"{peak:.2f}"]
                    print("| " + " | ".join(map(str, row)) + " |", flush=True)
        del model
        if cuda:
            torch.cuda.empty_cache()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--config", choices=["default", "1.7b"], help="default; both in a sweep")
    parser.add_argument("--chunk", type=int, help="tokens a chunk (what reading takes)")
    parser.add_argument("--dtype", choices=sorted(DTYPES), help="what the device is best at")
    parser.add_argument("--int8", action="store_true", help="matrices kept in int8")
    parser.add_argument("--length", type=int, help="tokens to read (8 chunks)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--graphs", choices=["on", "off"], default="on")
    parser.add_argument("--fused", choices=["on", "off"], default="on")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cuda = args.device == "cuda"
    best = reading_dtype(args.device)
    # On a CPU float32 is told beside what is chosen: not every one has anything better.
    dtypes = [DTYPES[args.dtype]] if args.dtype else [best] if cuda else [*{torch.float32, best}]
    if args.sweep:
        names = [args.config] if args.config else ["default", "1.7b"] if cuda else ["default"]
        chunks = (args.chunk,) if args.chunk else CHUNKS if cuda else CHUNKS_CPU
        for dtype in dtypes:
            sweep(names, args.device, dtype, chunks)
        return
    name = args.config or "default"
    for dtype in dtypes:
        model = random_model(config_of(name), args.device, dtype)
        if args.int8:
            keep_int8(model)
        with switched(args.graphs, args.fused):
            report(args, name, model, args.chunk or chunk_tokens(model))


def report(args: argparse.Namespace, name: str, model: Samba, chunk: int) -> None:
    """One JSON line, and with --profile where the time of a chunk goes."""
    cuda, config = args.device == "cuda", model.config
    seconds = read_seconds(model, chunk, args.length or 8 * chunk)
    decode = decode_seconds(model)
    products = product_seconds(config, chunk, args.device, model.dtype)
    flops = 2 * sum(out * inner * count for out, inner, count in matrices(config))
    attention = 4 * config.d_model * config.window * (config.n_layer // 2)
    values = {
        "config": name,
        "device": args.device,
        "dtype": str(model.dtype),
        "weights": "int8" if args.int8 else str(model.dtype),
        "chunk": chunk,
        "graphs": args.graphs,
        "fused": args.fused,
        "tokens_per_s": round(chunk / seconds),
        "products_alone_tokens_per_s": round(chunk / products),
        "share_of_products_alone": round(products / seconds, 3),
        "decode_tokens_per_s": round(1 / decode, 1),
        "state_mb": round(model.initial_state().nbytes / 1e6, 2),
    }
    if cuda:
        ceiling = PEAK_FLOPS / (flops + attention)
        values["gpu"] = torch.cuda.get_device_name()
        values["ceiling_tokens_per_s"] = round(ceiling)
        values["share_of_ceiling"] = round(chunk / seconds / ceiling, 3)
        values["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    print(json.dumps(values), flush=True)
    if args.profile:
        profile("reading 2 chunks", cuda, lambda: read_once(model, chunk))
        profile("decoding", cuda, lambda: decode_once(model))


def read_once(model: Samba, chunk: int) -> None:
    state = model.initial_state()
    tokens = torch.randint(model.config.vocab_size, (1, chunk), device=model.device)
    for _ in range(2):
        model(tokens, state, tokens[0, :0])


def decode_once(model: Samba) -> None:
    for _ in generate(model, model.initial_state(), [1] * 64, Sampling(max_tokens=9)):
        pass


def profile(what: str, cuda: bool, run: Callable[[], None]) -> None:
    with torch.profiler.profile() as profiled:
        run()
        if cuda:
            torch.cuda.synchronize()
    key = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    table = profiled.key_averages().table(sort_by=key, row_limit=24, max_name_column_width=60)
    print(what, table, sep="\n", flush=True)


if __name__ == "__main__":
    main()
