"""What a checkpoint says about its tokenizer beside tokenizer.json.

Files of the Hugging Face layout, all of them optional: tokenizer_config.json and
special_tokens_map.json (names of special tokens, the chat template), chat_template.jinja,
generation_config.json and config.json (ids that end a text).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class TokenizerConfig:
    """`special` holds the token texts that a chat template may name, such as bos_token."""

    special: dict[str, str] = field(default_factory=dict)
    add_bos: bool | None = None  # None: tokenizer.json decides
    chat_template: str | None = None  # Jinja
    eos: frozenset[int] = frozenset()  # ids


def read_tokenizer_config(folder: Path) -> TokenizerConfig:
    """Read what there is. Raises ValueError with one sentence for a file that is damaged."""
    config = _read_json(folder / "tokenizer_config.json")
    special = {}
    for source in (_read_json(folder / "special_tokens_map.json"), config):
        for name in _NAMES:
            value = source.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str) and text:
                special[name] = text
    add_bos = config.get("add_bos_token")
    eos: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        eos |= _ids(_read_json(folder / name).get("eos_token_id"), folder / name)
    return TokenizerConfig(
        special,
        add_bos if isinstance(add_bos, bool) else None,
        _chat_template(folder, config),
        frozenset(eos),
    )


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    try:
        return path.read_text(encoding="utf-8") or None
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable ({error})") from None
    value = config.get("chat_template")
    if isinstance(value, list):  # several, by name
        named = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
        value = named.get("default", next(iter(named.values()), None))
    return value if isinstance(value, str) and value else None


def _ids(value: Any, path: Path) -> set[int]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if any(isinstance(one, bool) or not isinstance(one, int) for one in values):
        raise ValueError(f"{path}: eos_token_id must be a whole number or a list of them")
    return {one for one in values if one >= 0}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} is not readable ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a JSON object")
    return value
