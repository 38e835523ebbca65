"""`samba models pull` from a hub on this machine, well-behaved and not."""

import json
from pathlib import Path

import pytest
from cli import run
from hub import CONFIG, ID, NEEDED, TOKEN, Hub, big_pull, left, model_files, safetensors


def pull_fails(source: str = ID, code: int = 4) -> str:
    result = run("models", "pull", source)
    assert result.code == code, result.stderr
    assert result.stdout == ""
    assert "\n" not in result.sentence
    return result.sentence


def test_pull_takes_what_is_needed_and_says_where_it_is_from(hub: Hub, store: Path) -> None:
    result = run("models", "pull", ID)
    assert result.code == 0, result.stderr
    assert result.stdout == ""
    assert "samba models default tiny-jamba" in result.stderr
    folder = store / "tiny-jamba"
    assert {path.name for path in folder.iterdir()} == NEEDED | {"source.json"}
    assert left(store) == ["tiny-jamba"]
    assert hub.downloads()[0] == "config.json"
    files = model_files()
    assert all((folder / name).read_bytes() == files[name] for name in NEEDED)
    source = json.loads((folder / "source.json").read_text())
    assert source["id"] == ID
    assert source["revision"] == "main"
    assert source["commit"] in hub.repositories[ID]
    assert source["license"] == "apache-2.0"
    assert {file["name"]: file["size"] for file in source["files"]} == {
        name: len(files[name]) for name in NEEDED
    }
    assert all(len(file["sha256"]) == 64 for file in source["files"])


def test_pull_again_fetches_nothing_until_there_is_a_new_commit(hub: Hub, store: Path) -> None:
    assert run("models", "pull", ID).code == 0
    hub.requests.clear()
    result = run("models", "pull", ID)
    assert result.code == 0
    assert "up to date" in result.stderr
    assert hub.downloads() == []
    newer = hub.add(ID, model_files(**{"model.safetensors": safetensors({"a": [9, 99]}, 5)}))
    assert run("models", "pull", ID, "--quiet").stderr == ""
    assert json.loads((store / "tiny-jamba" / "source.json").read_text())["commit"] == newer
    assert run("models", "show", ID, "--verify").code == 0
    assert left(store) == ["tiny-jamba"]


def test_pull_a_revision(hub: Hub, store: Path) -> None:
    other = model_files(**{"tokenizer_config.json": b'{"old": true}'})
    commit = hub.add(ID, other, "v1.0", "refs/pr/1")
    for revision in ("v1.0", "refs/pr/1", commit):
        assert run("models", "pull", f"{ID}@{revision}").code == 0
        source = json.loads((store / "tiny-jamba" / "source.json").read_text())
        assert source["commit"] == commit
    assert (store / "tiny-jamba" / "tokenizer_config.json").read_bytes() == b'{"old": true}'
    # What is fetched is the commit that was looked up, whatever the branch is by then.
    assert all(f"/resolve/{commit}/" in p for _, p, _ in hub.requests if "resolve" in p)
    assert f"no revision 'v2'; see {hub.url}/{ID}/commits" in pull_fails(f"{ID}@v2")


def test_shards_and_pickles(hub: Hub, store: Path) -> None:
    shards = {
        f"model-0000{i}-of-00002.safetensors": safetensors({f"t{i}": [50, 5]}) for i in (1, 2)
    }
    index = {"weight_map": {f"t{i}": name for i, name in enumerate(shards, 1)}}
    more = {"model.safetensors.index.json": json.dumps(index).encode()}
    files = model_files(**{"model.safetensors": None}, **shards, **more)
    hub.add("someone/sharded", files | {"model-other.safetensors": b"x" * 3000})
    assert run("models", "pull", "someone/sharded").code == 0
    there = {path.name for path in (store / "sharded").glob("model*")}
    assert there == {*shards, *more}
    assert run("models", "show", "sharded", "--json").json["model"]["parameters"] == 500

    del files["model-00002-of-00002.safetensors"]
    hub.add("someone/half", files)
    assert "has no model-00002-of-00002.safetensors" in pull_fails("someone/half")

    original = {"d_model": 768, "n_layer": 24, "vocab_size": 50277, "ssm_cfg": {}}
    files = {"config.json": json.dumps(original).encode(), "pytorch_model.bin": b"PK" * 1000}
    hub.add("someone/mamba-130m", files)
    result = run("models", "pull", "someone/mamba-130m")
    assert result.code == 0
    assert f"no tokenizer.json; put the one it was trained with into {store / 'mamba-130m'}" in (
        result.stderr
    )
    shown = run("models", "show", "mamba-130m", "--json").json["model"]
    assert (shown["type"], shown["parameters"]) == ("mamba", None)
    assert left(store) == ["mamba-130m", "sharded"]


