"""Token ids for the data workers: what `samba_cli.model.Tokenizer` gives, without torch.

Dozens of worker processes start in a second instead of ten, and stay small. A test proves
that both give the same ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import tokenizers

_CONTROL = re.compile(r"(<\|[a-z0-9_]+\|>)")


class Encoder:
    """Byte-level BPE ids; control tokens count in templates only."""

    def __init__(self, folder: Path | str) -> None:
        """From the folder of tokenizer.json. Raises FileNotFoundError where it is missing."""
        path = Path(folder) / "tokenizer.json"
        self._inner = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        self._inner.encode_special_tokens = True  # control tokens in a text are text
        added = self._inner.get_added_tokens_decoder()
        self.control = {token.content: i for i, token in added.items() if token.special}
        self.vocab_size = self._inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        batch = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoded.ids for encoded in batch]

    def encode_template(self, text: str) -> list[int]:
        """A template part: its control tokens are recognised, the rest is text."""
        ids: list[int] = []
        for part in _CONTROL.split(text):
            if part in self.control:
                ids.append(self.control[part])
            elif part:
                ids += self.encode(part)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text, with the control tokens shown."""
        return self._inner.decode(list(ids), skip_special_tokens=False)
