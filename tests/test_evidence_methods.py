"""The measurement of evidence methods: what it orders and counts, on a document of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import make_checkpoint
from foreign import write_foreign

from benchmarks.evidence_methods import (
    auc,
    chunk_values,
    chunks,
    measured,
    orders,
    recall,
    standardised,
    table,
)
from samba_cli.dialect import dialect_of
from samba_cli.index import PassageIndex
from samba_cli.model import Tokenizer, load_checkpoint
from training.calibrate import indexed

TEXT = "\n\n".join(f"Part {n}. " + f"Nothing of note happens in room {n}. " * 20 for n in range(9))
TEXT += "\n\nThe notice period is three months for both parties."
GOLD = [TEXT.index("three"), TEXT.index("three") + 12]


@pytest.fixture
def index(tiny_checkpoint: Path) -> PassageIndex:
    return indexed(TEXT, Path(":memory:"), Tokenizer.load(tiny_checkpoint))


@pytest.mark.parametrize("maker", ["base", "chatml"])
def test_every_method_orders_what_it_measured(
    index: PassageIndex, tmp_path: Path, maker: str
) -> None:
    torch.set_num_threads(1)
    folder = write_foreign(make_checkpoint(tmp_path / "model"), maker)
    asked = load_checkpoint(folder), dialect_of(Tokenizer.load(folder))
    row = measured("What is the notice period?", [GOLD], index, 4, asked, oprm=True)
    row = json.loads(json.dumps({**row, "set": "own", "answerable": True, "marks": [0, 1, 2, 3]}))
    everything = [one.id for one in index.iterate()]
    assert [i for group in row["chunks"] for i in group] == everything
    found = orders(row)
    assert recall(row, found["bm25"]) == [100, 100, 100]
    for name, order in found.items():
        over = everything if name in ("OPRM, entropy", "OPRM, likelihood") else row["candidates"]
        assert sorted(order) == sorted(over)
    assert found["marks"][0] == row["candidates"][3]
    result = table([row, {**row, "answerable": False}])
    assert result["recall"]["bm25"]["own"] == [100, 100, 100]
    assert set(result["tells answerable (AUC)"].values()) == {0.5}


def test_words_alone_need_no_model(index: PassageIndex) -> None:
    row = measured("What is the notice period?", [GOLD], index, 4, None, oprm=True)
    assert max(row["coverage"]) == 1.0 and list(orders(row)) == ["bm25"]


def test_chunks_hold_whole_passages_up_to_their_size(index: PassageIndex) -> None:
    passages = list(index.iterate())
    groups = chunks(passages)
    assert [one for group in groups for one in group] == passages
    sizes = [sum(one.tokens for one in group) for group in groups]
    assert all(s <= 1000 or len(g) == 1 for s, g in zip(sizes, groups, strict=True))
    assert all(s + g[0].tokens > 1000 for s, g in zip(sizes, groups[1:], strict=False))


def test_chunks_that_refuse_come_last() -> None:
    row = {
        "chunk_entropy": [3.0, 1.0, 2.0], "chunk_likelihood": [-1.0, -5.0, -2.0],
        "chunk_refuses": [True, False, False],
    }  # fmt: skip
    assert chunk_values(row) == {"entropy": [-4.0, -1.0, -2.0], "likelihood": [-6.0, -5.0, -2.0]}
    assert auc([2.0, 1.0], [1.0]) == 0.75 and auc([], [1.0]) is None


def test_standardised_values() -> None:
    assert standardised([1.0, 3.0]) == pytest.approx([-1, 1], abs=1e-5)
    assert standardised([2.0, 2.0]) == [0.0, 0.0] and standardised([]) == []
