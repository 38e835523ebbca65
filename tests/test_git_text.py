"""Logs, patches and diffs: recognised by content, cut at commits and files, summarised truly."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.documents import Document, Passage
from samba_cli.git_text import (
    commit_at,
    is_message,
    message_spans,
    model_text,
    said,
    whole_sentence,
)
from samba_cli.history import History, read_history
from samba_cli.index import PassageIndex
from samba_cli.passages import MAX_CHARS, cut
from samba_cli.quotes import quote
from samba_cli.sources.git import git_parts, is_git_text
from samba_cli.sources.load import load
from samba_cli.summarize_git import git_sentences, is_git

COMMITS = (  # subject, body, files
    (
        "Lay out the project",
        "",
        {"README.md": "# Harbour\n\nA program that plans the berths of a small harbour.\n"},
    ),
    (
        "Add the tide table reader",
        "Tables come as plain text from the\nharbour office. Each line is one tide.\n\n"
        "Signed-off-by: Ann Lee <ann@example.org>",
        {
            "src/tides.py": '"""Tide tables: when the water is high enough."""\n\n\n'
            'def read_table(path):\n    """Read one table."""\n    return open(path).read()\n'
        },
    ),
    ("Fix typo", "", {"README.md": "# Harbour\n\nA program that plans berths of a harbour.\n"}),
    (
        "Refuse ships that are too deep for every berth",
        "",
        {
            "src/tides.py": '"""Tide tables: when the water is high enough."""\n\n\n'
            "def read_table(path):\n    return open(path).read()\n\n\n"
            "def deepest_ship(berths):\n    return max(berths)\n",
            "tests/test_tides.py": "def test_deepest():\n    assert True\n",
        },
    ),
)
ALL = ("log", "log -p", "log --stat", "log --graph -p", "log --format=raw -p", "log --numstat",
       "format-patch --stdout --root HEAD")  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ann Lee", "GIT_AUTHOR_EMAIL": "ann@example.org",
        "GIT_COMMITTER_NAME": "Ann Lee", "GIT_COMMITTER_EMAIL": "ann@example.org",
    }  # fmt: skip
    for number, argument in enumerate(arguments):
        if argument.startswith("--date="):
            environment["GIT_COMMITTER_DATE"] = argument[7:]
            environment["GIT_AUTHOR_DATE"] = argument[7:]
            arguments = arguments[:number] + arguments[number + 1 :]
            break
    run = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, check=True
    )
    return run.stdout.decode()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q")
    for day, (subject, body, files) in enumerate(COMMITS, start=1):
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        git(folder, "add", ".")
        message = f"{subject}\n\n{body}" if body else subject
        git(folder, "commit", "-q", "-m", message, f"--date=2026-11-0{day}T12:00:00+0000")
    return folder


def document(text: str) -> Document:
    return Document("-", "git", lambda: git_parts([text]))


def indexed(text: str) -> PassageIndex:
    index = PassageIndex.create("")
    number = index.add_document(document(text))
    for passage in cut(document(text)):
        if passage.text.strip():
            index.add_passage(number, passage, 10, None)
    return index


def history_of(text: str) -> History:
    with indexed(text) as index:
        return read_history(index)


@pytest.mark.parametrize("command", [*ALL, "diff HEAD~1", "show", "log --oneline"])
def test_what_git_prints_is_recognised_and_cut_exactly(repository: Path, command: str) -> None:
    text = git(repository, *command.split())
    assert is_git_text(text)
    (found,) = load([], stdin=BytesIO(text.encode()))
    assert isinstance(found, Document) and found.kind == "git"
    passages = list(cut(found))
    assert "".join(passage.text for passage in passages) == text
    lines = text.split("\n")
    for passage in passages:
        if passage.text.strip():
            assert passage.line_start is not None
            first = passage.text.strip().split("\n")[0].strip()
            assert first in lines[passage.line_start - 1]


def test_other_texts_are_no_git_texts() -> None:
    for text in (
        "The commit was made on Monday.\nAuthor: a person\n",
        "# Notes\n\ndiff --git is a command line\n",
        "1234567 apples\n7654321 pears\n1111111 plums\n",
        "deadbeef is a number\nand this is prose\nin three lines\n",
        "",
        "commit to it\n",
        "--- a rule ---\ntext\n",
    ):
        assert not is_git_text(text), text
    patch = "A fix for the tide table.\n\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+b\n"
    assert is_git_text(patch, ".patch") and not is_git_text(patch)
    assert is_git_text("--- x.py\t2026-11-02\n+++ y.py\t2026-11-03\n@@ -1 +1 @@\n-a\n+b\n")


def test_a_patch_file_is_told_by_content_and_a_markdown_file_by_name(
    repository: Path, tmp_path: Path
) -> None:
    text = git(repository, "diff", "HEAD~1")
    for name, kind in (("a.patch", "git"), ("a.txt", "git"), ("a.md", "markdown")):
        (tmp_path / name).write_text(text)
        (found,) = load([str(tmp_path / name)])
        assert isinstance(found, Document) and found.kind == kind


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.sampled_from(
            ["commit " + "a" * 40, "Author: A B <a@b>", "Date:   Mon Nov 2 12:00:00 2026 +0000", "",
             "    A subject", "diff --git a/x b/x", "--- a/x", "+++ b/x", "@@ -1,2 +1,2 @@", " a",
             "-b", "+c", "-- ", "x" * 1500, "From " + "b" * 40 + " Mon Sep 17 00:00:00 2001",
             "Subject: [PATCH] s", "---", " x | 2 +-", "| * commit " + "c" * 40]
        ), max_size=60,
    ),
    st.integers(1, 500),
)  # fmt: skip
def test_any_lines_are_partitioned(lines: list[str], size: int) -> None:
    text = "\n".join(lines)
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert "".join(part.text for part in git_parts(chunks)) == text
    passages = list(cut(Document("-", "git", lambda: git_parts(chunks))))
    assert "".join(passage.text for passage in passages) == text
    assert all(len(passage.text) <= MAX_CHARS for passage in passages)
    with indexed(text) as index:
        read_history(index)
        git_sentences(index, 100)


def test_messages_and_files_are_passages_of_their_own(repository: Path) -> None:
    passages = list(cut(document(git(repository, "log", "-p"))))
    name = git(repository, "rev-parse", "HEAD")[:10]
    assert passages[0].heading == f"commit {name} (2026-11-04)" and is_message(passages[0])
    files = [p.heading for p in passages if not is_message(p)]
    assert files[:2] == [f"commit {name} (2026-11-04) > {p}" for p in
                         ("src/tides.py", "tests/test_tides.py")]  # fmt: skip
    assert [p.heading for p in cut(document(git(repository, "diff", "HEAD~1")))] == [
        "src/tides.py", "tests/test_tides.py"
    ]  # fmt: skip


@pytest.mark.parametrize("command", ALL)
def test_the_history_is_counted_as_git_counts(repository: Path, command: str) -> None:
    history = history_of(git(repository, *command.split()))
    assert history.commit_count == 4 and history.authors == {"Ann Lee": 4}
    assert history.dates == ("2026-11-01", "2026-11-04")
    assert {commit.subject for commit in history.commits} == {one[0] for one in COMMITS}
    if command != "log":
        assert (history.added, history.removed) == (16, 2)
        assert set(history.files) == {"README.md", "src/tides.py", "tests/test_tides.py"}


def test_a_message_is_read_in_sentences(repository: Path) -> None:
    for command in ("log", "log --graph", "format-patch --stdout --root HEAD"):
        passages = [
            passage
            for passage in cut(document(git(repository, *command.split())))
            if "tide table reader" in passage.text and is_message(passage)
        ]
        texts = [said(passages[0].text[a:b]) for a, b in message_spans(passages[0])]
        assert texts == [
            "Add the tide table reader",
            "Tables come as plain text from the harbour office.",
            "Each line is one tide.",
        ]


def test_a_quote_names_its_commit_and_line(repository: Path) -> None:
    text = git(repository, "log")
    (passage,) = (p for p in cut(document(text)) if "harbour office" in p.text)
    found = quote(passage, "Where do the tables come from?", "")
    assert "harbour office" in found.text and found.line_start is not None
    assert text.split("\n")[found.line_start - 1].strip() == found.text.split("\n")[0]
    assert commit_at(passage, 0)[1] == "2026-11-02"
    oneline = Passage("-", "git", 0, 30, "1a2b3c4 One\n5d6e7f8 Two thing\n", line_start=1)
    assert commit_at(oneline, 15) == ("5d6e7f8", None)


def test_an_answer_from_a_message_is_its_whole_sentence(repository: Path) -> None:
    passages = [p for p in cut(document(git(repository, "log", "-p"))) if is_message(p)]
    assert model_text(passages[0]) == "Refuse ships that are too deep for every berth"
    assert whole_sentence("one tide", passages) == "Each line is one tide."
    assert whole_sentence("Ann Lee", passages) == "Ann Lee"


@pytest.fixture()
def log(repository: Path) -> Iterator[PassageIndex]:
    with indexed(git(repository, "log", "-p")) as index:
        yield index


def test_a_log_is_summarised_by_its_subjects(log: PassageIndex) -> None:
    assert is_git(log)
    said = [sentence.text for sentence in git_sentences(log, 130)]
    assert said[0] == (
        "4 commits by Ann Lee from 2026-11-01 to 2026-11-04 change 3 files (3 new): "
        "16 lines added, 2 removed."
    )
    assert "Refuse ships that are too deep for every berth." in said
    assert "Tables come as plain text from the harbour office." in said
    assert not any("typo" in text or "Signed-off" in text or "diff --git" in text for text in said)
    for sentence in git_sentences(log, 130):
        assert sentence.evidence and all(place.commit for place in sentence.evidence)
        if sentence.extractive and sentence.evidence[0].heading:
            quoted = " ".join(sentence.evidence[0].quote.split())
            assert sentence.text.rstrip(".") in quoted or ": " in sentence.text


def test_a_summary_follows_its_length_and_focus(log: PassageIndex) -> None:
    short = git_sentences(log, 30)
    assert len(short) < len(git_sentences(log, 130))
    focused = [one.text for one in git_sentences(log, 36, focus="tide table")]
    assert "Add the tide table reader." in focused


def test_a_diff_without_messages_says_what_it_adds(repository: Path) -> None:
    with indexed(git(repository, "diff", "HEAD~1")) as index:
        said = [sentence.text for sentence in git_sentences(index, 130)]
    assert said[0] == "Changes of 2 files (1 new): 6 lines added, 1 removed."
    assert "src/tides.py (+4 -1) adds deepest_ship." in said
    assert "tests/test_tides.py (new, 2 lines) adds 1 test." in said


def test_a_new_file_is_told_by_its_first_comment(repository: Path) -> None:
    with indexed(git(repository, "show", "HEAD~2")) as index:
        said = [sentence.text for sentence in git_sentences(index, 130)]
    assert "src/tides.py (new, 6 lines): Tide tables: when the water is high enough." in said


def test_sections_go_by_time() -> None:
    text = "".join(
        f"commit {number:07x}{number:033x}\nAuthor: A <a@b>\n"
        f"Date:   2026-0{1 + number // 6}-11 12:00:00 +0000\n\n"
        f"    Build the {word} of the {other}\n\n"
        for number, (word, other) in enumerate(
            (a, b) for a in ("wall", "roof", "door", "lamp", "bell", "clock")
            for b in ("school", "mill", "inn", "tower")
        )
    )  # fmt: skip
    with indexed(text) as index:
        told = git_sentences(index, 300, by_section=True)
    titles = list(dict.fromkeys(one.section for one in told if one.section))
    assert len(titles) == 4 and all(title.startswith("2026-0") for title in titles)