def test_what_samba_cannot_run_is_refused_before_its_weights_come(hub: Hub, store: Path) -> None:
    def refused(config: bytes) -> str:
        hub.add("someone/other", model_files(**{"config.json": config}))
        hub.requests.clear()
        sentence = pull_fails("someone/other")
        assert hub.downloads() == ["config.json"]
        assert left(store) == []
        return sentence

    sentence = refused(b'{"model_type": "llama"}')
    assert "'llama'" in sentence
    assert "granitemoehybrid" in sentence
    assert "does not name" in refused(b'{"d_model": 5}')
    assert "num_experts" in refused(json.dumps({**CONFIG, "num_experts": 16}).encode())
    assert "JSON" in refused(b"<html>")
    assert "JSON" in refused(b"[]")
    hub.add("someone/data", {"README.md": b"data"})
    assert "has no config.json" in pull_fails("someone/data")
    hub.add("someone/empty", {"config.json": json.dumps(CONFIG).encode()})
    assert "no weights" in pull_fails("someone/empty")
    assert left(store) == []


def test_repositories_that_cannot_be_had(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no repository someone/nothing" in pull_fails("someone/nothing")
    hub.private.add(ID)
    assert "HF_TOKEN" in pull_fails()
    hub.private.clear()
    hub.gated.add(ID)
    sentence = pull_fails()
    assert "gated" in sentence
    assert f"{hub.url}/{ID}" in sentence
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert run("models", "pull", ID).code == 0
    assert "there is no repository someone/nothing" in pull_fails("someone/nothing")
    hub.add("someone/late", model_files())
    hub.failures = [403]
    assert "refuses" in pull_fails("someone/late")
    hub.failures = [503, 429]  # passing troubles
    assert run("models", "pull", "someone/late").code == 0
    hub.nonsense = True
    assert "login page" in pull_fails("someone/later")


@pytest.mark.parametrize("source", ["tiny", "a/b/c", "../x", "/etc", f"{ID}@", "a b/c", "a--b/.."])
def test_ids_that_are_none(hub: Hub, source: str) -> None:
    assert source in pull_fails(source, code=2)
    assert hub.requests == []


def test_without_a_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert "cannot reach 127.0.0.1:9" in pull_fails()
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert "cannot reach hub.invalid" in pull_fails()


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: Hub, store: Path) -> None:
    hub.cut_after = 60_000
    assert run("models", "pull", ID).code == 0
    ranges = [r for _, path, r in hub.requests if path.endswith("model.safetensors") and r]
    assert "bytes=60000-" in ranges
    content = (store / "tiny-jamba" / "model.safetensors").read_bytes()
    assert content == model_files()["model.safetensors"]


def test_a_part_of_another_commit_is_not_mixed_in(hub: Hub, store: Path) -> None:
    part = big_pull(hub, store)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"y" * 70_000)
    (part.parent / ".commit").write_text("0" * 40)
    assert run("models", "pull", "someone/big").code == 0
    assert run("models", "show", "big", "--verify").code == 0


def test_a_server_without_ranges_sends_the_whole_again(hub: Hub, store: Path) -> None:
    part = big_pull(hub, store)
    commit = next(r for r in hub.repositories["someone/big"] if len(r) == 40)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"y" * 70_000)
    (part.parent / ".commit").write_text(commit)
    hub.ignores_ranges = True
    assert run("models", "pull", "someone/big").code == 0
    assert run("models", "show", "big", "--verify").code == 0


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer_config.json"])
def test_damage_on_the_way_is_found(hub: Hub, store: Path, name: str) -> None:
    hub.damaged.add(name)
    sentence = pull_fails()
    assert f"{name} of {ID} arrived damaged" in sentence
    assert "tiny-jamba" not in left(store)
    hub.damaged.clear()
    assert run("models", "pull", ID).code == 0
    assert run("models", "show", "tiny-jamba", "--verify").code == 0


def test_a_disk_that_is_too_small_is_told_before(hub: Hub, store: Path) -> None:
    hub.stated_sizes["model.safetensors"] = 10**17
    sentence = pull_fails()
    assert "100000.0 TB more" in sentence
    assert "free in" in sentence
    assert "model.safetensors" not in hub.downloads()
    assert left(store) == []


def test_a_store_that_cannot_be_written(hub: Hub, store: Path) -> None:
    store.parent.mkdir(parents=True)
    store.write_text("not a folder")
    assert str(store) in pull_fails()
