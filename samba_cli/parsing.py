"""From documents to pieces ready for the model: cut, encoded and counted, ahead of it.

Nothing here needs torch: a process of its own may do it (`apart`).
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from samba_cli.dialect import Dialect, dialect_of
from samba_cli.documents import TEXT_KINDS, Document, Part, Passage, Skipped
from samba_cli.errors import SambaError
from samba_cli.index import row_of
from samba_cli.model.tokenizer import Tokenizer
from samba_cli.passages import cut

# Passages encoded together: the tokenizer does so on all cores. Small batches first, so that
# the model need not wait for the first of them.
_FIRST_BATCH, _BATCH = 8, 64
_LARGE = 1 << 20  # bytes; inside a larger file of another kind the place in bytes is unknown


@dataclass(frozen=True)
class Position:
    """A place in the stream of passages, counted from where this read began."""

    passages: int = 0  # read whole, with their rows in the index
    documents: int = 0  # that these passages belong to
    partial: int = 0  # tokens of the next passage that the state has read as well
    digest: str = ""  # chained SHA-256 of the passages read whole
    next_digest: str = ""  # the same with the next passage, when some of it was read
    finished: bool = False  # the whole input was read


@dataclass(frozen=True)
class Tally:
    """What was parsed so far."""

    documents: int = 0
    characters: int = 0
    pages: int = 0
    bytes: int = 0
    place_known: bool = True  # `bytes` follows the text closely


@dataclass(frozen=True)
class Piece:
    """One passage as the model reads it; the first of a document begins with its name."""

    ordinal: int  # of the document among those with passages, from 1
    document: Document
    row: tuple  # the passage as the index stores it
    tokens: array[int]  # int32
    own: int  # tokens of the passage itself, without the document's name and the mark
    marked: bool  # the last token asks for the relevance mark
    digest: str  # chained over all passages so far
    tally: Tally


@dataclass(frozen=True)
class _Cut:
    document: Document
    passage: Passage
    first: bool  # of its document
    digest: str
    tally: Tally


@dataclass(frozen=True)
class End:
    """The input is over."""

    tally: Tally


class Changed(Exception):
    """The input is not what the interrupted read had before its checkpoint."""


Parsed = list[Piece | Skipped | End]
Cuts = list[_Cut | Skipped | End]


def parse(
    stream: Iterable[Document | Skipped],
    tokenizer: Tokenizer,
    position: Position,
    prompts: Path | None = None,
) -> Iterator[Parsed]:
    """The pieces behind `position`, in order, with what was skipped, and at last one End: some at
    a time.

    Passages before `position` are cut again to verify them, but not encoded. Passages without
    text other than white space are left out. Raises Changed where the text differs, and what a
    document raised where nothing at all could be read.
    """
    return encoded(cuts(stream, position), dialect_of(tokenizer, prompts))


def cuts(stream: Iterable[Document | Skipped], position: Position) -> Iterator[Cuts]:
    """The first half of `parse`: passages cut and counted, some at a time."""
    batch: Cuts = []
    size = _FIRST_BATCH
    for item in _cut_all(stream, position):
        batch.append(item)
        if len(batch) >= size or not isinstance(item, _Cut):
            yield batch
            batch, size = [], min(2 * size, _BATCH)
    if batch:
        yield batch


def encoded(batches: Iterable[Cuts], dialect: Dialect) -> Iterator[Parsed]:
    """The second half of `parse`: passages as the model reads them."""
    mark = dialect.tokenizer.control["<|mark|>"] if dialect.kind == "native" else None
    for batch in batches:
        texts = [one.passage.text for one in batch if isinstance(one, _Cut)]
        bodies = iter(dialect.passages(texts))
        parsed: Parsed = []
        for one in batch:
            if not isinstance(one, _Cut):
                parsed.append(one)
                continue
            body = next(bodies)
            head = dialect.document(one.document.name) if one.first else []
            marked = mark is not None and body[-1:] == [mark]
            parsed.append(
                Piece(
                    one.tally.documents, one.document, row_of(one.passage),
                    array("i", head + body), len(body) - marked, marked, one.digest, one.tally,
                )
            )  # fmt: skip
        yield parsed


def _cut_all(
    stream: Iterable[Document | Skipped], position: Position
) -> Iterator[_Cut | Skipped | End]:
    """The passages behind `position`; raises as `parse` does."""
    counter = _Counter()
    seen, digest, problem = 0, "", None
    for item in stream:
        if isinstance(item, Skipped):
            yield item
            continue
        first = True
        for found in _passages(item, counter):
            if isinstance(found, Skipped):
                yield (problem := found)
                continue
            counter.documents += first
            seen += 1
            digest = _chain(digest, found)
            if seen == position.passages and digest != position.digest:
                raise Changed
            following = seen == position.passages + 1 and position.partial
            if following and digest != position.next_digest:
                raise Changed
            if seen > position.passages:
                yield _Cut(item, found, first, digest, counter.tally())
            first = False
        if first and problem is None:
            yield Skipped(item.name, "empty")
        problem = None
        counter.end_document(item)
    if seen < position.passages or (seen == position.passages and position.partial):
        raise Changed
    if seen == 0 and counter.problem is not None:
        raise counter.problem
    yield End(counter.tally())


def _passages(document: Document, counter: _Counter) -> Iterator[Passage | Skipped]:
    """The passages with text. A document that turns out to be unreadable gives a Skipped."""
    counter.begin_document(document)
    problem: list[Skipped] = []

    def parts() -> Iterator[Part]:
        try:
            yield from map(counter.count, document.parts())
        except SambaError as error:  # what came before it stays
            problem.append(Skipped(document.name, getattr(error, "reason", "unreadable")))
            counter.problem = counter.problem or error
        except (OSError, UnicodeError):
            problem.append(Skipped(document.name, "unreadable"))

    for passage in cut(replace(document, parts=parts)):
        if passage.text and not passage.text.isspace():
            yield passage
    yield from problem


def _chain(digest: str, passage: Passage) -> str:
    text = f"{digest}\0{passage.document}\0{passage.char_start}\0{passage.text}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


class _Counter:
    def __init__(self) -> None:
        self.documents = self.characters = self.pages = 0
        self._bytes = self._inside = 0
        self._page: int | None = None
        self._place_known = True
        self._size: int | None = None
        self.problem: SambaError | None = None  # the first one of all documents

    def begin_document(self, document: Document) -> None:
        self._page, self._inside, self._size = None, 0, document.size
        self._place_known = document.kind in TEXT_KINDS or (document.size or 0) < _LARGE

    def count(self, part: Part) -> Part:
        self.characters += len(part.text)
        if part.page is not None and part.page != self._page and not part.text.isspace():
            self.pages += bool(part.text)
            self._page = part.page
        if part.share is not None and self._size is not None:
            self._inside, self._place_known = round(part.share * self._size), True
        else:
            self._inside += len(part.text.encode(errors="replace"))
        return part

    def end_document(self, document: Document) -> None:
        self._bytes += document.size if document.size is not None else self._inside
        self._inside, self._size = 0, None

    def tally(self) -> Tally:
        inside = self._inside if self._size is None else min(self._inside, self._size)
        return Tally(
            self.documents, self.characters, self.pages, self._bytes + inside, self._place_known
        )
