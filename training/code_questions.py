"""Make questions about code of which the evidence is known: the evaluation set `code`.

    python -m training.code_questions --code heldout-code.jsonl.xz --out EVAL/code.jsonl.xz

`--code` is what training.code_corpus held out. A document is some files of a package joined, each
headed by a comment with its path. Two questions in three are the first sentence of a function's
docstring, as people ask; that docstring is cut out of the document, the others remain. The third
is a function's name in words ("where are the cookies merged?"). The evidence is the function: its
head and so much of its body that it has at most 1,000 characters; the answer is its name. Records
are those of the evaluation files, and the same for the same --seed.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.code_phrasing import asked, first_sentence, is_telling, named, plain
from training.shards import Record, read_shard, write_shard
from training.words import content_words, squeeze

# Characters of a document before docstrings are cut out; no file is added from CLOSED on.
SHORTEST, CLOSED, LONGEST = 70_000, 90_000, 150_000
MOST_QUESTIONS = 12  # of a document
SPAN = 1000  # characters of the evidence, the size of a passage
_LEAST_LINES = 4

File = tuple[str, str]  # path, text


@dataclass(frozen=True)
class Function:
    """A function or method of a file; offsets count into the file's text."""

    name: str
    start: int  # of "def" or "async"
    end: int
    docstring: tuple[int, int] | None  # its lines, the last line break included
    sentence: str  # the first of the docstring, on one line, marked up as it is there
    lines: int  # that are not empty, the docstring's left out


# Reading code


