"""The shipped tokenizer: literal text, offsets, whole characters while streaming."""

from hypothesis import given, settings
from hypothesis import strategies as st

from samba_cli import prompts
from samba_cli.model import Tokenizer, default_model_path

tokenizer = Tokenizer.load(default_model_path())
texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=60)


@settings(deadline=None)
@given(texts)
def test_every_text_decodes_to_itself_also_in_a_stream(text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    stream = tokenizer.stream()
    pieces = [stream.push(i) for i in ids] + [stream.flush()]
    assert "".join(pieces) == text
    if "�" not in text:
        assert "�" not in "".join(pieces)


@settings(deadline=None)
@given(texts)
def test_offsets_cover_the_text(text):
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert len(ids) == len(offsets)
    assert all(0 <= a <= b <= len(text) for a, b in offsets)
    covered = {i for a, b in offsets for i in range(a, b)}
    assert covered == set(range(len(text)))


def test_control_tokens_count_in_templates_only():
    mark = tokenizer.control["<|mark|>"]
    assert mark not in tokenizer.encode("a <|mark|> b")
    assert tokenizer.decode(tokenizer.encode("a <|mark|> b")) == "a <|mark|> b"
    segments = prompts.render("mark", question="Is <|mark|> here?", passage="<|answer|>")
    ids = tokenizer.encode_prompt(segments)
    assert ids.count(mark) == 1
    assert ids[-1] == mark
    assert tokenizer.control["<|answer|>"] not in ids


def test_digits_are_single_and_the_size_is_fixed():
    assert tokenizer.vocab_size == 16_384
    assert len(tokenizer.encode("20481")) == 5
    assert list(tokenizer.control.values()) == list(range(32))
