"""The JSON contract, version 1: docs/json.md describes it. Keys are only ever added."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from samba_cli.documents import Skipped
from samba_cli.results import Answer, Evidence, ReadReport, Summary

VERSION = 1


@dataclass
class Timing:
    """Seconds of the parts of this run."""

    read: float = 0.0
    answer: float = 0.0
    tokens_per_second: float = 0.0


@dataclass(frozen=True)
class Coverage:
    """What was read: of a reading in this run, or of a memory."""

    documents: int
    pages: int
    bytes: int | None
    tokens: int
    skipped: Sequence[Skipped] = ()
    skipped_count: int = 0

    @staticmethod
    def of(report: ReadReport) -> Coverage:
        return Coverage(
            report.documents, report.pages, report.bytes, report.tokens, report.skipped,
            report.skipped_count,
        )  # fmt: skip


@dataclass(frozen=True)
class Report:
    """Everything `--json` prints."""

    command: str
    model_id: str
    model_sha256: str
    quantize: str
    window: int | None  # that bounds full attention
    state_id: str
    state_bytes: int
    memory: str | None  # name of the memory that was asked
    coverage: Coverage
    timing: Timing
    answers: Sequence[Answer] = ()
    summary: Summary | None = None
    warnings: Sequence[str] = field(default_factory=list)


def report_json(report: Report) -> str:
    value: dict[str, Any] = {
        "samba": VERSION,
        "command": report.command,
        "model": {
            "id": report.model_id,
            "sha256": report.model_sha256,
            "quantize": report.quantize,
            "window": report.window,
        },
        "state": {
            "id": report.state_id,
            "name": report.memory,
            "bytes": report.state_bytes,
            "tokens": report.coverage.tokens,
            "reused": report.memory is not None,
        },
        "coverage": _coverage(report.coverage),
    }
    if report.summary is not None:
        value["summary"] = _summary(report.summary)
    else:
        value["answers"] = [_answer(answer) for answer in report.answers]
    value["timing"] = {
        "read_s": round(report.timing.read, 3),
        "answer_s": round(report.timing.answer, 3),
        "tokens_per_s": round(report.timing.tokens_per_second, 1),
    }
    value["warnings"] = list(report.warnings)
    return json.dumps(value, ensure_ascii=False, indent=1)


def answer_line(answer: Answer) -> str:
    """One answer on one line, for `--jsonl`: what `answers` holds of it."""
    return json.dumps({"samba": VERSION, **_answer(answer)}, ensure_ascii=False)


def _coverage(coverage: Coverage) -> dict[str, Any]:
    return {
        "files_read": coverage.documents,
        "files_skipped": [
            {"path": s.name, "reason": s.reason} for s in coverage.skipped if s.page is None
        ],
        "skipped_count": coverage.skipped_count,
        "pages": coverage.pages,
        "pages_without_text": [
            {"path": s.name, "page": s.page} for s in coverage.skipped if s.page is not None
        ],
        "bytes": coverage.bytes,
        "tokens": coverage.tokens,
        "truncated": False,  # by design: what is read is read to its end
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "question": answer.question,
        "answer": answer.text if answer.found else None,
        "found": answer.found,
        "extractive": answer.extractive,
        "thinking": answer.thinking or None,
        "evidence": [_evidence(evidence) for evidence in answer.evidence],
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "title": summary.title,
        "text": summary.text,
        "thinking": summary.thinking or None,
        "sentences": [
            {
                "text": sentence.text,
                "section": sentence.section,
                "extractive": sentence.extractive,
                "counted": sentence.counted,
                "evidence": [_evidence(evidence) for evidence in sentence.evidence],
            }
            for sentence in summary.sentences
        ],
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "path": evidence.document,
        "location": evidence.location,
        "page": evidence.page_start,
        "page_end": evidence.page_end,
        "line_start": evidence.line_start,
        "line_end": evidence.line_end,
        "char_start": evidence.char_start,
        "char_end": evidence.char_end,
        "passage_start": evidence.passage_start,
        "passage_end": evidence.passage_end,
        "heading": evidence.heading,
        "commit": evidence.commit,
        "date": evidence.date,
        "quote": evidence.quote,
        "verified": evidence.verified,
        "score": round(evidence.score, 4),
    }
