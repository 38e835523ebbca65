"""Text files: which encoding they are in, and their text in parts of whole lines."""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from samba_cli.documents import Part
from samba_cli.sources.source import HEAD_BYTES

PART_CHARS = 65536  # no part of a document is longer
_CHUNK_BYTES = 65536
_PIECES = 16  # of a sample
_SAMPLE_BYTES = 32768  # what an encoding is guessed from
SCANNED_BYTES = 1 << 27  # searched for a fault in UTF-8 before reading begins: a fifth of a second
_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Only what texts are really found in: the more candidates, the worse the guess.
_CANDIDATES = ("cp1252", "cp932", "euc_jp", "gb18030", "big5", "euc_kr", "cp1251", "koi8_r")
_NOT_LEADING = bytes(range(0xC0))  # ASCII, and what continues a character of UTF-8
_CYRILLIC = ("cp1251", "koi8_r")
# Controls that occur in texts: tab, line ends, page feeds, back space (man pages), escape (logs).
_TEXT_CONTROLS = frozenset("\b\t\n\v\f\r\x1b\x85")


def _mend(error: UnicodeError) -> tuple[str, int]:
    """A stray byte in UTF-8 text is nearly always cp1252 (a pasted line, an old program)."""
    assert isinstance(error, UnicodeDecodeError)
    bad = error.object[error.start : error.end]
    return bad.decode("cp1252", "replace"), error.end


codecs.register_error("samba-mend", _mend)


def looks_binary(head: bytes) -> bool:
    """Whether the first bytes of a file (a character may be cut at their end) are no text."""
    encoding = _bom_encoding(head) or _bomless_utf16(head)
    if encoding is None:
        if b"\0" in head:
            return True
        text = head.decode("latin-1")
        controls = sum(head.count(byte) for byte in range(32) if chr(byte) not in _TEXT_CONTROLS)
    else:
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            return True
        controls = sum(text.count(chr(c)) for c in range(32) if chr(c) not in _TEXT_CONTROLS)
    return controls * 100 > len(text)


def head_encoding(head: bytes) -> str | None:
    """The encoding of a stream of which only the first bytes are known, None if undecodable."""
    return find_encoding(io.BytesIO(head), whole=len(head) < HEAD_BYTES)


def find_encoding(stream: BinaryIO, whole: bool = True) -> str | None:
    """The encoding of a whole seekable stream, which is left at an unknown place.

    In order: byte order mark, UTF-8 without a fault anywhere, UTF-8 with a few faults, a guess
    among the common legacy encodings, cp1252. None: not even that.
    `whole=False`: the stream is only the beginning, a character may be cut at its end.
    Of a huge stream the first SCANNED_BYTES tell; `decoded` mends a fault that comes later.
    """
    head = stream.read(_CHUNK_BYTES)
    if found := _bom_encoding(head) or _bomless_utf16(head):
        return found
    decoder = codecs.getincrementaldecoder("utf-8")()
    start, multibyte, chunk = 0, 0, head
    while True:
        try:
            decoder.decode(chunk, final=whole and not chunk)
        except UnicodeDecodeError:
            break
        if not chunk or start >= SCANNED_BYTES:
            return "utf-8"
        multibyte += len(chunk.translate(None, _NOT_LEADING))
        start += len(chunk)
        chunk = stream.read(_CHUNK_BYTES)
    stream.seek(max(0, start - 4))
    sample = stream.read(_CHUNK_BYTES + _SAMPLE_BYTES)
    mended = codecs.getincrementaldecoder("utf-8")("replace").decode(sample)
    faults = mended.count("\ufffd")
    valid = multibyte + sum(char > "\x7f" for char in mended) - faults
    # Legacy text hardly ever holds well-formed UTF-8 sequences, so many of them decide.
    if valid > 2 * faults:
        return "utf-8"
    telling = _telling_lines(sample, cut=start > 0 or len(head) == _CHUNK_BYTES)
    return _guess(telling) if telling else "utf-8"  # a single fault in a broken line is mended


def decoded(stream: BinaryIO, encoding: str) -> Iterator[str]:
    """The text of a stream, newlines normalised to `\\n`, NULs replaced: never all in memory."""
    errors = "samba-mend" if encoding in ("utf-8", "utf-8-sig") else "replace"
    decoder = io.IncrementalNewlineDecoder(
        codecs.getincrementaldecoder(encoding)(errors), translate=True
    )
    while chunk := stream.read(_CHUNK_BYTES):
        yield clean(decoder.decode(chunk))
    yield clean(decoder.decode(b"", final=True))


