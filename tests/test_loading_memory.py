"""Loading a large checkpoint takes one shard's worth of memory beside the model itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

LAYERS, WIDTH, VOCABULARY = 12, 1024, 2048
CONFIG = {
    "model_type": "jamba", "vocab_size": VOCABULARY, "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS, "num_experts": 1, "intermediate_size": 2048,
    "num_attention_heads": 8, "num_key_value_heads": 8, "attn_layer_period": 2,
    "attn_layer_offset": 1, "tie_word_embeddings": True,
}  # fmt: skip

# Prints the peak of this process's memory, above what it held before, in bytes.
MEASURE = """
import re, sys
import torch
from samba_cli.model import load_checkpoint
folder, device, quantize = sys.argv[1:]
def memory(kind):
    return int(re.search(kind + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
load_checkpoint(folder + "/small", device, torch.bfloat16, quantize)
before = memory("VmRSS")
model = load_checkpoint(folder, device, torch.bfloat16, quantize)
held = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
print(memory("VmHWM") - before, held if device == "cpu" else 0)
"""


def write(folder: Path, config: dict, shards: int) -> int:
    """A checkpoint of bfloat16 noise; the size of its largest shard."""
    from samba_cli.model import Model
    from samba_cli.model.architectures import read_architecture
    from samba_cli.model.checkpoint import _named

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    architecture = read_architecture(config)
    with torch.device("meta"):
        tensors = _named(Model(architecture.description))
    files: list[dict] = [{} for _ in range(shards)]
    for i, (name, tensor) in enumerate(tensors.items()):
        values = torch.full(tensor.shape, 0.01, dtype=torch.bfloat16)
        files[i * shards // len(tensors)][architecture.stored(name).name] = values
    index = {}
    for i, file in enumerate(files):
        name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        save_file(file, folder / name)
        index |= dict.fromkeys(file, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return max(path.stat().st_size for path in folder.glob("*.safetensors"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    folder = tmp_path_factory.mktemp("large")
    largest = write(folder, CONFIG, 4)
    write(folder / "small", {**CONFIG, "num_hidden_layers": 2, "hidden_size": 64}, 2)
    return folder, largest


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("quantize", ["none", "int8"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_peak_is_one_shard_beside_the_model(checkpoint, device, quantize):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    folder, largest = checkpoint
    assert sum(p.stat().st_size for p in folder.glob("*.safetensors")) > 180 << 20
    command = [sys.executable, "-c", MEASURE, str(folder), device, quantize]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    peak, held = map(int, done.stdout.split())
    assert peak < held + 1.2 * largest, (peak, held, largest)


WHAT_IS_IMPORTED = """
import sys
import torch
from samba_cli.model import load_checkpoint
model = load_checkpoint(sys.argv[1])
with torch.inference_mode():
    model(torch.arange(40)[None], model.initial_state())
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_reading_imports_no_compiler(tiny_checkpoint):
    """It would take longer to import than everything else together, and 150 MB."""
    command = [sys.executable, "-c", WHAT_IS_IMPORTED, str(tiny_checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout == "[]\n", done.stderr
