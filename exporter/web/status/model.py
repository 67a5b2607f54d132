"""
The status: all targets and the process. It is the JSON of /api/v1/status, and the status page is made of it.

Units: `*_ms` are Unix milliseconds UTC, as in the model. Names, shapes and order are those of the JSON, which
docs/status-api.md describes: fields may be added, but never changed or removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from exporter.config import Config, JobUrl
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
from exporter.web.run_record import Masked, RunRecord, run_record
from exporter.web.status.resources import ResourceUse, jobs_by_spec, resource_use

State = Literal["stale", "failing", "late", "waiting", "syncing", "drifting", "ok"]
# The worst state first.
STATES: tuple[State, ...] = get_args(State)
# A target is late after this many intervals without a successful poll: a single poll may be slow or skipped.
_LATE_INTERVALS = 3
# Limits for what comes from a server, so that no server can make the page huge.
_SHOWN_ROWS, _PROBLEM_LENGTH, _STATUS_LENGTH, _SHOWN_SPECS = 20, 400, 200, 20

ByType = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class CredentialsStatus:
    """One credentials entry of the configuration; `expires_ms` is None if it is unknown or there is none."""

    name: str
    type: str
    expires_ms: int | None


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """The last time the configuration was read, at the start or by a reload. `problems`: a line each."""

    ok: bool
    at_ms: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """Shard `number` of `count` is polled: `targets` of the `configured_targets` of all shards."""

    number: int
    count: int
    targets: int
    configured_targets: int


def shard_status(config: Config) -> ShardStatus | None:
    """Return what the status says of the shard, None where all targets are polled."""
    shard = config.shard
    if shard is None:
        return None
    return ShardStatus(shard.number, shard.count, len(config.targets()), config.configured_targets)


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """
    Who polls a target, on a ledger that replicas share.

    Shape: `holder` is "" where nobody does; `here` if this replica does. Units: the holder took it at
    `since_ms` (or gave it back), and keeps it until `until_ms` unless it is renewed.
    """

    holder: str
    here: bool
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class HolderStatus:
    """How many targets a replica polls."""

    name: str
    targets: int


@dataclass(frozen=True, slots=True)
class TakeoverStatus:
    """A target that went to another replica; `before` is "" where it had been given back."""

    project: str
    workspace: str
    before: str
    holder: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ReplicasStatus:
    """
    The replicas on one ledger, as this one sees them.

    Shape: `name` is that of this replica; `alive` counts them all, and `holders` has those that poll
    targets; `takeovers` the newest first. Units: `read_ms` is when this was read, 0 before the first time;
    `away_since_ms` since when the ledger cannot be read, None while it can.
    """

    name: str
    alive: int
    read_ms: int
    away_since_ms: int | None
    holders: tuple[HolderStatus, ...]
    takeovers: tuple[TakeoverStatus, ...]


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """
    The state of the process. The state of the targets is in their snapshots.

    Shape: `polling_since_ms` of the polls that are running; `held_series` counts the new series that /metrics
    shows at 0 until they are released; `clock_skews` by project, the server's clock minus ours;
    `rests_until_ms` by endpoint, for endpoints that asked for a pause (Retry-After); `log_lines_dropped` and
    `events_dropped` since the process started; `config` without secrets; `job_url` makes job ids links;
    `replicas` and `leases` are None and empty where the ledger is not shared.
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
    shard: ShardStatus | None = None
    replicas: ReplicasStatus | None = None
    leases: Mapping[TargetKey, LeaseStatus] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row that cannot be read. What is unknown of it is None; an unknown `status` is ""."""

    job_id: str | None
    status: str
    created_ms: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """
    One target.

    Shape: `progress` is set during a full sync; `jobs` and the oldest by job type and status; `resource_jobs`
    by resource spec and status; `job_failures` by error code; `drift` by status; `set_apart` has some of the
    `rows_unreadable`; `unlisted_jobs`, `page_size` and `unreadable_specs` as in model.Totals,
    `swap_limit_seconds` as in model.PollStatus. What is not known yet is None, or as by default.
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
    baseline_ms: int | None = None
    last_audit_ms: int | None = None
    drift: Mapping[str, int] = field(default_factory=dict)
    drift_lasts: bool = False
    filters: Mapping[str, bool] = field(default_factory=dict)
    rows_unreadable: int = 0
    set_apart: tuple[UnreadableRow, ...] = ()
    unlisted_jobs: int = 0
    page_size: int | None = None
    held_series: int = 0
    clock_skew_seconds: float | None = None
    endpoint_rests_until_ms: int | None = None
    swap_limit_seconds: float | None = None
    listed: int | None = None
    in_flight: int | None = None
    jobs: ByType = field(default_factory=dict)
    oldest_created_ms: ByType = field(default_factory=dict)
    oldest_started_ms: ByType = field(default_factory=dict)
    resources: ResourceUse | None = None
    resource_jobs: ByType = field(default_factory=dict)
    unreadable_specs: tuple[str, ...] = ()
    job_failures: Mapping[str, int] = field(default_factory=dict)
    recent_failures: tuple[RunRecord, ...] = ()
    lease: LeaseStatus | None = None

    @property
    def key(self) -> TargetKey:
        return TargetKey(self.project, self.project_id, self.workspace, self.path)


