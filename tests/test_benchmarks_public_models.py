"""The benchmark of public models runs through on toy sizes and says what it says it says."""

import json
import sys

import pytest
import torch

from benchmarks import public_models, public_readings
from benchmarks.random_models import CONFIGS, TINY, random_model
from samba_cli.model.architectures import read_architecture

CPU = torch.device("cpu")


def lines_of(monkeypatch, capsys, *arguments: str) -> list[dict]:
    program = ["public_models", "--device", "cpu", "--tiny", *arguments]
    monkeypatch.setattr(sys, "argv", program)
    public_models.main()
    printed = capsys.readouterr().out.splitlines()
    return [json.loads(line) for line in printed if line.startswith("{")]


def test_it_runs_through_beside_transformers(monkeypatch, capsys):
    pytest.importorskip("transformers")
    lines = lines_of(monkeypatch, capsys, "--model", "granite-4.0-h-micro")
    found = {line["what"]: line for line in lines}
    assert found["against transformers, float32"]["relative"] < 1e-5
    assert found["against transformers, bfloat16"]["ok"]
    assert found["pieces of 50, float32"]["relative"] < 1e-5
    assert [line["tokens"] for line in lines if line["what"] == "reading"] == [256, 1024]
    theirs = [line for line in lines if line["what"] == "transformers reading"]
    assert [line["tokens"] for line in theirs] == [64, 256]
    assert found["transformers decoding"]["tokens_per_s"] > 0
    assert not [line for line in lines if "error" in line or "skipped" in line]


def test_a_reading_without_time_goes_on_at_the_end(monkeypatch, capsys):
    lines = lines_of(
        monkeypatch, capsys, "--model", "falcon-mamba-7b", "Bamba-9B-v2", "--seconds", "0",
        "--skip-transformers", "--skip-float32",
    )  # fmt: skip
    stopped = [line for line in lines if line["what"] == "reading, stopped"]
    assert {line["tokens_read"] for line in stopped} == {64}
    deep = [line for line in lines if line["what"] == "reading at depth"]
    assert [line["position"] for line in deep] == [1024, 1024]
    assert {line["tokens_really_read"] for line in deep} == {3 * 64}
    assert [line["state_grown_mb"] for line in deep] == [0, pytest.approx(0.13, abs=0.01)]
    assert all(line["finite"] for line in deep)
    assert not [line for line in lines if "error" in line]


def test_a_wrong_result_is_said(capsys):
    report = public_models.Report()

    def broken() -> None:
        raise ValueError("broken")

    assert not report.attempt("model", "part", 60, broken)
    assert not report.attempt("model", "late", -1, broken)
    assert report.attempt("model", "fine", 60, lambda: None)
    error, late = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert error["error"] == "ValueError: broken"
    assert late["skipped"]
    assert report.wrong == 1


@pytest.mark.parametrize("name", CONFIGS)
def test_random_weights_are_those_of_the_checkpoint_loader(name):
    """In type; and what stays float32 is exact in bfloat16, for transformers to hold it too."""
    model = random_model(
        read_architecture(CONFIGS[name] | TINY[name]).description, CPU, torch.bfloat16
    )
    wide = {n: p for n, p in model.named_parameters() if p.dtype == torch.float32}
    assert any(n.endswith(".A_log") for n in wide) and len(wide) < len(list(model.parameters()))
    assert all(torch.equal(p, p.bfloat16().float()) for p in wide.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_the_products_counted_are_those_of_the_matrices(name):
    description = read_architecture(CONFIGS[name] | TINY[name]).description
    model = random_model(description, CPU, torch.float32)
    matrices = sum(
        p.numel() for n, p in model.backbone.layers.named_parameters() if n.endswith("proj.weight")
    )
    scans = sum(
        m.n_head * (2 * 64 * (m.d_state + m.d_head) + 4 * m.d_head * m.d_state)
        for m in (layer.mixer for layer in description.layers)
        if isinstance(m, public_readings.Mamba2Spec)
    )
    assert public_readings.token_flops(description, 0) == 2 * matrices + scans
