"""Jobs with a past, and plans for them: for the tests of the backfill."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from exporter.backfill.past import Past
from exporter.backfill.plan import BackfillPlan, LiveCounting, TargetPlan
from exporter.backfill.spool import Spool
from exporter.counting.rules import CountingRules
from exporter.counting.transitions import Baselines
from exporter.model import Job, is_failed
from tests.fake_api import a_target

RULES = CountingRules(submitting_bounds=(1.0, 60.0), running_bounds=(60.0, 3600.0))
DAY_MS = 86_400_000
STEP_MS = 240_000
# A midnight.
START_MS = 20_000 * DAY_MS


def a_past(
    baseline_ms: int | None,
    *,
    from_ms: int = START_MS,
    until_ms: int | None = None,
    labels: dict[str, str] | None = None,
    **live: Any,
) -> TargetPlan:
    given = {"job": "octopus", "instance": "exporter:10877"} if labels is None else labels
    counting = LiveCounting(Baselines({"*": baseline_ms}, None), **{"rows_ahead_ms": 0, **live})
    return TargetPlan(a_target(), counting, given, from_ms, until_ms or baseline_ms or from_ms)


def a_plan(*targets: TargetPlan, step_ms: int = STEP_MS, lookback_ms: int | None = None) -> BackfillPlan:
    return BackfillPlan(targets, RULES, step_ms, lookback_ms)


def a_run(job_id: int, created_ms: int, waited_ms: int = 5_000, ran_ms: int = 90_000, **fields: Any) -> Job:
    """A job that has waited, run and finished."""
    started_ms = created_ms + waited_ms
    given: dict[str, Any] = {
        "job_type": "FRAME_EXTRACT",
        "status": "FINISHED",
        "started_ms": started_ms,
        "ended_ms": started_ms + ran_ms,
        "updated_ms": started_ms + ran_ms,
        "resource_spec": "2Core_4GiB",
    }
    return Job(id=job_id, created_ms=created_ms, **(given | fields))


def fill(spool: Spool, plan: BackfillPlan, jobs: Iterable[Job], lag_ms: int = 0) -> list[Past]:
    """Put the past of jobs into a spool, the same jobs for each target."""
    pasts = [Past(target, plan.lookback_ms, lag_ms) for target in plan.targets]
    for job in jobs:
        for number, past in enumerate(pasts):
            spool.add(number, job, past.moments(job), failed=is_failed(job.status))
    return pasts


Progress = Callable[[str, int], None]


def unshown(_name: str, _more: int) -> None:
    """Show no progress."""
