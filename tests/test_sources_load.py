"""Paths: several, missing, globs, archives, standard input, limits."""

import gzip
import io
import os
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from samba_cli.documents import Document, Skipped
from samba_cli.errors import Unreadable, UsageError
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions


def make(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def outcome(*paths: str, options: SourceOptions | None = None) -> dict[str, str]:
    """Name -> text of what was read, or the reason of what was not, in the order given."""
    return {
        item.name: "".join(part.text for part in item.parts())
        if isinstance(item, Document)
        else f"<{item.reason}>"
        for item in load(paths, options)
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_are_as_a_person_opens_them(here: Path) -> None:
    make(here, {"repo/src/app.py": "1", "repo/b.md": "2"})
    assert list(outcome(".")) == ["repo/b.md", "repo/src/app.py"]
    assert list(outcome("repo/")) == ["repo/b.md", "repo/src/app.py"]
    assert list(outcome("repo/src/app.py")) == ["repo/src/app.py"]
    os.chdir(here / "repo")
    assert list(outcome("../repo/src")) == ["../repo/src/app.py"]


def test_several_paths_keep_their_order_and_are_read_once(here: Path) -> None:
    make(here, {"z.txt": "z", "d/b.txt": "b", "d/a.txt": "a"})
    assert outcome("z.txt", "d", "d/a.txt") == {"z.txt": "z", "d/a.txt": "a", "d/b.txt": "b"}
    assert list(outcome("d/b.txt", "d")) == ["d/b.txt", "d/a.txt"]


def test_one_bad_input_among_several_is_skipped(here: Path) -> None:
    make(here, {"a.txt": "a", "empty.txt": ""})
    (here / "x.bin").write_bytes(b"\0\1\2\3")
    assert outcome("a.txt", "x.bin", "empty.txt") == {
        "a.txt": "a", "x.bin": "<binary>", "empty.txt": "<empty>",
    }  # fmt: skip
    with pytest.raises(Unreadable, match="x.bin is a binary file"):
        outcome("x.bin")
    with pytest.raises(Unreadable, match="^Standard input is a binary file"):
        list(load(["-"], stdin=io.BytesIO(b"\0\1\2\3")))


def test_a_missing_path_names_the_closest(here: Path) -> None:
    make(here, {"README.md": "x", "docs/guide.md": "x"})
    with pytest.raises(Unreadable, match=r"REDME.md: no such file.* Did you mean README.md\?"):
        load(["REDME.md"])
    with pytest.raises(Unreadable, match=r"Did you mean docs\?"):
        load(["README.md", "dosc/guide.md"])
    with pytest.raises(Unreadable, match="Check the path"):
        load(["/nowhere/at/all"])
    with pytest.raises(Unreadable, match="Nothing matches the pattern"):
        load(["*.pdf"])


def test_globs(here: Path) -> None:
    make(here, {"docs/a.md": "a", "docs/deep/b.md": "b", "docs/c.txt": "c", "[x].md": "x"})
    assert list(outcome("docs/**/*.md")) == ["docs/a.md", "docs/deep/b.md"]
    assert list(outcome("docs/*")) == ["docs/a.md", "docs/c.txt", "docs/deep/b.md"]
    assert list(outcome("[x].md")) == ["[x].md"]


def test_usage_errors(here: Path) -> None:
    for paths, options in (
        ([], None),
        (["-"], None),
        (["."], SourceOptions(kind="word")),
        (["."], SourceOptions(encoding="nonsense")),
        (["."], SourceOptions(encoding="rot13")),
        (["."], SourceOptions(pages="x")),
    ):
        with pytest.raises(UsageError):
            load(paths, options)


def test_limits(here: Path) -> None:
    make(here, {"a.txt": "a", "b.txt": "b" * 100, "c.txt": "c", "d.txt": "d"})
    options = SourceOptions(max_file_size=50, max_files=2, exclude=("a.*",))
    assert outcome(".", options=options) == {
        "b.txt": "<too-large>", "c.txt": "c", "d.txt": "d",
    }  # fmt: skip
    assert outcome("a.txt", "c.txt", options=options) == {"a.txt": "<excluded>", "c.txt": "c"}
    assert outcome(".", options=SourceOptions(max_files=1))["d.txt"] == "<too-many>"


def test_special_files_do_not_hang(here: Path) -> None:
    make(here, {"a.txt": "a"})
    os.mkfifo(here / "pipe")
    assert outcome(".") == {"a.txt": "a", "pipe": "<special>"}
    with pytest.raises(Unreadable, match="device"):
        outcome("/dev/null")
    writer = threading.Thread(target=lambda: (here / "pipe").write_text("from a process"))
    writer.start()
    assert outcome("pipe") == {"pipe": "from a process"}
    writer.join()


def test_a_file_that_vanishes_is_a_problem_not_a_crash(here: Path) -> None:
    make(here, {"a.txt": "a"})
    (document,) = load(["a.txt"])
    (here / "a.txt").unlink()
    assert isinstance(document, Document)
    with pytest.raises(Unreadable, match="a.txt cannot be read: No such file"):
        list(document.parts())


def test_zip(here: Path) -> None:
    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("z/b.txt", "second")
        archive.writestr("a.md", "# first\r\n")
        archive.writestr("../../evil.txt", "x")
        archive.writestr("/abs.txt", "x")
        archive.writestr("C:/win.txt", "x")
        archive.writestr("yarn.lock", "x")
        archive.writestr("bomb.txt", b"0" * (40 << 20))
        archive.writestr("inner.zip", b"PK\x05\x06" + b"\0" * 18)
        archive.writestr(".hidden", "x")
        archive.writestr("__MACOSX/._a.md", "x")
        archive.mkdir("folder")
    assert outcome("a.zip") == {
        "a.zip!../../evil.txt": "<unsafe-name>",
        "a.zip!/abs.txt": "<unsafe-name>",
        "a.zip!C:/win.txt": "<unsafe-name>",
        "a.zip!a.md": "# first\n",
        "a.zip!bomb.txt": "<archive-limit>",
        "a.zip!inner.zip": "<empty>",
        "a.zip!yarn.lock": "<lock-file>",
        "a.zip!z/b.txt": "second",
    }
    assert sorted(os.listdir(here)) == ["a.zip"]
    assert list(outcome("a.zip", options=SourceOptions(include=("*.md",))))[-1] == "a.zip!a.md"
    assert outcome(".") == {"a.zip": "<archive>"}
    found = list(load(["-"], stdin=io.BytesIO((here / "a.zip").read_bytes())))
    assert isinstance(found[-1], Document)
    assert found[-1].name == "-!z/b.txt"


def test_documents_inside_archives(here: Path) -> None:
    import docx

    document = docx.Document()
    document.add_paragraph("inside")
    document.save("a.docx")
    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write("a.docx")
    with tarfile.open("a.tar", "w") as archive:
        archive.add("a.docx")
    assert outcome("a.zip") == {"a.zip!a.docx": "inside\n\n"}
    assert outcome("a.tar") == {"a.tar!a.docx": "inside\n\n"}


def test_damaged_and_encrypted_zip(here: Path) -> None:
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("a.txt", "some text " * 50)
    data = bytearray((here / "a.zip").read_bytes())
    broken = data.copy()
    broken[60] ^= 1  # in the stored text: the checksum is wrong
    (here / "b.zip").write_bytes(broken)
    assert outcome("b.zip") == {"b.zip!a.txt": "<corrupt>"}
    for place in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[place] |= 1  # the flag of an encrypted member
    (here / "c.zip").write_bytes(data)
    assert outcome("c.zip") == {"c.zip!a.txt": "<encrypted>"}
    (here / "d.zip").write_bytes(data[:100])
    with pytest.raises(Unreadable, match="d.zip is damaged"):
        outcome("d.zip")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_tar(here: Path, suffix: str) -> None:
    make(here, {"x/b.txt": "second", "x/a.txt": "first"})
    compression = {"tar": "", "tgz": "gz"}.get(suffix, suffix[4:])
    with tarfile.open(f"t.{suffix}", f"w:{compression}") as archive:  # type: ignore[call-overload]
        archive.add("x/b.txt")
        archive.add("x/a.txt", "./x/a.txt")
        archive.add("x/a.txt", "../evil.txt")
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    name = f"t.{suffix}!"
    assert outcome(f"t.{suffix}") == {
        f"{name}x/a.txt": "first",
        f"{name}../evil.txt": "<unsafe-name>",
        f"{name}link": "<symlink>",
        f"{name}x/b.txt": "second",
    }


def test_a_compressed_file_and_a_gzip_bomb(here: Path) -> None:
    (here / "server.log.gz").write_bytes(gzip.compress(b"line one\n"))
    assert outcome("server.log.gz") == {"server.log.gz!server.log": "line one\n"}
    (here / "bomb.gz").write_bytes(gzip.compress(b"\n" * (40 << 20)))
    with pytest.raises(Unreadable, match="more than is safe"):
        outcome("bomb.gz")
    (here / "cut.gz").write_bytes(gzip.compress(os.urandom(5000))[:3000])
    with pytest.raises(Unreadable, match="damaged"):
        outcome("cut.gz")


def test_the_parts_of_many_documents_may_be_read_later(here: Path) -> None:
    with tarfile.open("t.tgz", "w:gz") as archive:
        for i in range(20):
            info = tarfile.TarInfo(f"{i:02}.txt")
            info.size = 3
            archive.addfile(info, io.BytesIO(b"%02d\n" % i))
    documents = [item for item in load(["t.tgz"]) if isinstance(item, Document)]
    texts = ["".join(part.text for part in document.parts()) for document in reversed(documents)]
    assert texts == [f"{i:02}\n" for i in reversed(range(20))]


def test_nothing_is_read_before_the_iteration_gets_there(here: Path) -> None:
    make(here, {"a.txt": "a", "b.txt": "b"})
    stream = load(["a.txt", "b.txt"])
    (here / "b.txt").unlink()
    first = next(stream)
    assert isinstance(first, Document)
    assert first.name == "a.txt"
    assert next(stream) == Skipped("b.txt", "unreadable")
