"""One setting changes; the rest of config.toml stays as it was written."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli.errors import UsageError
from samba_cli.settings_file import write_setting


def changed(path: Path, before: str, value: str | None) -> str:
    path.write_text(before, encoding="utf-8")
    write_setting(path, "model", value)
    return path.read_text(encoding="utf-8")


def test_a_new_file_and_an_old_line(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.toml"
    write_setting(path, "model", "tiny")
    assert path.read_text() == 'model = "tiny"\n'
    assert changed(path, "# a\n model='x'\nseed = 1", "y") == '# a\nmodel = "y"\nseed = 1'
    assert changed(path, "# a\nmodel = 'x' # b\nseed = 1\n", None) == "# a\nseed = 1\n"
    assert changed(path, "seed = 1\n", None) == "seed = 1\n"
    assert changed(path, 'models = 1\n[t]\nmodel = "x"\n', "y").startswith('model = "y"\nmodels')
    assert [p.name for p in path.parent.iterdir()] == ["config.toml"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    real, link = tmp_path / "dotfiles" / "c.toml", tmp_path / "config.toml"
    real.write_text("seed = 1\n")
    real.chmod(0o600)
    link.symlink_to(real)
    write_setting(link, "model", "x")
    assert link.is_symlink()
    assert real.read_text() == 'model = "x"\nseed = 1\n'
    assert real.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ['model = """\nx\n"""\n', '"model" = "x"\n', "model = \n", "\xff["]
)
def test_what_cannot_be_changed_safely_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(UsageError):
        changed(path, text, "y")
    assert path.read_text(encoding="utf-8") == text


@settings(deadline=None, max_examples=50)
@given(value=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    path = tmp_path_factory.mktemp("settings") / "config.toml"
    try:
        text = changed(path, "# ä\nseed = 1\n", value)
    except UsageError:  # a character TOML does not allow: nothing was changed
        assert path.read_text(encoding="utf-8") == "# ä\nseed = 1\n"
    else:
        assert tomllib.loads(text) == {"model": value, "seed": 1}
