"""docs/outputs.md from results: every output whole, with marks given by the expected answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from training.output_sources import Asked, Place, Source

_RIGHT, _WRONG = "✓ right", "✗ wrong"


def is_right(answer: Mapping[str, Any], asked: Asked) -> bool:
    """Whether the answer has the expected words; where nothing is expected, whether none came.

    Words count whole, in any case; "=no" is right only as the whole answer.
    """
    if asked.answer is None or not answer["found"]:
        return asked.answer is None and not answer["found"]
    said = _flat(answer["text"])
    return any(all(_holds(said, word) for word in words) for words in asked.answer)


def _holds(said: str, word: str) -> bool:
    if word.startswith("="):
        return said.strip(" .!") == _flat(word[1:])
    edges = [r"(?<!\w)" if word[0].isalnum() else "", r"(?!\w)" if word[-1].isalnum() else ""]
    return re.search(f"{edges[0]}{re.escape(_flat(word))}{edges[1]}", said) is not None


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())


def is_cited(answer: Mapping[str, Any], asked: Asked) -> bool:
    """Whether one of the places shown is one where the answer stands."""
    return any(_meets(one, place) for one in answer["evidence"] for place in asked.places)


def _meets(evidence: Mapping[str, Any], place: Place) -> bool:
    if place.page is not None:
        first, last = evidence["page_start"], evidence["page_end"]
        return first is not None and first <= place.page <= (last or first)
    first, last = evidence["line_start"], evidence["line_end"]
    if first is None or not f"/{evidence['document']}".endswith(f"/{place.file}"):
        return False
    return first <= place.last and place.first <= (last or first)


def mentioned(summary: str, about: Sequence[Sequence[str]]) -> list[bool]:
    """Which of the things noted beforehand a summary mentions."""
    said = _flat(summary)
    return [any(_holds(said, word) for word in words) for words in about]


def page(
    rule: Sequence[str],
    sources: Sequence[Source],
    results: Sequence[Mapping[str, Any]],
    remarks: Mapping[str, str],
) -> str:
    """The page in Markdown. `remarks`: what a person found wrong with an answer that has the
    expected words, or with a sentence of a summary, by its text.
    """
    by_name = {result["name"]: result for result in results}
    blocks = [
        "# Real outputs, good and bad",
        "Made by `python -m training.outputs`, not by hand: every output is shown whole, as it "
        "came. The sources and questions are in `training/outputs.json`.",
        "How they were chosen:\n\n" + "\n".join(f"- {sentence}" for sentence in rule),
        _totals(sources, by_name, remarks),
    ]
    for source in sources:
        if source.name in by_name:
            blocks.append(_section(source, by_name[source.name], remarks))
    return "\n\n".join(blocks) + "\n"


def _totals(
    sources: Sequence[Source],
    results: Mapping[str, Mapping[str, Any]],
    remarks: Mapping[str, str],
) -> str:
    told, silent, cited = [0, 0], [0, 0], 0
    for source in sources:
        for asked, answer in _pairs(source, results.get(source.name)):
            count = silent if asked.answer is None else told
            count[0] += is_right(answer, asked) and answer["text"] not in remarks
            count[1] += 1
            cited += asked.answer is not None and is_cited(answer, asked)
    shas = sorted({result["model_sha256"][:12] for result in results.values()})
    devices = sorted({result["device"] for result in results.values()})
    return (
        f"Of {told[1]} questions that the text answers, {told[0]} were answered rightly, and for "
        f"{cited} the right page or lines were among the places shown. Of {silent[1]} that it does "
        f"not answer, {silent[0]} were recognised. {len(results)} of {len(sources)} sources were "
        f"run, with the weights {', '.join(shas)} on {', '.join(devices)}."
    )


def _pairs(
    source: Source, result: Mapping[str, Any] | None
) -> list[tuple[Asked, Mapping[str, Any]]]:
    return list(zip(source.questions, result["answers"], strict=True)) if result else []


def _section(source: Source, result: Mapping[str, Any], remarks: Mapping[str, str]) -> str:
    hits = mentioned(result["summary"]["text"], source.about)
    blocks = [
        f"## {source.title}",
        f"`{source.name}`, {source.origin}: {result['coverage']}.",
        _console(f"$ samba summarize {source.name}\n{result['summary']['printed']}"),
        f"Mentions {sum(hits)} of 3 things noted beforehand"
        + (f" (not: {_missed(source, hits)})" if not all(hits) else "")
        + f". {_copied(result['summary']['sentences'])}",
    ]
    wrong = [
        f'- ✗ "{one["text"]}": {remarks[one["text"]]}'
        for one in result["summary"]["sentences"]
        if one["text"] in remarks
    ]
    if wrong:
        blocks.append("Checked by hand, wrong:\n\n" + "\n".join(wrong))
    for asked, answer in _pairs(source, result):
        blocks.append(
            _console(f'$ samba ask "{asked.question}" {source.name}\n{answer["printed"]}')
        )
        blocks.append(_verdict(answer, asked, remarks.get(answer["text"])))
    return "\n\n".join(blocks)


def _missed(source: Source, hits: Sequence[bool]) -> str:
    return ", ".join(words[0] for words, hit in zip(source.about, hits, strict=True) if not hit)


def _copied(sentences: Sequence[Mapping[str, Any]]) -> str:
    copied = sum(one["extractive"] for one in sentences)
    return f"{len(sentences)} sentences, {copied} of them word for word from the text."


def _verdict(answer: Mapping[str, Any], asked: Asked, remark: str | None) -> str:
    mark = _RIGHT if is_right(answer, asked) and not remark else _WRONG
    checked = f" Checked by hand: {remark}" if remark and answer["text"] else ""
    if asked.answer is None:
        return f"**{mark}**. The text does not say.{checked}"
    expected = " or ".join(" and ".join(w.lstrip("=") for w in words) for words in asked.answer)
    places = ", ".join(map(str, asked.places))
    where = "shown" if is_cited(answer, asked) else "not shown"
    return f"**{mark}**. Expected: {expected} ({places}; {where}).{checked}"


def _console(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}console\n{text}\n{fence}"
