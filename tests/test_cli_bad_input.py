"""What cannot be read or used: one sentence, the right exit code, never a traceback."""

import shutil
import zlib
from pathlib import Path

import pytest
from cli import QUESTION, run

pytestmark = pytest.mark.usefixtures("home")


def write_pdf(path: Path, text: str | None, password: str | None = None) -> None:
    """One page with text, or with a picture only, as a scanner makes it."""
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    encrypt = StandardEncryption(password) if password else None
    canvas = Canvas(str(path), encrypt=encrypt)
    if text is not None:
        canvas.drawString(72, 720, text)
    else:
        from PIL import Image
        from reportlab.lib.utils import ImageReader

        canvas.drawImage(ImageReader(Image.new("L", (200, 200), 90)), 72, 400, 400, 400)
    canvas.showPage()
    canvas.save()


def test_missing_file() -> None:
    result = run("ask", QUESTION, "contrakt.txt")
    assert result.code == 3
    assert "contrakt.txt" in result.sentence
    assert "contract.txt" in result.sentence  # what is probably meant
    assert result.stdout == ""


def test_empty_binary_and_corrupt_files(home: Path) -> None:
    (home / "empty.txt").write_bytes(b"")
    (home / "blank.txt").write_text("\n \n")
    (home / "program.bin").write_bytes(bytes(range(256)) * 8)
    (home / "broken.pdf").write_bytes(b"%PDF-1.7\n" + zlib.compress(b"x" * 5000))
    for name in ("empty.txt", "blank.txt", "program.bin", "broken.pdf"):
        result = run("ask", QUESTION, name)
        assert result.code == 3, name
        assert name in result.sentence


def test_scanned_pdf(home: Path) -> None:
    write_pdf(home / "scan.pdf", None)
    result = run("ask", QUESTION, "scan.pdf")
    assert result.code == 3
    assert "scan.pdf" in result.sentence


def test_encrypted_pdf(home: Path) -> None:
    write_pdf(home / "secret.pdf", "The notice period is thirty days.", password="tulip")
    (home / "password").write_text("tulip\n")
    (home / "wrong").write_text("rose\n")
    result = run("ask", QUESTION, "secret.pdf")
    assert result.code == 3
    assert "--password-file" in result.sentence
    assert run("ask", QUESTION, "secret.pdf", "--password-file", "wrong").code == 3
    assert run("ask", QUESTION, "secret.pdf", "--password-file", "absent").code == 2
    result = run("ask", QUESTION, "secret.pdf", "--password-file", "password")
    assert result.code == 0
    assert "secret.pdf p. 1" in result.stdout
    assert "read 1 of 1 page, 1 of 1 file" in result.stderr


def test_other_encodings_are_read(home: Path) -> None:
    latin = "Die Kündigungsfrist beträgt dreißig Tage. Die Höhe der Miete: größer als üblich.\n"
    (home / "latin.txt").write_bytes((latin * 20).encode("latin-1"))
    japanese = "解約通知期間は三十日です。家賃は月九百ユーロです。\n"
    (home / "japanese.txt").write_bytes((japanese * 20).encode("shift_jis"))
    result = run("ask", "Wie lange ist die Kündigungsfrist?", "latin.txt")
    assert result.code == 0
    assert "Kündigungsfrist" in result.stdout
    result = run("ask", "解約通知期間は?", "japanese.txt", "--json")
    assert result.code == 0
    quotes = [e["quote"] for a in result.json["answers"] for e in a["evidence"]]
    assert all(quote in japanese * 20 for quote in quotes)


def test_folder_with_nothing_readable_and_one_with_a_loop(home: Path) -> None:
    (home / "junk").mkdir()
    (home / "junk" / "a.bin").write_bytes(bytes(range(256)) * 8)
    result = run("ask", QUESTION, "junk")
    assert result.code == 3
    assert "a.bin" in result.sentence
    (home / "empty").mkdir()
    assert run("ask", QUESTION, "empty").code == 3
    (home / "loop").mkdir()
    (home / "loop" / "again").symlink_to(home / "loop")
    shutil.copy(home / "contract.txt", home / "loop")
    assert run("ask", QUESTION, "loop", "--follow-symlinks").code == 0


