"""What is done with pulled models: ls, show, default, rm, and --model."""

import json
from pathlib import Path

import pytest
from cli import Result, run
from hub import CONFIG, ID, Hub, left, model_files


def test_ls_and_show(hub: Hub, store: Path) -> None:
    assert run("models", "pull", ID).code == 0
    lines = run("models", "ls").stdout.splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "TYPE", "REVISION", "DEFAULT"]
    assert lines[1].split()[0] == "samba"
    assert lines[1].split()[-1] == "*"
    commit = next(r for r in hub.repositories[ID] if len(r) == 40)
    assert lines[2].split()[0::3] == ["tiny-jamba", "jamba"]
    assert commit[:12] in lines[2]
    assert run("models", "list").stdout.splitlines() == lines

    text = run("models", "show", "tiny-jamba").stdout
    for said in (ID, commit, "apache-2.0", "jamba", "262,144 tokens", "0.1 million", "a token"):
        assert said in text
    shown = run("models", "show", ID, "--json").json["model"]
    assert shown["parameters"] == 60_100
    # One attention layer of one head of 16; three Mamba layers of 128 x (3 x 2 + 16 x 4).
    assert shown["state_bytes"]["bf16"] == {"fixed": 3 * 128 * (6 + 64), "per_token": 64}
    assert {file["state"] for file in shown["files"]} == {"not checked"}
    entries = run("models", "ls", "--json").json["models"]
    assert [(e["name"], e["default"]) for e in entries] == [("samba", True), ("tiny-jamba", False)]

    built_in = run("models", "show", "samba", "--json").json["model"]
    assert 40e6 < built_in["parameters"] < 50e6
    assert built_in["state_bytes"]["bf16"]["per_token"] == 0


def test_show_verify_finds_what_changed(hub: Hub, store: Path) -> None:
    assert run("models", "pull", ID).code == 0
    weights = store / "tiny-jamba" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert run("models", "show", "tiny-jamba").code == 0  # sizes are right
    result = run("models", "show", "tiny-jamba", "--verify")
    assert result.code == 4
    assert "model.safetensors is changed" in result.sentence
    (store / "tiny-jamba" / "tokenizer.json").unlink()
    assert "tokenizer.json is missing" in run("models", "show", "tiny-jamba").sentence
    assert run("models", "pull", ID).code == 0  # repairs what is visibly broken
    assert run("models", "show", "tiny-jamba", "--verify").code == 0
    (store / "tiny-jamba" / "source.json").write_text("{")
    result = run("models", "ls")
    assert result.code == 4
    assert "samba models rm tiny-jamba" in result.sentence
    assert run("models", "rm", "tiny-jamba", "--yes").code == 0


def test_default_and_rm(hub: Hub, store: Path, tmp_path: Path) -> None:
    assert run("models", "pull", ID).code == 0
    config = tmp_path / "config" / "samba-cli" / "config.toml"
    config.parent.mkdir(parents=True)
    mine = '# mine\nlength = "short"  # of course\n'
    config.write_text(mine)
    assert run("models", "default").stdout == "samba\n"
    assert run("models", "default", ID).code == 0
    assert config.read_text() == 'model = "tiny-jamba"\n' + mine
    assert run("models", "default").stdout == "tiny-jamba\n"
    assert run("models", "ls").stdout.splitlines()[2].endswith("*")
    assert run("models", "default", "samba").code == 0
    assert config.read_text() == mine
    assert "did you mean 'tiny-jamba'" in run("models", "default", "tiny-jambo").sentence

    assert run("models", "default", "tiny-jamba").code == 0
    refused = run("models", "rm", "tiny-jamba", terminal="stdin", stdin=b"y\n")
    assert refused.code == 2
    assert "is the default model" in refused.sentence
    assert run("models", "rm", ID, "--yes").code == 0
    assert run("models", "default").stdout == "samba\n"
    assert left(store) == []

    assert run("models", "pull", ID).code == 0
    assert run("models", "rm", "tiny-jamba").code == 2  # nobody to ask
    assert run("models", "rm", "tiny-jamba", terminal="stdin", stdin=b"n\n").code == 1
    assert run("models", "rm", "tiny-jamba", terminal="stdin", stdin=b"y\n").code == 0
    assert left(store) == []
    assert run("models", "rm", "tiny-jamba", "--yes").code == 4
    assert run("models", "rm", "samba", "--yes").code == 2
    for name in ("../config", "/etc", "..", ""):
        assert run("models", "rm", name, "--yes").code in (2, 4)


def test_two_repositories_of_one_name(hub: Hub, store: Path) -> None:
    hub.add("another/tiny-jamba", model_files())
    hub.add("someone/samba", model_files())
    for source in (ID, "another/tiny-jamba", "someone/samba", "another/tiny-jamba"):
        assert run("models", "pull", source).code == 0
    assert left(store) == ["another--tiny-jamba", "someone--samba", "tiny-jamba"]
    shown = run("models", "show", "another/tiny-jamba", "--json").json["model"]
    assert shown["name"] == "another--tiny-jamba"
    assert run("models", "rm", "another/tiny-jamba", "--yes").code == 0
    assert left(store) == ["someone--samba", "tiny-jamba"]


def test_model_option(
    hub: Hub, store: Path, tiny_checkpoint: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A name, an id or a folder; sharded files count as present; else how to get it."""
    hub.add("someone/mine", {p.name: p.read_bytes() for p in tiny_checkpoint.iterdir()})
    assert run("models", "pull", "someone/mine").code == 0
    (tmp_path / "contract.txt").write_text("The notice period is thirty days.\n")
    monkeypatch.setenv("SAMBA_DEVICE", "cpu")

    def ask(model: object) -> Result:
        return run("ask", "What is the notice period?", "contract.txt", "--json", "--model", model)

    used = [ask(model).json["model"]["id"] for model in ("mine", "someone/mine", store / "mine")]
    assert used == ["mine"] * 3
    # A folder of the same name is meant only when it is written as one.
    (tmp_path / "mine").mkdir()
    assert ask("mine").code == 0
    assert "has no config.json" in ask("./mine").sentence
    (tmp_path / "mine" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "mine" / "tokenizer.json").write_text("{}")
    assert "has no model.safetensors, nor model.safetensors.index.json" in ask("./mine").sentence
    (tmp_path / "mine" / "model.safetensors.index.json").write_text("{}")
    assert "cannot load the model" in ask("./mine").sentence

    weights, tokenizer = store / "mine" / "model.safetensors", store / "mine" / "tokenizer.json"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert ask("mine").sentence.endswith("; check its files with: samba models show mine --verify")
    assert "model.safetensors is changed" in run("models", "show", "mine", "--verify").sentence
    tokenizer.unlink()
    assert "put the one it was trained with there" in ask("mine").sentence

    assert ask("someone/else").sentence == (
        "there is no model someone/else here; pull it with: samba models pull someone/else"
    )
    sentence = ask("granite").sentence
    assert "mine, samba" in sentence
    assert "samba models pull ORG/NAME" in sentence
    assert "did you mean 'mine'" in ask("min").sentence
    assert ask("").code == 2
