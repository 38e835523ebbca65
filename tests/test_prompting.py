"""Prompts for our tokenizer, for others, and many at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from samba_cli.model import Tokenizer
from samba_cli.prompting import encode, encode_many, has_marks, passages_segments

TEXTS = ["One.", "<|mark|> is text here", ""]


@pytest.fixture
def tokenizer(tiny_checkpoint: Path) -> Tokenizer:
    return Tokenizer.load(tiny_checkpoint)


def test_many_prompts_equal_each_alone(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for folder, template in (
        (None, ""),
        (tmp_path, "a$passage b$passage"),
        (tmp_path / "x", "<|mark|>"),
    ):
        if folder is not None:
            folder.mkdir(exist_ok=True)
            (folder / "read_passage.txt").write_text(template)
        alone = [encode(tokenizer, "read_passage", folder, passage=text) for text in TEXTS]
        assert encode_many(tokenizer, "read_passage", folder, "passage", TEXTS) == alone
    assert encode_many(tokenizer, "read_passage", None, "passage", []) == []


def test_control_tokens_count_in_templates_only(tokenizer: Tokenizer) -> None:
    ids = encode(tokenizer, "read_passage", passage=TEXTS[1])
    assert ids.count(tokenizer.control["<|mark|>"]) == 1 and has_marks(tokenizer)
    segments = passages_segments(["a", "b"])
    passage = tokenizer.control["<|passage|>"]
    assert encode(tokenizer, "summarize_short", passages=segments).count(passage) == 2


def test_text_is_joined_for_a_tokenizer_without_our_tokens(tokenizer: Tokenizer) -> None:
    tokenizer.control = {}
    ids = encode(tokenizer, "answer.plain", question="Who?", passages=passages_segments(["P"]))
    assert tokenizer.decode(ids).endswith("Question: Who?\nAnswer:")
    assert not has_marks(tokenizer)
    alone = [encode(tokenizer, "passage.plain", passage=text) for text in TEXTS]
    assert encode_many(tokenizer, "passage.plain", None, "passage", TEXTS) == alone
