"""
What the status page and /api/v1/status show: the snapshots, laid out by target.

Units: `*_ms` are Unix milliseconds UTC, as in the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.model import STATUSES, Failure, Fault, Progress, TargetKey, TargetSnapshot, Totals

JobCounts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """
    One target.

    Shape: `progress` while everything is being listed; `jobs` by job type and status; `drift` by status; what
    is not known yet is None or empty.
    """

    project: str
    project_id: str
    workspace: str
    region: str
    endpoint: str
    up: bool | None
    stale: bool
    last_success_ms: int | None
    duration_seconds: float | None
    requests: int | None
    polls: int
    failures: Mapping[str, int]
    full_syncs: Mapping[str, int]
    error: Fault | None
    progress: Progress | None
    baseline_ms: int | None
    last_audit_ms: int | None
    drift: Mapping[str, int]
    jobs: JobCounts
    recent_failures: tuple[Failure, ...]

    @property
    def statuses(self) -> list[str]:
        """The statuses there are columns for: the known ones, and after them what the API made up."""
        listed = {status for counts in self.jobs.values() for status in counts}
        return [*STATUSES, *sorted(listed.difference(STATUSES))]


@dataclass(frozen=True, slots=True)
class Status:
    """The whole of it, at `now_ms`; `missing` says what readiness waits for, `config` has no secrets."""

    version: str
    now_ms: int
    ready: bool
    missing: list[str]
    targets: list[TargetStatus]
    config: Mapping[str, object]


def target_status(snapshot: TargetSnapshot, progress: Progress | None) -> TargetStatus:
    """Lay one target out."""
    target, poll, totals = snapshot.target, snapshot.poll, snapshot.totals
    return TargetStatus(
        project=target.project,
        project_id=target.project_id,
        workspace=target.workspace,
        region=target.region,
        endpoint=target.endpoint,
        up=poll.up,
        stale=snapshot.stale,
        last_success_ms=poll.last_success_ms,
        duration_seconds=poll.duration_seconds,
        requests=poll.requests,
        polls=poll.polls,
        failures={str(reason): count for reason, count in poll.failures.items()},
        full_syncs=poll.full_syncs,
        error=poll.error,
        progress=progress,
        baseline_ms=totals.baseline_ms if totals else None,
        last_audit_ms=totals.last_audit_ms if totals else None,
        drift=totals.drift if totals else {},
        jobs=_jobs(totals),
        recent_failures=totals.recent_failures if totals else (),
    )


def _jobs(totals: Totals | None) -> JobCounts:
    by_type: dict[str, dict[str, int]] = {}
    for (job_type, status), count in sorted(totals.jobs.items()) if totals else ():
        by_type.setdefault(job_type, {})[status] = count
    return by_type


def status(
    snapshots: Iterable[TargetSnapshot],
    *,
    version: str,
    now_ms: int,
    missing: list[str],
    progress: Mapping[TargetKey, Progress],
    config: Mapping[str, object],
) -> Status:
    """Lay all targets out, in the order they come."""
    return Status(
        version=version,
        now_ms=now_ms,
        ready=not missing,
        missing=missing,
        targets=[target_status(shown, progress.get(shown.target.key)) for shown in snapshots],
        config=config,
    )
