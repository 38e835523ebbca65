"""Forks are independent, expansion shares a prefill, files are checked."""

import pytest
import torch
from conftest import make_checkpoint

from samba_cli.model import State, StateError, load_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_checkpoint(make_checkpoint(tmp_path_factory.mktemp("m") / "c", window=16))


def tokens(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(32, 288, (1, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_a_fork_leaves_the_original_alone(model):
    state = model.initial_state()
    model(tokens(50), state)
    before = {name: t.clone() for name, t in state.tensors().items()}
    fork = state.fork()
    model(tokens(30, seed=1), fork)
    assert (state.position, fork.position) == (50, 80)
    assert all(torch.equal(t, before[name]) for name, t in state.tensors().items())


@torch.inference_mode()
def test_expanded_rows_equal_separate_forks(model):
    state = model.initial_state()
    model(tokens(40), state)
    rows = torch.cat([tokens(9, seed) for seed in range(3)])
    batch = state.expand(3)
    together = model(rows, batch)
    for i in range(3):
        alone = model(rows[i : i + 1], state.fork())
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        batch.select(1).tensors()["layers.0.ssm"], batch.tensors()["layers.0.ssm"][1:2]
    )
    with pytest.raises(ValueError, match="batch 1"):
        batch.expand(2)


@torch.inference_mode()
def test_logits_only_where_asked(model):
    whole = model(tokens(20), model.initial_state())
    picked = model(tokens(20), model.initial_state(), at=torch.tensor([3, 19]))
    torch.testing.assert_close(picked, whole[:, [3, 19]])
    none = model(tokens(20), model.initial_state(), at=torch.tensor([], dtype=torch.long))
    assert none.shape == (1, 0, 288)


def damage_truncated(path, other):
    path.write_bytes(path.read_bytes()[:500])


def damage_empty(path, other):
    path.write_bytes(b"")


def damage_noise(path, other):
    path.write_bytes(bytes(range(256)) * 40)


def damage_other_model(path, other):
    other.initial_state().save(path, "tokenizer")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_truncated, "not a readable state file"),
        (damage_empty, "not a readable state file"),
        (damage_noise, "not a readable state file"),
        (damage_other_model, "another model"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(model, tmp_path, damage, words):
    other = load_checkpoint(make_checkpoint(tmp_path / "other", seed=7, window=16))
    path = tmp_path / "s.safetensors"
    model.initial_state().save(path, "tokenizer")
    damage(path, other)
    with pytest.raises(StateError, match=words):
        State.load(path, model, "tokenizer")


def test_another_tokenizer_and_a_missing_file_are_refused(model, tmp_path):
    path = tmp_path / "s.safetensors"
    model.initial_state().save(path, "tokenizer")
    with pytest.raises(StateError, match="another tokenizer"):
        State.load(path, model, "other")
    with pytest.raises(StateError, match="does not exist"):
        State.load(tmp_path / "none", model, "tokenizer")


def test_a_failed_save_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "s.safetensors"
    model.initial_state().save(path, "tokenizer")
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        model.initial_state().save(path, "tokenizer")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
