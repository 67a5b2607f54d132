"""One failed run as the pages and the commands show it: ids as texts, times for people and for programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exporter.model import Run, TargetKey

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


def run_record(target: TargetKey, run: Run, masked: Callable[[str], str] = str) -> RunRecord:
    """
    Lay a run out.

    Shape: `masked` takes the secrets out of a text: what came in masked may have been recorded by a process
    that knew other secrets.
    """
    return RunRecord(
        project=target.project,
        workspace=target.workspace,
        job_id=str(run.job_id),
        number=run.number,
        job_type=_label(run.job_type, masked),
        status=_label(run.status, masked),
        msg_code=_label(run.msg_code, masked),
        msg_error=masked(run.msg_error),
        data_id=_label(run.data_id, masked),
        resource_spec=masked(run.resource_spec),
        created=rfc3339(run.created_ms),
        created_ms=run.created_ms,
        started=rfc3339(run.started_ms),
        started_ms=run.started_ms,
        ended=rfc3339(run.ended_ms),
        ended_ms=run.ended_ms,
        at=rfc3339(run.at_ms),
        at_ms=run.at_ms,
        submitting_ms=run.submitting_ms,
        running_ms=run.running_ms,
    )


def _label(text: str, masked: Callable[[str], str]) -> str:
    """Mask a short text; a number is never masked."""
    return text if text.isascii() and text.isdigit() else masked(text)


def rfc3339(at_ms: int | None) -> str | None:
    """Write a time as 2026-07-01T03:00:00.000Z; None for none, and beyond the years 1 to 9999."""
    if at_ms is None:
        return None
    try:
        moment = _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
