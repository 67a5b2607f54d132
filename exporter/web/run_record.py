"""One run as the API, the status and the command `jobs` show it, and such records as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from exporter.errors import without_controls
from exporter.model import Run, TargetKey
from exporter.runs import KnownRun, rfc3339

Masked = Callable[[str], str]
"""Replaces the secrets in a text."""

_TEXTS = ("job_type", "status", "msg_code", "msg_error", "data_id", "resource_spec")
_TIMES = ("created", "started", "ended", "at")
# A spreadsheet takes a cell that starts with one of these for a formula. The last four are the full-width
# forms of the first four. Source: OWASP, "CSV Injection", read 2026-11.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """
    A run. The fields are those of docs/status-api.md, in this order.

    Shape: each time is given as RFC 3339 in UTC and in milliseconds. Both are None if there is no such time;
    the text is also None for a year outside 1 to 9999. Of a run that did not fail, or that is in flight, some
    fields are unknown and None, as in runs.KnownRun.
    Units: `at` is when the run ended by the exporter's clock; the other times are by the server's clock.
    Durations are in milliseconds.
    """

    project: str
    workspace: str
    job_id: str
    number: int
    job_type: str
    status: str
    msg_code: str | None
    msg_error: str | None
    data_id: str | None
    resource_spec: str | None
    created: str | None
    created_ms: int
    started: str | None
    started_ms: int | None
    ended: str | None
    ended_ms: int | None
    at: str | None
    at_ms: int | None
    submitting_ms: int | None
    running_ms: int | None


FIELDS = tuple(field.name for field in fields(RunRecord))


def run_record(target: TargetKey, run: Run | KnownRun, masked: Masked = str) -> RunRecord:
    """Make a run's record. Mask again: the process that stored the run may have known other secrets."""
    texts: dict[str, Any] = {}
    for name in _TEXTS:
        text = getattr(run, name)
        texts[name] = None if text is None else masked_value(text, masked)
    times: dict[str, Any] = {}
    for name in _TIMES:
        times[f"{name}_ms"] = getattr(run, f"{name}_ms")
        times[name] = rfc3339(times[f"{name}_ms"])
    return RunRecord(
        project=target.project,
        workspace=target.workspace,
        job_id=str(run.job_id),  # a text: numbers in JavaScript are exact up to 2^53 only
        number=run.number,
        submitting_ms=run.submitting_ms,
        running_ms=run.running_ms,
        **texts,
        **times,
    )


def masked_value(text: str, masked: Masked) -> str:
    """Mask a value that may be a number. Numbers are never masked."""
    return text if text.isascii() and text.isdigit() else masked(text)


def csv_text(rows: Iterable[Sequence[str | int | None]]) -> str:
    """
    Write rows as CSV (RFC 4180) that is safe to open in a spreadsheet.

    A text that a spreadsheet would run as a formula gets a leading apostrophe. Control characters other than
    tabs and line ends are replaced.
    """
    text = io.StringIO()
    csv.writer(text).writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue()


def _harmless(cell: str | int | None) -> str | int | None:
    if not isinstance(cell, str):
        return cell
    plain = without_controls(cell)
    return f"'{plain}" if plain.startswith(_FORMULA) else plain
