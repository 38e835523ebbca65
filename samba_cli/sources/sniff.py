"""What a file is: by its first bytes, then by its name."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import PurePosixPath

from samba_cli.sources.git import is_git_text
from samba_cli.sources.source import READ_ERRORS, Problem, Source
from samba_cli.sources.text import looks_binary

LOCK_FILES = frozenset(
    [
        "package-lock.json",
        "npm-shrinkwrap.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "bun.lock",
        "bun.lockb",
        "deno.lock",
        "poetry.lock",
        "Pipfile.lock",
        "pdm.lock",
        "uv.lock",
        "pixi.lock",
        "conda-lock.yml",
        "Cargo.lock",
        "go.sum",
        "go.work.sum",
        "composer.lock",
        "Gemfile.lock",
        "Podfile.lock",
        "Package.resolved",
        "packages.lock.json",
        "paket.lock",
        "mix.lock",
        "pubspec.lock",
        "flake.lock",
        "gradle.lockfile",
        "buildscript-gradle.lockfile",
        "stack.yaml.lock",
        "cabal.project.freeze",
        "Manifest.toml",
        ".terraform.lock.hcl",
        "MODULE.bazel.lock",
    ]
)
# A Julia Manifest.toml is a lock file; other tools use the name for files written by hand.
_UNSURE_LOCK_FILES = frozenset({"Manifest.toml"})

_MARKDOWN = frozenset([".md", ".markdown", ".mdown", ".mkd", ".mdx", ".rmd", ".qmd"])
_HTML = frozenset([".html", ".htm", ".xhtml"])
_GIT_NAMES = frozenset(["", ".patch", ".diff", ".log", ".mbox", ".txt"])
_IMAGE_TEXT = frozenset([".svg", ".eps", ".ai", ".ps", ".xpm"])  # text that is a picture
_LANGUAGES = {
    "Python": ".py .pyi .pyx .pxd", "JavaScript": ".js .mjs .cjs .jsx",
    "TypeScript": ".ts .tsx .mts .cts", "C": ".c .h",
    "C++": ".cc .cpp .cxx .hh .hpp .hxx .ipp .inl", "CUDA": ".cu .cuh", "C#": ".cs",
    "Java": ".java", "Kotlin": ".kt .kts", "Scala": ".scala .sc", "Groovy": ".groovy .gradle",
    "Go": ".go", "Rust": ".rs", "Zig": ".zig", "Swift": ".swift", "Objective-C": ".m .mm",
    "Ruby": ".rb .rake .gemspec", "PHP": ".php", "Perl": ".pl .pm", "Lua": ".lua", "R": ".r",
    "Julia": ".jl", "Haskell": ".hs", "OCaml": ".ml .mli", "F#": ".fs .fsx", "Elixir": ".ex .exs",
    "Erlang": ".erl .hrl", "Clojure": ".clj .cljs .cljc .edn", "Lisp": ".lisp .el .scm .rkt",
    "Dart": ".dart", "Nim": ".nim", "Fortran": ".f .f90 .f95 .for", "Pascal": ".pas", "D": ".d",
    "Ada": ".adb .ads", "COBOL": ".cob .cbl", "Assembly": ".s .asm", "Verilog": ".v .sv .svh",
    "VHDL": ".vhd .vhdl", "Solidity": ".sol", "Shell": ".sh .bash .zsh .fish .ksh",
    "PowerShell": ".ps1 .psm1", "Batch": ".bat .cmd", "SQL": ".sql", "GraphQL": ".graphql .gql",
    "Protocol Buffers": ".proto", "Thrift": ".thrift", "CSS": ".css .scss .sass .less",
    "Vue": ".vue", "Svelte": ".svelte", "Astro": ".astro", "JSON": ".json .jsonc .json5",
    "YAML": ".yaml .yml", "TOML": ".toml", "INI": ".ini .cfg .conf .properties .env",
    "XML": ".xml .xsd .xsl .xslt", "HCL": ".tf .tfvars .hcl", "Nix": ".nix", "CMake": ".cmake",
    "Make": ".mk", "Starlark": ".bzl .bazel .star", "Template": ".j2 .jinja .erb .ejs .hbs",
}  # fmt: skip
_LANGUAGE_OF = {ext: name for name, exts in _LANGUAGES.items() for ext in exts.split()}
_CODE_NAMES = {
    "makefile": "Make", "gnumakefile": "Make", "dockerfile": "Docker", "containerfile": "Docker",
    "cmakelists.txt": "CMake", "justfile": "Just", "rakefile": "Ruby", "gemfile": "Ruby",
    "jenkinsfile": "Groovy", "vagrantfile": "Ruby", "build": "Starlark", "workspace": "Starlark",
    "meson.build": "Meson", "pkgbuild": "Shell",
}  # fmt: skip
# Kinds that another kind may be forced on: their bytes are all text.
TEXT_KINDS = ("text", "markdown", "code", "git", "html", "notebook")
_ARCHIVE_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")


def language(name: str) -> str | None:
    """The programming or data language a file name tells, or None."""
    path = PurePosixPath(name)
    return _CODE_NAMES.get(path.name.lower()) or _LANGUAGE_OF.get(path.suffix.lower())


def kind_of(source: Source, head: bytes) -> str:
    """A kind of KINDS, or "archive". Raises Problem: empty, binary, corrupt.

    `head`: the first HEAD_BYTES of the source.
    """
    if not head:
        raise Problem(source.name, "empty")
    # Readers accept some bytes before the header of a PDF (ISO 32000-1, implementation note 13).
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(source)
    if head.startswith(b"PK\x05\x06"):
        raise Problem(source.name, "empty")
    if head.startswith(_ARCHIVE_MAGIC) or head[257:262] == b"ustar":
        return "archive"
    if looks_binary(head):
        raise Problem(source.name, "binary")
    return _text_kind(source.member or source.name, head)


def _zip_kind(source: Source) -> str:
    try:
        with source.open_random() as stream, zipfile.ZipFile(stream) as archive:
            names = set(archive.namelist())
    except READ_ERRORS:
        raise Problem(source.name, "corrupt") from None
    if "word/document.xml" in names:
        return "docx"
    if "META-INF/container.xml" in names:
        return "epub"
    if names & {"xl/workbook.xml", "ppt/presentation.xml", "content.xml", "AndroidManifest.xml"}:
        raise Problem(source.name, "binary")
    return "archive"


def _text_kind(name: str, head: bytes) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    start = head[:2048].lstrip(b"\xef\xbb\xbf \t\r\n")
    if suffix in _MARKDOWN:
        return "markdown"
    if suffix in _HTML:
        return "html"
    if suffix in (".ipynb", "") and start.startswith(b"{") and b'"cells"' in start:
        return "notebook"
    if language(name) is not None:
        return "code"
    if re.match(rb"<!doctype\s+html|<html[\s>]", _after_prolog(start), re.I):
        return "html"
    if start.startswith(b"#!"):
        return "code"
    if suffix in _GIT_NAMES and is_git_text(head.decode("utf-8", "replace"), suffix):
        return "git"
    return "text"


def _after_prolog(markup: bytes) -> bytes:
    for opening, closing in ((b"<?xml", b"?>"), (b"<!--", b"-->")):
        while markup.startswith(opening):
            markup = markup.partition(closing)[2].lstrip()
    return markup


def unwanted(source: Source, kind: str, head: bytes) -> str | None:
    """Why a file of a folder is no use to a reader, though its text could be read."""
    path = PurePosixPath(source.member or source.name)
    if path.name in LOCK_FILES - _UNSURE_LOCK_FILES:
        return "lock-file"
    if path.name in _UNSURE_LOCK_FILES and b"julia_version" in head:
        return "lock-file"
    if path.suffix.lower() in _IMAGE_TEXT:
        return "binary"
    if kind != "code":
        return None
    if path.name.endswith((".min.js", ".min.css", ".js.map", ".css.map")):
        return "generated"
    lines = sum(1 for _ in io.BytesIO(head))
    return "generated" if len(head) > 20_000 * lines else None
