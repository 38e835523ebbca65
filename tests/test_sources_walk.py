"""Folders: git's own answer, the walk without git, links, filters."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from samba_cli.documents import Document, Skipped
from samba_cli.sources.ignore import decide, parse_rules
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions
from samba_cli.sources.walk import folder_files

ALL = SourceOptions(hidden=True)


def make(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def init(root: Path) -> None:
    git(root, "init", "-q")


def git_says(root: Path) -> list[str]:
    listed = git(root, "ls-files", "-co", "--exclude-standard", "-z").split("\0")
    return sorted((path for path in listed if path), key=lambda path: path.split("/"))


def walked(root: Path, monkeypatch: pytest.MonkeyPatch, options: SourceOptions = ALL) -> list[str]:
    """The files found where there is no git to ask."""
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        return list(folder_files(str(root), options))


NASTY = {
    ".gitignore": "*.log\n!important.log\n/build\ndocs/**/draft.md\n**/cache/\n# comment\n\\#odd\n"
    "trailing   \nspaced\\ \nsub/only.txt\n"
    "[ab].c\nfoo/*\n!foo/keep/\n*.tmp\r\nx?z\n/*.anch\n!/a.anch\n",
    "a.log": "1",
    "important.log": "1",
    "build/out.txt": "1",
    "src/build/out.txt": "1",
    "docs/draft.md": "1",
    "docs/x/y/draft.md": "1",
    "docs/x/final.md": "1",
    "cache/a": "1",
    "deep/er/cache/b": "1",
    "deep/er/cache.txt": "1",
    "#odd": "1",
    "trailing": "1",
    "spaced ": "1",
    "sub/.gitignore": "keep.txt\n!*.log\n/anchored\nnested/\n*.d/\n",
    "sub/keep.txt": "1",
    "sub/only.txt": "1",
    "sub/x.log": "1",
    "sub/anchored": "1",
    "sub/deeper/anchored": "1",
    "sub/deeper/keep.txt": "1",
    "sub/deeper/.gitignore": "!keep.txt\n*.md\n",
    "sub/nested/a": "1",
    "sub/nested2": "1",
    "sub/conf.d/a": "1",
    "sub/e.d": "1",
    "sub/deeper/a.md": "1",
    "other/keep.txt": "1",
    "other/nested/a": "1",
    "a.c": "1",
    "c.c": "1",
    "foo/gone": "1",
    "foo/keep/a": "1",
    "foo/keep/.gitignore": "b\n",
    "foo/keep/b": "1",
    "t.tmp": "1",
    "xyz": "1",
    "xyyz": "1",
    "a.anch": "1",
    "b.anch": "1",
    "sub/b.anch": "1",
    ".github/workflow.yml": "1",
    "neg/.gitignore": "*\n!*/\n!*.py\n!.gitignore\n",
    "neg/a.py": "1",
    "neg/a.txt": "1",
    "neg/in/a.py": "1",
    "neg/in/a.txt": "1",
}


def test_a_nasty_repository_is_read_as_git_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, NASTY)
    init(tmp_path)
    (tmp_path / ".git/info/exclude").write_text("excluded/\n")
    make(tmp_path, {"excluded/a": "1", "sub/tracked.log": "1", "forced.log": "1"})
    expected = git_says(tmp_path)
    assert list(folder_files(str(tmp_path), ALL)) == expected
    assert walked(tmp_path, monkeypatch) == expected
    for folder in ("sub", "sub/deeper", "foo/keep", "neg/in"):
        expected = git_says(tmp_path / folder)
        assert expected
        assert list(folder_files(str(tmp_path / folder), ALL)) == expected
        assert walked(tmp_path / folder, monkeypatch) == expected


def test_the_defect_of_leaking_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .gitignore of the first folder says nothing about its siblings."""
    make(tmp_path, {"a/.gitignore": "keep.txt\n", "b/keep.txt": "1", "c/keep.txt": "1"})
    assert walked(tmp_path, monkeypatch) == ["a/.gitignore", "b/keep.txt", "c/keep.txt"]


