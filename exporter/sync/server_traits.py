"""
What polls learn about a server: which filters it honours, and what its totals and pages are like. Pure.

The API's documentation does not say how arrays are sent, nor promise that a filter is honoured at all. So
answers are compared with what was asked, before anything is counted. A filter that fails is *downgraded* to
the next way to send it, in the end to listing everything, and tried again after a day.

    statuses     array: repeated keys -> comma: one key, values joined -> single: a listing for each -> none
    job_types    the same; `none` is harmless, since rows of other types are dropped here
    start_time   works or not
    id           works or not
    workspace    works or not; rows of other workspaces are dropped here
    totals       no filter, but downgraded in the same way where page_info.total does not come

`Filters` and `ServerTraits` are kept in the ledger. `ServerFindings` are what one poll sees and the next one
has to confirm. They are lost with the process, which costs one more poll.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from exporter.model import Job, Target
from exporter.octopus.wire import MAX_ARRAY_VALUES, ListQuery

ArrayStyle = Literal["array", "comma", "single", "none"]
FilterName = Literal["statuses", "job_types", "start_time", "id", "workspace", "totals"]
FILTERS: tuple[FilterName, ...] = get_args(FilterName)
_STYLES: tuple[ArrayStyle, ...] = get_args(ArrayStyle)

RETRY_AFTER_MS = 86_400_000
# A server may compare creation times by the second.
_ROUNDING_MS = 1_000
# The documented default of `limit`.
SMALLEST_PAGE = 10
# A total may be some seconds late, so rows that are newer than this do not prove that it is too low.
LATE_TOTAL_MS = 60_000
# The server gives its time to the second, and clocks differ: a row stamped this near to a moment may have
# been created before it or after it.
CLOCK_BLUR_MS = 1_500
# However often searches by totals have failed, they are tried again at this poll after the last one.
LONGEST_DISTRUST = 16


class FilterFailed(Exception):
    """An answer shows that a filter is not honoured as it was sent."""

    def __init__(self, name: FilterName) -> None:
        super().__init__(name)
        self.name: FilterName = name


@dataclass(frozen=True, slots=True)
class Filters:
    """How each filter is sent. Units: `since_ms`, by our clock, is when the first was downgraded."""

    statuses: ArrayStyle = "array"
    job_types: ArrayStyle = "array"
    start_time: bool = True
    id: bool = True
    workspace: bool = True
    totals: bool = True
    since_ms: int | None = None

    def downgrade_filter(self, name: FilterName, now_ms: int) -> Filters:
        """Send a filter in the next way that may work, or not at all after the last one."""
        since_ms = now_ms if self.since_ms is None else self.since_ms
        following: dict[str, Any] = {name: False}
        if name in ("statuses", "job_types"):
            following[name] = _STYLES[min(_STYLES.index(getattr(self, name)) + 1, len(_STYLES) - 1)]
        return replace(self, since_ms=since_ms, **following)

    @property
    def can_tell_changes(self) -> bool:
        """Tell whether a poll that asks for changes only can be complete, and can be shown to be."""
        return (
            self.totals
            and self.start_time
            and self.workspace
            and "none" not in (self.statuses, self.job_types)
        )

    def retried(self, now_ms: int) -> Filters:
        """Send every filter as documented again once a day has passed: the server may have been repaired."""
        stale = self.since_ms is not None and has_passed(RETRY_AFTER_MS, self.since_ms, now_ms)
        return Filters() if stale else self

    def works(self, name: FilterName) -> bool:
        """Tell whether a filter is honoured as documented."""
        return getattr(self, name) in ("array", True)


def has_passed(interval_ms: int, since_ms: int, now_ms: int) -> bool:
    """
    Tell whether an interval has passed on our own clock.

    It has also where `since_ms` lies that far in the future: the clock was ahead then, and has been
    corrected.
    """
    return abs(now_ms - since_ms) >= interval_ms


def value_batches(style: ArrayStyle, wanted: Sequence[str]) -> list[tuple[str, ...]]:
    """Give the values that an array filter has in each of the listings that together cover `wanted`."""
    if style == "none" or not wanted:
        return [()]
    if style == "single":
        return [(value,) for value in wanted]
    batches = [tuple(wanted[at : at + MAX_ARRAY_VALUES]) for at in range(0, len(wanted), MAX_ARRAY_VALUES)]
    return [(",".join(batch),) for batch in batches] if style == "comma" else batches


def unapplied_filter(query: ListQuery, jobs: Sequence[Job]) -> FilterName | None:
    """
    Name a filter that an answer's rows do not match.

    For a status it takes most of the rows: jobs change while they are listed, and a few that do not match are
    harmless. A job's type and creation time never change, so one row that does not match them is enough. Such
    rows are part of the server's totals too, which would then differ from the ledger for ever.
    """
    statuses = {status for value in query.statuses for status in value.split(",")}
    if statuses and 2 * sum(job.status not in statuses for job in jobs) > len(jobs):
        return "statuses"
    start_ms = query.start_time_ms
    if start_ms is not None and any(job.created_ms < start_ms - _ROUNDING_MS for job in jobs):
        return "start_time"
    types = {kind for value in query.job_types for kind in value.split(",")}
    if types and any(job.job_type not in types for job in jobs):
        return "job_types"
    if query.job_id is not None and any(job.id != query.job_id for job in jobs):
        return "id"
    return None


def rejected_filter(query: ListQuery, status: int) -> FilterName | None:
    """
    Name the filter to downgrade where the server refuses a request; None if the query has none.

    Shape: `status` is 400 for a malformed request, 404 for one that names something unknown.
    """
    if query.job_id is not None and status in (400, 404):
        return "id"
    if status != 400:
        return None
    if query.statuses:
        return "statuses"
    if query.job_types:
        return "job_types"
    return None if query.start_time_ms is None else "start_time"


def wanted_rows(target: Target, jobs: Sequence[Job]) -> list[bool]:
    """Tell for each row whether it is the target's, in case the server has ignored a filter."""
    if not target.job_types and not has_foreign_workspace(target, jobs):
        return [True] * len(jobs)
    workspaces, types = {None, target.workspace_id}, frozenset(target.job_types)
    anywhere, any_type = target.workspace_id is None, not types
    return [
        (anywhere or job.workspace_id in workspaces) and (any_type or job.job_type in types) for job in jobs
    ]


