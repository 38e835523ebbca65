"""Chat templates come with a download: they are rendered in a sandbox and within bounds."""

from __future__ import annotations

import pytest
from foreign import CHATML, GRANITE, JAMBA

from samba_cli import chat_template
from samba_cli.chat_template import chat_frame
from samba_cli.errors import ModelError

BOS = {"bos_token": "<|begin|>"}


def test_frames_of_three_makers() -> None:
    frame = chat_frame(CHATML, BOS, thinking=False)
    after = "<|im_end|>\n<|im_start|>assistant\n"
    assert frame.parts == ("<|im_start|>user\n", after + "<think>\n\n</think>\n\n")
    assert frame.starts_text and not frame.thinking
    assert chat_frame(CHATML, BOS, thinking=True).parts[1] == after

    frame = chat_frame(GRANITE, {}, thinking=False)
    assert frame.parts[0].startswith("<|start_of_role|>system<|end_of_role|>Today is ")
    assert frame.parts[0].endswith("<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>")
    assert frame.parts[1] == "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>"
    assert not frame.starts_text

    frame = chat_frame(JAMBA, BOS, thinking=False)
    assert frame.parts[1] == "<|eom|><|assistant|><think>\n" and frame.thinking


def test_content_in_parts_and_content_twice() -> None:
    parts = "{% for p in messages[0]['content'] %}{{ p.text }}{% endfor %}!"
    assert chat_frame(parts, {}, False).parts == ("", "!")
    twice = "{{ messages[0].content }}-{{ messages[0].content | tojson }}"
    assert chat_frame(twice, {}, False).parts == ("", '-"', '"')


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('only system messages') }}", "only system messages"),
        ("{% if messages %}", "end of template"),
        ("{{ nothing.at.all }}", "undefined"),
        ("hello", "leaves out what the user says"),
        ("x" * 600_000, "too large"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{{ raise_exception.__globals__['sys'] }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ (messages | attr('__class__')).x }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "loader"),
        ("{% import 'os' as os %}", "loader"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "without end"),
        ("{% for i in range(99999) %}xxxxxxxxxx{% endfor %}", "without end"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "too"),
        ("{{ 'x' * 10 ** 9 }}", "too much"),
        ("{{ 9 ** (9 ** 9) }}", "too much"),
        ("{{ 'x'.ljust(1000000000) }}", "too much"),
        ("{{ 'x' | center(1000000000) }}", "too much"),
        ("{{ '%1000000000d' % 1 }}", "too much"),
        ("{{ '%1000000000d' | format(1) }}", "too much"),
        ("{{ '{:1000000000}'.format(1) }}", "too much"),
        (
            "{% set n = namespace(x='xx') %}{% for i in range(60) %}"
            "{% set n.x = n.x ~ n.x %}{% endfor %}",
            "too much",
        ),
    ],
)
def test_what_cannot_be_used_is_told_in_one_sentence(template: str, why: str) -> None:
    with pytest.raises(ModelError, match=why) as caught:
        chat_frame(template, {}, False)
    assert "\n" not in str(caught.value) and "chat template of this model" in str(caught.value)


def test_a_template_that_loops_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 0.2)
    loops = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    with pytest.raises(ModelError, match="does not come to an end"):
        chat_frame(loops, {}, False)
