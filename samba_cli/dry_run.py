"""`--dry-run`: what would be read, without reading it and without a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from samba_cli.documents import Document, Skipped
from samba_cli.errors import Unreadable
from samba_cli.render import count_of, reasons_text, skipped_line
from samba_cli.sources.options import SourceOptions
from samba_cli.units import bytes_text, count_text

_BYTES_PER_TOKEN = 4  # of English text; formats with pictures and markup have fewer tokens


@dataclass(frozen=True)
class Listed:
    """Documents and what would be skipped, in reading order."""

    documents: Sequence[Document]
    skipped: Sequence[Skipped]

    @property
    def bytes(self) -> int:
        return sum(d.size or 0 for d in self.documents)

    @property
    def tokens_at_most(self) -> int:
        return self.bytes // _BYTES_PER_TOKEN

    def text(self) -> str:
        sizes = [bytes_text(d.size) if d.size is not None else "?" for d in self.documents]
        width = max(map(len, sizes), default=0)
        return "\n".join(
            f"{size:>{width}}  {d.kind:8}  {d.name}"
            for size, d in zip(sizes, self.documents, strict=True)
        )

    def notes(self, verbose: bool) -> list[str]:
        lines = [skipped_line(s) for s in self.skipped] if verbose else []
        skipped = reasons_text(self.skipped)
        lines.append(
            f"would read {count_of(len(self.documents), 'file')}, {bytes_text(self.bytes)}, about "
            f"{count_text(self.tokens_at_most)} tokens if all of it is text"
            + (f" ({count_text(len(self.skipped))} skipped: {skipped})" if skipped else "")
        )
        return lines

    def json(self, command: str) -> str:
        files = [{"path": d.name, "kind": d.kind, "bytes": d.size} for d in self.documents]
        skipped = [{"path": s.name, "reason": s.reason} for s in self.skipped]
        value = {
            "samba": 1,
            "command": command,
            "dry_run": True,
            "files": files,
            "files_skipped": skipped,
            "bytes": self.bytes,
            "tokens_estimate": self.tokens_at_most,
        }
        return json.dumps(value, ensure_ascii=False, indent=1)


def dry_run(paths: Sequence[str], options: SourceOptions, stdin: TextIO | None) -> Listed:
    """List what `load` gives. Raises Unreadable where that is nothing."""
    from samba_cli.sources.load import load

    documents: list[Document] = []
    skipped: list[Skipped] = []
    for item in load(paths, options, stdin.buffer if stdin is not None else None):
        (documents if isinstance(item, Document) else skipped).append(item)  # type: ignore[arg-type]
    if not documents:
        raise Unreadable("there is nothing to read: no document was found")
    return Listed(documents, skipped)