def has_foreign_workspace(target: Target, jobs: Sequence[Job]) -> bool:
    """Tell whether a row names another workspace than the one that was asked for."""
    if target.workspace_id is None:
        return False
    return not {job.workspace_id for job in jobs} <= {None, target.workspace_id}


@dataclass(frozen=True, slots=True)
class ServerTraits:
    """
    What a target's polls have learnt about its server.

    Shape:
    `page_size`: the largest page it answers, where that is less than the configured one.
    `longest_page`: the longest first page it ever gave.
    `page_limit`: its own limit of rows per page, known once a first page was followed by more rows. A page of
    that length may be followed by another; a shorter one is the last.
    `surplus_in_flight`, `surplus_window`: the rows that its totals count and its pages never show, in the
    listing of jobs in flight and in any other.
    `difference`: the jobs that its total counts and the last full sync did not list. Another full sync would
    not list them either.
    """

    page_size: int | None = None
    longest_page: int = 0
    page_limit: int | None = None
    surplus_in_flight: int = 0
    surplus_window: int = 0
    difference: int = 0

    @property
    def unlisted_jobs(self) -> int:
        """How many jobs its totals count and its pages never show, as far as polls have found out."""
        return max(self.surplus_in_flight, self.surplus_window, self.difference, 0)

    def allowed_page(self, configured: int) -> int:
        """Give how many rows to ask for: the configured number, or less if the server answers less."""
        return min(configured, self.page_size or configured)

    def surplus(self, *, in_flight: bool) -> int:
        return self.surplus_in_flight if in_flight else self.surplus_window

    def with_surplus(self, rows: int, *, in_flight: bool) -> ServerTraits:
        return replace(self, **{"surplus_in_flight" if in_flight else "surplus_window": rows})

    def with_first_page(self, rows: int) -> ServerTraits:
        """Learn from a first page. One that is longer than the limit shows that the limit was wrong."""
        limit = None if self.page_limit is not None and rows > self.page_limit else self.page_limit
        return replace(self, longest_page=max(rows, self.longest_page), page_limit=limit)


