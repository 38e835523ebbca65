"""Jupyter notebooks: text and code cells in order, with what the code printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from samba_cli.documents import Part
from samba_cli.sources.markdown import markdown_parts
from samba_cli.sources.source import Problem, Source
from samba_cli.sources.text import clean, decode_bytes

_OUTPUT_CHARS = 2000  # of one output: beyond that it is data, not something to read


def notebook_parts(source: Source) -> Iterator[Part]:
    """Parts that begin at the headings of text cells. Raises Problem: corrupt, empty."""
    with source.open() as stream:
        data = stream.read()
    try:
        notebook = json.loads(decode_bytes(data))
        cells = notebook.get("cells")
        if cells is None:  # notebook format 3
            cells = [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]
        language = _language(notebook)
        texts = [text for cell in cells if (text := _cell(cell, language))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Problem(source.name, "corrupt") from None
    if not texts:
        raise Problem(source.name, "empty")
    for part in markdown_parts(text + "\n\n" for text in texts):
        # The lines of the JSON file mean nothing to a person, those of the cells are not in it.
        yield Part(part.text, heading=part.heading)


def _language(notebook: dict[str, Any]) -> str:
    metadata = notebook.get("metadata", {})
    return metadata.get("language_info", metadata.get("kernelspec", {})).get("name", "python")


def _cell(cell: dict[str, Any], language: str) -> str:
    content = _joined(cell.get("source", cell.get("input", ""))).strip("\n")
    if cell["cell_type"] != "code":
        return content
    if not content:
        return ""
    printed = "\n".join(filter(None, map(_output, cell.get("outputs", []))))
    result = f"\n\n{_fenced(printed, '')}" if printed else ""
    return _fenced(content, language) + result


def _fenced(text: str, language: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text}\n{fence}"


def _output(output: dict[str, Any]) -> str:
    """The text of an output; pictures and HTML have none."""
    kind = output.get("output_type")
    if kind == "stream":
        text = _joined(output.get("text", ""))
    elif kind in ("error", "pyerr"):
        text = f"{output.get('ename', 'Error')}: {output.get('evalue', '')}"
    else:
        text = _joined(output.get("data", output).get("text/plain", output.get("text", "")))
    text = text.strip("\n")
    return text if len(text) <= _OUTPUT_CHARS else text[:_OUTPUT_CHARS].rstrip() + " ..."


def _joined(text: str | list[str]) -> str:
    whole = text if isinstance(text, str) else "".join(text)
    return clean(whole.replace("\r\n", "\n").replace("\r", "\n"))
