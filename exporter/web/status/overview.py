"""What the status page makes of a Status: what to say first, what goes together, what is added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal, get_args

from exporter.model import IN_FLIGHT_STATUSES, STATUSES, is_failed
from exporter.web.status.model import STATES, ByType, CredentialsStatus, State, Status, TargetStatus

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
SEVERITY_ORDER: tuple[Severity, ...] = get_args(Severity)
# The targets that come with all about them; the others are one click away, so that the page stays light.
_OPENABLE = 20
_VERDICTS: dict[State, State] = {"stale": "failing"}
_TARGET_PROBLEMS: tuple[State, ...] = ("stale", "failing", "late", "drifting")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the polls go: `n` of the `total` targets are `state`, which is the worst there is."""

    state: State | Literal["none"]
    severity: Severity
    n: int
    total: int


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """Targets that have the same trouble, the one that has it longest first."""

    state: State
    severity: Severity
    targets: list[TargetStatus]


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
class StatusGroup:
    """Columns that stand together: "failed", "in_flight" or "ended", and the statuses in it."""

    name: Literal["failed", "in_flight", "ended"]
    statuses: list[str]


@dataclass(frozen=True, slots=True)
class JobTable:
    """
    Jobs by type and status, without the statuses and types that no job has.

    Shape: the columns are the statuses of the groups one after the other, those of failed runs first.
    """

    groups: list[StatusGroup]
    rows: list[JobRow]
    totals: list[int]
    total: int

    @property
    def statuses(self) -> list[tuple[str, str]]:
        """The columns: the name of their group and the status."""
        return [(group.name, status) for group in self.groups for status in group.statuses]


@dataclass(frozen=True, slots=True)
class Overview:
    """
    All targets, or the one that was asked for.

    Shape: `openable` targets come with all about them; `unreadable` are those that list rows which cannot be
    read, most of them first.
    """

    verdict: Verdict
    problems: list[ProblemGroup]
    unreadable: list[TargetStatus]
    expired: list[CredentialsStatus]
    targets: list[TargetStatus]
    openable: int
    oldest_success: TargetStatus | None
    next_expiry: CredentialsStatus | None

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
    def held_series(self) -> int:
        return sum(target.held_series for target in self.targets)

    @property
    def drift(self) -> int:
        """How many jobs the ledger is off by, too many and too few alike."""
        return sum(abs(jobs) for target in self.targets for jobs in target.drift.values())

    @property
    def last_audit_ms(self) -> int | None:
        """The audit that is longest ago."""
        return min((t.last_audit_ms for t in self.targets if t.last_audit_ms is not None), default=None)


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
    )


def _verdict(targets: Sequence[TargetStatus]) -> Verdict:
    if not targets:
        return Verdict("none", "warn", 0, 0)
    states = [_VERDICTS.get(target.state, target.state) for target in targets]
    worst = min(states, key=STATES.index)
    return Verdict(worst, SEVERITIES[worst], states.count(worst), len(states))


def _problems(targets: Sequence[TargetStatus]) -> list[ProblemGroup]:
    """Put targets together that fail alike: of a hundred, one card says what is wrong."""
    groups: dict[tuple[object, ...], list[TargetStatus]] = {}
    for target in targets:
        if target.state in _TARGET_PROBLEMS:
            error = target.error
            kind = (error.reason, error.status, error.code) if error else ()
            groups.setdefault((target.state, *kind), []).append(target)
    problems = [
        ProblemGroup(state, SEVERITIES[state], sorted(group, key=_since_ms))
        for group in groups.values()
        for state in [group[0].state]
    ]
    return sorted(problems, key=lambda problem: (STATES.index(problem.state), -len(problem.targets)))


def _since_ms(target: TargetStatus) -> int:
    return target.error.since_ms if target.error else target.last_success_ms or 0


def of_type(targets: Iterable[TargetStatus], job_type: str | None) -> list[TargetStatus]:
    """Keep of these targets the jobs of one type; None keeps all."""
    if job_type is None:
        return list(targets)

    def kept(by_type: ByType) -> ByType:
        return {name: by_status for name, by_status in by_type.items() if name == job_type}

    return [
        replace(
            target,
            jobs=kept(target.jobs),
            oldest_created_ms=kept(target.oldest_created_ms),
            oldest_started_ms=kept(target.oldest_started_ms),
        )
        for target in targets
    ]


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
    counts: dict[str, Counter[str]] = {}
    for target in targets:
        for job_type, by_status in target.jobs.items():
            counts.setdefault(job_type, Counter()).update(by_status)
    totals = Counter[str]()
    for by_status in counts.values():
        totals.update(by_status)
    groups = _status_groups([status for status, jobs in totals.items() if jobs], _in_flight_statuses(targets))
    statuses = [status for group in groups for status in group.statuses]
    rows = [
        JobRow(job_type, [by_status[status] for status in statuses], by_status.total())
        for job_type, by_status in sorted(counts.items())
        if by_status.total()
    ]
    return JobTable(groups, rows, [totals[status] for status in statuses], totals.total())


def _status_groups(found: Sequence[str], running: Sequence[str]) -> list[StatusGroup]:
    """Put statuses in groups; within one the documented ones come first, in the order that jobs pass them."""
    order = [*running, *STATUSES]
    statuses = sorted(
        found, key=lambda status: (order.index(status) if status in order else len(order), status)
    )
    groups = [
        StatusGroup("failed", [status for status in statuses if is_failed(status) and status not in running]),
        StatusGroup("in_flight", [status for status in statuses if status in running]),
        StatusGroup(
            "ended", [status for status in statuses if not is_failed(status) and status not in running]
        ),
    ]
    return [group for group in groups if group.statuses]


def codes(targets: Iterable[TargetStatus], most: int) -> list[tuple[str, int]]:
    """Give the error codes that were counted most often."""
    counts: dict[str, int] = {}
    for target in targets:
        for code, count in target.job_failures.items():
            counts[code] = counts.get(code, 0) + count
    return list(islice(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])), most))
