"""Imports go one way: samba_cli -> prompts, model -> kernels. Read from the source, not run."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What a file of each folder may import of ours.
ALLOWED = {
    "kernels": ("samba_cli.kernels",),
    "prompts": ("samba_cli.prompts",),
    "model": ("samba_cli.model", "samba_cli.kernels"),
    "samba_cli": ("samba_cli",),
    "training": ("samba_cli", "training"),
    "benchmarks": ("samba_cli", "training", "benchmarks"),
}
OURS = {"samba_cli", "model", "kernels", "prompts", "training", "benchmarks"}
# Beside the standard library; numba compiles loops for a CPU, and the two after it are its own.
LIBRARIES = {"kernels": {"torch", "triton", "numba", "numpy", "llvmlite"}, "prompts": set()}


def python_files(folder: str) -> list[Path]:
    """The files of a folder itself, not those behind the links in samba_cli/."""
    own = (p for p in (ROOT / folder).rglob("*.py") if p.resolve().is_relative_to(ROOT / folder))
    return sorted(own)


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_go_one_way(folder: str) -> None:
    for path in python_files(folder):
        for module in imports(path):
            top = module.partition(".")[0]
            if top in OURS:
                allowed = any(f"{module}.".startswith(f"{name}.") for name in ALLOWED[folder])
                assert allowed, f"{path.relative_to(ROOT)} imports {module}"
            elif folder in LIBRARIES and top not in sys.stdlib_module_names:
                assert top in LIBRARIES[folder], f"{path.relative_to(ROOT)} imports {module}"


def test_kernels_is_no_regular_package() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists(), "it would shadow another distribution"