# Fields that are copied as they are.
_OF_TARGET = ("project", "project_id", "workspace", "region", "endpoint", "path", "credentials")
_OF_POLL = (
    "up",
    "last_success_ms",
    "last_poll_ms",
    "duration_seconds",
    "requests",
    "polls",
    "skipped",
    "swap_limit_seconds",
)
_OF_TOTALS = ("baseline_ms", "last_audit_ms", "drift", "drift_lasts", "filters", "rows_unreadable")
_OF_PROCESS = (
    "started_ms",
    "log_lines_dropped",
    "events_pending",
    "events_dropped",
    "credentials",
    "ledger",
    "shard",
    "replicas",
)


@dataclass(frozen=True, slots=True)
class Status:
    """
    All targets and the process, at `now_ms`.

    Shape: `missing` says why the exporter is not ready; `states` counts targets; `recent_failures_error` says
    why the targets have no recent failures, None if they could be read.
    """

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
    shard: ShardStatus | None = None
    replicas: ReplicasStatus | None = None


def status(
    snapshots: Iterable[TargetSnapshot],
    process: ProcessInfo,
    *,
    version: str,
    now_ms: int,
    missing: list[str],
    progress: Mapping[TargetKey, Progress],
    recent_failures: Mapping[TargetKey, Sequence[Run]] | None = None,
    recent_failures_error: str | None = None,
    masked: Masked = str,
) -> Status:
    """
    Make the status of all targets, in the order of the snapshots.

    Shape: `recent_failures` are the latest failed runs of each target, the newest first.
    Texts are masked again here: the process that stored them may have known other secrets.
    """
    targets = []
    for shown in snapshots:
        key = shown.target.key
        runs = [run_record(key, run, masked) for run in (recent_failures or {}).get(key, ())]
        targets.append(_target_status(shown, progress.get(key), process, runs, now_ms, masked))
    return Status(
        **_copied(process, _OF_PROCESS),
        version=version,
        now_ms=now_ms,
        ready=not missing,
        missing=missing,
        states=dict.fromkeys(STATES, 0) | Counter(target.state for target in targets),
        targets=targets,
        reload=replace(process.reload, problems=tuple(map(masked, process.reload.problems))),
        config=process.config,
        recent_failures_error=recent_failures_error,
    )


