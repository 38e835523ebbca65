import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from training.tokenizer import CONTROL, train

TEXT = [
    "The river Thames flows through London, and it's 346 kilometres long.\n\n",
    "def add(a, b):\n    return a + b\n\n\nclass Point:\n    def __init__(self):\n        pass\n",
    "Prices rose by 12.5% in 1987; they'd fallen in 1986.\n",
] * 40


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    trained = train(TEXT, vocabulary=500)
    trained.encode_special_tokens = True  # literal text
    return trained


def test_control_tokens_are_ids_0_to_31(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in CONTROL] == list(range(32))
    assert CONTROL[6:10] == ("<|mark|>", "<|yes|>", "<|no|>", "<|none|>")


def test_control_tokens_in_literal_text_are_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a <|mark|> b").ids
    assert min(ids) >= 32
    assert tokenizer.decode(ids) == "a <|mark|> b"


@settings(deadline=None, max_examples=100)
@given(text=st.text(max_size=60))
def test_every_text_decodes_to_itself(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@settings(deadline=None, max_examples=50)
@given(number=st.integers(min_value=0, max_value=10**12))
def test_every_digit_is_one_token(tokenizer: Tokenizer, number: int) -> None:
    assert len(tokenizer.encode(str(number)).ids) == len(str(number))


def test_the_indentation_after_a_newline_is_one_token(tokenizer: Tokenizer) -> None:
    pieces = tokenizer.encode("\n    return a").tokens
    assert pieces[0] == "ĊĠĠĠ"
    assert "".join(pieces).startswith("ĊĠĠĠĠreturn")
