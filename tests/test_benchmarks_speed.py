"""The speed benchmark on toy sizes without a GPU: it runs, and what it says of a time is right."""

import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed import (
    batch,
    markdown,
    models,
    peer_mixer,
    plot,
    result,
    show,
    text,
    worker,
)
from benchmarks.speed import reading as reading_part
from benchmarks.speed.attention import Shape
from benchmarks.speed.result import Measured
from benchmarks.speed.rows import Row, Setting
from samba_cli.model.mamba import Mamba

ROOT = Path(__file__).parent.parent
times = st.floats(1e-3, 1e6)


# All but `cpu`, which only starts benchmarks.reading and has no small size.
@pytest.mark.parametrize("part", [part for part in worker.PARTS if part != "cpu"])
def test_every_part_runs(part):
    how = Setting("cpu", tiny=True, deadline=time.monotonic() + 500)
    rows = list(import_module(f"benchmarks.speed.{worker.PARTS[part][0]}").measure(how))
    assert rows
    for row in rows:
        assert row.ours is not None and row.ours > 0
        assert row.error is None or row.error < 1e-4
        assert Row.from_json(json.loads(json.dumps(row.as_json()))) == row
    if part in ("scan", "ssd", "conv", "training"):
        assert any("ModuleNotFoundError" in row.note for row in rows), "a missing peer is told"
    if part in ("reading", "decoding", "batch"):
        assert all(row.peers for row in rows), [row.note for row in rows]
    assert markdown.render({part: Measured(rows)}).count("\n| ") >= len(rows)


@given(times, times)
def test_a_ratio_above_one_means_faster(ours, theirs):
    for row, faster in (
        (Row("x", "", ours, "ms", {"peer": theirs}), ours < theirs),
        (Row("x", "", ours, "tokens/s", {"peer": theirs}), ours > theirs),
    ):
        assert row.ratio is not None and (row.ratio > 1) == faster


def test_the_fastest_peer_counts():
    assert Row("x", "", 1.0, "ms", {"a": 3.0, "b": 2.0}).ratio == 2.0
    assert Row("x", "", 6.0, "tokens/s", {"a": 3.0, "b": 2.0}).ratio == 2.0
    assert Row("x", "", None, "ms", {"a": 3.0}).ratio is None


def test_later_results_count_unless_they_are_empty():
    first, second = Measured([Row("old", "", 1.0, "ms")]), Measured([Row("new", "", 2.0, "ms")])
    failed = Measured(problem="no device")
    assert result.merge([{"scan": first}, {"scan": second}])["scan"] is second
    assert result.merge([{"scan": first}, {"scan": failed}])["scan"] is first
    assert result.merge([{"scan": failed}, {"conv": first}]) == {"scan": failed, "conv": first}


def test_a_result_is_read_as_it_was_written(tmp_path):
    row = Row("x", "1 x 2", 1.5, "ms", {"a": 3.0}, 1.2, {"bytes": 0.5}, 1e-3, {"tokens": 7}, "n")
    written = {"scan": Measured([row], "", 2.0, {"commit": "abc"})}
    result.save(written, tmp_path / "r.json")
    assert result.load(tmp_path / "r.json") == written
    (tmp_path / "other.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="not a result"):
        result.load(tmp_path / "other.json")


def test_a_part_that_fails_says_why_and_keeps_its_rows(tmp_path, monkeypatch):
    monkeypatch.setitem(worker.PARTS, "broken", ("no_such_module", 1))
    out = tmp_path / "rows"
    out.write_text(json.dumps({"row": Row("x", "", 1.0, "ms").as_json()}) + "\n")
    with pytest.raises(SystemExit):
        worker.work("broken", "cpu", True, 9.0, "abc", out)
    with open(out, "a") as file:
        file.write('{"row": {"wh')  # killed in the middle of a line
    measured = worker._taken(out, "the process ended with code 1", 1.0)
    assert [row.what for row in measured.rows] == ["x"]
    assert measured.problem.startswith("ModuleNotFoundError")
    assert measured.environment["commit"] == "abc"


def test_a_part_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(worker, "GRACE", 0.0)
    measured = worker.measure("scan", "cpu", True, 0.05, None)  # Python starts in no less
    assert measured.rows == [] and measured.problem == "not done within 0 s"


def test_a_merge_of_nothing_is_refused(tmp_path):
    command = [sys.executable, "-m", "benchmarks.speed", "--merge", str(tmp_path / "none.json")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "none.json" in run.stderr and "Traceback" not in run.stderr


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 40))
def test_the_band_is_counted_right(length, past, window):
    counted = sum(
        past + query >= key > past + query - window
        for query in range(length)
        for key in range(past + length)
    )
    assert Shape(1, length, past, 1, 1, 8, window).pairs == counted