names = st.sampled_from(["a", "b", "ab", "a.x", "b.x", "d"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
PIECES = ["a", "b", "*", "*.x", "a*", "?", "**", "[ab]", "[!a]*", "[[:alpha:]]", "d", "a**", "\\a"]
patterns = st.builds(
    lambda bang, slash, body, end: bang + slash + body + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/", "**/"]),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "", "/", "/*", "/**"]),
)  # fmt: skip
ignore_files = st.dictionaries(
    st.sampled_from(["", "a/", "b/", "a/d/", "d/"]),
    st.lists(patterns, min_size=1, max_size=4),
    max_size=3,
)


@settings(deadline=None, max_examples=60)
@given(st.lists(paths, min_size=3, max_size=14), ignore_files)
@example(["a/b/ab", "a/d"], {"": ["a/*", "!a/b/"]})
@example(["a/a", "ab"], {"": ["a/a", "a**/*", "!a**/a"]})
@example(["a/a.x", "b/ab"], {"": ["*.x", "!a/", "a*"]})
def test_the_walk_agrees_with_git(
    tmp_path_factory: pytest.TempPathFactory, files: list[str], rules: dict[str, list[str]]
) -> None:
    root = tmp_path_factory.mktemp("repository")
    init(root)
    contents = {folder + ".gitignore": "\n".join(lines) + "\n" for folder, lines in rules.items()}
    for path in sorted({*files, *contents}, key=len):
        full = root / path
        if any(parent.is_file() for parent in full.parents) or full.is_dir():
            continue  # a name is a file or a folder, whichever came first
        make(root, {path: contents.get(path, "text")})
    with pytest.MonkeyPatch.context() as patch:
        assert walked(root, patch) == git_says(root)


def test_deleted_and_untracked_files(tmp_path: Path) -> None:
    make(tmp_path, {"a.py": "1", "b.py": "1"})
    init(tmp_path)
    git(tmp_path, "add", "-A")
    (tmp_path / "a.py").unlink()
    make(tmp_path, {"new.py": "1"})
    assert list(folder_files(str(tmp_path), ALL)) == ["b.py", "new.py"]


def test_an_ignored_folder_that_is_named_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, {".gitignore": "out/\n*.log\n", "out/a.txt": "1", "out/b.log": "1"})
    init(tmp_path)
    assert list(folder_files(str(tmp_path / "out"), ALL)) == ["a.txt", "b.log"]
    assert walked(tmp_path / "out", monkeypatch) == ["a.txt", "b.log"]


def test_a_repository_inside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, {".gitignore": "*.log\n", "a.log": "1", "inner/x.py": "1", "inner/y.log": "1"})
    init(tmp_path)
    init(tmp_path / "inner")
    expected = [".gitignore", "inner/x.py", "inner/y.log"]
    assert list(folder_files(str(tmp_path), ALL)) == expected
    assert walked(tmp_path, monkeypatch) == expected


def test_hidden_include_exclude_and_gitignore(tmp_path: Path) -> None:
    make(
        tmp_path,
        {".gitignore": "*.log\n", "a.log": "1", ".env": "1", "src/a.py": "1", "src/.x/b.py": "1",
         "src/test_a.py": "1", "docs/a.md": "1"},
    )  # fmt: skip

    def found(**options: object) -> list[str]:
        return list(folder_files(str(tmp_path), SourceOptions(**options)))  # type: ignore[arg-type]

    assert found() == ["docs/a.md", "src/a.py", "src/test_a.py"]
    assert found(gitignore=False) == ["a.log", "docs/a.md", "src/a.py", "src/test_a.py"]
    assert found(include=("*.py",)) == ["src/a.py", "src/test_a.py"]
    assert found(include=("*.py",), exclude=("test_*",)) == ["src/a.py"]
    assert found(exclude=("src/",)) == ["docs/a.md"]
    assert ".env" in found(hidden=True)


def test_symlinks_and_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, {"top/a.txt": "1", "elsewhere/b.txt": "1"})
    top = tmp_path / "top"
    (top / "loop").symlink_to(top)
    (top / "out").symlink_to(tmp_path / "elsewhere")
    (top / "gone").symlink_to("nowhere")
    found = list(load([str(top)]))
    assert [item.name.removeprefix(f"{top}/") for item in found] == ["a.txt", "gone", "loop", "out"]
    assert [isinstance(item, Document) for item in found] == [True, False, False, False]
    follow = SourceOptions(follow_symlinks=True)
    assert list(folder_files(str(top), follow)) == ["a.txt", "gone", "out/b.txt"]
    init(top)
    assert list(folder_files(str(top), follow)) == ["a.txt", "gone", "out/b.txt"]
    assert walked(top, monkeypatch, follow) == ["a.txt", "gone", "out/b.txt"]


def test_links_that_lead_in_a_circle_do_not_end_the_reading(tmp_path: Path) -> None:
    make(tmp_path, {"a.txt": "text"})
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    found = list(load([str(tmp_path)], SourceOptions(follow_symlinks=True)))
    assert [isinstance(item, Document) for item in found] == [True, False, False]


def test_a_very_deep_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path
    for _ in range(900):
        folder = folder / "d"
    os.makedirs(folder)
    (folder / "a").write_text("1")
    assert walked(tmp_path, monkeypatch) == ["d/" * 900 + "a"]


def test_what_a_reader_has_no_use_for_is_left_out(tmp_path: Path) -> None:
    make(
        tmp_path,
        {"app.min.js": "var a=1\n", "bundle.js": "x=1;" * 9000, "package-lock.json": "{}",
         "sub/Cargo.lock": "x", "logo.svg": "<svg/>", "prose.txt": "word " * 9000, "a.py": "1"},
    )  # fmt: skip
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "data.zip").write_bytes(b"PK\x03\x04 cut off")
    reasons = {
        item.name.removeprefix(f"{tmp_path}/"): item.reason if isinstance(item, Skipped) else "read"
        for item in load([str(tmp_path)])
    }
    assert reasons == {
        "a.py": "read",
        "app.min.js": "generated",
        "bundle.js": "generated",
        "data.zip": "corrupt",
        "logo.svg": "binary",
        "package-lock.json": "lock-file",
        "photo.png": "binary",
        "prose.txt": "read",
        "sub/Cargo.lock": "lock-file",
    }


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    rules = parse_rules("*a*a*a*a*a*a*a*a*a*a*b\n**/a/**/a/**/a/**/b\n")
    assert decide(rules, "a" * 250, False) is None
    assert decide(rules, "a/" * 60 + "c", False) is None
    assert decide(rules, "a" * 250 + "b", False) is True


def test_a_repository_cannot_run_programs(tmp_path: Path) -> None:
    make(tmp_path, {"a.py": "1"})
    init(tmp_path)
    program = tmp_path / ".git" / "monitor"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(program))
    assert list(folder_files(str(tmp_path), ALL)) == ["a.py"]
    assert not (tmp_path / "ran").exists()


def test_the_environment_of_a_git_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, {".gitignore": "*.log\n", "sub/a.py": "1", "sub/a.log": "1"})
    init(tmp_path)
    monkeypatch.setenv("GIT_DIR", ".git")
    assert list(folder_files(str(tmp_path / "sub"), ALL)) == ["a.py"]
