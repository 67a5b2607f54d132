"""
Alerts about waiting, compared with what the jobs of a life waited in the end.

An alert is about a fault if it begins in the fault and has its labels. Else it is false, unless it is true
with hindsight: the backlog was not cleared within 12 hours; or the jobs that waited then, or had just
started, waited for longer than nine in ten runs of the week before, and for more than half an hour. What an
alert says in a fault beside its own is not judged, except where only one spec is short of nodes: alerts
about other specs are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from benchmarks.alerts.project import DAY
from benchmarks.alerts.verdict import Alert
from benchmarks.alerts.waits.lives import BACKLOG, RESOURCE, Fault, WaitingLife
from benchmarks.alerts.waits.nodes import Queued, waiting

_CLEARED_JOBS = 5
_LATE_MINUTES = 12 * 60
_LEAST_WAIT = 30.0
_AFTER_FAULT = 12 * 60


@dataclass(frozen=True, slots=True)
class Judged:
    """An alert of a life with its verdict, and the truth: hours until cleared, or minutes of wait."""

    alert: Alert
    verdict: str
    truth: str


def judge(life: WaitingLife, alerts: Iterable[Alert]) -> list[Judged]:
    found = []
    for alert in alerts:
        is_true, truth = _hindsight(life.queue, alert)
        if any(_is_about(alert, fault) for fault in life.faults):
            verdict = "found"
        elif any(_is_beside(alert, fault) for fault in life.faults):
            verdict = "beside"
        else:
            verdict = "true" if is_true else "false"
        found.append(Judged(alert, verdict, truth))
    return found


def delay(fault: Fault, alerts: Iterable[Alert]) -> int | None:
    """Return the minutes until a fault is told; None if it is not."""
    return min((alert.begin - fault.begin for alert in alerts if _is_about(alert, fault)), default=None)


def _is_about(alert: Alert, fault: Fault) -> bool:
    is_then = fault.begin <= alert.begin <= fault.end
    return is_then and alert.name == fault.alert and fault.labels.items() <= alert.labels.items()


def _is_beside(alert: Alert, fault: Fault) -> bool:
    is_then = fault.begin <= alert.begin <= fault.end + _AFTER_FAULT
    is_of_another_spec = (
        fault.alert == RESOURCE == alert.name and not fault.labels.items() <= alert.labels.items()
    )
    return is_then and not is_of_another_spec


def _hindsight(queue: Queued, alert: Alert) -> tuple[bool, str]:
    if alert.name == BACKLOG:
        rows = queue.kind == queue.job_types.index(alert.labels["job_type"])
        jobs = waiting(queue, rows)
        cleared = np.flatnonzero(jobs[alert.begin :] < _CLEARED_JOBS)
        minutes = int(cleared[0]) if len(cleared) else len(jobs)
        return minutes > _LATE_MINUTES, f"{jobs[alert.begin]} jobs, cleared after {minutes / 60:.1f} h"
    rows = queue.spec == queue.specs.index(alert.labels["resource_spec"])
    created, started = queue.created[rows], queue.started[rows]
    waits = np.minimum(started, len(queue.created) + 10**6) - created
    now = (created <= alert.begin) & (started > alert.begin - 60)
    week = (started <= alert.begin - 60) & (started > max(0, alert.begin - 60 - 7 * DAY))
    truth = float(np.median(waits[now])) if now.any() else 0.0
    usual = float(np.quantile(waits[week], 0.9)) if week.any() else 0.0
    is_true = truth > max(_LEAST_WAIT, usual)
    return (
        is_true,
        f"{now.sum()} jobs, wait {truth:.0f} min, nine in ten of {week.sum()} at most {usual:.0f} min",
    )
