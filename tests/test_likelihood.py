"""Likelihoods: what one row alone gives, however many rows and whatever they share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import make_checkpoint
from foreign import CHATML, write_foreign
from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli import scoring
from samba_cli.dialect import Dialect, dialect_of
from samba_cli.likelihood import token_likelihoods
from samba_cli.model import Model, Tokenizer, load_checkpoint
from samba_cli.model.description import AttentionSpec, Description, LayerSpec, Mamba2Spec, MLPSpec
from samba_cli.scoring import last_logits

TEXTS = ["The rent is due.", "x", "Anna pays for repairs. " * 20, "Keys are returned, keys.", "é"]
LONG_SYSTEM = CHATML.replace("{{ bos_token }}", "{{ bos_token }}" + "Be brief and honest. " * 9)


def random_model(description: Description) -> Model:
    torch.manual_seed(0)
    model = Model(description)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module", params=["samba", "full attention and Mamba-2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.set_num_threads(1)
    if request.param == "samba":
        return load_checkpoint(make_checkpoint(tmp_path_factory.mktemp("samba"), window=64))
    mixers = (Mamba2Spec(4, 8, 8, 2, 4, 1e-5), AttentionSpec(4, 2, 8, None, rope_theta=1e4))
    layers = tuple(LayerSpec(mixer, MLPSpec(32)) for mixer in mixers)
    return random_model(Description(288, 16, layers, 1e-5, True))


@pytest.fixture(params=["base", "chatml", "jamba"])
def dialect(request: pytest.FixtureRequest, tmp_path: Path) -> Dialect:
    folder = write_foreign(tmp_path, request.param)
    if request.param == "chatml":
        (folder / "chat_template.jinja").write_text(LONG_SYSTEM)  # goes before the configuration
    return dialect_of(Tokenizer.load(folder))


@pytest.fixture(params=["one batch", "few tokens", "few bytes"])
def bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "few tokens":
        monkeypatch.setattr(scoring, "_BATCH_TOKENS", {"cpu": 300})
    if request.param == "few bytes":
        monkeypatch.setattr(scoring, "_BATCH_BYTES", {"cpu": 1})
    yield


def whole(question: str, text: str, model: Model, dialect: Dialect) -> list[float]:
    """The definition: one row from the start, every position's softmax."""
    asked = dialect.question(question)
    row = dialect.likelihood(text) + asked
    with torch.inference_mode():
        found = model(torch.tensor([row]), model.initial_state())[0].log_softmax(-1)
    at = len(row) - len(asked) - 1
    return [float(found[at + i, token]) for i, token in enumerate(asked)]


@pytest.mark.usefixtures("bounds")
def test_rows_in_batches_equal_whole_rows_alone(model: Model, dialect: Dialect) -> None:
    together = token_likelihoods("Who pays?", TEXTS, model, dialect)
    assert together.shape == (len(TEXTS), len("Who pays?") + (dialect.kind == "plain"))
    for text, values in zip(TEXTS, together.tolist(), strict=True):
        assert values == pytest.approx(whole("Who pays?", text, model, dialect), abs=2e-4)
    assert len({round(x, 4) for x in together.sum(-1).tolist()}) == len(TEXTS)
    backwards = token_likelihoods("Who pays?", TEXTS[::-1], model, dialect)
    assert torch.allclose(together, backwards.flip(0), atol=2e-4)


def test_a_shared_beginning_is_read_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[7] * 40 + [9, n] + [3] * n for n in range(4)]
    read: list[tuple[int, int]] = []
    forward = Model.forward

    def counted(self: Model, tokens: torch.Tensor, *rest, **more) -> torch.Tensor:  # type: ignore[no-untyped-def]
        read.append((tokens.shape[0], tokens.shape[1]))
        return forward(self, tokens, *rest, **more)

    monkeypatch.setattr(Model, "forward", counted)
    [(numbers, shared)] = list(last_logits(rows, 2, model))
    assert read == [(1, 40), (4, 5)]  # of the two tokens asked about, 9 stays in the rows
    monkeypatch.setattr(scoring, "_WORTH_SHARING", {"cpu": 10**9})
    [(again, unshared)] = list(last_logits(rows, 2, model))
    assert numbers == again == [0, 1, 2, 3] and torch.allclose(shared, unshared, atol=2e-4)
    assert read[2:] == [(4, 45)]
    # equal rows share all but what is asked about
    monkeypatch.setattr(scoring, "_WORTH_SHARING", {"cpu": 1})
    [(_, same)] = list(last_logits([rows[0]] * 50, 1, model))
    assert read[3:] == [(1, 41), (50, 1)]
    assert torch.allclose(same[0], same[-1], atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 400), max_size=12), st.integers(0, 4), st.integers(200, 10**7))
def test_batches_hold_every_row_once_within_bounds(
    lengths: list[int], mixer: int, most: int
) -> None:
    kinds = (Mamba2Spec(4, 8, 8, 2, 4, 1e-5), AttentionSpec(4, 2, 8, None))
    description = Description(288, 16, (LayerSpec(kinds[mixer % 2]),), 1e-5, True)
    model = Model(description)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_BATCH_BYTES", {"cpu": most})
        patch.setattr(scoring, "_BATCH_TOKENS", {"cpu": 500})
        batches = scoring._batches(lengths, 3, 1, model)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        width = max(lengths[row] for row in batch)
        one = scoring._row_bytes(description, width, 3, 1, 4)
        fits = len(batch) * width <= 500 and len(batch) * one <= most
        assert fits or len(batch) == 1


def test_bounds_count_what_a_row_holds() -> None:
    small = Description(100, 16, (LayerSpec(AttentionSpec(4, 2, 8, None)),), 1e-5, True)
    long = scoring._row_bytes(small, 2000, 0, 1, 2) - scoring._row_bytes(small, 1000, 0, 1, 2)
    assert long >= 1000 * small.state_bytes(2)[1] > 0  # keys and values of every token
    deep = Description(100, 16, (LayerSpec(Mamba2Spec(64, 64, 128, 1, 4, 1e-5)),), 1e-5, True)
    assert scoring._row_bytes(deep, 10, 0, 1, 2) >= 2 * 64 * 64 * 128 * 4  # the state, old and new


def test_questions_that_are_nothing_and_rows_that_are_too_short(
    model: Model, dialect: Dialect, tmp_path: Path
) -> None:
    asked = len(dialect.question(""))
    assert token_likelihoods("", ["a", "b"], model, dialect).shape == (2, asked)
    assert token_likelihoods("q", [], model, dialect).shape[0] == 0
    assert list(last_logits([], 1, model)) == []
    with pytest.raises(ValueError, match="at least 2 tokens"):
        list(last_logits([[1]], 2, model))
    if dialect.kind == "plain":
        (tmp_path / "likelihood.plain.txt").write_text("$passage")
        bare = dialect_of(dialect.tokenizer, tmp_path)
        assert token_likelihoods("q", [""], model, bare).isfinite().all()
