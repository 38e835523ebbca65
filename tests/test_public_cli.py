"""The commands with checkpoints of others: tiny and random, so they write noise, but in earnest."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli import QUESTION, Result, run
from conftest import write_byte_tokenizer
from foreign import write_foreign, write_tokenizer
from public_checkpoints import transformers_model
from safetensors.torch import load_file, save_file
from test_lit_gpt import CONFIG, lit_gpt_weights

from samba_cli import room
from samba_cli.errors import DeviceError
from samba_cli.model import Samba
from samba_cli.model.precision import reading_dtype

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("home")

# case of public_checkpoints -> whose tokenizer and template
MAKERS = {"mamba": "base", "mamba2": "base", "jamba": "jamba", "granitemoehybrid": "granite"}
# numbers that a token adds: keys and values, layers, heads, width of a head
GROWTH = {"jamba": 2 * 1 * 1 * 8, "granitemoehybrid": 2 * 1 * 2 * 8}
ELEMENT = reading_dtype("cpu").itemsize  # bytes of each, as this processor reads
SHORT = ("--max-tokens", "6")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for case, maker in MAKERS.items():
        transformers_model(case, vocab_size=288).save_pretrained(root / case)
        write_foreign(root / case, maker)
    transformers_model("jamba", vocab_size=288).save_pretrained(
        root / "sharded", max_shard_size="32KB"
    )
    write_foreign(root / "sharded", "jamba")
    return root


def check_places(result: Result, text: str) -> None:
    """Every piece of evidence is there, at the place it names."""
    value = result.json
    shown = [*value.get("answers", ()), *value.get("summary", {}).get("sentences", ())]
    places = [place for one in shown for place in one["evidence"]]
    assert places
    for place in places:
        assert text[place["char_start"] : place["char_end"]] == place["quote"]
        line = text[: place["char_start"]].count("\n") + 1
        assert place["line_start"] == line
        assert place["location"] == f"contract.txt:{line}"


@pytest.mark.parametrize("case", MAKERS)
def test_every_command_runs(home: Path, models: Path, case: str) -> None:
    text = (home / "contract.txt").read_text()
    model = ("--model", models / case)
    asked = run("ask", QUESTION, "contract.txt", "--json", *model, *SHORT)
    assert asked.code == 0, asked.stderr
    check_places(asked, text)
    # jamba's template opens a block of thoughts, which noise closes on one processor or another
    noise = "note: the model stopped while thinking and was told to answer"
    assert all(case == "jamba" and one.startswith(noise) for one in asked.json["warnings"])
    grows = f"model {case}: weights " in asked.stderr
    assert grows == (case in GROWTH)
    if grows:
        assert f" {GROWTH[case] * ELEMENT} bytes per token; about " in asked.stderr

    summary = run("summarize", "contract.txt", "--json", "--length", "12", *model)
    assert summary.code == 0, summary.stderr
    check_places(summary, text)

    assert run("read", "contract.txt", "--as", "kept", *model).code == 0
    again = run("ask", QUESTION, "--memory", "kept", "--json", *SHORT)
    assert again.code == 0, again.stderr
    assert again.json["answers"] == asked.json["answers"]
    assert again.json["state"]["id"] == asked.json["state"]["id"]
    chat = run("chat", "kept", *SHORT, stdin=f"{QUESTION}\n/sources\n".encode())
    assert chat.code == 0, chat.stderr
    assert "contract.txt:1" in chat.stdout


def test_a_window_is_lossy_and_a_memory_knows_it(home: Path, models: Path) -> None:
    (home / "long.txt").write_text("".join(f"Flat {i} has {i} rooms.\n" for i in range(200)))
    model = ("--model", models / "granitemoehybrid")
    bounded = run("ask", QUESTION, "long.txt", "--json", "--window", "64", *model, *SHORT)
    assert bounded.code == 0, bounded.stderr
    value = bounded.json
    assert [w for w in value["warnings"] if "lossy" in w and "--window 64" in w]
    assert "is lossy" in bounded.stderr
    assert "per token" not in bounded.stderr  # nothing grows
    assert (value["model"]["window"], value["model"]["quantize"]) == (64, "none")
    whole = run("ask", QUESTION, "long.txt", "--json", *model, *SHORT).json
    assert whole["model"]["window"] is None
    assert whole["model"]["sha256"] == value["model"]["sha256"]
    assert whole["state"]["bytes"] > 10 * value["state"]["bytes"]
    assert whole["state"]["id"] != value["state"]["id"]

    assert run("read", "long.txt", "--as", "flats", "--window", "64", *model).code == 0
    asked = run("ask", QUESTION, "--memory", "flats", "--json", *SHORT)
    assert asked.code == 0  # with its own window
    assert asked.json["state"]["id"] == value["state"]["id"]
    assert any("lossy" in warning for warning in asked.json["warnings"])
    for other in ("0", "32"):
        result = run("ask", QUESTION, "--memory", "flats", "--window", other)
        assert result.code == 4
        assert f"was read with --window 64, not {other}" in result.sentence
    shown = run("memory", "show", "flats", "--json").json["memory"]
    assert (shown["window"], shown["model_sha256"]) == (64, whole["model"]["sha256"])
    assert "the last 64 tokens and the first 4 (lossy)" in run("memory", "show", "flats").stdout
    assert run("append", "flats", "contract.txt").code == 0
    assert run("append", "flats", "contract.txt", "--window", "0").code == 4


def test_settings_say_it_once(home: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMBA_MODEL", str(models / "jamba"))
    monkeypatch.setenv("SAMBA_WINDOW", "64")
    monkeypatch.setenv("SAMBA_QUANTIZE", "int8")
    value = run("ask", QUESTION, "contract.txt", "--json", *SHORT).json
    assert (value["model"]["window"], value["model"]["quantize"]) == (64, "int8")
    flags = ("--window", "0", "--quantize", "none")
    value = run("ask", QUESTION, "contract.txt", "--json", *flags, *SHORT).json
    assert (value["model"]["window"], value["model"]["quantize"]) == (None, "none")
    for wrong in (("--window", "-5"), ("--quantize", "int4")):
        result = run("ask", QUESTION, "contract.txt", *wrong)
        assert result.code == 2
        assert wrong[0] in result.sentence
    # A model of constant memory has nothing to bound, and nothing is lost.
    mamba = run("ask", QUESTION, "contract.txt", "--json", "--model", models / "mamba", *SHORT)
    assert mamba.json["model"]["window"] is None
    assert mamba.json["warnings"] == []


def test_what_will_not_fit_is_not_begun(
    home: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = home / "group"  # a container with little memory left
    group.mkdir()
    for name, value in (("max", "900000000"), ("current", "399950000"), ("stat", "anon 3")):
        (group / f"memory.{name}").write_text(value)
    monkeypatch.setattr(room, "_CGROUP", group)
    monkeypatch.setenv("SAMBA_DTYPE", "fp32")
    (home / "long.txt").write_text("The notice period is thirty days.\n" * 40)
    model = ("--model", models / "jamba")
    result = run("ask", QUESTION, "long.txt", "--json", *model)
    assert result.code == 7
    assert "--window N" in result.sentence
    assert result.json["error"]["kind"] == "device"
    assert run("read", "long.txt", "--as", "long", *model).code == 7
    huge = home / "huge.txt"
    huge.write_text("The notice period is thirty days.\n" * 3000)
    os.truncate(huge, 3 << 40)  # nobody waits for three terabytes to be read to hear of it
    result = run("read", huge, "--as", "huge", *model)
    assert (result.code, "the state would grow to about" in result.sentence) == (7, True)
    assert run("ask", QUESTION, "contract.txt", *model, *SHORT).code == 0
    assert run("ask", QUESTION, "long.txt", "--window", "64", *model, *SHORT).code == 0


def test_where_the_state_grows() -> None:
    needs = room.Needs(0, 0, 1000, room.Estimate(5_000_000, True), copies=2)
    assert needs.growing == 5_000_000_000
    assert room.fits(needs, None, 11_000_000_000)
    assert room.fits(needs, None, None)  # where nothing tells how much is free
    assert room.fits(needs, 12_000_000_000, 0)
    assert not room.fits(needs, 11_000_000_000, 11_000_000_000)  # only host memory
    assert "at least" in room.Needs(0, 0, 10, room.Estimate(5)).sentence("m")
    for device in (None, 11_000_000_000):
        with pytest.raises(DeviceError, match="--window N"):
            room.fits(needs, device, 10_000_000_000)


def test_of_a_pipe_only_the_growth_is_known(home: Path, models: Path) -> None:
    text = (home / "contract.txt").read_bytes()
    result = run("ask", QUESTION, "--model", models / "jamba", *SHORT, stdin=text)
    assert result.code == 0
    said = next(line for line in result.stderr.splitlines() if line.startswith("model jamba"))
    assert said.endswith(f" {GROWTH['jamba'] * ELEMENT} bytes per token")


Damage = Callable[[Path], Any]


class Code:
    def __reduce__(self):
        return os.system, ("echo code ran",)


def without_a_shard(folder: Path) -> None:
    sorted(folder.glob("*-of-*.safetensors"))[1].unlink()


def with_another_key(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.extra.weight"] = torch.zeros(1)
    save_file(tensors, folder / "model.safetensors")


def with_a_key_that_steers(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[f"a\nsamba: all is well\x1b[2J{'x' * 9000}"] = torch.zeros(1)
    save_file(tensors, folder / "model.safetensors")


def with_another_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.final_layernorm.weight"] = torch.zeros(31)
    save_file(tensors, folder / "model.safetensors")


def with_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Code()}, folder / "pytorch_model.bin")


def with_a_lie(**sizes: int) -> Damage:
    def lie(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | sizes))

    return lie


@pytest.mark.parametrize(
    ("case", "damage", "words"),
    [
        ("sharded", without_a_shard, "the shard "),
        ("jamba", with_another_key, "has the unknown tensor model.extra.weight"),
        ("jamba", with_a_key_that_steers, "has the unknown tensor a samba: all is well [2Jxxx"),
        ("jamba", with_another_shape, "has the shape [31], config.json says [32]"),
        (
            "jamba",
            lambda f: write_tokenizer(f, [f"<|{i}|>" for i in range(99)]),
            "is not this model's",
        ),
        ("jamba", with_code, "is refused: it is not a file of tensors alone"),
        ("jamba", with_a_lie(intermediate_size=10**6), "config.json says [1000000, 32]"),
        ("jamba", with_a_lie(hidden_size=1 << 40), "hidden_size = 1099511627776 is not a size"),
        ("jamba", with_a_lie(num_hidden_layers=10**9), "num_hidden_layers = 1000000000 is "),
    ],
)
def test_a_bad_checkpoint_is_one_sentence(
    home: Path, models: Path, case: str, damage: Damage, words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = Path(shutil.copytree(models / case, home / case))
    damage(folder)
    result = run("ask", QUESTION, "contract.txt", "--model", folder)
    assert result.code == 4, result.stderr
    assert words in result.sentence
    assert result.sentence.isprintable() and len(result.sentence) < 2100
    assert "code ran" not in capfd.readouterr().out


def test_convert(home: Path) -> None:
    write_byte_tokenizer(home / "tokenizer.json")
    weights = lit_gpt_weights(Samba(CONFIG).initialise(seed=3))
    torch.save({"model": weights}, home / "m.pth")
    arguments = ("models", "convert", "m.pth", "--tokenizer", "tokenizer.json")
    sizes = ("--d-head", "8", "--window", "128")
    done = run(*arguments, *sizes, "--as", "mine")
    assert done.code == 0, done.stderr
    assert "--model mine" in done.stderr
    assert "mine" in run("models", "ls").stdout
    shown = run("models", "show", "mine", "--verify", "--json").json["model"]
    assert (shown["type"], shown["id"], shown["commit"]) == ("samba", None, None)
    assert shown["revision"] == str(home / "m.pth")
    assert {file["state"] for file in shown["files"]} == {"ok"}
    assert "converted" in run("models", "show", "mine").stdout
    assert run("ask", QUESTION, "contract.txt", "--model", "mine", *SHORT).code == 0
    assert run(*arguments, *sizes, "-o", "out/folder").code == 0
    assert run("ask", QUESTION, "contract.txt", "--model", "./out/folder", *SHORT).code == 0

    for code, words, more in (
        (2, "-o FOLDER, or --as NAME", ()),
        (2, "exists", (*sizes, "--as", "mine")),
        (2, "not an empty folder", (*sizes, "-o", "out")),
        (2, "cannot name a model", (*sizes, "--as", "../x")),
        (2, "known are Samba_421M,", ("--config", "Samba_9B", "--as", "x")),
        (4, "heads of 128 do not fit", ("--as", "x")),
    ):
        result = run(*arguments, *more)
        assert (result.code, words in result.sentence) == (code, True), result.stderr
    torch.save({"model": {"a": Code()}}, home / "bad.pth")
    assert run("models", "convert", "bad.pth", *arguments[3:], "--as", "x").code == 4
    assert run("models", "convert", "none.pth", *arguments[3:], "--as", "x").code == 4
    assert sorted(p.name for p in (home / "out").iterdir()) == ["folder"]
    assert run("models", "rm", "mine", "--yes").code == 0


def test_show_counts_with_a_window_and_int8(home: Path, models: Path) -> None:
    store = home / ".home" / "data" / "samba-cli" / "models" / "jamba"
    shutil.copytree(models / "jamba", store)
    described = {"format": 1, "id": "a/jamba", "revision": "main", "commit": "0" * 40,
                 "license": None, "pulled": "2026-01-01T00:00:00Z", "files": []}  # fmt: skip
    (store / "source.json").write_text(json.dumps(described))
    plain = run("models", "show", "jamba", "--json").json["model"]
    for dtype, element in (("fp32", 4), ("bf16", 2)):
        assert plain["state_bytes"][dtype]["per_token"] == GROWTH["jamba"] * element
    bounded = run("models", "show", "jamba", "--window", "100", "--quantize", "int8", "--json")
    assert bounded.json["model"]["state_bytes"]["fp32"] == {
        "fixed": plain["state_bytes"]["fp32"]["fixed"] + 104 * 4 * GROWTH["jamba"],
        "per_token": 0,
    }  # fmt: skip
    assert bounded.json["model"]["memory_bytes"]["fp32"] < plain["memory_bytes"]["fp32"] / 2
    assert "int8 matrices" in run("models", "show", "jamba", "--quantize", "int8").stdout
    assert run("models", "show", "jamba", "--quantize", "int4").code == 2
