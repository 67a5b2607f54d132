"""Failed runs made by hand, for the status page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from exporter.runs import FailureGroup, FailureGroups, HourlyFailures
from exporter.web.status.failures import PageFailures, find_spike
from tests.status_states import HOSTILE, MINUTE_MS, NOW_MS, OK

SPIKE_IDS = tuple(range(4070, 4000, -1))


def failure_group(**changes: Any) -> FailureGroup:
    """Return the failures of the staged spike, with these fields changed."""
    group = FailureGroup(
        target=OK.target.key,
        job_type="FRAME_EXTRACT",
        status="RUN_FAILED",
        msg_code="3001",
        message="The data package is damaged: checksum mismatch.",
        runs=len(SPIKE_IDS),
        first_ms=NOW_MS - 41 * MINUTE_MS,
        last_ms=NOW_MS - 3 * MINUTE_MS,
        job_ids=SPIKE_IDS,
    )
    changed = replace(group, **changes)
    return replace(changed, runs=len(changed.job_ids)) if "job_ids" in changes else changed


def hour_of(runs: int, mean: float | None = 2.0, **kinds: int) -> HourlyFailures:
    """Return an hour of failures of the target `OK`, by code."""
    by_kind = {("FRAME_EXTRACT", code.removeprefix("_")): count for code, count in kinds.items()}
    return HourlyFailures(OK.target.key, runs, mean, by_kind)


def page_failures(hours: tuple[HourlyFailures, ...], groups: FailureGroups) -> PageFailures:
    return PageFailures(hours, find_spike(hours), groups)


CALM = page_failures((hour_of(1, _3001=1),), FailureGroups((failure_group(job_ids=(4000,)),), 1))
SPIKE = page_failures(
    (hour_of(82, _3001=70, _3101=12),),
    FailureGroups(
        (
            failure_group(),
            failure_group(msg_code="", message=HOSTILE, job_ids=tuple(range(3012, 3000, -1))),
        ),
        82,
    ),
)


def flood() -> FailureGroups:
    """Return the groups of 10,000 failures with 10,000 messages and a hundred codes."""
    groups = tuple(
        failure_group(msg_code=str(n), message=f"no {n}: {'x' * 1000}", job_ids=(n,)) for n in range(100)
    )
    return FailureGroups(groups, 10_000, 9_900)
