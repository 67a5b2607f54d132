"""What the status page makes of a Status: what to say first, what goes together, what is added up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from exporter.model import IN_FLIGHT_STATUSES, STATUSES, TERMINAL_STATUSES
from exporter.web.run_record import RunRecord
from exporter.web.status import STATES, ByType, CredentialsStatus, State, Status, TargetStatus

Severity = Literal["bad", "warn", "busy", "good"]
SEVERITIES: dict[State, Severity] = {
    "stale": "bad",
    "failing": "bad",
    "late": "warn",
    "waiting": "busy",
    "syncing": "busy",
    "drifting": "warn",
    "ok": "good",
}
SHOWN_FAILURES = 50
# The targets that come with all about them; the others are one click away, so that the page stays light.
_OPENABLE = 20
_VERDICTS: dict[State, State] = {"stale": "failing"}
_TARGET_PROBLEMS: tuple[State, ...] = ("stale", "failing", "late", "drifting")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first sentence: `n` of the targets are `state`, which is the worst there is."""

    state: State | Literal["none"]
    severity: Severity
    n: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Targets that have the same trouble, the one that has it longest first."""

    state: State
    severity: Severity
    targets: list[TargetStatus]


@dataclass(frozen=True, slots=True)
class FailedJob:
    target: TargetStatus
    failure: RunRecord


@dataclass(frozen=True, slots=True)
class Oldest:
    """The oldest job of some, by its creation or its start."""

    ms: int
    job_type: str
    target: TargetStatus


@dataclass(frozen=True, slots=True)
class InFlight:
    """The jobs in one status in flight."""

    status: str
    jobs: int
    created: Oldest | None
    started: Oldest | None


@dataclass(frozen=True, slots=True)
class JobRow:
    job_type: str
    counts: list[int]
    total: int


@dataclass(frozen=True, slots=True)
class JobTable:
    """Jobs by type and status; the columns are the statuses in flight, then those that have ended."""

    in_flight: list[str]
    ended: tuple[str, ...]
    rows: list[JobRow]
    totals: list[int]
    total: int


@dataclass(frozen=True, slots=True)
class Overview:
    """
    All targets, or the one that was asked for.

    Shape: `openable` targets come with all about them; `unreadable` are those that list rows which cannot be
    read, most of them first.
    """

    verdict: Verdict
    problems: list[Problem]
    unreadable: list[TargetStatus]
    expired: list[CredentialsStatus]
    targets: list[TargetStatus]
    openable: int
    oldest_success: TargetStatus | None
    next_expiry: CredentialsStatus | None
    failed: list[FailedJob]

    @property
    def known(self) -> bool:
        """Whether anything is known of any of the targets' jobs."""
        return any(target.listed is not None for target in self.targets)

    @property
    def listed(self) -> int:
        return sum(target.listed or 0 for target in self.targets)

    @property
    def in_flight(self) -> int:
        return sum(target.in_flight or 0 for target in self.targets)

    @property
    def requests(self) -> int:
        return sum(target.requests or 0 for target in self.targets)

    @property
    def slowest_seconds(self) -> float | None:
        return max((t.duration_seconds for t in self.targets if t.duration_seconds is not None), default=None)

    @property
    def drift(self) -> int:
        """How many jobs the ledger is off by, too many and too few alike."""
        return sum(abs(jobs) for target in self.targets for jobs in target.drift.values())

    @property
    def last_audit_ms(self) -> int | None:
        """The audit that is longest ago."""
        return min((t.last_audit_ms for t in self.targets if t.last_audit_ms is not None), default=None)

    @property
    def job_failures(self) -> int:
        return sum(count for target in self.targets for count in target.job_failures.values())


def overview(status: Status, targets: Sequence[TargetStatus]) -> Overview:
    """Look at some of the targets of a status."""
    fresh = [target for target in targets if target.last_success_ms is not None]
    ending = [one for one in status.credentials if one.expires_ms is not None]
    return Overview(
        verdict=_verdict(targets),
        problems=_problems(targets),
        unreadable=sorted(
            (target for target in targets if target.rows_unreadable),
            key=lambda target: target.rows_unreadable,
            reverse=True,
        ),
        expired=[one for one in ending if (one.expires_ms or 0) <= status.now_ms],
        targets=sorted(targets, key=lambda target: STATES.index(target.state)),
        openable=_OPENABLE,
        oldest_success=min(fresh, key=lambda target: target.last_success_ms or 0, default=None),
        next_expiry=min(ending, key=lambda one: one.expires_ms or 0, default=None),
        failed=_last_failed(targets, SHOWN_FAILURES),
    )


