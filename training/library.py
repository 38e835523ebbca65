"""Reading a built corpus: documents, their passages as text, tokens and words, and look-alikes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.rows import Tokens
from training.shards import Record

Words = npt.NDArray[np.int32]
_NEAR = 96  # passages on either side in which look-alikes of a passage are sought
_HEADING = re.compile(r"\s*#{1,6}[ \t]+([^\n]{2,120})")
_HEADING_LINE = re.compile(r"\s*#{1,6}[ \t]+[^\n]+\n+")


class Library:
    """The arrays that training.corpus wrote, memory-mapped. A passage is known by its number."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError for a folder that is no corpus."""
        self.documents: list[Record] = json.loads((folder / "documents.json").read_text())
        # plain views of the maps: slicing an np.memmap costs several times as much
        self._tokens = np.asarray(np.memmap(folder / "tokens.u16", np.uint16, "r"))
        self._texts = np.asarray(np.memmap(folder / "texts.bin", np.uint8, "r"))
        self._words = np.asarray(np.memmap(folder / "words.i32", np.int32, "r"))
        self._token_offsets, self._text_offsets, self._word_offsets = (
            np.asarray(np.load(folder / f"{name}_offsets.npy", mmap_mode="r"))
            for name in ("token", "text", "word")
        )
        self.starts = np.load(folder / "document_offsets.npy")
        self.rarity = np.asarray(np.load(folder / "rarity.npy", mmap_mode="r"))
        self._postings = np.asarray(np.load(folder / "postings.npy", mmap_mode="r"))
        offsets = np.load(folder / "posting_offsets.npy", mmap_mode="r")
        self._posting_offsets = np.asarray(offsets)
        self.passage_count = len(self._token_offsets) - 1
        self.code = np.array([d["kind"] == "code" for d in self.documents])

    def text(self, passage: int) -> str:
        begin, end = self._text_offsets[passage], self._text_offsets[passage + 1]
        return self._texts[begin:end].tobytes().decode()

    def tokens(self, passage: int) -> Tokens:
        """The tokens of the passage, white space at its end included."""
        begin, end = self._token_offsets[passage], self._token_offsets[passage + 1]
        return np.asarray(self._tokens[begin:end])

    def token_count(self, first: int, last: int) -> int:
        """Tokens of passages first..last-1."""
        return int(self._token_offsets[last] - self._token_offsets[first])

    def words(self, passage: int) -> Words:
        """Buckets of the passage's distinct content words, sorted."""
        begin, end = self._word_offsets[passage], self._word_offsets[passage + 1]
        return np.asarray(self._words[begin:end])

    def document_of(self, passage: int) -> int:
        return int(np.searchsorted(self.starts, passage, "right") - 1)

    def span(self, document: int) -> tuple[int, int]:
        """The passages of a document: first, and one past the last."""
        return int(self.starts[document]), int(self.starts[document + 1])

    def heading(self, passage: int) -> str | None:
        """The Markdown heading that the passage begins with."""
        match = _HEADING.match(self.text(passage))
        return match.group(1).strip(" #*_`") if match else None

    def body(self, passage: int) -> str:
        """The passage less its first heading."""
        return _HEADING_LINE.sub("", self.text(passage), count=1)

    def subject(self, passage: int) -> str:
        """What its document is about: the title less an author and what stands in brackets."""
        title = str(self.documents[self.document_of(passage)]["title"])
        return re.sub(r", by .*| \([^)]*\)", "", title)

    def weight(self, words: Words) -> float:
        """How much the words say: the sum of their rarities."""
        return float(self.rarity[words].sum())

    def overlap(self, query: Words, first: int, last: int) -> npt.NDArray[np.float32]:
        """For passages first..last-1, the rarity of the query words that each has, summed."""
        begin, end = int(self._word_offsets[first]), int(self._word_offsets[last])
        window = np.asarray(self._words[begin:end])
        place = np.searchsorted(query, window)
        place[place == len(query)] = 0
        hit = query[place] == window if len(query) else np.zeros(len(window), bool)
        gains = np.where(hit, self.rarity[window], 0.0)
        offsets = np.asarray(self._word_offsets[first : last + 1]) - begin
        sums = np.concatenate([[0.0], np.cumsum(gains)])
        return (sums[offsets[1:]] - sums[offsets[:-1]]).astype(np.float32)

    def near(self, passage: int) -> tuple[int, int]:
        """A stretch of the passage's document around it."""
        first, last = self.span(self.document_of(passage))
        return max(first, passage - _NEAR), min(last, passage + _NEAR + 1)

    def elsewhere(self, query: Words, document: int, rng: np.random.Generator) -> list[int]:
        """Passages of other documents that share rare words with the query, best first."""
        first, last = self.span(document)
        lists, gains = [], []
        for word in rng.permutation(query)[:24]:
            begin, end = self._posting_offsets[word], self._posting_offsets[word + 1]
            lists.append(np.asarray(self._postings[begin:end]))
            gains.append(np.full(end - begin, self.rarity[word]))
        if not lists:
            return []
        found, which = np.unique(np.concatenate(lists), return_inverse=True)
        scores = np.bincount(which, np.concatenate(gains), len(found))
        keep = (found < first) | (found >= last)
        found, scores = found[keep], scores[keep]
        return found[np.argsort(-scores, kind="stable")[:8]].tolist()

    def negatives(
        self,
        query: Words,
        passage: int,
        count: int,
        rng: np.random.Generator,
        avoid: str | None = None,
        taken: Sequence[int] = (),
    ) -> list[int]:
        """Up to `count` passages that look like an answer to the query and are none.

        Most of them share the query's words within the document of `passage`, the rest are its
        neighbours, look-alikes from other documents and passages from anywhere. None contains
        the text `avoid`, none is `passage` or among `taken`.
        """
        first, last = self.near(passage)
        scores = self.overlap(query, first, last)
        similar = (first + np.argsort(-scores, kind="stable")[: count + 4]).tolist()
        beside = [p for p in (passage - 1, passage + 1, passage - 2, passage + 2)
                  if first <= p < last]  # fmt: skip
        chosen: list[int] = []
        seen = {passage, *taken}
        avoided = None if avoid is None else avoid.lower()
        others: list[int] | None = None
        for _ in range(4 * count + 8):
            if len(chosen) == count:
                break
            source = rng.random()
            if source < 0.62 and similar:
                candidate = similar.pop(0)
            elif source < 0.76 and beside:
                candidate = beside.pop(int(rng.integers(len(beside))))
            elif source < 0.95:
                if others is None:
                    others = self.elsewhere(query, self.document_of(passage), rng)
                if not others:
                    continue
                candidate = others.pop(0)
            else:
                candidate = int(rng.integers(self.passage_count))
            if candidate in seen:
                continue
            seen.add(candidate)
            if avoided is not None and avoided in self.text(candidate).lower():
                continue
            chosen.append(candidate)
        return chosen
