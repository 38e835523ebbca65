"""The commands, as a person or a script uses them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli import QUESTION, run

pytestmark = pytest.mark.usefixtures("home")


def documented_keys(section: str) -> set[str]:
    """The keys that docs/json.md lists in the table of a section."""
    text = (Path(__file__).parent.parent / "docs" / "json.md").read_text()
    table = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert table is not None
    return set(re.findall(r"^\| `(\w+)` \|", table.group(1), re.M))


def test_ask_prints_only_the_answer_on_stdout() -> None:
    result = run("ask", QUESTION, "contract.txt")
    assert result.code == 0
    assert "contract.txt:" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    lines = result.stderr.splitlines()
    assert lines[0].startswith("loading model ")
    assert re.match(r"read 1 of 1 file, \d+ tokens, .* tokens/s, state .*, peak memory", lines[-1])
    quiet = run("ask", QUESTION, "contract.txt", "--quiet")
    assert quiet.stdout == result.stdout
    assert quiet.stderr == ""


def test_colors_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    arguments = ("ask", QUESTION, "contract.txt")
    colored = run(*arguments, terminal="stdout")
    assert "\x1b[36mcontract.txt" in colored.stdout
    assert "\x1b" not in colored.stderr  # each stream is judged by itself
    plain = [run(*arguments, "--no-color", terminal="stdout")]
    monkeypatch.setenv("NO_COLOR", "1")
    plain.append(run(*arguments, terminal="stdout"))
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    plain.append(run(*arguments, terminal="stdout"))
    assert all("\x1b" not in result.stdout for result in plain)


def test_nothing_to_read_on_a_terminal_is_a_usage_error() -> None:
    result = run("summarize", terminal="stdin")
    assert result.code == 2
    assert "samba summarize --help" in result.sentence
    assert run().code == 2
    assert "Examples:" in run().stderr


def test_several_questions_and_standard_input(home: Path) -> None:
    text = (home / "contract.txt").read_bytes()
    piped = run("ask", QUESTION, "-q", "Who signed the contract?", stdin=text)
    assert piped.code == 0
    assert f"> {QUESTION}" in piped.stdout
    assert "> Who signed the contract?" in piped.stdout
    assert run("ask", QUESTION, "-", stdin=text).code == 0
    # A path is given: standard input is left alone.
    result = run("ask", QUESTION, "contract.txt", "--json", stdin=b"Something else.\n")
    assert {e["path"] for a in result.json["answers"] for e in a["evidence"]} == {"contract.txt"}


def test_ask_json_has_the_documented_keys(home: Path) -> None:
    (home / "junk.bin").write_bytes(bytes(range(256)))
    result = run("ask", QUESTION, "contract.txt", "junk.bin", "--json")
    assert result.code == 0
    value = result.json
    assert set(value) == documented_keys("The report") - {"summary"}
    for key in ("model", "state", "coverage", "timing"):
        assert set(value[key]) == documented_keys(f"`{key}`"), key
    answer = value["answers"][0]
    assert set(answer) == documented_keys("`answers`")
    text = (home / "contract.txt").read_text()
    for evidence in answer["evidence"]:
        assert set(evidence) == documented_keys("`evidence`")
        assert text[evidence["char_start"] : evidence["char_end"]] == evidence["quote"]
    assert value["coverage"]["files_skipped"] == [{"path": "junk.bin", "reason": "binary"}]
    assert value["coverage"]["files_read"] == 1
    assert value["coverage"]["truncated"] is False


def test_summarize(home: Path) -> None:
    result = run("summarize", "contract.txt", "--json", "--length", "short")
    assert result.code == 0
    value = result.json
    assert set(value) == documented_keys("The report") - {"answers"}
    assert set(value["summary"]) == documented_keys("`summary`")
    for sentence in value["summary"]["sentences"]:
        assert set(sentence) == documented_keys("`sentences`")
    for style in ("paragraph", "bullets", "sections"):
        result = run("summarize", "contract.txt", "--style", style, "-o", "summary.md")
        assert result.code == 0
        assert result.stdout == ""
        assert (home / "summary.md").read_text().strip()
    assert not list(home.glob(".summary*"))


def test_strict_and_fail_if_absent(home: Path) -> None:
    (home / "junk.bin").write_bytes(bytes(range(256)))
    result = run("ask", QUESTION, "contract.txt", "junk.bin", "--strict", "--verbose")
    assert result.code == 6
    assert result.stdout  # the answer is given all the same
    assert "--strict" in result.sentence
    assert "skipped junk.bin: binary" in result.stderr
    assert "1 of 2 files (1 skipped: 1 binary)" in result.stderr
    result = run(
        "ask", "Which zebra won the lottery?", "contract.txt", "--fail-if-absent", "--json"
    )
    assert result.code == 5
    answer = result.json["answers"][0]
    assert (answer["found"], answer["answer"]) == (False, None)
    assert "does not answer" in result.sentence


def test_dry_run_and_selection(home: Path) -> None:
    folder = home / "project"
    folder.mkdir()
    for name in ("app.py", "notes.md", "data.bin"):
        (folder / name).write_bytes(b"text\n" if name != "data.bin" else bytes(range(256)))
    result = run("read", "project", "--dry-run")
    assert result.code == 0
    assert re.findall(r"project/\S+", result.stdout) == ["project/app.py", "project/notes.md"]
    assert "would read 2 files" in result.stderr
    assert "loading model" not in result.stderr
    result = run("summarize", "project", "--include", "*.py", "--dry-run", "--json")
    assert [file["path"] for file in result.json["files"]] == ["project/app.py"]
    listed = b"project/notes.md\0contract.txt\0"
    result = run("ask", QUESTION, "--files-from", "-", "-0", "-n", stdin=listed)
    assert re.findall(r"\S+\.\w+$", result.stdout, re.M) == ["project/notes.md", "contract.txt"]


def test_a_memory_from_read_to_remove(home: Path) -> None:
    assert "no memories yet" in run("memory", "list").stderr
    result = run("read", "contract.txt", "--as", "lease")
    assert result.code == 0
    assert result.stdout == "lease\n"
    assert "saved as lease" in result.stderr
    again = run("read", "contract.txt", "--as", "lease")
    assert again.code == 2
    assert "--force" in again.sentence
    assert run("read", "contract.txt", "--as", "lease", "--force").code == 0

    answer = run("ask", QUESTION, "--memory", "lease", "--json")
    assert answer.code == 0
    assert answer.json["state"]["reused"] is True
    fresh = run("ask", QUESTION, "contract.txt", "--json")
    assert answer.json["state"]["id"] == fresh.json["state"]["id"]
    assert answer.json["answers"] == fresh.json["answers"]

    (home / "more.txt").write_text("The deposit is 2,700 euros, paid to Ines Vogt.\n")
    assert run("append", "lease", "more.txt").code == 0
    asked = run("ask", "Who gets the deposit?", "--memory", "lease", "--json")
    assert asked.json["state"]["tokens"] > answer.json["state"]["tokens"]
    assert asked.json["answers"][0]["evidence"][0]["path"] == "more.txt"
    assert run("summarize", "--memory", "lease").code == 0

    row = run("memory", "list").stdout.splitlines()[1].split()
    assert (row[0], row[2]) == ("lease", "2")
    listed: list[dict[str, Any]] = run("memory", "list", "--json").json["memories"]
    assert [source["name"] for source in listed[0]["sources"]] == ["contract.txt", "more.txt"]

    (home / "more.txt").write_text("The deposit is 3,000 euros.\n")
    assert "more.txt  " in run("memory", "show", "lease").stdout
    assert "(changed since)" in run("memory", "show", "lease").stdout
    assert "more.txt changed" in run("ask", QUESTION, "--memory", "lease").stderr

    assert run("memory", "remove", "lease").code == 2  # nobody there to confirm it
    assert run("memory", "rm", "lease", "--yes").code == 0
    gone = run("ask", QUESTION, "--memory", "lease")
    assert gone.code == 4
    assert "samba read PATH --as lease" in gone.sentence


def test_memories_that_cannot_be_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from conftest import make_checkpoint

    assert run("read", "contract.txt", "--quiet").stdout == "contract\n"  # named after the file
    other = make_checkpoint(home / "other", seed=1)
    result = run("ask", QUESTION, "--memory", "contract", "--model", other)
    assert result.code == 4
    assert "another model" in result.sentence
    assert "did you mean 'contract'" in run("memory", "show", "contrakt").sentence

    folder = home / ".home" / "data" / "samba-cli" / "memories" / "contract"
    state = (folder / "state.safetensors").read_bytes()
    (folder / "state.safetensors").write_bytes(state[: len(state) // 2])
    result = run("ask", QUESTION, "--memory", "contract")
    assert result.code == 4
    assert "damaged" in result.sentence and "state.safetensors" in result.sentence
    assert "samba read PATH --as contract --force" in result.sentence
    assert run("append", "contract", "contract.txt").sentence == result.sentence
    (folder / "state.safetensors").write_bytes(state)
    (folder / "index.sqlite").write_bytes(b"no database")
    result = run("memory", "list")
    assert result.code == 4
    assert "damaged" in result.sentence
    (folder / "index.sqlite").unlink()
    assert run("ask", QUESTION, "--memory", "contract").code == 4

    (home / "file").write_text("in the way")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "file"))
    result = run("read", "contract.txt", "--as", "lease")
    assert result.code == 4
    assert "XDG_DATA_HOME" in result.sentence


def test_chat_with_piped_questions() -> None:
    lines = f"{QUESTION}\n\n/sources\n/save\n/nonsense\n/save kept\n/summary short\n/help\n"
    result = run("chat", "contract.txt", stdin=lines.encode())
    assert result.code == 0
    assert f"> {QUESTION}" in result.stdout
    assert "contract.txt  " in result.stdout
    assert "saved as kept" in result.stdout
    assert "/exit" in result.stdout
    assert result.stderr.count("\nsamba: ") == 2  # /save without a name, and /nonsense
    assert "--memory kept" in run("ask", QUESTION, "kept").sentence
    result = run("chat", "kept", stdin=f"{QUESTION}\n".encode())
    assert result.code == 0
    assert "memory kept" in result.stderr
    assert "neither a file nor a memory" in run("chat", "keptt").sentence


def test_prompts_and_the_persons_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "answer " in run("prompts", "list").stdout
    assert "$question" in run("prompts", "show", "answer").stdout
    (home / "mine").mkdir()
    (home / "mine" / "answer.txt").write_text("$passages Q: $question\n")
    monkeypatch.setenv("SAMBA_PROMPTS", str(home / "mine"))
    assert run("prompts", "show", "answer").stdout == "$passages Q: $question\n"
    assert str(home / "mine" / "answer.txt") in run("prompts", "list").stdout
    assert run("prompts", "show", "nonsense").code == 2


def test_doctor() -> None:
    result = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert {"samba", "torch", "model", "kernels", "speed", "memories"} <= checks.keys()
    assert result.code == 0, checks
    assert run("doctor", "--model", "absent").code == 1
