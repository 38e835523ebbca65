"""Shared by all tests. Without a GPU the Triton kernels run under Triton's interpreter."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub import ID, Hub, model_files, serve

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported

# A shell starts jobs in the background with Ctrl-C ignored; the programs started here inherit it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

CONTROL = re.findall(
    r"\w+",
    "end document passage question answer summary mark yes no none title heading code docstring "
    "short medium long bullets key value",
)
CONTROL_TOKENS = [f"<|{name}|>" for name in CONTROL] + [f"<|reserved_{i}|>" for i in range(20, 32)]


def write_byte_tokenizer(path: Path) -> None:
    """A tokenizer.json of 32 control tokens and 256 bytes: the default one's format, no merges."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*CONTROL_TOKENS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in CONTROL_TOKENS])
    tokenizer.save(str(path))


def make_checkpoint(folder: Path, seed: int = 0, int8: bool = False, **sizes: int) -> Path:
    """A random SAMBA checkpoint of about 100 kB with the byte tokenizer."""
    from samba_cli.model import Samba, SambaConfig, save_checkpoint

    config = SambaConfig(
        **{  # type: ignore[arg-type]
            "vocab_size": 288,
            "d_model": 32,
            "n_layer": 4,
            "d_state": 4,
            "d_ff": 64,
            "n_head": 2,
            "n_kv_head": 1,
            "window": 256,
            **sizes,
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_byte_tokenizer(folder / "tokenizer.json")
    model = Samba(config).initialise(seed)
    save_checkpoint(model, folder, folder / "tokenizer.json", int8=int8)
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random model: it reads and writes, and what it writes is noise."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture
def home(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folders of their own, a contract to ask about, and the tiny model as default."""
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / ".home" / kind.lower()))
    monkeypatch.setenv("SAMBA_MODEL", str(tiny_checkpoint))
    monkeypatch.setenv("SAMBA_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    text = "The notice period is thirty days.\n\nAnna Kraus signed in Leipzig on 3 May 2019.\n"
    (tmp_path / "contract.txt").write_text(text)
    return tmp_path


@pytest.fixture(scope="session")
def hub_server() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


@pytest.fixture
def hub(hub_server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A well-behaved hub with one model, and a person's folders of their own."""
    hub_server.__dict__.update(Hub(url=hub_server.url).__dict__)
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    monkeypatch.setenv("HF_ENDPOINT", hub_server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))  # no token of the person running this
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "SAMBA_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    hub_server.add(ID, model_files())
    return hub_server


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "data" / "samba-cli" / "models"
