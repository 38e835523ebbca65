"""A summary of exact sentences: the default for a model that finds better than it writes.

Every sentence of the input is weighed (`extraction`), with the salience marks that its passage got
while it was read and, for a summary about something, the marks of the passages that match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samba_cli.entrance import entrance
from samba_cli.evidence import EvidenceOptions, find_evidence
from samba_cli.extraction import Unit, choose_units, units, worth
from samba_cli.furniture import furniture
from samba_cli.index import PassageIndex, StoredPassage
from samba_cli.model.network import Model
from samba_cli.model.tokenizer import Tokenizer
from samba_cli.prompting import has_marks
from samba_cli.quotes import evidence, span_quote
from samba_cli.results import SummarySentence
from samba_cli.salience import Span
from samba_cli.support import comments

ENOUGH = 4  # sentences of a README to speak for the repository
MOST_PASSAGES = 4000  # whose sentences are weighed: of a longer input, those that stand out
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*$", re.MULTILINE)
_HEADING_MARK = re.compile(r"#{1,6}[ \t]+")
_LETTERS = 0.6  # least share of letters and spaces in what reads as text
_CUT_ENDS = " ,;:.-–—("


@dataclass(frozen=True)
class Extract:
    """A unit, and where its text stands in its passage."""

    unit: Unit
    stored: StoredPassage
    start: int
    end: int


def extractive_sentences(
    index: PassageIndex, length: int, exact: bool, focus: str | None, spans: Sequence[Span],
    model: Model, tokenizer: Tokenizer, prompts: Path | None = None,
) -> list[SummarySentence]:  # fmt: skip
    """Sentences of about `length` words together, in the order of the text; none for no prose.

    With more than one span each gets its share of the words and gives its sentences its title.
    `exact`: the length is filled, and the last sentence taken is cut short with an ellipsis.
    """
    found = _telling(list(_extracts(index, focus, model, tokenizer, prompts)))
    if not focus and len(spans) == 1:
        found = _at_the_entrance(found)
    values = worth([one.unit for one in found], length, focus or "")
    said: list[SummarySentence] = []
    for span in spans:
        inside = [i for i, one in enumerate(found) if span.first <= one.stored.id <= span.last]
        if not inside:
            continue
        share = max(length // len(spans), 12)
        chosen = choose_units([found[i].unit for i in inside], values[inside], share, exact)
        title = span.title if len(spans) > 1 else None
        said += [
            _sentence(found[inside[i]], count, float(values[inside[i]]), title)
            for i, count in chosen
        ]
    return said


def _telling(found: list[Extract]) -> list[Extract]:
    """Without running heads, contents and notices, unless there is nothing else."""
    lines = [
        (one.unit.document, one.unit.text, one.stored.passage.page_start is not None)
        for one in found
    ]
    says = [one for one, nothing in zip(found, furniture(lines), strict=True) if not nothing]
    return says or found


def _at_the_entrance(found: list[Extract]) -> list[Extract]:
    """Of a repository what its README says, where that is enough for a summary."""
    name = entrance((one.stored.passage.document, one.stored.passage.kind) for one in found)
    says = [one for one in found if one.stored.passage.document == name]
    return says if len(says) >= ENOUGH else found


def _extracts(
    index: PassageIndex, focus: str | None, model: Model, tokenizer: Tokenizer, prompts: Path | None
) -> Iterator[Extract]:
    salience = dict(index.most_salient(1, index.last_id(), index.last_id()))
    marks = _marks(index, focus, model, tokenizer, prompts) if focus else {}
    fenced: dict[int, bool] = {}  # documents whose text so far ends within a block of code
    for stored in _passages(index, focus):
        passage, document = stored.passage, stored.document_id
        if passage.kind == "code":
            spans = comments(passage.text)
        else:
            blocks, fenced[document] = _code_blocks(passage.text, fenced.get(document, False))
            spans = [
                (start, end) for start, end in units(passage.text, passage.page_start is not None)
                if not any(start < b and a < end for a, b in blocks)
            ]  # fmt: skip
        for start, end in spans:
            text = passage.text[start:end]
            if reads_as_text(text):
                unit = Unit.of(
                    document, stored.id, text, salience.get(stored.id, 0.0),
                    marks.get(stored.id, -1.0 if marks else 0.0),
                )  # fmt: skip
                yield Extract(unit, stored, start, end)


def _passages(index: PassageIndex, focus: str | None) -> Iterator[StoredPassage]:
    """All passages, or of many those that stand out, in order."""
    last = index.last_id()
    if last <= MOST_PASSAGES:
        yield from index.iterate()
        return
    ids = {one.first_passage for one, _ in zip(index.documents(), range(1000), strict=False)}
    if focus:
        ids |= {key for key, _ in index.search(focus, MOST_PASSAGES // 4)}
    ids |= {key for key, _ in index.most_salient(1, last, MOST_PASSAGES - len(ids))}
    ids |= set(range(1, last + 1, -(-last // max(MOST_PASSAGES - len(ids), 1))))
    ordered = sorted(ids)
    for begin in range(0, len(ordered), 500):
        yield from index.get(ordered[begin : begin + 500])


def _marks(
    index: PassageIndex, focus: str, model: Model, tokenizer: Tokenizer, prompts: Path | None
) -> dict[int, float]:
    """The model's marks of the passages that match best, in standard deviations."""
    if not has_marks(tokenizer):
        return {}
    scored = find_evidence(focus, index, model, tokenizer, EvidenceOptions(prompts=prompts))
    mean = sum(one.mark for one in scored) / len(scored)
    deviation = (sum((one.mark - mean) ** 2 for one in scored) / len(scored)) ** 0.5 + 1e-6
    return {one.stored.id: (one.mark - mean) / deviation for one in scored}


def _code_blocks(text: str, inside: bool) -> tuple[list[tuple[int, int]], bool]:
    """Spans of the fenced code in a passage, and whether its end lies in one."""
    blocks: list[tuple[int, int]] = []
    start = 0
    for match in _FENCE.finditer(text):
        if inside:
            blocks.append((start, match.end()))
        else:
            start = match.start()
        inside = not inside
    return ([*blocks, (start, len(text))] if inside else blocks), inside


def reads_as_text(text: str) -> bool:
    """Whether a unit may stand in a summary: words, not a table, a link, a rule or calls."""
    if text.count("|") > 1 or len(re.findall(r"\w\(", text)) > 1 or not text.strip("#*=-_ \n"):
        return False
    letters = sum(character.isalpha() or character.isspace() for character in text)
    return letters >= _LETTERS * len(text)


def _sentence(extract: Extract, count: int, value: float, section: str | None) -> SummarySentence:
    """The first `count` words of an extract as a sentence with its place."""
    passage = extract.stored.passage
    mark = _HEADING_MARK.match(passage.text, extract.start, extract.end)
    start = mark.end() if mark else extract.start
    quoted = span_quote(passage, start, extract.end)
    tokens = quoted.text.split()
    count -= bool(mark)
    text = " ".join(tokens[:count])
    if count < len(tokens):
        text = text.rstrip(_CUT_ENDS) + " …"
    elif text[-1:] not in ".!?:;…\"”'’)":
        text += "."
    place = evidence(extract.stored, quoted, value, True)
    return SummarySentence(text, (place,), section, True)
