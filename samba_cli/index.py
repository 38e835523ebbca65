"""The passages of a read, in one SQLite file with a full-text index: on disk, so memory stays flat.

Rows are written in order as they are read and never change, so a read that was interrupted
is rolled back by deleting the rows behind its checkpoint.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from samba_cli.documents import Document, Passage, Skipped
from samba_cli.errors import ModelError
from samba_cli.spelling import other_spelling
from samba_cli.text_match import STOP_WORDS, occurs, split_identifier

FORMAT = "1"
_COMMIT_EVERY = 2048  # rows in a transaction: each leaves a segment of the full-text index
_MOST_TERMS = 48  # words of a query that are searched

_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE documents(id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL,
    title TEXT, size INTEGER, modified_ns INTEGER);
CREATE TABLE passages(id INTEGER PRIMARY KEY, document INTEGER NOT NULL REFERENCES documents,
    char_start INTEGER NOT NULL, char_end INTEGER NOT NULL, text TEXT NOT NULL,
    page_start INTEGER, page_end INTEGER, line_start INTEGER, line_end INTEGER,
    heading TEXT, terms TEXT NOT NULL, tokens INTEGER NOT NULL, salience REAL);
CREATE INDEX passages_of ON passages(document, salience);
CREATE TABLE skipped(id INTEGER PRIMARY KEY, name TEXT NOT NULL, reason TEXT NOT NULL,
    page INTEGER);
CREATE VIRTUAL TABLE passages_fts USING fts5(text, heading, terms, content='passages',
    content_rowid='id', tokenize='porter unicode61');
CREATE TRIGGER passages_added AFTER INSERT ON passages BEGIN
    INSERT INTO passages_fts(rowid, text, heading, terms)
    VALUES (new.id, new.text, new.heading, new.terms);
END;
CREATE TRIGGER passages_removed AFTER DELETE ON passages BEGIN
    INSERT INTO passages_fts(passages_fts, rowid, text, heading, terms)
    VALUES ('delete', old.id, old.text, old.heading, old.terms);
END;
"""
_COLUMNS = """p.id, p.document, d.name, d.kind, p.char_start, p.char_end, p.text, p.page_start,
    p.page_end, p.line_start, p.line_end, p.heading, p.tokens, p.salience"""
