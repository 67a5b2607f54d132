"""What the status page derives from the status: headlines, problems, and sums over jobs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from markupsafe import Markup

from exporter.model import IN_FLIGHT_STATUSES, STATUSES, is_failed
from exporter.web.status.failures import Spike, mean_number
from exporter.web.status.model import STATES, ByType, State, TargetStatus
from exporter.web.status.resources import ResourceUse, SpecRow, added_up, resource_use, spec_rows
from exporter.web.status.wording import Wording, excerpt, number

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
_PROBLEM_STATES: tuple[State, ...] = ("stale", "failing", "late", "drifting")
# A longer type or code is cut in a headline.
_LONGEST_WORD = 60
# The page of all targets names so many unreadable specs.
_MOST_SPECS = 20


@dataclass(frozen=True, slots=True)
class Headline:
    """One line at the top of the page. Shape: `title` is the short form, `more` follows it."""

    severity: Severity
    title: Markup
    more: Markup = field(default_factory=Markup)


def headlines(
    states: Sequence[State],
    spike: Spike | None,
    t: Wording,
    *,
    jobs_known: bool,
    is_shard: bool = False,
) -> list[Headline]:
    """
    Say how the polls go and how the jobs do: one line if nothing is wrong, else a line for each problem.

    Shape: `states` are those of the targets; `jobs_known` is False if the failed runs could not be read: then
    nothing is reported as good. A shard may have no target, which is nothing to warn of.
    """
    # A stale target is one that has been failing for long.
    merged: list[State] = ["failing" if state == "stale" else state for state in states]
    worst = min(merged, key=STATES.index, default=None)
    only = ".only" if len(merged) == 1 else ""
    if worst is None:
        polls = Headline("good", t("verdict.none.shard")) if is_shard else Headline("warn", t("verdict.none"))
    elif worst == "ok" and not jobs_known:
        # Not green: there may be a spike that could not be read.
        polls = Headline("warn", t(f"verdict.polled{only}"))
    else:
        title = t(f"verdict.{worst}{only}", n=merged.count(worst), total=len(merged))
        polls = Headline(SEVERITIES[worst], title)
    if spike is None:
        return [polls]
    jobs = _spike_headline(spike, t)
    if worst == "ok":
        return [jobs]
    # The order is by severity, and sorted() is stable: of equal ones the polls come first.
    return sorted([polls, jobs], key=lambda line: SEVERITY_ORDER.index(line.severity))


def _spike_headline(spike: Spike, t: Wording) -> Headline:
    if not spike.targets:
        title = t("spike", n=number(spike.runs))
    elif len(spike.targets) == 1:
        (target,) = spike.targets
        title = t("spike.of", n=number(spike.runs), target=f"{target.project} / {target.workspace}")
    else:
        title = t("spike.some", n=number(spike.runs), targets=len(spike.targets))
    more = Markup()
    for at, (job_type, msg_code, runs) in enumerate(spike.kinds):
        form = "second" if at else "all" if runs == spike.runs else "most"
        more += t(f"spike.{form}", n=number(runs), type=_isolated(job_type))
        more += t("spike.code", code=_isolated(msg_code)) if msg_code else t("spike.no_code")
    if spike.mean_per_hour is not None:
        mean = mean_number(spike.mean_per_hour)
        more += t("spike.usual.one") if mean == "1" else t("spike.usual", usual=mean)
    return Headline(spike.severity, title, more)


def _isolated(word: str) -> Markup:
    """Isolate a word: if it changes the direction of the text, the words around it must not change."""
    return Markup("<bdi>{}</bdi>").format(excerpt(word, _LONGEST_WORD))


def problem_groups(targets: Iterable[TargetStatus]) -> list[list[TargetStatus]]:
    """
    Group targets that fail in the same way, so that one card describes a problem of a hundred targets.

    Shape: the worst state first, then the largest group; in a group, the target that fails longest first.
    """
    groups: dict[tuple[object, ...], list[TargetStatus]] = {}
    for target in targets:
        if target.state in _PROBLEM_STATES:
            error = target.error
            kind = (error.reason, error.status, error.code) if error else ()
            groups.setdefault((target.state, *kind), []).append(target)
    for group in groups.values():
        group.sort(key=lambda one: one.error.since_ms if one.error else one.last_success_ms or 0)
    return sorted(groups.values(), key=lambda group: (STATES.index(group[0].state), -len(group)))


def known(targets: Iterable[TargetStatus], name: str) -> list[Any]:
    """Return the values of a field, without those that are None."""
    return [value for target in targets if (value := getattr(target, name)) is not None]


def total_drift(targets: Iterable[TargetStatus]) -> int:
    """Add up by how many jobs the ledger is off, whether it has too many or too few."""
    return sum(abs(jobs) for target in targets for jobs in target.drift.values())


@dataclass(frozen=True, slots=True)
class Oldest:
    """The oldest job of a group, by its creation or its start."""

    ms: int
    job_type: str
    target: TargetStatus


@dataclass(frozen=True, slots=True)
class InFlight:
    status: str
    jobs: int
    created: Oldest | None
    started: Oldest | None


def in_flight(targets: Sequence[TargetStatus], job_type: str | None = None) -> list[InFlight]:
    """Add up the jobs in flight by status, and find the oldest of each. Shape: `job_type` None is all."""

    def oldest(status: str, times_of: Callable[[TargetStatus], ByType]) -> Oldest | None:
        candidates = (
            Oldest(by_status[status], name, target)
            for target in targets
            for name, by_status in times_of(target).items()
            if status in by_status and job_type in (None, name)
        )
        return min(candidates, key=lambda one: one.ms, default=None)

    counts = _counts(targets, job_type).values()
    return [
        InFlight(
            status,
            sum(by_status[status] for by_status in counts),
            oldest(status, lambda target: target.oldest_created_ms),
            oldest(status, lambda target: target.oldest_started_ms),
        )
        for status in _in_flight_statuses(targets, job_type)
    ]


def oldest_of(targets: Sequence[TargetStatus]) -> Oldest | None:
    """Find the job in flight that was created first."""
    created = [one.created for one in in_flight(targets) if one.created is not None]
    return min(created, key=lambda one: one.ms, default=None)


@dataclass(frozen=True, slots=True)
class JobTable:
    """
    Jobs by type and status, without types and statuses that have no job.

    Shape: `groups` has the statuses of "failed", "in_flight" and "ended", in the order of the columns.
    """

    groups: dict[str, list[str]]
    rows: dict[str, Counter[str]]
    totals: Counter[str]


def job_table(targets: Sequence[TargetStatus], job_type: str | None = None) -> JobTable:
    """Add up the listed jobs by type and status. Shape: `job_type` None is all."""
    rows = {name: jobs for name, jobs in sorted(_counts(targets, job_type).items()) if jobs.total()}
    totals = sum(rows.values(), Counter[str]())
    running = _in_flight_statuses(targets, job_type)
    # The documented statuses first, in the order in which a job goes through them.
    order = [*running, *STATUSES]
    groups: dict[str, list[str]] = {"failed": [], "in_flight": [], "ended": []}
    for status in sorted(totals, key=lambda one: (order.index(one) if one in order else len(order), one)):
        group = "in_flight" if status in running else "failed" if is_failed(status) else "ended"
        groups[group].append(status)
    return JobTable({name: statuses for name, statuses in groups.items() if statuses}, rows, totals)


def _counts(targets: Iterable[TargetStatus], job_type: str | None) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for target in targets:
        for name, by_status in target.jobs.items():
            if job_type in (None, name):
                counts.setdefault(name, Counter()).update(by_status)
    return counts


def _in_flight_statuses(targets: Iterable[TargetStatus], job_type: str | None) -> list[str]:
    """Return the documented in-flight statuses, then undocumented ones that have a job in flight."""
    found = {
        status
        for target in targets
        for name, oldest in target.oldest_created_ms.items()
        for status in oldest
        if job_type in (None, name)
    }
    return [*IN_FLIGHT_STATUSES, *sorted(found.difference(STATUSES))]


@dataclass(frozen=True, slots=True)
class ResourceTable:
    """What the jobs in flight asked for, of all targets together; and the specs that could not be read."""

    rows: list[SpecRow]
    total: ResourceUse
    unreadable_specs: list[str]

    @property
    def jobs_left_out(self) -> int:
        return self.total.in_use.jobs_left_out + self.total.waiting.jobs_left_out


def resource_table(targets: Sequence[TargetStatus]) -> ResourceTable:
    """Add up what the jobs in flight asked for, by resource spec."""
    jobs = added_up(target.resource_jobs for target in targets)
    # A dict keeps the order in which they were seen, and each once.
    unreadable = dict.fromkeys(spec for target in targets for spec in target.unreadable_specs)
    return ResourceTable(spec_rows(jobs), resource_use(jobs), list(unreadable)[:_MOST_SPECS])


def codes(targets: Iterable[TargetStatus], most: int) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for target in targets:
        counts.update(target.job_failures)
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
