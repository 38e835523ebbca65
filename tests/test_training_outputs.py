"""The page of real outputs: its sources, how it is made, and the marks it gives."""

import json
import sys
from pathlib import Path

from training import outputs
from training.output_page import is_cited, page
from training.output_page import is_right as answer_is_right
from training.output_sources import Asked, Place, fetch, read_list


def test_every_source_has_its_questions_and_none_was_trained_on():
    rule, sources = read_list()
    assert rule and len(sources) == 10 and len({source.name for source in sources}) == 10
    trained = Path(outputs.__file__).with_name("code_packages.json")
    packages = {
        one["name"].lower() for one in json.loads(trained.read_text()) if one["split"] == "train"
    }
    for number, source in enumerate(sources, 1):
        assert bool(source.debian) != bool(source.pypi) and source.pypi not in packages
        assert len(source.questions) == len(source.about) == 3 and len(source.sha256) == 64
        silent = [asked.answer is None for asked in source.questions]
        assert silent == [False, False, number % 2 == 0]
        assert all(asked.places for asked in source.questions if asked.answer)


def answered(text: str, **place: int | str | None) -> dict:
    where = {"document": "a/src/x.py", "page_start": None, "page_end": None, "line_start": None,
             "line_end": None} | place  # fmt: skip
    return {"text": text, "found": bool(text), "evidence": [where]}


def test_marks_are_given_by_the_expected_words_and_places():
    asked = Asked("?", (("20",), ("=no",)), (Place(page=3), Place(file="x.py", first=5, last=9)))
    assert answer_is_right(answered("It is 20."), asked) and answer_is_right(answered("No."), asked)
    assert not answer_is_right(answered("It is 200."), asked)
    assert not answer_is_right(answered("no idea"), asked)
    assert not answer_is_right(answered(""), asked)
    silent = Asked("?", None, ())
    assert answer_is_right(answered(""), silent) and not answer_is_right(answered("20"), silent)
    assert is_cited(answered("", page_start=2, page_end=3), asked)
    assert is_cited(answered("", line_start=9, line_end=12), asked)
    assert not is_cited(answered("", line_start=10, line_end=12), asked)
    assert not is_cited(answered("", document="src/xx.py", line_start=5, line_end=6), asked)


def test_a_source_is_run_as_the_program_does_and_the_page_marks_it(home, tmp_path, monkeypatch):
    monkeypatch.delenv("SAMBA_MODEL")
    (tmp_path / "sources").mkdir()
    text = "# The lease\n\nThe notice period is thirty days.\n\nAnna Kraus signed it in Leipzig.\n"
    (tmp_path / "sources" / "lease.md").write_text(text)
    places = [{"file": "lease.md", "first": 3, "last": 3}]
    asked = [{"question": "How long is the notice period?", "answer": [["thirty"]],
              "places": places}]  # fmt: skip
    listed = {"rule": ["the only one"], "sources": [
        {"name": "lease.md", "kind": "repository", "title": "A lease", "sha256": "",
         "pypi": "lease", "version": "1", "questions": asked,
         "about": [["notice"], ["Anna"], ["elephant"]]}]}  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps(listed))
    common = ["--list", str(tmp_path / "list.json")]
    monkeypatch.setattr(sys, "argv", ["outputs", "run", *common, "--sources", "sources", "--out",
        "results.json", "--device", "cpu"])  # fmt: skip
    outputs.main()
    monkeypatch.setattr(sys, "argv", ["outputs", "page", *common, "--results", "results.json",
        "--out", "page.md"])  # fmt: skip
    outputs.main()
    written = (tmp_path / "page.md").read_text()
    assert "Of 1 questions that the text answers, 1 were answered rightly" in written
    assert "✓ right" in written and "lease.md:3-3; shown" in written
    assert "elephant" in written and "read 1 of 1 file" in written
    rule, sources = read_list(tmp_path / "list.json")
    results = json.loads((tmp_path / "results.json").read_text())
    said = results[0]["answers"][0]["text"]
    remarked = page(rule, sources, results, {said: "it is about another lease"})
    assert "1 were answered rightly" not in remarked and "another lease" in remarked


def test_what_is_there_is_not_fetched_again(tmp_path):
    _, sources = read_list()
    for source in sources:
        (tmp_path / source.name).mkdir()
    assert all(line.endswith("there already") for line in fetch(sources, tmp_path))
