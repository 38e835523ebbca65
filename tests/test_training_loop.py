"""The training loop on a tiny model: it learns, resumes exactly, and exports what it learned."""

import json

import pytest
import torch
from conftest import write_byte_tokenizer

from samba_cli.model import SambaConfig, load_checkpoint
from training.export import average, load_run
from training.muon import orthogonalize
from training.train import Plan, Trainer

CONFIG = SambaConfig(
    vocab_size=288, d_model=32, n_layer=4, d_state=4, d_ff=48, n_head=2, n_kv_head=1, window=16
)
PLAN = Plan(
    steps=40,
    lanes=4,
    length=24,
    lr=1e-2,
    muon_lr=1e-2,
    warmup=3,
    decay=0.3,
    weight_decay=0.1,
    restart=5,
    seed=0,
)


def batch(index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A cycle of 12 tokens from a random place: all that there is to learn."""
    start = torch.randint(12, (4, 1), generator=torch.Generator().manual_seed(index))
    tokens = (start + torch.arange(25)) % 12 + 40
    return tokens[:, :-1], tokens[:, 1:], torch.ones(4, 24)


def trainer() -> Trainer:
    return Trainer(CONFIG, PLAN, torch.device("cpu"), compiled=False)


def test_the_loss_falls_and_a_resumed_run_is_the_same_run(tmp_path):
    straight = trainer()
    losses = [straight.step(i, *batch(i)).item() for i in range(PLAN.steps)]
    assert losses[-1] < 0.3 * losses[0]

    first = trainer()
    for i in range(20):
        first.step(i, *batch(i))
    first.save(tmp_path, 20, 1920)
    second = trainer()
    assert second.load(tmp_path / "training.pt", weights_only=False) == (20, 1920)
    second.state = first.state  # a resumed run begins with empty lanes; here the rest is compared
    again = [second.step(i, *batch(i)).item() for i in range(20, PLAN.steps)]
    assert again == losses[20:]


def test_targets_below_zero_and_weights_of_zero_teach_nothing():
    one, two = trainer(), trainer()
    tokens, targets, weights = batch(0)
    masked, unweighted = targets.clone(), weights.clone()
    masked[:, 5:] = -1
    unweighted[:, 5:] = 0
    weights[:, 5:] = 0  # the mean is over the weights
    a = one.step(0, tokens, masked, weights)
    b = two.step(0, tokens, targets, unweighted)
    assert a.item() == b.item()
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)


def test_the_learning_rate_warms_up_stays_and_falls():
    rates = [PLAN.schedule(i) for i in range(PLAN.steps + 1)]
    assert rates[0] == pytest.approx(1 / 3)
    assert rates[3:29] == [1.0] * 26
    assert rates[28:] == sorted(rates[28:], reverse=True)
    assert rates[-1] == 0


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (32, 64)])
def test_an_orthogonalized_update_has_singular_values_near_one(shape):
    update = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(update).float())
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_export_writes_what_was_trained(tmp_path):
    from samba_cli.model import save_checkpoint

    run = trainer()
    run.step(0, *batch(0))
    run.save(tmp_path / "run", 1, 96)
    write_byte_tokenizer(tmp_path / "tokenizer.json")
    model, tokens = load_run(tmp_path / "run" / "training.pt")
    assert tokens == 96
    model = average([model, load_run(tmp_path / "run" / "training.pt")[0]])
    save_checkpoint(model, tmp_path / "out", tmp_path / "tokenizer.json", int8=True)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization"]["method"] == "int8"
    exported = load_checkpoint(tmp_path / "out")
    trained = dict(run.model.named_parameters())
    for name, parameter in exported.named_parameters():
        step = trained[name].abs().amax() / 127
        assert (parameter - trained[name]).abs().max() <= 0.51 * step + 1e-6
