"""Checkpoints of other makers in tests: byte tokenizers with their special tokens, templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHATML = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim"
    " + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
GRANITE = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
{%- else %}
    {%- set system = 'Today is ' + strftime_now('%B %d, %Y') + '.' %}
{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system + '<|end_of_text|>\\n' }}
{%- if tools %}{{- tools | tojson(indent=4) }}{%- endif %}
{%- for message in messages %}
    {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' }}
    {%- generation %}{{- message['content'] }}{% endgeneration %}
    {{- '<|end_of_text|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_of_role|>assistant<|end_of_role|>' }}
{%- endif %}
"""
JAMBA = """\
{% macro turn(role, text) %}<|{{ role }}|>{{ text }}<|eom|>{% endmacro %}
{% set seen = namespace(count=0) %}{{ bos_token }}
{%- for message in messages -%}
  {%- if message.role not in ['user', 'system', 'assistant'] -%}
    {{- raise_exception('unknown role') -}}
  {%- endif -%}
  {%- set seen.count = seen.count + 1 -%}
  {{- turn(message.role, message.content) -}}
{%- endfor -%}
<|assistant|>{{ '<think>\n' }}"""
SPECIAL = {
    "chatml": ["<|begin|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    "granite": ["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"],
    "jamba": ["<|begin|>", "<|user|>", "<|assistant|>", "<|eom|>"],
    "base": ["<|endoftext|>"],
}


def write_tokenizer(folder: Path, special: list[str], think: bool = True) -> None:
    """A tokenizer.json of 256 bytes, two spaces as one token, and special tokens behind them.

    The think tags are added tokens that are not called special, as most checkpoints have them.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.add_tokens([AddedToken("  ", special=False)])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    if think:
        tokenizer.add_tokens([AddedToken(t, special=False) for t in ("<think>", "</think>")])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_foreign(folder: Path, maker: str = "chatml", think: bool = True, **config: Any) -> Path:
    """The tokenizer files of a checkpoint; `config` goes into tokenizer_config.json."""
    write_tokenizer(folder, SPECIAL[maker], think)
    template = {"chatml": CHATML, "granite": GRANITE, "jamba": JAMBA, "base": None}[maker]
    first = {"bos_token": "<|begin|>"} if "<|begin|>" in SPECIAL[maker] else {}
    values = {**first, "chat_template": template, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    return folder
