"""Does what was read stay findable? Facts hidden in long text, by length and by depth.

    python -m training.passkey --text TEXT/heldout.jsonl.zst --out passkey.json [--device cuda]

Three tests, for the same lengths and depths. `one`: the text is a file with one fact; it is read,
and the fact is asked for, as `samba ask` does (find, replay, answer). `ten`: the same with ten
facts in the text, one at every depth. `state`: a text with one fact is read, and the question
follows at once, with no passage found or shown again: only the state can have the number. The text
is held-out documents laid end to end, none twice; every seed has an order of documents, keys,
numbers and words of its own.

A run that is out of time says how much it asked: counts of right answers and of questions, never
shares alone. `training.evidence` draws the heat map and writes the tables.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from samba_cli.answer import answer_all, together
from samba_cli.apart import Apart, worth_a_process
from samba_cli.checkpoint import open_read_folder
from samba_cli.dialect import dialect_of
from samba_cli.documents import Document, Part
from samba_cli.model import Model, State, Tokenizer, default_model_path, load_for_reading
from samba_cli.model.generation import Sampling
from samba_cli.parsing import Piece, Position, parse
from samba_cli.reader import ReadOptions, read
from samba_cli.sources.load import load
from samba_cli.sources.options import SourceOptions
from samba_cli.writing import write
from training.filler import Filler
from training.needles import Needle, hide, is_right, needles

TESTS = ("one", "ten", "state")
LENGTHS = (4_096, 16_384, 65_536, 262_144, 1_048_576)  # tokens
DEPTHS = tuple(round(i / 9, 3) for i in range(10))
_ROOM = 32  # tokens that a hidden fact may take
_CHUNK, _CHUNK_CPU = 8_192, 512  # tokens of a row read at once
_WRONG_KEPT = 40  # wrong answers kept to be looked at


@dataclass
class Table:
    """Counts by length (rows) and depth (columns)."""

    lengths: Sequence[int]
    right: list[list[int]] = field(init=False)
    asked: list[list[int]] = field(init=False)
    first: list[list[int]] = field(init=False)  # the fact's own passage is the first one cited
    wrong: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("right", "asked", "first"):
            setattr(self, name, [[0] * len(DEPTHS) for _ in self.lengths])

    def count(self, length: int, depth: int, fact: Needle, said: str, first: bool = False) -> None:
        row, right = self.lengths.index(length), is_right(said, fact)
        self.asked[row][depth] += 1
        self.right[row][depth] += right
        self.first[row][depth] += first
        if not right and len(self.wrong) < _WRONG_KEPT:
            where = {"tokens": length, "depth": DEPTHS[depth]}
            self.wrong.append(
                {**where, "question": fact.question, "number": fact.number, "said": said[:200]}
            )


class Passkey:
    """The tests, with the model loaded once."""

    def __init__(self, folder: Path, device: str, text: Path, lengths: Sequence[int]) -> None:
        """Raises what loading the model and `Filler` raise."""
        self.folder = folder
        self.model: Model = load_for_reading(folder, device)
        self.tokenizer = Tokenizer.load(folder)
        self.filler = Filler(text, self.tokenizer)
        self.lengths = lengths
        self.tokens = 0  # read, all texts together

    def steps(self, which: str, length: int, seed: int, table: Table) -> list[Callable[[], None]]:
        """What one of TESTS does for a length and a seed, in parts between which it can stop."""
        if which == "state":
            return [partial(self._state, length, seed, table)]
        groups = [[depth] for depth in range(len(DEPTHS))]
        groups = [list(range(len(DEPTHS)))] if which == "ten" else groups
        return [partial(self._program, length, seed, depths, table) for depths in groups]

    def _program(self, length: int, seed: int, depths: Sequence[int], table: Table) -> None:
        """One text with facts at these depths, asked for each of them as `samba ask` does."""
        known = needles(len(DEPTHS), seed)
        facts = [known[depth] for depth in depths]
        text = self.filler.text(length - _ROOM * len(facts), seed)
        text = hide(text, facts, [DEPTHS[depth] for depth in depths], seed)
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "document.txt"
            path.write_text(text, encoding="utf-8", newline="")
            with open_read_folder(None, self.model, self.tokenizer, resume=False) as work:
                apart = self.model.device.type != "cpu" and worth_a_process([str(path)])
                report = read(
                    Apart((str(path),), SourceOptions(), self.folder)
                    if apart
                    else lambda: load([str(path)], SourceOptions()),
                    self.model, self.tokenizer, work, ReadOptions(),
                )  # fmt: skip
                self.tokens += report.tokens
                answers = answer_all(
                    [fact.question for fact in facts], work.state, work.index, self.model,
                    self.tokenizer, rows=together(self.model),
                )  # fmt: skip
                for depth, fact, found in zip(depths, facts, answers, strict=True):
                    first = bool(found.evidence) and fact.number in found.evidence[0].quote
                    table.count(length, depth, fact, found.text if found.found else "", first)

    def _state(self, length: int, seed: int, table: Table) -> None:
        """As many texts as depths, each with one fact, read side by side and asked at once."""
        facts = needles(len(DEPTHS), seed)
        stream, ends = self._stream(length, seed)
        rows = [
            self._planted(stream, ends, fact, depth, length)
            for fact, depth in zip(facts, DEPTHS, strict=True)
        ]
        for depth, (fact, state) in enumerate(zip(facts, self._read(rows), strict=True)):
            dialect = dialect_of(self.tokenizer)
            prompt = dialect.answer(fact.question, ())
            said = write(self.model, dialect, state, prompt, Sampling(max_tokens=24))
            table.count(length, depth, fact, said.text)

    def _stream(self, length: int, seed: int) -> tuple[array[int], list[int]]:
        """At least `length` tokens as the reader reads them, and where passages end in them."""
        # The marks of passages take room as well, so less text would do.
        text = self.filler.text(min(length, self.filler.tokens), seed)
        document = Document("document.txt", "text", lambda: iter([Part(text, line=1)]))
        stream: array[int] = array("q")
        ends = [0]
        for batch in parse([document], self.tokenizer, Position()):
            for piece in batch:
                if isinstance(piece, Piece) and len(stream) < length:
                    stream += array("q", piece.tokens)
                    ends.append(len(stream))
        return stream, ends

    def _planted(
        self, stream: array[int], ends: Sequence[int], fact: Needle, depth: float, length: int
    ) -> array[int]:
        """Exactly `length` tokens: the stream, cut off, with the fact as a passage of its own."""
        own = array("q", dialect_of(self.tokenizer).passages([fact.said])[0])
        rest = length - len(own)
        place = max((end for end in ends if end <= depth * rest), default=0)
        if depth >= 1:
            place = rest
        return stream[:place] + own + stream[place:rest]

    @torch.inference_mode()
    def _read(self, rows: Sequence[array[int]]) -> Iterator[State]:
        """The state of each row after all of it was read, a batch of all rows together."""
        state = self.model.initial_state(len(rows))
        tokens = torch.stack([torch.frombuffer(row, dtype=torch.int64) for row in rows])
        nothing = torch.empty(0, dtype=torch.long, device=self.model.device)
        chunk = _CHUNK_CPU if self.model.device.type == "cpu" else _CHUNK
        for start in range(0, tokens.shape[1], chunk):
            part = tokens[:, start : start + chunk].to(self.model.device)
            self.model(part, state, at=nothing)
        self.tokens += tokens.numel()
        for row in range(len(rows)):
            yield state.select(row)


def run(
    test: Passkey,
    which: str,
    seeds: Sequence[int],
    seconds: float,
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """One of the tests, seed after seed, all lengths of each; until the time is up.

    `save` gets the counts so far after every text, or every batch of texts.
    """
    table, began = Table(test.lengths), time.monotonic()
    slowest: dict[int, float] = {}
    left_out = 0

    def counts() -> dict[str, Any]:
        return {
            "lengths": list(test.lengths), "depths": list(DEPTHS), "seeds": list(seeds),
            "right": table.right, "asked": table.asked,
            **({"first": table.first} if which != "state" else {}),
            "seconds": round(time.monotonic() - began, 1), "left_out": left_out,
            "wrong": table.wrong,
        }  # fmt: skip

    for seed, length in product(seeds, test.lengths):
        for step in test.steps(which, length, seed, table):
            started = time.monotonic()
            if started - began + slowest.get(length, 0.0) > seconds:
                left_out += 1
                continue  # a shorter one may still fit
            step()
            slowest[length] = max(slowest.get(length, 0.0), time.monotonic() - started)
            save(counts())
    save(counts())
    return counts()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="held-out records (.jsonl.zst)")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--model", type=Path, default=default_model_path())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tests", nargs="+", choices=TESTS, default=list(TESTS))
    parser.add_argument("--lengths", nargs="+", type=int, default=list(LENGTHS), help="tokens")
    parser.add_argument("--seeds", nargs=2, type=int, default=[0, 10], metavar=("FIRST", "END"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of each test, at most")
    args = parser.parse_args()
    test = Passkey(args.model, args.device, args.text, args.lengths)
    report: dict[str, Any] = {
        "what": "passkey", "model_sha256": test.model.fingerprint, "device": _device(args.device)
    }  # fmt: skip

    def save(which: str, counts: dict[str, Any]) -> None:
        report[which] = counts
        args.out.write_text(json.dumps(report) + "\n", encoding="utf-8")

    for which in args.tests:
        found = run(test, which, range(*args.seeds), args.seconds, partial(save, which))
        rows = zip(args.lengths, found["right"], found["asked"], strict=True)
        shares = {str(length): f"{sum(right)}/{sum(asked)}" for length, right, asked in rows}
        print(json.dumps({"test": which, **shares, "seconds": found["seconds"]}), flush=True)


def _device(name: str) -> str:
    return torch.cuda.get_device_name(name) if name.startswith("cuda") else "CPU"


if __name__ == "__main__":
    main()
