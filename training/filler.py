"""Long text that the model has never seen: held-out documents end to end, none of them twice."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from pathlib import Path

from samba_cli.model import Tokenizer
from training.shards import Record, read_shard

_BATCH = 64  # documents encoded together


class Filler:
    """Held-out documents, encoded once."""

    def __init__(self, path: Path, tokenizer: Tokenizer, kinds: Sequence[str] = ()) -> None:
        """Documents of these kinds; of all where none is named.

        Raises FileNotFoundError for a missing file and ValueError where it has no such document.
        """
        self.tokenizer = tokenizer
        self.records: list[Record] = [
            record for record in read_shard(path) if not kinds or record["kind"] in kinds
        ]
        if not self.records:
            raise ValueError(f"{path}: no document of {', '.join(kinds) or 'any kind'}")
        self._ids: list[array[int]] = []
        for start in range(0, len(self.records), _BATCH):
            texts = [record["text"] for record in self.records[start : start + _BATCH]]
            self._ids += [array("H", ids) for ids in tokenizer.encode_batch(texts)]

    @property
    def tokens(self) -> int:
        return sum(map(len, self._ids))

    def order(self, seed: int) -> list[int]:
        """The numbers of all documents, in an order of this seed's own."""
        return random.Random(seed).sample(range(len(self.records)), len(self.records))

    def ids(self, document: int) -> array[int]:
        return self._ids[document]

    def text(self, tokens: int, seed: int) -> str:
        """`tokens` tokens of text, blank lines between documents not counted: in the order of the
        seed, the last document cut short. Longer texts of a seed begin with the shorter ones.

        Raises ValueError where there is not so much.
        """
        parts, missing = [], tokens
        for document in self.order(seed):
            ids = self._ids[document]
            if len(ids) > missing:
                parts.append(self.tokenizer.decode(ids[:missing]).removesuffix("�"))
            else:
                parts.append(self.records[document]["text"])
            missing -= len(ids)
            if missing <= 0:
                return "\n\n".join(parts)
        raise ValueError(f"there are {tokens - missing:,} tokens of text, not {tokens:,}")