def sample(stream: BinaryIO, size: int, count: int, encoding: str | None) -> tuple[str, int]:
    """Pieces of a seekable stream of `size` bytes, evenly spread, and how many bytes they are.

    At most about `count` bytes are read, wherever they lie, so this is quick for any size. A
    character cut at the end of a piece is replaced. None: the encoding its beginning shows.
    """
    encoding = encoding or head_encoding(stream.read(HEAD_BYTES)) or "cp1252"
    starts, length = [0], size
    if size > count:
        length = max(count // _PIECES // 4, 1) * 4  # four bytes: a whole number of characters
        starts = [(size - length) * i // (_PIECES - 1) // 4 * 4 for i in range(_PIECES)]
    decoder = codecs.getincrementaldecoder(encoding)("replace")  # learns the order of its bytes
    text, taken = "", 0
    for start in starts:
        stream.seek(start)
        data = stream.read(length)
        text += clean(decoder.decode(data))
        taken += len(data)
    return text, taken


def clean(text: str) -> str:
    """Without NULs and lone surrogates, which neither SQLite nor UTF-8 output can hold."""
    text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def decode_bytes(data: bytes, encoding: str | None = None) -> str:
    """A small whole file as text. Raises nothing: what cannot be decoded is replaced."""
    found = encoding or find_encoding(io.BytesIO(data)) or "cp1252"
    return "".join(decoded(io.BytesIO(data), found))


def line_parts(chunks: Iterable[str], heading: str | None = None) -> Iterator[Part]:
    """Text in parts of whole lines, at most PART_CHARS characters each.

    Only a line that is itself longer is cut inside; its rest keeps its line number.
    """
    line, buffer = 1, ""
    for chunk in chunks:
        buffer += chunk
        while len(buffer) > PART_CHARS:
            cut = buffer.rfind("\n", 0, PART_CHARS) + 1 or PART_CHARS
            yield Part(buffer[:cut], line=line, heading=heading)
            line += buffer.count("\n", 0, cut)
            buffer = buffer[cut:]
    if buffer:
        yield Part(buffer, line=line, heading=heading)


def _bom_encoding(head: bytes) -> str | None:
    return next((encoding for mark, encoding in _BOMS if head.startswith(mark)), None)


def _bomless_utf16(head: bytes) -> str | None:
    """UTF-16 without a mark: NULs, and every character an ordinary one in one byte order."""
    nuls = head.count(0)
    if not nuls or len(head) < 4:
        return None
    ascii_bytes = sum(map(head.count, range(32, 127)))
    if nuls * 4 < len(head) and ascii_bytes * 5 > len(head) * 4:
        return None  # 8-bit text with some NULs: pairs of its letters pass for CJK characters
    for encoding in ("utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
        strange = sum(
            unicodedata.category(char) in ("Cc", "Cn", "Co", "Cs") and char not in _TEXT_CONTROLS
            for char in text
        )
        blanks = sum(char in " \n\u3000" for char in text)
        if not strange and blanks * 200 > len(text):
            return encoding
    return None


def _telling_lines(sample: bytes, cut: bool) -> bytes:
    """The lines with bytes beyond ASCII: only they tell an encoding.

    `cut`: the first and the last line may be broken off inside a character.
    """
    lines = sample.splitlines(keepends=True)
    if cut and len(lines) > 2:
        lines = lines[1:-1]
    telling, size = [], 0
    for line in lines:
        if not line.isascii():
            telling.append(line)
            size += len(line)
        if size > _SAMPLE_BYTES:
            break
    return b"".join(telling)[: 2 * _SAMPLE_BYTES]


def _guess(sample: bytes) -> str | None:
    # Western text is ASCII with single accented letters; other scripts come in runs of high
    # bytes. Short texts (a name, one comment) are too little for statistics to see that.
    runs = re.findall(rb"[\x80-\xff]+", sample)
    high = sum(map(len, runs))
    letters = high + len(re.findall(rb"[A-Za-z]", sample))
    if high < 1.5 * len(runs) and high < 0.4 * letters:
        return _cp1252_or_none(sample)
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=list(_CANDIDATES), enable_fallback=False).best()
    if best is not None and best.encoding != "ascii":
        return _likelier_cyrillic(sample) if best.encoding in _CYRILLIC else best.encoding
    return _cp1252_or_none(sample)


def _likelier_cyrillic(sample: bytes) -> str:
    """The two encodings hold capitals where the other has small letters, which are more."""
    small = {name: sum(map(str.islower, sample.decode(name, "replace"))) for name in _CYRILLIC}
    return max(_CYRILLIC, key=small.__getitem__)


def _cp1252_or_none(sample: bytes) -> str | None:
    text = sample.decode("cp1252", "replace")
    return None if text.count("\ufffd") * 50 > len(text) else "cp1252"
