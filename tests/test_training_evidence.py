"""The evidence about the default model: what is hidden, asked, counted and drawn."""

import json
import random
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.model import Tokenizer, checkpoint, default_model_path, load_checkpoint
from training import evidence, passkey, positions
from training.filler import Filler
from training.needles import hide, is_right, needles
from training.shards import write_shard

WORDS = ["river", "stone", "lantern", "market", "winter", "harbour", "letter", "garden"]


def sentences(count: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(
        " ".join(draw.choices(WORDS, k=8)).capitalize() + "." for _ in range(count)
    )  # fmt: skip


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """Some processors read in bfloat16, whose rounding is larger than what is compared here."""
    monkeypatch.setattr(checkpoint, "reading_dtype", lambda device: torch.float32)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(default_model_path())


@pytest.fixture(scope="module")
def heldout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heldout") / "heldout.jsonl"
    kinds = ("book", "paper")
    write_shard(
        path,
        ({"kind": kinds[i % 2], "title": f"Text {i}", "text": sentences(20, i)} for i in range(8)),
    )
    return path


# What is hidden


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_hidden_facts_stand_once_and_leave_the_text_as_it_was(seed, depths):
    facts = needles(len(depths), seed)
    text = sentences(30, seed)
    hidden = hide(text, facts, depths, seed)
    assert all(hidden.count(fact.said) == 1 for fact in facts)
    order = sorted(range(len(facts)), key=lambda i: depths[i])
    places = [hidden.index(facts[i].said) for i in order]
    assert places == sorted(places)
    for fact in facts:
        hidden = hidden.replace(fact.said, "")
    assert hidden.split() == text.split()


def test_depths_are_kept():
    text = sentences(200, 0)
    facts = needles(3, 1)
    hidden = hide(text, facts, (0, 0.5, 1), 2)
    assert hidden.startswith(facts[0].said)
    assert hidden.rstrip().endswith(facts[2].said)
    assert abs(hidden.index(facts[1].said) / len(hidden) - 0.5) < 0.05


def test_keys_and_numbers_differ_and_only_the_number_asked_for_is_right():
    facts = needles(10, 3)
    assert len({fact.number for fact in facts}) == 10
    assert all(fact.number in fact.said and fact.number not in fact.question for fact in facts)
    one, other = facts[:2]
    assert is_right(one.said, one) and is_right(f"{int(one.number):,}.", one)
    assert not is_right(f"{one.number} or {other.number}", one)
    assert not is_right(one.number[:-1], one) and not is_right("", one)
    with pytest.raises(ValueError, match="ten|10"):
        needles(11, 0)


def test_filler_has_the_length_asked_for_and_repeats_nothing(heldout, tokenizer):
    filler = Filler(heldout, tokenizer)
    short, long = filler.text(200, 5), filler.text(700, 5)
    assert long.startswith(short[:-10]) and filler.text(200, 6) != short
    assert abs(len(tokenizer.encode(long)) - 700) < 30
    parts = long.split("\n\n")
    assert len(parts) > 1 and len(set(parts)) == len(parts)
    with pytest.raises(ValueError, match="tokens of text"):
        filler.text(filler.tokens + 1, 0)
    with pytest.raises(ValueError, match="no document of law"):
        Filler(heldout, tokenizer, ["law"])


# Passkeys


def test_a_planted_row_has_its_length_and_the_fact_at_its_depth(heldout):
    test = passkey.Passkey(default_model_path(), "cpu", heldout, [256])
    stream, ends = test._stream(256, 0)
    fact = needles(1, 0)[0]
    for depth in (0, 0.4, 1):
        row = test._planted(stream, ends, fact, depth, 256)
        text = test.tokenizer.decode(row)
        assert len(row) == 256 and text.count(fact.said) == 1
    assert text.rstrip().endswith(fact.said)
    states = list(test._read([row, row]))
    alone = test.model.initial_state()
    with torch.inference_mode():
        test.model(torch.tensor([list(row)]), alone, at=torch.empty(0, dtype=torch.long))
    for name, tensor in alone.tensors().items():
        assert torch.allclose(states[1].tensors()[name], tensor, rtol=1e-3, atol=1e-3), name


def test_passkeys_are_read_asked_and_counted(heldout, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(passkey, "DEPTHS", (0.0, 1.0))
    out = tmp_path / "passkey.json"
    monkeypatch.setattr(sys, "argv", ["passkey", "--text", str(heldout), "--out", str(out),
        "--device", "cpu", "--lengths", "300", "--seeds", "0", "1"])  # fmt: skip
    passkey.main()
    report = json.loads(out.read_text())
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for test, line in zip(passkey.TESTS, printed, strict=True):
        assert report[test]["asked"] == [[1, 1]]
        right = sum(report[test]["right"][0])
        assert len(report[test]["wrong"]) == 2 - right and line["300"] == f"{right}/2"


def test_only_right_answers_count_and_wrong_ones_are_kept():
    table, (one, other) = passkey.Table([400, 800]), needles(2, 0)
    table.count(800, 3, one, one.number, first=True)
    table.count(800, 3, one, other.said)
    table.count(400, 0, other, "")
    assert (table.right[1][3], table.asked[1][3], table.first[1][3]) == (1, 2, 1)
    assert (sum(table.right[0]), sum(table.asked[0])) == (0, 1)
    assert [wrong["said"] for wrong in table.wrong] == [other.said, ""]


def test_without_time_nothing_is_asked_and_it_says_so(heldout):
    test = passkey.Passkey(default_model_path(), "cpu", heldout, [400])
    saved: list[dict] = []
    found = passkey.run(test, "one", range(3), -1.0, saved.append)
    assert found["left_out"] == 3 * len(passkey.DEPTHS) and sum(map(sum, found["asked"])) == 0
    assert saved == [found]


# Positions


def test_bytes_of_tokens_are_those_of_the_text(heldout, tokenizer):
    sizes = positions.token_bytes(default_model_path(), 16384)
    for text in (sentences(3, 0), "naïve café – 東京 🙂\n\tx"):
        assert int(sizes[torch.tensor(tokenizer.encode(text))].sum()) == len(text.encode())
    assert int(sizes[tokenizer.control["<|end|>"]]) == 0


def test_losses_do_not_depend_on_the_chunks_and_the_control_is_a_fresh_state(
    heldout, tokenizer, monkeypatch
):
    monkeypatch.setattr(positions, "SPAN", 32)
    model = load_checkpoint(default_model_path(), "cpu")
    filler = Filler(heldout, tokenizer)
    tokens = positions.stretch(filler, 160, 0)
    assert len(tokens) == 161
    carried = positions.nats(model, tokens[None], 37)[0]
    assert torch.allclose(carried, positions.nats(model, tokens[None], 160)[0], atol=1e-3)
    fresh = positions.control(model, tokens, 64, 2)
    assert torch.allclose(fresh[:64], carried[:64], atol=1e-3)
    row = positions.nats(model, tokens[None, 96:161], 64)[0]
    assert torch.allclose(fresh[128:], row[32:], atol=1e-3)
    assert len(fresh) == len(carried)


def test_positions_run_through(heldout, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(positions, "SPAN", 64)
    out = tmp_path / "positions.json"
    monkeypatch.setattr(sys, "argv", ["positions", "--text", str(heldout), "--out", str(out),
        "--device", "cpu", "--length", "256", "--orders", "2",
        "--kinds", "book,paper"])  # fmt: skip
    positions.main()
    part = json.loads(out.read_text())["kinds"]["book,paper"]
    assert part["orders"] == 2 and part["tokens"] == 256
    assert [row["to"] for row in part["doublings"]] == [64, 128, 256]
    assert part["doublings"][0]["carried"] == part["doublings"][0]["control"]
    assert sum(row["bytes"] for row in part["curve"]) == sum(
        row["bytes"] for row in part["doublings"]
    )


# Tables and pictures


def passkeys(seed: int) -> dict:
    part = {"lengths": [4096, 1048576], "depths": [0.0, 1.0], "seeds": [seed], "seconds": 1.5,
            "left_out": 0, "wrong": [], "right": [[1, 0], [1, 1]], "asked": [[1, 1], [1, 1]],
            "first": [[1, 1], [1, 1]]}  # fmt: skip
    return {"what": "passkey", "model_sha256": "ab" * 32, "device": "CPU", "ten": part}


def test_counts_of_processes_are_added_and_never_twice():
    report = evidence.merged([passkeys(0), passkeys(1)])
    assert report["ten"]["right"] == [[2, 0], [2, 2]]
    assert report["ten"]["asked"] == [[2, 2], [2, 2]] and "state" not in report
    with pytest.raises(ValueError, match="twice"):
        evidence.merged([passkeys(0), passkeys(0)])
    with pytest.raises(ValueError, match="different weights"):
        evidence.merged([passkeys(0), passkeys(1) | {"model_sha256": "cd"}])
    table = evidence.passkey_tables(report)
    assert "| 4K | 100 | 0 | **50** (2/4) |" in table and "| 1M | 100 | 100 |" in table


def test_a_share_is_never_rounded_to_all():
    assert [evidence.share(*pair) for pair in ((999, 1000), (3, 3), (0, 4), (0, 0))] == [
        "99.9", "100", "0", "-"
    ]  # fmt: skip
    assert evidence.share(9_999, 10_000) == ">99.9" and evidence.share(1, 10_000) == "<0.1"


def test_pages_are_filled_and_pictures_drawn(tmp_path, monkeypatch):
    rows = [{"to": to, "bytes": 9, "carried": 1.0, "control": 1.1, "perplexity": 20.0}
            for to in (4096, 8192)]  # fmt: skip
    kind = {"documents": 2, "tokens": 8192, "orders": 1, "doublings": rows, "curve": rows}
    inputs = {"p": passkeys(0), "q": {"model_sha256": "ab" * 32, "device": "CPU",
              "kinds": {"book,paper": kind}}}  # fmt: skip
    for name, report in inputs.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    page = tmp_path / "page.md"
    page.write_text(f"Before\n{evidence.BEGIN}\nold\n{evidence.END}\nafter\n")
    monkeypatch.setattr(sys, "argv", ["evidence", "--passkey", f"{tmp_path}/p.json",
        "--positions", f"{tmp_path}/q.json", "--out", f"{tmp_path}/out",
        "--pages", str(page)])  # fmt: skip
    evidence.main()
    text = page.read_text()
    assert text.startswith("Before\n") and text.endswith("after\n") and "old" not in text
    assert "| 4K to 8K | 1.000 (1.100) |" in text and "(out/passkey.svg)" in text
    for name in ("passkey", "positions"):
        assert (tmp_path / "out" / f"{name}.svg").read_text().startswith("<?xml")
    with pytest.raises(ValueError, match="put"):
        evidence.filled("no marks", "text")
