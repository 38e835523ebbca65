"""Text to token ids and back, over the `tokenizers` library.

A document's text is literal: `<|mark|>` inside it is seven characters like any other. Control
tokens come only from the template parts of a prompt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import tokenizers

from samba_cli.model.tokenizer_config import TokenizerConfig, read_tokenizer_config

# Added tokens that steer a model though their file does not call them special.
_STEERS = re.compile(r"<\|.*\|>|<｜.*｜>|</?think>|</?tool_\w+>")
# How tokenizers call the end of a text, for checkpoints that do not say.
_ENDS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<eos>", "<|eot_id|>")
_NO_CONFIG = TokenizerConfig()


class PromptSegment(Protocol):
    """A piece of a prompt; control tokens in it count only if `control`."""

    @property
    def text(self) -> str: ...

    @property
    def control(self) -> bool: ...


class Tokenizer:
    """`control`: special tokens by their text; `stop`: ids that end a text; `bos`: what a text
    begins with, if anything; `chat_template`: Jinja, of an instruct model; `special`: the token
    texts that a template may name; `highest_id`: of any token.
    """

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        fingerprint: str,
        config: TokenizerConfig = _NO_CONFIG,
    ) -> None:
        inner.encode_special_tokens = True  # special tokens in a text are plain text
        template = config.chat_template or ""
        steering = [
            tokenizers.AddedToken(token.content, special=True)
            for token in inner.get_added_tokens_decoder().values()
            if not token.special and _steers(token.content, template)
        ]
        inner.add_special_tokens(steering)  # keeps their ids
        self._inner = inner
        self.fingerprint = fingerprint
        self.vocab_size = inner.get_vocab_size()
        self.highest_id = max(inner.get_vocab().values(), default=-1)
        self._added = {t.content: t for t in inner.get_added_tokens_decoder().values()}
        self.control = {
            token.content: i
            for i, token in inner.get_added_tokens_decoder().items()
            if token.special
        }
        self.chat_template = config.chat_template
        self.special = config.special
        named = [self.control[name] for name in _ENDS if name in self.control]
        eos = inner.token_to_id(config.special.get("eos_token", ""))
        self.stop = frozenset({*config.eos, *named} | ({eos} if eos is not None else set()))
        self.bos = self._find_bos(config)

    def _find_bos(self, config: TokenizerConfig) -> int | None:
        """The id that a text begins with by the tokenizer's own account."""
        bos = self._inner.token_to_id(config.special.get("bos_token", ""))
        if config.add_bos is not None:
            return bos if config.add_bos else None
        ids = self._inner.encode("", add_special_tokens=True).ids
        # A lone token may be the end of a text instead.
        return ids[0] if ids and (ids[0] == bos or len(ids) > 1) else None

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
        return cls(inner, hashlib.sha256(raw).hexdigest(), read_tokenizer_config(Path(folder)))

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

    def encode_joined(self, segments: Iterable[PromptSegment]) -> list[int]:
        """As `encode_prompt`, but text that adjoins is encoded together, across segments.

        So other models saw their prompts in training; ours is trained on separate segments.
        """
        ids: list[int] = []
        text = ""
        for segment in segments:
            for piece, token in (
                self._split(segment.text) if segment.control else [(segment.text, None)]
            ):
                text += piece
                if token is not None:
                    ids += self.encode(text) if text else []
                    ids.append(token)
                    text = ""
        return ids + (self.encode(text) if text else [])

    def _encode_template(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece, token in self._split(text):
            ids += self.encode(piece) if piece else []
            ids += [token] if token is not None else []
        return ids

    def _split(self, text: str) -> list[tuple[str, int | None]]:
        """Template text at its control tokens: pieces of text, each with the token behind it."""
        longest_first = sorted(self.control, key=len, reverse=True)
        pieces: list[tuple[str, int | None]] = []
        end = 0
        if longest_first:
            for match in re.finditer("|".join(map(re.escape, longest_first)), text):
                piece, token = text[end : match.start()], self._added.get(match.group())
                end = match.end()
                if token is not None and token.lstrip:  # takes the white space around it
                    piece = piece.rstrip()
                if token is not None and token.rstrip:
                    end += len(text[end:]) - len(text[end:].lstrip())
                pieces.append((piece, self.control[match.group()]))
        return [*pieces, (text[end:], None)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text; control tokens are left out."""
        return self._inner.decode(list(ids), skip_special_tokens=True)

    def stream(self) -> TokenStream:
        return TokenStream(self)


def _steers(token: str, template: str) -> bool:
    """Whether an added token is for prompts alone, and not a piece of ordinary text."""
    if _STEERS.fullmatch(token):
        return True
    return token in template and any(not (c.isalnum() or c.isspace()) for c in token)


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
