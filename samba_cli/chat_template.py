"""A checkpoint's chat template: what stands before and behind what the user says.

The template is a Jinja program that came with the model, so it is not trusted: it runs in
Jinja's immutable sandbox, reads no files, has bounds on time and size, and never sees the
user's text. A placeholder is rendered in its place, and the result is split there: special
tokens count in the template's own text and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache, wraps
from types import FrameType
from typing import TYPE_CHECKING, Any

from samba_cli.errors import ModelError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 3.0  # a template takes milliseconds
_SOURCE_CHARS = 500_000
_OUTPUT_CHARS = 200_000
_LARGEST = 1_000_000  # number given to a function or filter, and length of what an operator makes
_WIDE = re.compile(r"\d{6,}")
_UNBOUNDED = frozenset({"+", "*", "**", "%"})  # operators whose result may be huge


@dataclass(frozen=True)
class Frame:
    """A turn of the user and the opening of the model's. `parts` surround each place where the
    user's text stands: two parts for one place.
    """

    parts: tuple[str, ...]
    starts_text: bool = False  # the template began with the token that begins a text; taken off
    thinking: bool = False  # the template leaves a <think> block open for the model


def chat_frame(template: str, special: Mapping[str, str], thinking: bool) -> Frame:
    """Render a template for one user message.

    `special` are the token texts it may name (bos_token, ...); `thinking` lets a model think
    that can be told not to. Raises ModelError with one sentence.
    """
    return _chat_frame(template, tuple(sorted(special.items())), thinking)


@cache
def _chat_frame(template: str, special: tuple[tuple[str, str], ...], thinking: bool) -> Frame:
    if len(template) > _SOURCE_CHARS:
        raise ModelError("the chat template of this model is too large to be one")
    # A word passes through trim, escape and tojson; no template can hold its own hash.
    place = "text" + hashlib.sha256(template.encode(errors="replace")).hexdigest()
    names: dict[str, Any] = {"bos_token": "", "eos_token": "", **dict(special)}
    names |= {"enable_thinking": thinking, "thinking": thinking}
    names |= {"tools": None, "documents": None, "add_generation_prompt": True}
    text = _render(template, {**names, "messages": [{"role": "user", "content": place}]})
    if place not in text:  # some take a list of parts only
        content = [{"type": "text", "text": place}]
        text = _render(template, {**names, "messages": [{"role": "user", "content": content}]})
    if place not in text:
        raise ModelError("the chat template of this model leaves out what the user says")
    bos = names["bos_token"]
    starts_text = bool(bos) and text.startswith(bos)
    text = text[len(bos) :] if starts_text else text
    return Frame(tuple(text.split(place)), starts_text, text.rstrip().endswith("<think>"))


def _render(template: str, names: Mapping[str, Any]) -> str:
    try:
        from jinja2 import TemplateError
    except ImportError:
        raise ModelError("this model has a chat template; install jinja2 to use it") from None
    try:
        with _deadline("<template>", SECONDS):
            pieces, size = [], 0
            for piece in _environment().from_string(template).generate(**names):
                pieces.append(piece)
                size += len(piece)
                if size > _OUTPUT_CHARS:
                    raise _Refused("it writes without end")
            return "".join(pieces)
    except (_Refused, TemplateError) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
    except RecursionError:
        why = "it calls itself without end"
    except Exception as error:  # whatever a wrong template does to Python
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    raise ModelError(f"the chat template of this model cannot be used: {why.rstrip('.')}")


class _Refused(Exception):
    """The template asks for what it may not have."""


def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import nodes
    from jinja2.compiler import CodeGenerator
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the model's own words for training; here it means nothing."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class Generator(CodeGenerator):
        """`a ~ b` is no operator that the sandbox can intercept."""

        def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:
            self.write("environment.concatenate((")
            for part in node.nodes:
                self.visit(part, frame)
                self.write(", ")
            self.write("))")

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = _UNBOUNDED
        code_generator_class = Generator

        def concatenate(self, parts: Sequence[Any]) -> str:
            texts = [str(part) for part in parts]
            _check_size("+", texts[0], "".join(texts[1:]))
            return "".join(texts)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _check_size(operator, left, right)
            return super().call_binop(context, operator, left, right)

        def call(self, context: Any, function: Any, /, *args: Any, **named: Any) -> Any:
            _check_numbers([*args, *named.values()])
            bound = getattr(getattr(function, "__wrapped__", function), "__self__", None)
            if isinstance(bound, str) and "format" in getattr(function, "__name__", ""):
                _check_widths([bound, *args, *named.values()])
            return super().call(context, function, *args, **named)

    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters |= {name: _guarded(f) for name, f in environment.filters.items()}
    environment.filters["tojson"] = _tojson
    environment.filters["format"] = _format
    environment.globals.pop("lipsum", None)
    environment.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now}
    return environment


def _raise(message: object) -> None:
    raise _Refused(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As in the templates' own world: no HTML escapes, unlike Jinja's filter."""
    _check_numbers([indent])
    pair = (separators[0], separators[1]) if separators else None
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=pair, sort_keys=sort_keys
    )


def _format(form: str, *args: Any, **named: Any) -> str:
    _check_size("%", form, args)
    return form % (named or args)


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)  # with the marks that Jinja sets on a filter
    def checked(*args: Any, **named: Any) -> Any:
        _check_numbers([*args, *named.values()])
        return function(*args, **named)

    return checked


def _check_numbers(values: Sequence[Any]) -> None:
    if any(isinstance(value, int) and abs(value) > _LARGEST for value in values):
        raise _Refused("it asks for too much")


def _check_widths(values: Sequence[Any]) -> None:
    """Refuse a format such as `%999999999d`; a width may also come from a text argument."""
    if any(isinstance(value, str) and _WIDE.search(value) for value in values):
        raise _Refused("it asks for too much")


def _check_size(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation that would make a huge number or text before it does."""
    sizes = [len(v) if hasattr(v, "__len__") else 0 for v in (left, right)]
    numbers = [abs(v) if isinstance(v, int) else 1 for v in (left, right)]
    if operator == "*":
        size = max(sizes[0] * numbers[1], sizes[1] * numbers[0], min(*numbers))
    elif operator == "**":
        size = numbers[1] * 1000
    elif operator == "%" and isinstance(left, str):
        _check_widths([left])
        size = _LARGEST * left.count("*") + sizes[0]  # a width that is an argument
    else:
        size = sum(sizes)
    if size > _LARGEST:
        raise _Refused("it asks for too much")


@contextmanager
def _deadline(filename: str, seconds: float) -> Iterator[None]:
    """End code compiled from `filename`, in this thread, that runs for too long."""
    end, before = time.monotonic() + seconds, sys.gettrace()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if time.monotonic() > end:
            raise _Refused("it does not come to an end")
        return trace if frame.f_code.co_filename == filename else None

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
