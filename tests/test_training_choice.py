"""What is learnt about choosing: figures by set, and each set with the weights of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from samba_cli.choosing import Weights
from samba_cli.model import Tokenizer, load_checkpoint
from training import learn_choice
from training.learn_choice import Example, Option, chosen, crossed, examples, mean, report
from training.observe import SHOWN, Observer
from training.shards import write_shard

TEXT = "The mill was built in 1884 by Anna Reed.\n\nIt ground barley until the flood. " * 3
RECORDS = [
    {"id": "a", "task": "qa", "question": "Who built the mill?", "answer": "Anna Reed",
     "answers": ["Reed"], "answerable": True},
    {"id": "b", "task": "qa", "question": "Who sold the mill?", "answer": "", "answerable": False},
]  # fmt: skip


def example(name: str, *options: tuple[float, float, float]) -> Example:
    """Options of (said, explained, F1); the first is greedy."""
    return Example(name, 5, [Option(s, 2, e, i == 0, f) for i, (s, e, f) in enumerate(options)])


def test_each_set_takes_the_weights_of_the_others() -> None:
    rows = [
        example("explained", (-1.0, -9.0, 0.0), (-2.0, -5.0, 1.0)),
        example("likely", (-1.0, -9.0, 1.0), (-2.0, -5.0, 0.0)),
        example("likely", (-1.0, -9.0, 0.5), (-2.0, -5.0, 0.5)),
        example("silent"),
    ]
    assert [chosen(row, Weights(0.0)) for row in rows] == [0.0, 1.0, 0.5, 0.0]
    assert [chosen(row, Weights(1.0)) for row in rows] == [1.0, 0.0, 0.5, 0.0]
    lines = list(report(rows))
    assert lines[0] == {
        "chosen": "greedy", "mean": 25.0, "sets": {"explained": 0.0, "likely": 75.0, "silent": 0.0},
    }  # fmt: skip
    assert lines[2]["chosen"] == "oracle" and lines[2]["mean"] == pytest.approx(58.33)
    assert len(lines) == 3 + len(learn_choice.GRID) + 1
    # what is best for the one is worst for the other
    assert lines[-1]["sets"] == {"explained": 0.0, "likely": 25.0, "silent": 0.0}
    assert mean({}) == 0.0 and mean({"a": 1.0}, without="a") == 0.0
    grid = [(Weights(0.0), {"a": 0.2, "b": 0.6}), (Weights(1.0), {"a": 0.4, "b": 0.5})]
    assert crossed(grid) == {"a": (Weights(0.0), 0.2), "b": (Weights(1.0), 0.5)}


def test_what_is_seen_of_a_document_is_what_is_learnt_from(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    observer = Observer(load_checkpoint(tiny_checkpoint), Tokenizer.load(tiny_checkpoint), [1, 2])
    seen = observer.document(TEXT, RECORDS)
    assert [one["id"] for one in seen["questions"]] == ["a", "b"]
    for one in seen["questions"]:
        assert [key for key, _ in one["about"]] == [key for key, _ in one["nothing"]]
        assert 0 < len(one["about"]) <= SHOWN and all(value < 0 for _, value in one["about"])
        assert one["question_tokens"] == len(observer.dialect.question("Who built the mill?")) - (
            one["id"] == "b"
        )
        for count in ("1", "2"):
            greedy = [c[0] for c in one["candidates"][count] if c[-1]]
            assert greedy == [one["answers"][count]]
    document = {"set": "mills", "text": TEXT, "records": RECORDS}
    write_shard(tmp_path / "tasks-0.jsonl", [{**seen, "set": "mills", "kept_back": True}])
    found = list(examples([document], [tmp_path / "tasks-0.jsonl"]))
    assert [(count, one.set) for count, one in found] == [(1, "mills"), (2, "mills")]  # of "a"
    assert all(option.said < 0 and option.explained < 0 for _, e in found for option in e.options)
    assert [line["chosen"] for line in report([e for _, e in found]) if "chosen" in line] == [
        "greedy", "likeliest", "oracle", "cross",
    ]  # fmt: skip
    assert list(examples([], [tmp_path / "tasks-0.jsonl"])) == []