def _verdict(targets: Sequence[TargetStatus]) -> Verdict:
    if not targets:
        return Verdict("none", "warn", 0)
    states = [_VERDICTS.get(target.state, target.state) for target in targets]
    worst = min(states, key=STATES.index)
    return Verdict(worst, SEVERITIES[worst], states.count(worst))


def _problems(targets: Sequence[TargetStatus]) -> list[Problem]:
    """Put targets together that fail alike: of a hundred, one card says what is wrong."""
    groups: dict[tuple[object, ...], list[TargetStatus]] = {}
    for target in targets:
        if target.state in _TARGET_PROBLEMS:
            error = target.error
            kind = (error.reason, error.status, error.code) if error else ()
            groups.setdefault((target.state, *kind), []).append(target)
    problems = [
        Problem(state, SEVERITIES[state], sorted(group, key=_since_ms))
        for group in groups.values()
        for state in [group[0].state]
    ]
    return sorted(problems, key=lambda problem: (STATES.index(problem.state), -len(problem.targets)))


def _since_ms(target: TargetStatus) -> int:
    return target.error.since_ms if target.error else target.last_success_ms or 0


def _last_failed(targets: Iterable[TargetStatus], most: int) -> list[FailedJob]:
    failed = [FailedJob(target, failure) for target in targets for failure in target.recent_failures]
    return sorted(failed, key=lambda one: one.failure.at_ms, reverse=True)[:most]


def last_failed(target: TargetStatus, most: int) -> list[FailedJob]:
    """Give one target's last failures, the newest first."""
    return _last_failed([target], most)


def in_flight(targets: Sequence[TargetStatus]) -> list[InFlight]:
    """Add the jobs in flight up by status, and find the oldest of each."""
    return [
        InFlight(
            status,
            sum(counts.get(status, 0) for target in targets for counts in target.jobs.values()),
            _oldest(status, ((target, target.oldest_created_ms) for target in targets)),
            _oldest(status, ((target, target.oldest_started_ms) for target in targets)),
        )
        for status in _in_flight_statuses(targets)
    ]


def oldest_of(targets: Sequence[TargetStatus]) -> Oldest | None:
    """Find the job in flight that was created first."""
    found = [one.created for one in in_flight(targets) if one.created is not None]
    return min(found, key=lambda oldest: oldest.ms, default=None)


def _oldest(status: str, times: Iterable[tuple[TargetStatus, ByType]]) -> Oldest | None:
    found = (
        Oldest(by_status[status], job_type, target)
        for target, by_type in times
        for job_type, by_status in by_type.items()
        if status in by_status
    )
    return min(found, key=lambda oldest: oldest.ms, default=None)


def _in_flight_statuses(targets: Iterable[TargetStatus]) -> list[str]:
    """Give the statuses in flight: the documented ones, then undocumented ones with a job in flight."""
    held = {status for target in targets for oldest in target.oldest_created_ms.values() for status in oldest}
    return [*IN_FLIGHT_STATUSES, *sorted(held.difference(STATUSES))]


def job_table(targets: Sequence[TargetStatus]) -> JobTable:
    """Add the jobs listed up by type and status."""
    running = _in_flight_statuses(targets)
    listed = {status for target in targets for counts in target.jobs.values() for status in counts}
    ended = (*TERMINAL_STATUSES, *sorted(listed.difference(STATUSES, running)))
    statuses = (*running, *ended)
    types = sorted({job_type for target in targets for job_type in target.jobs})
    rows = [_job_row(job_type, statuses, targets) for job_type in types]
    totals = [sum(column) for column in zip(*(row.counts for row in rows), strict=True)]
    return JobTable(running, ended, rows, totals, sum(totals))


def _job_row(job_type: str, statuses: Sequence[str], targets: Iterable[TargetStatus]) -> JobRow:
    counts = dict.fromkeys(statuses, 0)
    for target in targets:
        for status, jobs in target.jobs.get(job_type, {}).items():
            counts[status] += jobs
    return JobRow(job_type, list(counts.values()), sum(counts.values()))


def codes(targets: Iterable[TargetStatus], most: int) -> list[tuple[str, int]]:
    """Give the error codes that were counted most often."""
    counts: dict[str, int] = {}
    for target in targets:
        for code, count in target.job_failures.items():
            counts[code] = counts.get(code, 0) + count
    return list(islice(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])), most))
