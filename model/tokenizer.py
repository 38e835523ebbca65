"""Text to token ids and back, over the `tokenizers` library.

A document's text is literal: `<|mark|>` inside it is seven characters like any other. Control
tokens come only from the template parts of a prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import tokenizers


class PromptSegment(Protocol):
    """A piece of a prompt; control tokens in it count only if `control`."""

    @property
    def text(self) -> str: ...

    @property
    def control(self) -> bool: ...


class Tokenizer:
    def __init__(self, inner: tokenizers.Tokenizer, fingerprint: str) -> None:
        inner.encode_special_tokens = True  # special tokens in a text are plain text
        self._inner = inner
        self.fingerprint = fingerprint
        self.vocab_size = inner.get_vocab_size()
        added = inner.get_added_tokens_decoder()
        self.control = {token.content: i for i, token in added.items() if token.special}

    @classmethod
    def load(cls, folder: Path | str) -> Tokenizer:
        """From a checkpoint folder. Raises ValueError where tokenizer.json cannot be used."""
        path = Path(folder) / "tokenizer.json"
        try:
            raw = path.read_bytes()
            inner = tokenizers.Tokenizer.from_buffer(raw)
        except FileNotFoundError:
            raise ValueError(f"{path} is missing") from None
        except Exception as error:  # the library raises bare Exception for a damaged file
            raise ValueError(f"{path} is not a readable tokenizer ({error})") from None
        return cls(inner, hashlib.sha256(raw).hexdigest())

    def encode(self, text: str) -> list[int]:
        return self._inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [e.ids for e in encoded]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and for each the (start, end) characters it stands for."""
        encoded = self._inner.encode(text, add_special_tokens=False)
        return encoded.ids, encoded.offsets

    def encode_prompt(self, segments: Iterable[PromptSegment]) -> list[int]:
        """A rendered prompt: control tokens are recognised in its template parts only."""
        ids: list[int] = []
        for segment in segments:
            ids += (
                self._encode_template(segment.text)
                if segment.control
                else self.encode(segment.text)
            )
        return ids

    def _encode_template(self, text: str) -> list[int]:
        ids: list[int] = []
        while text:
            places = [(at, token) for token in self.control if (at := text.find(token)) >= 0]
            at, token = min(places, default=(len(text), ""))
            if at:
                ids += self.encode(text[:at])
            if token:
                ids.append(self.control[token])
            text = text[at + len(token) :]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text; control tokens are left out."""
        return self._inner.decode(list(ids), skip_special_tokens=True)

    def stream(self) -> TokenStream:
        return TokenStream(self)


class TokenStream:
    """Turns ids into text one at a time and never splits a character.

    A byte-level token may end inside a UTF-8 character; its text is held back until the
    character is whole. Only the ids since the last whole text are decoded again.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0  # characters of the decoded ids that were handed out

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        text = self._tokenizer.decode(self._ids)
        if text.endswith("�") and len(self._ids) < 8:  # no character spans more than 4 bytes
            return ""
        new = text[self._shown :]
        # a decoder may treat the first id specially (leading space): keep one id as context
        self._ids = self._ids[-1:]
        self._shown = len(self._tokenizer.decode(self._ids))
        return new

    def flush(self) -> str:
        """What is held back: an unfinished character shows as the replacement character."""
        text = self._tokenizer.decode(self._ids)[self._shown :]
        self._ids, self._shown = [], 0
        return text