def functions(text: str) -> list[Function]:
    """The functions and methods of a file, none inside another; [] for what is no Python 3."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    found: list[Function] = []

    def visit(nodes: Iterable[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.append(_function(node, lines, starts))
            elif isinstance(node, ast.ClassDef | ast.If | ast.Try):
                visit(node.body)

    visit(tree.body)
    return found


def _function(
    node: ast.FunctionDef | ast.AsyncFunctionDef, lines: Sequence[str], starts: Sequence[int]
) -> Function:
    first, last = node.lineno - 1, node.end_lineno or node.lineno
    start = starts[first] + len(lines[first]) - len(lines[first].lstrip())
    cut, own = None, range(first, last)
    documented, sentence = ast.get_docstring(node), ""
    if documented and len(node.body) > 1:
        begin, end = node.body[0].lineno - 1, node.body[0].end_lineno or 0
        if begin > first and node.body[1].lineno - 1 >= end:
            cut = starts[begin], starts[end]
            own = [i for i in own if not begin <= i < end]
            sentence = first_sentence(documented)
    return Function(
        node.name, start, starts[last] - 1, cut, sentence, sum(bool(lines[i].strip()) for i in own)
    )


# Documents


def documents(files: Iterable[File]) -> list[list[File]]:
    """Files in the order of their paths, so many that a document is neither short nor long."""
    done: list[list[File]] = []
    some: list[File] = []
    size = 0
    for path, text in sorted(files):
        if size + len(text) > LONGEST and size >= SHORTEST:
            done.append(some)
            some, size = [], 0
        if size + len(text) > LONGEST:
            done.append([(path, text)])
            continue
        some.append((path, text))
        size += len(text)
        if size >= CLOSED:
            done.append(some)
            some, size = [], 0
    return [*done, some] if size >= SHORTEST else done


@dataclass(frozen=True)
class _Asked:
    path: str
    function: Function
    question: str
    described: bool  # by its docstring, which is cut out


def _joined(files: Sequence[File], chosen: Sequence[_Asked]) -> tuple[str, dict[_Asked, int]]:
    """The document less the docstrings asked about, and where each function begins in it."""
    document = ""
    begins: dict[_Asked, int] = {}
    for path, text in files:
        document += f"# {path}\n\n"
        here = [one for one in chosen if one.path == path]
        at = 0
        for one in sorted(here, key=lambda one: one.function.start):
            begins[one] = len(document) + one.function.start - at
            if one.described and one.function.docstring:
                start, end = one.function.docstring
                document += text[at:start]
                at = end
        document += text[at:].rstrip("\n") + "\n\n\n"
    return document, begins


def _evidence(document: str, start: int, one: _Asked) -> tuple[int, int]:
    """The function from its head on, whole lines where it is longer than SPAN."""
    cut = one.function.docstring if one.described else None
    end = start + one.function.end - one.function.start - (cut[1] - cut[0] if cut else 0)
    if end - start > SPAN:
        whole = document.rfind("\n", start, start + SPAN)
        end = whole if whole > start else start + SPAN
    return start, end


class _Maker:
    """Chooses what is asked; `files` are all there are, so that no sentence is asked twice."""

    def __init__(self, files: Iterable[File], seed: int) -> None:
        self.seed = seed
        self.functions = {path: functions(text) for path, text in files}
        every = [one for some in self.functions.values() for one in some]
        self.sentences = Counter(self._key(one.sentence) for one in every)
        self.known = Counter(
            word for one in every for word in set(re.findall(r"[a-z]+", one.sentence))
        )

    @staticmethod
    def _key(sentence: str) -> frozenset[str]:
        return frozenset(content_words(plain(sentence)))

    def described(self, files: Sequence[File]) -> list[_Asked]:
        held = squeeze(" ".join(text for _, text in files)).lower()
        return [
            _Asked(path, one, asked(one.sentence, self._random(path, one)), True)
            for path, one in self._every(files)
            if is_telling(one.sentence)
            and self.sentences[self._key(one.sentence)] == 1
            and held.count(one.sentence.lower().rstrip(".")) == 1  # nor does a comment say it
        ]

    def named(self, files: Sequence[File]) -> list[_Asked]:
        words = Counter(
            frozenset(one.name.strip("_").lower().split("_"))
            for path, _ in files
            for one in self.functions[path]
        )
        found = []
        for path, one in self._every(files):
            own = frozenset(one.name.strip("_").lower().split("_"))
            if sum(count for other, count in words.items() if own <= other) == 1:
                question = named(one.name, self.known, self._random(path, one))
                found += [_Asked(path, one, question, False)] if question else []
        return found

    def _every(self, files: Sequence[File]) -> Iterable[tuple[str, Function]]:
        for path, _ in files:
            for one in self.functions[path]:
                if one.lines >= _LEAST_LINES and not one.name.startswith(("__", "test")):
                    yield path, one

    def _random(self, path: str, one: Function) -> random.Random:
        return random.Random(f"{self.seed} {path} {one.start}")

    def records(self, package: str, files: Sequence[File], most: int) -> list[Record]:
        """Up to `most` questions about the document that these files make."""
        rng = random.Random(f"{self.seed} {files[0][0]}")
        by_name = self.named(files)
        rng.shuffle(by_name)
        chosen = by_name[: round(most / 3)]
        taken = {id(one.function) for one in chosen}
        described = [one for one in self.described(files) if id(one.function) not in taken]
        rng.shuffle(described)
        chosen += described[: most - len(chosen)]
        document, begins = _joined(files, chosen)
        records = []
        for one in sorted(chosen, key=begins.__getitem__):
            span = _evidence(document, begins[one], one)
            kind = "docstring" if one.described else "name"
            records.append(
                {
                    "task": "qa", "source": f"code:{package}", "doc": document,
                    "question": one.question, "answer": one.function.name, "answerable": True,
                    "id": f"code:{kind}:{one.path}:{one.function.name}:{span[0]}",
                    "evidence": [list(span)],
                }
            )  # fmt: skip
        return records


def questions(code: Iterable[Record], count: int = 150, seed: int = 0) -> list[Record]:
    """About `count` questions, the packages alike; a document of each package in turn."""
    packages: dict[str, list[File]] = defaultdict(list)
    for record in code:
        path, text = record["title"], record["text"]
        if path.endswith(".py") and "test" not in path.lower() and "\r" not in text:
            packages[record["source"].removeprefix("code:")].append((path, text))
    maker = _Maker([file for files in packages.values() for file in files], seed)
    share = -(-count // max(len(packages), 1))
    made = -(-share // MOST_QUESTIONS)  # documents of a package
    turns: list[list[tuple[str, list[File]]]] = [[] for _ in range(made)]
    for package, files in sorted(packages.items()):
        some = documents(files)
        random.Random(f"{seed} {package}").shuffle(some)
        some.sort(key=lambda files: -min(len(maker.described(files)), MOST_QUESTIONS))
        for turn, document in zip(turns, some, strict=False):
            turn.append((package, document))
    most = min(-(-count // max(sum(map(len, turns)), 1)), MOST_QUESTIONS)
    return [
        record
        for turn in turns
        for package, files in turn
        for record in maker.records(package, files, most)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Make questions about held-out code.")
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    records = questions(read_shard(args.code), args.count, args.seed)
    write_shard(args.out, records)
    packages = Counter(record["source"].removeprefix("code:") for record in records)
    print(f"{len(records)} questions about {len({r['doc'] for r in records})} documents:", packages)


if __name__ == "__main__":
    main()
