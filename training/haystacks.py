"""Long texts in which short ones are hidden, with questions about those and about others.

    python -m training.haystacks --records chosen.jsonl.xz --text HELDOUT --out haystacks.jsonl.xz

The records of training.sampling are about texts of their own; in a long text many passages look
like an answer by chance, and whether it answers is harder to tell. For each of some lengths, the
short documents of the records that training kept back are put between the paragraphs of held-out
text; as many other records, whose documents are not there, are questions without an answer. The
result has the format of training.sampling; training.features reads it in the same way.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.shards import Record, read_shard, write_shard

SET = "haystack"
CHARACTERS = (40_000, 150_000, 450_000)  # of the long texts
HIDDEN = 40  # questions with an answer in each, and as many without
_SHORT = 3_000  # characters of a document that is hidden, at most
# Their questions say what they are about; "How many are there?" of a table does not.
_SOURCES = ("squadshifts_new_wiki", "qed_nq", "medquad", "adversarialqa_p3", "quoref_p3")
_KINDS = ("encyclopedia", "textbook", "paper", "report", "book")


def short(documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each short document that training kept back, one question that it answers."""
    found = []
    for document in documents:
        answered = [r for r in document["records"] if r["task"] == "qa" and r.get("answerable")]
        fits = document["kept_back"] and document["set"] in _SOURCES
        if fits and len(document["text"]) <= _SHORT and answered:
            found.append({"text": document["text"], "record": answered[0]})
    return found


def straw_texts(path: Path) -> list[str]:
    """The held-out texts of a shard whose paragraphs may be straw."""
    return [r["text"] for r in read_shard(path) if r["kind"] in _KINDS]


def straw(texts: Sequence[str], characters: int, rng: random.Random) -> list[str]:
    """Paragraphs of some texts, about so many characters in all."""
    pieces: list[str] = []
    room = characters
    for text in rng.sample(list(texts), len(texts)):
        for piece in text[: characters // 8].split("\n\n"):
            pieces.append(piece)
            room -= len(piece) + 2
        if room <= 0:
            break
    return pieces


def haystack(
    hidden: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], pieces: Sequence[str],
    name: str, rng: random.Random,
) -> dict[str, Any]:  # fmt: skip
    """The hidden documents somewhere between the pieces, and the questions about both kinds."""
    parts = list(pieces)
    for place in sorted(rng.sample(range(len(parts)), len(hidden)), reverse=True):
        parts.insert(place, hidden[len(parts) - len(pieces)]["text"])
    records: list[Record] = [one["record"] | {"evidence": []} for one in hidden]
    records += [
        one["record"] | {"evidence": [], "answerable": False, "answer": "", "answers": []}
        for one in others
    ]
    named = [record | {"id": f"{name}:{record['id']}"} for record in records]
    return {"text": "\n\n".join(parts), "set": SET, "kept_back": True, "records": named}


def build(
    documents: Sequence[dict[str, Any]], texts: Sequence[str], seed: int = 0
) -> list[dict[str, Any]]:
    """A haystack of each length. Raises ValueError where there are too few short documents."""
    rng = random.Random(seed)
    needles = short(documents)
    count = min(HIDDEN, len(needles) // 2)
    if not count:
        raise ValueError("there are no two short documents that training kept back")
    made = []
    for characters in CHARACTERS:
        drawn = rng.sample(needles, 2 * count)
        pieces = straw(texts, characters, rng)
        # a short text does not hold them all
        some = max(1, min(count, len(pieces) // 4))
        name = f"haystack-{characters // 1000}k"
        made.append(haystack(drawn[:some], drawn[count : count + some], pieces, name, rng))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, required=True, help="of training.sampling")
    parser.add_argument("--text", type=Path, required=True, help="held-out records")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    texts = straw_texts(args.text)
    print(write_shard(args.out, build(list(read_shard(args.records)), texts)), "documents")


if __name__ == "__main__":
    main()
