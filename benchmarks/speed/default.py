"""The model that ships: reading and decoding on the device, beside its matrix products alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch

from benchmarks.reading import product_seconds
from benchmarks.speed.decoding import read_state, samba_rate
from benchmarks.speed.reading import samba_reading
from benchmarks.speed.rows import Row, Setting
from samba_cli.model import SambaConfig, default_model_path, load_checkpoint

HEADLINE = 1 << 20
LENGTHS = [16_384, 131_072, 1 << 20, 1 << 22]
TINY_LENGTHS = [32, 64]


@torch.inference_mode()
def measure(how: Setting) -> Iterator[Row]:
    path = default_model_path()
    model = load_checkpoint(path, how.device)
    config = SambaConfig.from_dict(json.loads((path / "config.json").read_text()))
    for length in TINY_LENGTHS if how.tiny else LENGTHS:
        rate, facts = samba_reading(model, how, length)
        chunk = min(length, 32 if how.tiny else 16_384)
        products = chunk / product_seconds(config, chunk, how.device, model.dtype)
        shares = {"its matrix products alone": rate / products}
        facts |= {"tokens": length, "tokens/s of its products alone": round(products)}
        yield Row("reading, default model", f"{length:,} tokens", rate, "tokens/s",
                  limits=shares, facts=facts, headline=length == HEADLINE)  # fmt: skip
    for batch in (1, 2) if how.tiny else (1, 16, 64):
        state = read_state(model, 64 if how.tiny else 16_384, how).expand(batch)
        rate = samba_rate(model, state, how)
        yield Row("decoding, default model", f"batch {batch}", rate, "tokens/s",
                  facts={"state MB": round(state.nbytes / 1e6, 1)})  # fmt: skip
