"""The sentences a summary can take from the text as they are."""

from __future__ import annotations

from samba_cli.text_match import sentences

# A line of so many characters is taken for one of hard-wrapped text: its break ends no sentence.
_WRAPPED = range(50, 111)


def units(text: str) -> list[tuple[int, int]]:
    """Spans (start, end) of what can be quoted alone: sentences, and lines that nothing wraps.

    A turn of a conversation, a list item or a heading ends with its line, whatever its last
    character is.
    """
    spans: list[tuple[int, int]] = []
    for start, end in sentences(text):
        begin = start
        place = text.find("\n", start, end)
        while place >= 0:
            line = place - (text.rfind("\n", 0, place) + 1)
            if line not in _WRAPPED:
                spans.append((begin, place))
                begin = place + 1
            place = text.find("\n", place + 1, end)
        spans.append((begin, end))
    trimmed: list[tuple[int, int]] = []
    for start, end in spans:
        piece = text[start:end]
        if piece.strip():
            left = len(piece) - len(piece.lstrip())
            trimmed.append((start + left, start + len(piece.rstrip())))
    return trimmed
