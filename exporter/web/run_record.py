"""One failed run as the pages and the commands show it: ids as texts, times for people and for programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from exporter.model import Run, TargetKey
from exporter.runs import KnownRun

_TEXTS = ("job_type", "status", "msg_code", "msg_error", "data_id", "resource_spec")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """
    A failed run.

    Shape: a time stands twice, as RFC 3339 in UTC and in milliseconds; both are None where there is none, and
    the text also for a year that a calendar does not have.
    Units: `at` is when the run ended by the exporter's clock, the other times are by the server's; durations
    in milliseconds.
    """

    project: str
    workspace: str
    job_id: str
    number: int
    job_type: str
    status: str
    msg_code: str
    msg_error: str
    data_id: str
    resource_spec: str
    created: str | None
    created_ms: int
    started: str | None
    started_ms: int | None
    ended: str | None
    ended_ms: int | None
    at: str | None
    at_ms: int
    submitting_ms: int | None
    running_ms: int | None


FIELDS = tuple(field.name for field in fields(RunRecord))


def run_record(target: TargetKey, run: Run, masked: Callable[[str], str] = str) -> RunRecord:
    """
    Lay a failed run out.

    Shape: `masked` takes the secrets out of a text: what came in masked may have been recorded by a process
    that knew other secrets.
    """
    return RunRecord(**run_fields(target, run, masked))


def run_fields(target: TargetKey, run: Run | KnownRun, masked: Callable[[str], str] = str) -> dict[str, Any]:
    """Lay a run out under the names of FIELDS, in their order; what is not known is None."""
    times = {name: getattr(run, f"{name}_ms") for name in ("created", "started", "ended", "at")}
    return {
        "project": target.project,
        "workspace": target.workspace,
        "job_id": str(run.job_id),
        "number": run.number,
        **{name: _masked(getattr(run, name), masked) for name in _TEXTS},
        **{
            key: value
            for name, at_ms in times.items()
            for key, value in ((name, rfc3339(at_ms)), (f"{name}_ms", at_ms))
        },
        "submitting_ms": run.submitting_ms,
        "running_ms": run.running_ms,
    }


def _masked(text: str | None, masked: Callable[[str], str]) -> str | None:
    """Mask a text; a number is never masked."""
    return text if text is None or (text.isascii() and text.isdigit()) else masked(text)


def rfc3339(at_ms: int | None) -> str | None:
    """Write a time as 2026-07-01T03:00:00.000Z; None for none, and beyond the years 1 to 9999."""
    if at_ms is None:
        return None
    try:
        moment = _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
