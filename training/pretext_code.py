"""Code: functions and their docstrings, and questions about what a file defines."""

from __future__ import annotations

import re
import textwrap

import numpy as np

from training.code_phrasing import first_paragraph
from training.library import Library
from training.pretext_spans import how_many, judged, pick_passage
from training.rows import Formats, Row, Tokens
from training.words import content_words, hashed

_FUNCTION = re.compile(
    r"^(?P<head>(?P<indent>[ \t]*)(?:async )?(?:def|class) (?P<name>\w+)"
    r"(?:(?!:[ \t]*\n).){0,500}:[ \t]*\n)"
    r"(?P<doc>\s*[rR]?(?P<quote>\"\"\"|''')(?P<text>.{20,1500}?)(?P=quote)[ \t]*\n)",
    re.MULTILINE | re.DOTALL,
)
_DEFINITION = re.compile(r"^[ \t]*(?:async )?(def|class) (\w{3,40})", re.MULTILINE)
_ASSIGNED = re.compile(r"^([A-Z][A-Z0-9_]{3,40})(?:: [\w\[\], ]+)? = ", re.MULTILINE)

_WHERE = (
    "where is {x} defined", "Where is {x} defined?", "Where is the definition of {x}?", "{x}",
    "which code implements {x}?", "find the definition of {x}", "Where is {x} implemented?",
    "implementation of {x}",
)  # fmt: skip
_SAID = (
    "{x}", "{x}", "{x}?", "Where does it {x}?", "which function {x}?", "how do I {x}",
    "code that does this: {x}", "Which part of the code is to {x}?",
)  # fmt: skip
_DOES = (
    "What does {x} do?", "what does {x} do", "Explain {x}.", "What is {x} for?",
    "What is the purpose of {x}?", "describe {x}",
)  # fmt: skip


def _words_of(name: str) -> str:
    """`read_json_file` and `ReadJsonFile` as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").strip().lower()


def _function(library: Library, rng: np.random.Generator) -> tuple[int, str, re.Match[str]] | None:
    """A function with a docstring, in one passage or two that follow each other."""
    for _ in range(30):
        passage = pick_passage(library, rng, code=True)
        _, last = library.span(library.document_of(passage))
        text = library.text(passage) + (library.text(passage + 1) if passage + 1 < last else "")
        found = [m for m in _FUNCTION.finditer(text) if len(text) - m.end() > 60]
        if found:
            return passage, text, found[int(rng.integers(len(found)))]
    return None


def _body(text: str, match: re.Match[str]) -> str:
    """The function less its docstring: the lines that are indented deeper than its head."""
    indent = len(match["indent"].expandtabs())
    lines = []
    for line in text[match.end() :].splitlines():
        if line.strip() and len(line.expandtabs()) - len(line.expandtabs().lstrip()) <= indent:
            break
        lines.append(line)
    return textwrap.dedent(match["head"] + "\n".join(lines)).rstrip()


def docstring(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """The first paragraph of a docstring from the code without it."""
    found = _function(library, rng)
    if found is None:
        return None
    _, text, match = found
    code, wanted = _body(text, match), first_paragraph(match["text"])
    if len(wanted) < 12 or code.count("\n") < 2:
        return None
    return formats.written("docstring", wanted, code=formats.encode(code, formats.losses.text))


def purpose(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """'What does X do?', answered by the docstring, from the passage that has it, or from code."""
    found = _function(library, rng)
    if found is None:
        return None
    passage, text, match = found
    name, wanted = match["name"], first_paragraph(match["text"])
    if name.startswith("__") or len(wanted) < 12:
        return None
    shown = _body(text, match) + "\n\n" if rng.random() < 0.5 else text[match.start() :][:1000]
    tokens = [np.array(formats.tokenizer.encode(shown), np.uint16)]
    question = _DOES[int(rng.integers(len(_DOES)))].format(x=name)
    others = library.negatives(
        hashed(content_words(question)), passage, int(rng.integers(0, 3)), rng, name, (passage + 1,)
    )
    tokens += [library.tokens(p) for p in others]
    order = rng.permutation(len(tokens)).tolist()
    if len(others) and rng.random() < 0.2:
        return formats.answering(question, tokens[1:], None)
    return formats.answering(question, [tokens[i] for i in order], wanted)


def where(library: Library, formats: Formats, rng: np.random.Generator) -> Row | None:
    """'Where is X defined?' or a docstring as the question, marks over passages of code."""
    asked = (_described if rng.random() < 0.45 else _named)(library, formats, rng)
    if asked is None:
        return None
    question, passage, shown, avoid = asked
    query = hashed(content_words(question.replace("_", " ")))
    if len(query) == 0 or len(shown) < 10:
        return None
    count = how_many(rng)
    entries: list[tuple[Tokens, bool]] = [(shown, True)] if count > 1 or rng.random() < 0.5 else []
    others = library.negatives(query, passage, count - len(entries), rng, avoid)
    entries += [(_cut(library, formats, p, rng), False) for p in others]
    return judged(formats, question, entries, rng)


_Asked = tuple[str, int, Tokens, str]  # question, its passage, what of it is shown, a name to avoid


def _described(library: Library, formats: Formats, rng: np.random.Generator) -> _Asked | None:
    """A function by what its docstring says, which is cut out."""
    found = _function(library, rng)
    if found is None:
        return None
    passage, text, match = found
    said = re.split(r"(?<=[.!?]) ", first_paragraph(match["text"]))[0].rstrip(".")
    start = match.start()
    if rng.random() < 0.7:  # the program's passages seldom begin with the function asked about
        earlier = max(0, start - int(rng.integers(0, 500)))
        start = text.find("\n", earlier, start) + 1 or match.start()
    shown = (text[start : match.end("head")] + text[match.end() :])[:1000].rstrip()
    form = _SAID[int(rng.integers(len(_SAID)))] if said[:1].isalpha() else "{x}"
    inside = said[:1].lower() + said[1:] if not form.startswith("{") else said
    tokens = np.array(formats.tokenizer.encode(shown + "\n\n"), np.uint16)
    return form.format(x=inside), passage, tokens, match["name"]


def _named(library: Library, formats: Formats, rng: np.random.Generator) -> _Asked | None:
    """A name that a passage defines, as it is written or in words."""
    for _ in range(12):
        passage = pick_passage(library, rng, code=True)
        text = library.text(passage)
        names = [n for _, n in _DEFINITION.findall(text)] + _ASSIGNED.findall(text)
        names = [n for n in names if not n.startswith("__") and n not in {"main", "test"}]
        if names:
            name = names[int(rng.integers(len(names)))]
            said = _words_of(name) if rng.random() < 0.25 else name
            question = _WHERE[int(rng.integers(len(_WHERE)))].format(x=said)
            return question, passage, library.tokens(passage), f"def {name}"
    return None


def _cut(library: Library, formats: Formats, passage: int, rng: np.random.Generator) -> Tokens:
    """A passage that does not answer, often from a definition on: to begin so must say nothing."""
    text = library.text(passage)
    match = _DEFINITION.search(text)
    if match is None or match.start() == 0 or rng.random() < 0.5:
        return library.tokens(passage)
    return np.array(formats.tokenizer.encode(text[match.start() :]), np.uint16)
