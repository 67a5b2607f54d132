"""
What the status page and /api/v1/status show: the snapshots, laid out by target, and the program around them.

Units: `*_ms` are Unix milliseconds UTC, as in the model. Names and shapes here are those of the JSON, which
docs/status-api.md describes: they only grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from exporter.config import JobUrl
from exporter.model import (
    STATUSES,
    Fault,
    LedgerFacts,
    Progress,
    Run,
    TargetKey,
    TargetSnapshot,
    Totals,
    is_terminal,
)
from exporter.web.run_record import RunRecord, run_record

State = Literal["stale", "failing", "late", "waiting", "syncing", "drifting", "ok"]
# From what needs attention most to what needs none.
STATES: tuple[State, ...] = get_args(State)
# So many intervals without a poll that succeeded, and the target is late: one may be slow, or skipped.
_LATE_INTERVALS = 3
# What a server sends may be long: so many rows are named, and so much is told of each.
_SHOWN_ROWS, _PROBLEM_LENGTH, _STATUS_LENGTH = 20, 400, 200

ByType = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class CredentialsStatus:
    """One configured credentials; `expires_ms` is None where no end is known."""

    name: str
    type: str
    expires_ms: int | None


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """How the configuration was last read: at the start, or by a reload since. `problems`: a line each."""

    ok: bool
    at_ms: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """
    What there is to tell of the program besides what it publishes.

    Shape: `polling_since_ms` of the polls under way; `held_series` counts the new series that /metrics shows
    at 0 until they are released; `clock_skews` by project, the server's clock less ours; `rests_until_ms` by
    endpoint, of those that asked for a rest; `log_lines_dropped` and `events_dropped`
    since the process started; `config` has no
    secrets; `job_url` makes ids of jobs links, None for none.
    """

    started_ms: int
    interval_seconds: float
    polling_since_ms: Mapping[TargetKey, int]
    clock_skews: Mapping[str, float]
    rests_until_ms: Mapping[str, int]
    log_lines_dropped: int
    events_pending: int
    events_dropped: int
    credentials: tuple[CredentialsStatus, ...]
    ledger: LedgerFacts
    reload: ReloadStatus
    config: Mapping[str, object]
    held_series: Mapping[TargetKey, int] = field(default_factory=dict)
    job_url: JobUrl | None = None


@dataclass(frozen=True, slots=True)
class RecentFailures:
    """The latest failed runs of each target, the newest first; or `error` says why they could not be read."""

    runs: Mapping[TargetKey, Sequence[Run]] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row set apart; `job_id` and `created_ms` are None and `status` is "" where they cannot be read."""

    job_id: str | None
    status: str
    created_ms: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """
    One target.

    Shape: `progress` while everything is being listed; `jobs` and the oldest by job type and status;
    `job_failures` by error code; `drift` by status; `set_apart` names some of the `rows_unreadable`;
    `unlisted_jobs` and `page_size` as in model.Totals; `held_series` as in About; what is not known yet is
    None or empty.
    """

    project: str
    project_id: str
    workspace: str
    region: str
    endpoint: str
    path: str
    credentials: str
    state: State
    up: bool | None
    stale: bool
    last_success_ms: int | None
    last_poll_ms: int | None
    polling_since_ms: int | None
    duration_seconds: float | None
    requests: int | None
    polls: int
    skipped: int
    failures: Mapping[str, int]
    full_syncs: Mapping[str, int]
    error: Fault | None
    progress: Progress | None
    baseline_ms: int | None
    last_audit_ms: int | None
    drift: Mapping[str, int]
    drift_lasts: bool
    filters: Mapping[str, bool]
    rows_unreadable: int
    set_apart: tuple[UnreadableRow, ...]
    unlisted_jobs: int
    page_size: int | None
    held_series: int
    clock_skew_seconds: float | None
    endpoint_rests_until_ms: int | None
    listed: int | None
    in_flight: int | None
    jobs: ByType
    oldest_created_ms: ByType
    oldest_started_ms: ByType
    job_failures: Mapping[str, int]
    recent_failures: tuple[RunRecord, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """The whole of it, at `now_ms`; `missing` says what readiness waits for; `states` counts targets.
    `recent_failures_error` says why no target has any, None where they could be read."""

    version: str
    started_ms: int
    now_ms: int
    ready: bool
    missing: list[str]
    states: Mapping[State, int]
    targets: list[TargetStatus]
    log_lines_dropped: int
    events_pending: int
    events_dropped: int
    credentials: tuple[CredentialsStatus, ...]
    ledger: LedgerFacts
    reload: ReloadStatus
    config: Mapping[str, object]
    recent_failures_error: str | None = None


def status(
    snapshots: Iterable[TargetSnapshot],
    about: ProcessInfo,
    recent: RecentFailures,
    *,
    version: str,
    now_ms: int,
    missing: list[str],
    progress: Mapping[TargetKey, Progress],
    masked: Callable[[str], str] = str,
) -> Status:
    """
    Lay all targets out, in the order they come.

    Shape: `masked` takes the secrets out of a text: what came in masked may have been recorded by a process
    that knew other secrets.
    """
    targets = [
        target_status(shown, progress.get(shown.target.key), about, recent, now_ms, masked)
        for shown in snapshots
    ]
    return Status(
        version=version,
        started_ms=about.started_ms,
        now_ms=now_ms,
        ready=not missing,
        missing=missing,
        states=dict.fromkeys(STATES, 0) | Counter(target.state for target in targets),
        targets=targets,
        log_lines_dropped=about.log_lines_dropped,
        events_pending=about.events_pending,
        events_dropped=about.events_dropped,
        credentials=about.credentials,
        ledger=about.ledger,
        reload=replace(about.reload, problems=tuple(map(masked, about.reload.problems))),
        config=about.config,
        recent_failures_error=recent.error,
    )


def target_status(
    snapshot: TargetSnapshot,
    progress: Progress | None,
    about: ProcessInfo,
    recent: RecentFailures,
    now_ms: int,
    masked: Callable[[str], str] = str,
) -> TargetStatus:
    """Lay one target out."""
    target, poll, totals = snapshot.target, snapshot.poll, snapshot.totals
    return TargetStatus(
        project=target.project,
        project_id=target.project_id,
        workspace=target.workspace,
        region=target.region,
        endpoint=target.endpoint,
        path=target.path,
        credentials=target.credentials,
        state=state_of(snapshot, progress, about.interval_seconds, now_ms),
        up=poll.up,
        stale=snapshot.stale,
        last_success_ms=poll.last_success_ms,
        last_poll_ms=poll.last_poll_ms,
        polling_since_ms=about.polling_since_ms.get(target.key),
        duration_seconds=poll.duration_seconds,
        requests=poll.requests,
        polls=poll.polls,
        skipped=poll.skipped,
        failures={str(reason): count for reason, count in poll.failures.items()},
        full_syncs=poll.full_syncs,
        error=_masked_fault(poll.error, masked),
        progress=progress,
        baseline_ms=totals.baseline_ms if totals else None,
        last_audit_ms=totals.last_audit_ms if totals else None,
        drift=totals.drift if totals else {},
        drift_lasts=totals.drift_lasts if totals else False,
        filters=totals.filters if totals else {},
        rows_unreadable=totals.rows_unreadable if totals else 0,
        set_apart=_unreadable(totals, masked) if totals else (),
        unlisted_jobs=totals.unlisted_jobs if totals else 0,
        page_size=totals.page_size if totals else None,
        held_series=about.held_series.get(target.key, 0),
        clock_skew_seconds=about.clock_skews.get(target.project),
        endpoint_rests_until_ms=about.rests_until_ms.get(target.endpoint),
        listed=sum(totals.jobs.values()) if totals else None,
        in_flight=_in_flight(totals) if totals else None,
        jobs=_by_type(totals.jobs) if totals else {},
        oldest_created_ms=_by_type(totals.oldest_created_ms) if totals else {},
        oldest_started_ms=_by_type(totals.oldest_started_ms) if totals else {},
        job_failures=_by_code(totals) if totals else {},
        recent_failures=tuple(run_record(target.key, run, masked) for run in recent.runs.get(target.key, ())),
    )


def state_of(
    snapshot: TargetSnapshot, progress: Progress | None, interval_seconds: float, now_ms: int
) -> State:
    """Say in one word how a target is; the worst that is true of it."""
    poll, totals = snapshot.poll, snapshot.totals
    if poll.up is False:
        return "stale" if snapshot.stale else "failing"
    if progress is not None:
        return "syncing"
    if poll.up is None:
        return "waiting"
    limit_seconds = _LATE_INTERVALS * interval_seconds + (poll.duration_seconds or 0)
    if poll.last_success_ms is not None and now_ms - poll.last_success_ms > limit_seconds * 1000:
        return "late"
    return "drifting" if totals is not None and totals.drift_lasts else "ok"


def _masked_fault(fault: Fault | None, masked: Callable[[str], str]) -> Fault | None:
    if fault is None:
        return None
    return replace(
        fault,
        message=masked(fault.message),
        code=masked(fault.code),
        request_id=masked(fault.request_id),
    )


def _in_flight(totals: Totals) -> int:
    not_ended = sum(jobs for (_, status), jobs in totals.jobs.items() if not is_terminal(status))
    return not_ended - totals.undocumented_ended


def _by_type(values: Mapping[tuple[str, str], int]) -> ByType:
    nested: dict[str, dict[str, int]] = {}
    for (job_type, status), value in sorted(values.items()):
        nested.setdefault(job_type, {})[status] = value
    return nested


def _unreadable(totals: Totals, masked: Callable[[str], str]) -> tuple[UnreadableRow, ...]:
    return tuple(
        UnreadableRow(
            None if row.job_id is None else str(row.job_id),
            row.status if row.status in STATUSES else masked(row.status)[:_STATUS_LENGTH],
            row.created_ms,
            masked(row.problem)[:_PROBLEM_LENGTH],
        )
        for row in totals.set_apart[:_SHOWN_ROWS]
    )


def _by_code(totals: Totals) -> dict[str, int]:
    """Add up the failures counted, by error code; the most frequent first."""
    counts: Counter[str] = Counter()
    for (_, _, msg_code), counted in totals.failures.items():
        counts[msg_code] += counted.value
    return {code: count for code, count in counts.most_common() if count}
