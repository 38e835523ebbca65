"""Many questions: where they come from, and that each gets its answer, in order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli import QUESTION, run

pytestmark = pytest.mark.usefixtures("home")
SECOND, THIRD = "Who signed the contract?", "Where was it signed?"


def asked(*arguments: object, stdin: bytes = b"") -> list[str]:
    result = run("ask", *arguments, "--json", stdin=stdin)
    assert result.code == 0, result.stderr
    return [answer["question"] for answer in result.json["answers"]]


def test_questions_come_in_order_from_everywhere(home: Path) -> None:
    (home / "more.txt").write_text(f"\ufeff{SECOND}\n\n  {THIRD}  \n", encoding="utf-8")
    every = [QUESTION, SECOND, THIRD]
    assert asked(QUESTION, "contract.txt", "--questions", "more.txt") == every
    assert asked("contract.txt", "-q", QUESTION, "--questions", "more.txt") == every
    assert asked("--questions", "more.txt", "contract.txt") == every[1:]
    assert asked("contract.txt", "-q", SECOND, "-q", THIRD) == every[1:]
    piped = (home / "more.txt").read_bytes()
    assert asked("contract.txt", "--questions", "-", stdin=piped) == every[1:]
    text = (home / "contract.txt").read_bytes()
    assert asked("-", "--questions", "more.txt", stdin=text) == every[1:]
    assert asked("--questions", "more.txt", stdin=text) == every[1:]
    assert run("read", "contract.txt", "--as", "lease").code == 0
    assert asked("--memory", "lease", "-q", SECOND) == [SECOND]
    assert asked("--memory", "lease", "--questions", "more.txt") == every[1:]


def test_questions_may_be_json(home: Path) -> None:
    (home / "array.json").write_text(json.dumps([QUESTION, {"question": SECOND, "id": 7}]))
    (home / "lines.jsonl").write_text(json.dumps({"question": QUESTION}) + f"\n{SECOND}\n")
    for name in ("array.json", "lines.jsonl"):
        assert asked("contract.txt", "--questions", name) == [QUESTION, SECOND]


def test_one_line_of_json_for_each_answer(home: Path) -> None:
    arguments = ("ask", QUESTION, "contract.txt", "-q", SECOND)
    whole = run(*arguments, "--json").json["answers"]
    lines = run(*arguments, "--jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [{"samba": 1, **answer} for answer in whole]
    assert run(*arguments, "--jsonl", "-o", "out.jsonl").stdout == ""
    assert (home / "out.jsonl").read_text().splitlines() == lines


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("contract.txt", "--questions", "absent.txt"), "cannot read the questions in absent.txt"),
        (("contract.txt", "--questions", "empty.txt"), "there are no questions in empty.txt"),
        (("contract.txt", "--questions", "latin.txt"), "not UTF-8"),
        (("contract.txt", "--questions", "broken.json"), "begins like a JSON array"),
        (("contract.txt", "--questions", "broken.jsonl"), "line 2 of broken.jsonl begins like"),
        (("contract.txt", "--questions", "other.jsonl"), "line 1 of other.jsonl holds no question"),
        (("--questions", "-"), "standard input holds the questions"),
        (("-", "--questions", "-"), "standard input cannot be both a document and"),
        (("--questions", "-", "--files-from", "-"), "standard input cannot be both the list"),
        (("contract.txt", "-q", " "), "a question is empty"),
        ((QUESTION, "contract.txt", "--json", "--jsonl"), "choose one"),
        (("contract.txt",), "is a file or folder, not a question"),
        ((), "ask what?"),
    ],
)
def test_what_cannot_be_asked_is_said(home: Path, arguments: tuple[str, ...], said: str) -> None:
    (home / "empty.txt").write_text("\n\n")
    (home / "latin.txt").write_bytes(b"K\xfcndigung?\n")
    (home / "broken.json").write_text('["one", ')
    (home / "broken.jsonl").write_text('Who?\n{"question": \n')
    (home / "other.jsonl").write_text('{"text": "Who?"}\n')
    result = run("ask", *arguments)
    assert result.code == 2 and said in result.sentence