def test_models_that_do_not_load(home: Path, tiny_checkpoint: Path) -> None:
    def ask(folder: Path) -> str:
        result = run("ask", QUESTION, "contract.txt", "--model", folder)
        assert result.code == 4
        assert result.stdout == ""
        return result.sentence

    assert "there is no model" in ask(home / "nowhere")
    assert "not a folder" in ask(home / "contract.txt")
    copy = home / "checkpoint"
    shutil.copytree(tiny_checkpoint, copy)
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "model.safetensors" in ask(copy)
    (copy / "model.safetensors").write_bytes(weights)
    (copy / "tokenizer.json").write_text("{}")
    assert "tokenizer" in ask(copy)
    (copy / "config.json").write_text('{"model_type": "llama"}')
    assert "llama" in ask(copy)
    (copy / "config.json").unlink()
    assert "config.json" in ask(copy)


def test_device_that_is_not_there() -> None:
    result = run("ask", QUESTION, "contract.txt", "--device", "cuda:99")
    assert result.code == 7
    assert "--device cpu" in result.sentence


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sumarize", "x"), "summarize"),  # what is probably meant
        (("ask",), "QUESTION"),
        (("ask", "contract.txt"), "not a question"),
        (("ask", "contract.txt", "Who pays?"), 'samba ask "Who pays?" contract.txt'),
        (("ask", "  ", "contract.txt"), "empty"),
        (("ask", QUESTION, "contract.txt", "--memory", "book"), "samba append book contract.txt"),
        (("summarize", "contract.txt", "--length", "huge"), "--length"),
        (("summarize", "contract.txt", "--style", "poem"), "--style"),
        (("summarize", "contract.txt", "--device", "tpu"), "--device"),
        (("summarize", "contract.txt", "--max-file-size", "big"), "--max-file-size"),
        (("summarize", "contract.txt", "--pages", "3-1"), "3-1"),
        (("summarize", "contract.txt", "--encoding", "klingon"), "klingon"),
        (("summarize", "contract.txt", "-0"), "--files-from"),
        (("summarize", "-", "-"), "once"),
        (("ask", QUESTION, "contract.txt", "-o", "absent/answer.txt"), "absent"),
        (("read", "-"), "--as"),
        (("read", "contract.txt", "--as", "../x"), "../x"),
        (("chat",), "samba chat PATH"),
        (("chat", "-"), "questions"),
        (("config", "show", "--nonsense"), "--nonsense"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert said in result.sentence
    assert result.stdout == ""


def test_errors_as_json() -> None:
    result = run("ask", QUESTION, "absent.txt", "--json")
    assert result.code == 3
    assert result.json["samba"] == 1
    assert result.json["error"]["code"] == 3
    assert result.json["error"]["kind"] == "unreadable"
    assert result.json["error"]["message"] == result.sentence
    assert run("ask", "--json", "--nonsense").json["error"]["kind"] == "usage"


def test_configuration(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / ".home" / "config" / "samba-cli" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('length = "short"\nstyle = "bullets"\n')
    shown = run("config", "show").stdout
    assert 'length = "short"' in shown
    monkeypatch.setenv("SAMBA_LENGTH", "120")
    assert "length = 120" in run("config", "show").stdout
    file.write_text('lenght = "short"\n')
    result = run("config", "show")
    assert result.code == 2
    assert "lenght" in result.sentence
    file.write_text("length = short\n")
    assert "config.toml" in run("config", "show").sentence


def test_a_fault_of_ours_goes_to_the_log(home: Path) -> None:
    from samba_cli.failures import failure

    what = failure(ZeroDivisionError("division by zero"), ["ask"])
    assert what.code == 1
    assert "error.log" in what.message
    log = home / ".home" / "state" / "samba-cli" / "error.log"
    assert "ZeroDivisionError: division by zero" in log.read_text()
    assert failure(MemoryError(), []).code == 7