@dataclass(frozen=True, slots=True)
class RowRange:
    """A number of rows that is known to be from `least` to `most`."""

    least: int
    most: int


@dataclass(slots=True)
class TotalsTrust:
    """
    Whether polls look for changes by totals. After that has failed, some polls do not: it costs requests.

    Twice as many polls after each failure in a row, up to LONGEST_DISTRUST.
    """

    failures: int = 0
    polls_left: int = 0

    def take(self) -> bool:
        """Tell whether this poll may, and count it."""
        self.polls_left -= self.polls_left > 0
        return self.polls_left == 0

    def failed(self) -> None:
        self.failures += 1
        self.polls_left = min(2**self.failures, LONGEST_DISTRUST)

    def succeeded(self) -> None:
        self.failures = 0


@dataclass(slots=True)
class ServerFindings:
    """
    What one poll finds out about the server.

    Jobs that come and go can mislead a single poll. So totals that are too low or too high are believed only
    where two polls in a row find the same.

    Shape: `traits` as this poll leaves them, recorded or not; `total_is_low` if a listing showed more rows
    than its total, or came without a total; `surplus` the rows that a total counts and no page shows, by
    whether the listing was the one of jobs in flight; `total_was_low` and `surplus_before` are those of the
    poll before; `latest_row_ms` is the latest stamp of all rows so far (server_clock.Clocks.latest_ms).
    `in_flight_ms` is when the last recorded listing of all jobs in flight began, by our clock; `totals_trust`
    tells whether polls may look for changes by totals in between.
    """

    traits: ServerTraits = field(default_factory=ServerTraits)
    total_is_low: bool = False
    surplus: dict[bool, RowRange] = field(default_factory=dict)
    total_was_low: bool = False
    surplus_before: dict[bool, RowRange] = field(default_factory=dict)
    latest_row_ms: int = 0
    in_flight_ms: int | None = None
    totals_trust: TotalsTrust = field(default_factory=TotalsTrust)

    @classmethod
    def after(cls, before: ServerFindings | None, recorded: ServerTraits) -> ServerFindings:
        """Begin a poll. What the poll before learnt is newer than what the ledger has recorded."""
        if before is None:
            return cls(recorded)
        return cls(
            before.traits,
            total_was_low=before.total_is_low,
            surplus_before=before.surplus,
            latest_row_ms=before.latest_row_ms,
            in_flight_ms=before.in_flight_ms,
            totals_trust=before.totals_trust,
        )

    def confirm_surplus(self, rows: RowRange, *, in_flight: bool) -> bool:
        """Note that a total counts more rows than its pages show; tell whether that is confirmed."""
        self.surplus[in_flight] = rows
        before = self.surplus_before.get(in_flight)
        if before is None or (most := min(rows.most, before.most)) < max(rows.least, before.least, 1):
            return False
        self.traits = self.traits.with_surplus(most, in_flight=in_flight)
        return True

    def lower_surplus(self, rows: int, *, in_flight: bool) -> None:
        """Note that a whole listing lacks only this many of the rows that its total counts."""
        if rows < self.traits.surplus(in_flight=in_flight):
            self.traits = self.traits.with_surplus(rows, in_flight=in_flight)


def smaller_page(limit: int) -> int | None:
    """Give the page size to try after one of `limit` rows was refused; None if that was the smallest."""
    return max(limit // 2, SMALLEST_PAGE) if limit > SMALLEST_PAGE else None
