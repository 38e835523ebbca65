"""Where a repository says what it is: the README at its top.

Comments tell of the lines beside them: a summary of code that is made of them tells of nothing
else.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

_FORMATS = ("", ".md", ".rst", ".txt", ".markdown", ".adoc", ".org")


def entrance(documents: Iterable[tuple[str, str]]) -> str | None:
    """The name of the README nearest to the top, of documents (name, kind) some of which are code.

    None where there is no code, or no README.
    """
    known = dict(documents)
    if "code" not in known.values():
        return None
    found = []
    for name in known:
        path = PurePosixPath(name)
        if path.stem.casefold() == "readme" and path.suffix.casefold() in _FORMATS:
            found.append((len(path.parts), _FORMATS.index(path.suffix.casefold()), name))
    return min(found)[2] if found else None