@given(times, times)
def test_readings_are_extrapolated_by_a_parabola(a, b):
    parabola = {n: a * n + b * n * n for n in (4, 8, 32)}
    assert reading_part._extrapolated(dict(list(parabola.items())[:2]), 32) == pytest.approx(
        parabola[32]
    )


def test_generating_integrates_the_time_of_the_steps():
    assert batch.generating({10: 5.0, 20: 5.0, 90: 5.0}, 2) == pytest.approx(5.0)
    # 2 rows, 1 s a step up to a depth of 10, then rising to 3 s at 20: 10 + 20 s for 40 tokens
    assert batch.generating({10: 2.0, 20: 2 / 3}, 2) == pytest.approx(40 / 30)


def test_the_text_comes_from_its_seed(tmp_path):
    names = text.write(tmp_path / "a", 5000)
    text.write(tmp_path / "b", 5000)
    text.write(tmp_path / "c", 5000, seed=1)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c and 5000 <= len(a) < 8000 and a.isascii()
    assert any(name.encode() in a for name in names)


def readings() -> result.Result:
    """As on a GPU, with made-up figures."""
    rows = [
        Row(
            "reading", f"{n} tokens", 100.0, "tokens/s",
            {f"transformers, compiled{', extrapolated' if n > 1 << 17 else ''}": 50.0},
            facts={"tokens": n, "peak GB": 4.0, "peak GB of the transformer": n / 1e5},
            headline=n == 1 << 17,
        )
        for n in (1 << 16, 1 << 17, 1 << 18)
    ]  # fmt: skip
    where = {"device": "GPU", "date": "2026-01-31 10:00 UTC", "commit": "abc"}
    return {"reading": Measured(rows, environment=where)}


def test_the_plot_depends_on_the_result_alone(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        plot.draw(readings(), tmp_path / name)
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    assert "extrapolated" in drawn and len(drawn) < 40_000
    with pytest.raises(ValueError, match="no readings"):
        plot.draw({}, tmp_path / "c.svg")


def test_readme_has_a_place_for_the_result():
    new = show.section(readings(), "benchmarks/results/r.md")
    assert "**2.00**" in new and "GPU, 2026-01-31, commit abc (reading)" in new
    changed = show.replaced((ROOT / "README.md").read_text(), new)
    assert changed.count(new) == 1 and show.replaced(changed, new) == changed
    with pytest.raises(ValueError, match="once each"):
        show.replaced("no marks", new)


@torch.no_grad()
def test_a_peer_takes_the_place_of_our_mixer():
    model = models.samba(Setting("cpu", True, time.monotonic() + 60))
    tokens = torch.arange(20)[None]
    ours, seen = model(tokens, model.initial_state()), []

    def forward(mixer, x, state, rotation):
        seen.append(mixer)
        return torch.zeros_like(x)

    with peer_mixer.mixing(forward):
        assert not torch.equal(model(tokens, model.initial_state()), ours)
        assert len(seen) == sum(isinstance(layer.mixer, Mamba) for layer in model.backbone.layers)
    assert torch.equal(model(tokens, model.initial_state()), ours)