_FROM = "FROM passages p JOIN documents d ON d.id = p.document"
_ADD_PASSAGE = (
    "INSERT INTO passages(document, char_start, char_end, text, page_start, page_end,"
    " line_start, line_end, heading, terms, tokens, salience)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# Every _CAMEL has one, and it is quick to look for: only capitals are looked at.
_HUMP = re.compile(r"[A-Z](?:(?<=[a-z][A-Z])|[A-Z][a-z])")
_CAMEL = re.compile(r"\b\w*[a-z][A-Z]\w*\b|\b[A-Z]{2,}[a-z]\w*\b")


Row = tuple  # the values of _ADD_PASSAGE, in its order


@dataclass(frozen=True)
class StoredPassage:
    """A passage as the index holds it; ids count up in reading order, without gaps."""

    id: int
    document_id: int
    passage: Passage
    tokens: int
    salience: float | None  # logit(yes) - logit(no) after the passage was read


@dataclass(frozen=True)
class StoredDocument:
    """A document with the range of its passages."""

    id: int
    name: str
    kind: str
    title: str | None
    size: int | None
    passages: int
    first_passage: int
    last_passage: int
    tokens: int


@dataclass(frozen=True)
class Counts:
    """How much the index holds."""

    documents: int
    passages: int
    tokens: int
    characters: int
    pages: int
    bytes: int
    skipped: int


class PassageIndex:
    """Documents and passages of one read in one SQLite file. Use from one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._pending = 0
        self._salient: tuple[tuple[int, ...], list[tuple[int, float]]] | None = None
        connection.create_function("samba_sqrt", 1, lambda x: max(x or 0.0, 0.0) ** 0.5)

    @classmethod
    def create(cls, path: Path | str) -> PassageIndex:
        """A new, empty index; "" makes a temporary one that SQLite removes itself.

        Raises sqlite3.Error or OSError when the place cannot be written.
        """
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA temp_store=FILE")
        connection.executescript(_SCHEMA)
        index = cls(connection)
        index.set_meta("format", FORMAT)
        return index

    @classmethod
    def open(cls, path: Path) -> PassageIndex:
        """Open an index that `create` made. Raises ModelError when it is missing or damaged."""
        if not path.is_file():
            raise ModelError(f"{path}: there is no passage index here; read the input again.")
        connection = None
        try:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            index = cls(connection)
            found = index.meta("format") if problem == "ok" else None
            connection.execute("SELECT count(*) FROM passages_fts WHERE passages_fts MATCH 'a'")
        except sqlite3.Error as error:
            problem, found, index = str(error), None, None
        if index is None or problem != "ok":
            if connection is not None:
                connection.close()
            raise ModelError(
                f"{path}: the passage index is damaged ({problem}); read the input again."
            )
        if found != FORMAT:
            index.close()
            raise ModelError(f"{path}: made by another version of samba; read the input again.")
        return index

    def copy_to(self, path: Path | str) -> None:
        """Copy the whole index into a new file. Raises sqlite3.Error."""
        self.commit()
        target = sqlite3.connect(path)
        try:
            self._connection.backup(target)
        finally:
            target.close()

    def seal(self) -> None:
        """Finish writing: one file without a log beside it, readable from a read-only folder."""
        self.commit()
        self._connection.execute("PRAGMA journal_mode=DELETE")

    def close(self) -> None:
        """Commit and close; nothing works afterwards."""
        self.commit()
        self._connection.close()

    def __enter__(self) -> PassageIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def add_document(self, document: Document) -> int:
        """Record a document; returns its id."""
        return self._write(
            "INSERT INTO documents(name, kind, title, size, modified_ns) VALUES (?, ?, ?, ?, ?)",
            (
                _storable(document.name),
                document.kind,
                document.title,
                document.size,
                document.modified_ns,
            ),
        )

    def add_passage(
        self, document_id: int, passage: Passage, tokens: int, salience: float | None
    ) -> int:
        """Record the next passage; returns its id."""
        return self._write(_ADD_PASSAGE, (document_id, *row_of(passage), tokens, salience))

    def add_passages(self, rows: Sequence[Row]) -> None:
        """Record the next passages: document, what `row_of` made of it, tokens, salience."""
        self._begin()
        self._connection.executemany(_ADD_PASSAGE, rows)
        self._written(len(rows))

    def add_skipped(self, skipped: Skipped) -> int:
        """Record something that was not read; returns its id."""
        return self._write(
            "INSERT INTO skipped(name, reason, page) VALUES (?, ?, ?)",
            (_storable(skipped.name), skipped.reason, skipped.page),
        )

    def commit(self) -> None:
        """Write everything added so far to disk."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")
        self._pending = 0

    def truncate(self, passages: int, documents: int, skipped: int) -> None:
        """Keep the first so many rows of each table: undoes what came after a checkpoint."""
        self.commit()
        self._connection.execute("BEGIN")
        for table, last in (("passages", passages), ("documents", documents), ("skipped", skipped)):
            self._connection.execute(f"DELETE FROM {table} WHERE id > ?", (last,))
        self._connection.execute("COMMIT")

    def set_meta(self, key: str, value: str) -> None:
        """Store a value beside the passages."""
        self._write("INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)", (key, value))

    def _write(self, statement: str, values: tuple) -> int:
        self._begin()
        cursor = self._connection.execute(statement, values)
        self._written(1)
        return cursor.lastrowid or 0

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")

    def _written(self, rows: int) -> None:
        self._pending += rows
        if self._pending >= _COMMIT_EVERY:
            self.commit()

    # Reading

    def meta(self, key: str) -> str | None:
        """A value that `set_meta` stored, None when there is none."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def counts(self) -> Counts:
        """How much was read, of all reads into this index."""
        one = self._connection.execute(
            "SELECT count(*), coalesce(sum(tokens), 0), coalesce(sum(char_end - char_start), 0),"
            " count(DISTINCT CASE WHEN page_start IS NOT NULL"
            "  THEN document || '.' || page_start END) FROM passages"
        ).fetchone()
        documents, size = self._connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM documents"
        ).fetchone()
        skipped = self._connection.execute("SELECT count(*) FROM skipped").fetchone()[0]
        return Counts(documents, one[0], one[1], one[2], one[3], size, skipped)

    def last_id(self) -> int:
        """The id of the last passage, which is how many there are."""
        row = self._connection.execute("SELECT max(id) FROM passages").fetchone()
        return row[0] or 0

    def documents(self) -> Iterator[StoredDocument]:
        """The documents that have passages, in reading order."""
        rows = self._connection.execute(
            "SELECT d.id, d.name, d.kind, d.title, d.size, count(*), min(p.id), max(p.id),"
            " sum(p.tokens) FROM documents d JOIN passages p ON p.document = d.id"
            " GROUP BY d.id ORDER BY d.id"
        )
        return (StoredDocument(*row) for row in rows)

    def skipped(self, limit: int = 1000) -> list[Skipped]:
        """What was not read, the first `limit` of it."""
        rows = self._connection.execute(
            "SELECT name, reason, page FROM skipped ORDER BY id LIMIT ?", (limit,)
        )
        return [Skipped(*row) for row in rows]

    def get(self, ids: Sequence[int]) -> list[StoredPassage]:
        """The passages with these ids, in the order asked for; unknown ids are left out."""
        found: dict[int, StoredPassage] = {}
        for begin in range(0, len(ids), 500):
            some = list(ids[begin : begin + 500])
            marks = ",".join("?" * len(some))
            for row in self._connection.execute(
                f"SELECT {_COLUMNS} {_FROM} WHERE p.id IN ({marks})", some
            ):
                found[row[0]] = _stored(row)
        return [found[key] for key in ids if key in found]

    def neighbours(self, passage_id: int) -> list[StoredPassage]:
        """The passages before and after this one in the same document, as far as they exist."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} {_FROM} WHERE p.id IN (?, ?) AND p.document ="
            " (SELECT document FROM passages WHERE id = ?) ORDER BY p.id",
            (passage_id - 1, passage_id + 1, passage_id),
        )
        return [_stored(row) for row in rows]

    def iterate(self, first: int = 1, last: int | None = None) -> Iterator[StoredPassage]:
        """Passages in reading order, from id `first` to id `last` (included), lazily."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} {_FROM} WHERE p.id >= ? AND p.id <= ? ORDER BY p.id",
            (first, last if last is not None else 2**62),
        )
        return (_stored(row) for row in rows)

    def most_salient(self, first: int, last: int, limit: int) -> list[tuple[int, float]]:
        """(id, salience in standard deviations of its document) of the best in an id range.

        One question after another asks for the same: the last result is kept until rows change.
        """
        asked = (first, last, limit, self._connection.total_changes)
        if self._salient is None or self._salient[0] != asked:
            self._salient = asked, self._find_salient(first, last, limit)
        return self._salient[1]

    def _find_salient(self, first: int, last: int, limit: int) -> list[tuple[int, float]]:
        rows = self._connection.execute(
            "SELECT p.id, (p.salience - m.mean) / (m.deviation + 1e-6) AS z FROM passages p JOIN"
            " (SELECT document, avg(salience) AS mean,"
            "  samba_sqrt(avg(salience * salience) - avg(salience) * avg(salience)) AS deviation"
            "  FROM passages WHERE document IN"
            "   (SELECT document FROM passages WHERE id BETWEEN ?1 AND ?2) GROUP BY document) m"
            " ON m.document = p.document WHERE p.id BETWEEN ?1 AND ?2 AND p.salience IS NOT NULL"
            " ORDER BY z DESC, p.id LIMIT ?3",
            (first, last, limit),
        )
        return rows.fetchall()

    def search(
        self, query: str, k: int, within: tuple[int, int] | None = None
    ) -> list[tuple[int, float]]:
        """The k best passages for a query: (id, BM25), best first, higher is better.

        Any text is a valid query: its words are searched (any of them may match), stop words
        left out, identifiers also in their parts. `within` bounds the ids (first, last).
        """
        terms = query_terms(query)
        if not terms:
            return []
        match = " OR ".join(f'"{term}"' for term in terms)
        first, last = within or (1, 2**62)
        rows = self._connection.execute(
            "SELECT rowid, -bm25(passages_fts, 1.0, 0.6, 0.5) AS score FROM passages_fts"
            " WHERE passages_fts MATCH ? AND rowid BETWEEN ? AND ?"
            " ORDER BY score DESC, rowid LIMIT ?",
            (match, first, last, k),
        )
        return rows.fetchall()

    def matches(self, phrase: str, limit: int = 1_000_000) -> int:
        """In how many passages the words of `phrase` stand side by side, counted up to `limit`."""
        terms = re.findall(r"\w+", phrase)
        if not terms:
            return 0
        return self._connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM passages_fts WHERE passages_fts MATCH ? LIMIT ?)",
            ('"' + " ".join(terms) + '"', limit),
        ).fetchone()[0]

    def contains(self, phrase: str) -> bool:
        """Whether the input holds this name or number as it stands (case and spaces aside)."""
        terms = re.findall(r"\w+", phrase)
        if not terms:
            return False
        rows = self._connection.execute(
            "SELECT p.text FROM passages_fts f JOIN passages p ON p.id = f.rowid"
            " WHERE passages_fts MATCH ? LIMIT 50",
            ('"' + " ".join(terms) + '"',),
        )
        return any(occurs(phrase, text) for (text,) in rows)


def query_terms(query: str) -> list[str]:
    """The words of a query worth searching, each once: stop words out, identifiers split, and
    beside a word its British or American spelling.
    """
    terms: dict[str, None] = {}
    every = re.findall(r"\w+", query)
    chosen = [word for word in every if word.casefold() not in STOP_WORDS] or every
    for word in chosen:
        terms[word] = None
        parts = split_identifier(word)
        if len(parts) > 1:
            terms.update(dict.fromkeys(part for part in parts if part not in STOP_WORDS))
    others = (other_spelling(word.casefold()) for word in chosen)
    terms.update(dict.fromkeys(other for other in others if other is not None))
    return list(terms)[:_MOST_TERMS]


def row_of(passage: Passage) -> tuple:
    """A passage as the index stores it. Made ahead of the model: words are looked for."""
    return (
        passage.char_start,
        passage.char_end,
        _storable(passage.text),
        passage.page_start,
        passage.page_end,
        passage.line_start,
        passage.line_end,
        passage.heading and _storable(passage.heading),
        _storable(_terms(passage)),
    )


def _terms(passage: Passage) -> str:
    """Extra words to find a passage by: parts of its file's path and of camelCase names."""
    found = dict.fromkeys(_path_parts(passage.document))
    for name in _CAMEL.findall(passage.text) if _HUMP.search(passage.text) else ():
        found.update(dict.fromkeys(split_identifier(name)))
    return " ".join(found)


@lru_cache(256)
def _path_parts(path: str) -> list[str]:
    return re.findall(r"[^\W_]+", path)


def _storable(text: str) -> str:
    """SQLite holds UTF-8: lone surrogates (undecodable file names) become question marks."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _stored(row: tuple) -> StoredPassage:
    return StoredPassage(row[0], row[1], Passage(*row[2:12]), row[12], row[13])