def _target_status(
    snapshot: TargetSnapshot,
    progress: Progress | None,
    process: ProcessInfo,
    recent_failures: Sequence[RunRecord],
    now_ms: int,
    masked: Masked,
) -> TargetStatus:
    target, poll, totals, error = snapshot.target, snapshot.poll, snapshot.totals, snapshot.poll.error
    if error is not None:
        error = replace(
            error,
            message=masked(error.message),
            code=masked(error.code),
            request_id=masked(error.request_id),
        )
    return TargetStatus(
        **_copied(target, _OF_TARGET),
        **_copied(poll, _OF_POLL),
        **({} if totals is None else _known(totals, masked)),
        state=state_of(snapshot, progress, process.interval_seconds, now_ms),
        stale=snapshot.stale,
        polling_since_ms=process.polling_since_ms.get(target.key),
        failures={str(reason): count for reason, count in poll.failures.items()},
        full_syncs=poll.full_syncs,
        error=error,
        progress=progress,
        held_series=process.held_series.get(target.key, 0),
        clock_skew_seconds=process.clock_skews.get(target.project),
        endpoint_rests_until_ms=process.rests_until_ms.get(target.endpoint),
        recent_failures=tuple(recent_failures),
        lease=process.leases.get(target.key),
    )


def state_of(
    snapshot: TargetSnapshot, progress: Progress | None, interval_seconds: float, now_ms: int
) -> State:
    """Return the state of a target: the worst that applies."""
    poll, totals = snapshot.poll, snapshot.totals
    # Before `syncing`: a target that fails and tries again is still one that fails.
    if poll.up is False:
        return "stale" if snapshot.stale else "failing"
    if progress is not None:
        return "syncing"
    if poll.up is None:
        return "waiting"
    # A poll that takes long, as after a gap, delays the next success by its own length.
    limit_seconds = _LATE_INTERVALS * interval_seconds + (poll.duration_seconds or 0)
    if poll.last_success_ms is not None and now_ms - poll.last_success_ms > limit_seconds * 1000:
        return "late"
    return "drifting" if totals is not None and totals.drift_lasts else "ok"


def _copied(source: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(source, name) for name in names}


def _known(totals: Totals, masked: Masked) -> dict[str, Any]:
    """Return the fields of TargetStatus that come from the ledger's totals."""
    not_ended = sum(jobs for (_, status), jobs in totals.jobs.items() if not is_terminal(status))
    failures: Counter[str] = Counter()
    for (_, _, msg_code), counted in totals.failures.items():
        failures[msg_code] += counted.value
    rows = tuple(
        UnreadableRow(
            None if row.job_id is None else str(row.job_id),
            row.status if row.status in STATUSES else masked(row.status)[:_STATUS_LENGTH],
            row.created_ms,
            masked(row.problem)[:_PROBLEM_LENGTH],
        )
        for row in totals.set_apart[:_SHOWN_ROWS]
    )
    resource_jobs = jobs_by_spec(totals.resource_jobs, masked)
    return {
        **_copied(totals, (*_OF_TOTALS, "unlisted_jobs", "page_size")),
        "set_apart": rows,
        "listed": sum(totals.jobs.values()),
        # A run can have ended in a status that is not documented, see Job.has_ended.
        "in_flight": not_ended - totals.undocumented_ended,
        "jobs": _by_type(totals.jobs),
        "oldest_created_ms": _by_type(totals.oldest_created_ms),
        "oldest_started_ms": _by_type(totals.oldest_started_ms),
        "resources": resource_use(resource_jobs),
        "resource_jobs": resource_jobs,
        "unreadable_specs": tuple(map(masked, totals.unreadable_specs[:_SHOWN_SPECS])),
        # The most frequent code first.
        "job_failures": {code: count for code, count in failures.most_common() if count},
    }


def _by_type(values: Mapping[tuple[str, str], int]) -> ByType:
    nested: dict[str, dict[str, int]] = {}
    for (job_type, status), value in sorted(values.items()):
        nested.setdefault(job_type, {})[status] = value
    return nested
