"""
What a poll asks: pure.

The API filters by creation time, status and id, but does not tell what was updated since. So a poll that
knows the past asks for what may have changed:

1. all that is in flight, however old (a job that was reopened is among it);
2. all that was created since the watermark, less an overlap;
3. what was in flight and is in neither answer: it ended or was deleted. The window of (2) is drawn back over
   the creation times of those that are many and young; the rest is asked for by id.

Where the new jobs in flight would fill pages of (2) once more, it asks for finished ones only.

A full sync asks for everything within the lookback, and for what is in flight. So does a poll of a target
that lists no more than a few pages.

Cost in requests, with pages(n) = 1 + (n - 1) // (page size less the overlap of pages):

    poll       pages(in flight) + pages(created since the window's start) + vanished jobs older than it
    full sync  pages(in flight) + pages(created within the lookback) + a few jobs that slipped
    audit      one for each status
    proof      one, which gives the total of the lookback; two more where it differs
    deletion   about log2(listed) requests find a finished job that was deleted; a full sync, if that is less

So a poll costs what is in flight and what has changed, whatever is stored. `window_start` picks the window
for which the sum is least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from exporter.model import (
    IN_FLIGHT_STATUSES,
    OTHER,
    STATUSES,
    TERMINAL_STATUSES,
    Job,
    Target,
    Totals,
    is_terminal,
)
from exporter.octopus.wire import ListQuery
from exporter.sync.filters import Filters, has_passed, value_batches
from exporter.sync.ledger import Audit, JobRef, TargetState

# So few pages are read whole at every poll: it costs no more than asking what has changed, and shows at once
# what nothing else would, such as a finished job that was deleted.
_FEW_PAGES = 2
# A target with more pages than this is not listed whole at once whenever a job was deleted.
_MANY_PAGES = 100
# Of the finished jobs that a full sync misses, as many are asked for one by one; more are looked for by
# reading the window once more.
MAX_ID_QUERIES = 20


@dataclass(frozen=True, slots=True)
class ListFilter:
    """The rows that match these filters; an empty filter matches all."""

    job_types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    start_time_ms: int | None = None

    def page(self, offset: int, limit: int) -> ListQuery:
        """Give the request for the rows from `offset` on, `limit` of them at most."""
        return ListQuery(
            job_types=self.job_types,
            statuses=self.statuses,
            start_time_ms=self.start_time_ms,
            offset=offset,
            limit=limit,
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    When everything is read again.

    Units: milliseconds; no `lookback_ms` means no limit; `gap_ms` without a poll is a gap.
    """

    lookback_ms: int | None
    overlap_ms: int
    full_sync_interval_ms: int
    audit_interval_ms: int
    gap_ms: int


def full_sync_reason(
    summary: TargetState,
    target: Target,
    filters: Filters,
    schedule: Schedule,
    now_ms: int,
    server_now_ms: int,
    *,
    catching_up: bool,
    many: bool,
    doubts: bool = False,
) -> str | None:
    """
    Tell why this poll has to list everything; None where it need not.

    A job that ran again and ended while nobody looked is seen by listing everything only: so that is done
    after a gap, and where it is cheap (not `many` pages) after the least of them. An endpoint other than the
    one polled last is a gap too.
    With `doubts` the poll before saw totals that were too low: reading everything tells whether they are.
    Shape: one of model.FULL_SYNC_REASONS. Units: `now_ms` by our clock, `server_now_ms` by that of the rows.
    """
    scope = set(target.job_types or ("*",))
    lookback_from_ms = 0 if schedule.lookback_ms is None else server_now_ms - schedule.lookback_ms
    in_scope = "*" in summary.scope or scope <= summary.scope
    if not summary.scope or not in_scope or lookback_from_ms + schedule.overlap_ms < summary.covered_from_ms:
        return "first"
    if doubts or not filters.can_tell_changes:
        return "filters"
    moved = summary.endpoint not in ("", target.endpoint)
    if moved or server_now_ms - summary.watermark_ms > schedule.gap_ms or (catching_up and not many):
        return "gap"
    persists = summary.audit is not None and summary.audit.persists
    # No question about changes shows that an old row can be read again.
    may_be_read = summary.rows_unreadable > 0 and not many
    if persists or (may_be_read and has_passed(schedule.audit_interval_ms, summary.full_sync_ms, now_ms)):
        return "drift"
    if has_passed(schedule.full_sync_interval_ms, summary.full_sync_ms, now_ms):
        return "scheduled"
    return None


def may_repeat_full_sync(summary: TargetState, schedule: Schedule, page_size: int, now_ms: int) -> bool:
    """Tell whether to list everything over a difference just found: a large target, not too often."""
    long_ago = has_passed(schedule.audit_interval_ms, summary.full_sync_ms, now_ms)
    return long_ago or not is_large(summary, page_size)


def is_large(summary: TargetState, page_size: int) -> bool:
    """Tell whether everything is so much that it is not read without need."""
    return summary.listed > _MANY_PAGES * page_size


def full_sync_cost(summary: TargetState, page_size: int) -> int:
    """Give about how many requests it takes to read everything."""
    return 2 + summary.listed // max(page_size - page_size // 20, 1)


def is_small(listed: int, page_size: int) -> bool:
    """Tell whether so many jobs are all read at every poll, though nothing calls for a full sync."""
    return listed <= _FEW_PAGES * page_size


def in_flight_filters(target: Target, filters: Filters) -> tuple[ListFilter, ...]:
    """Plan the listing of all that is in flight as documented, without a bound in time."""
    kinds = value_batches(filters.job_types, target.job_types)
    statuses = value_batches(filters.statuses, IN_FLIGHT_STATUSES)
    return tuple(ListFilter(*both) for both in product(kinds, statuses))


def window_filters(
    target: Target, filters: Filters, start_ms: int | None, statuses: Sequence[str] = ()
) -> tuple[ListFilter, ...]:
    """Plan the listing of all that was created since `start_ms`, or ever; in some statuses, or in all."""
    start_time_ms = start_ms if filters.start_time else None
    kinds = value_batches(filters.job_types, target.job_types)
    some = value_batches(filters.statuses, statuses)
    return tuple(ListFilter(*both, start_time_ms) for both in product(kinds, some))


def window_statuses(filters: Filters, in_flight: int, page_size: int) -> tuple[str, ...]:
    """
    Give the statuses to list the window of changes in; empty for all.

    `in_flight` of its rows have been listed already. Leaving them out shows a job that comes meanwhile one
    reading later, so it is done where it spares two requests or more.
    """
    spared = in_flight // page_size
    return TERMINAL_STATUSES if spared >= 2 and filters.statuses in {"array", "comma"} else ()


def status_filters(
    target: Target, filters: Filters, status: str, horizon_ms: int | None
) -> tuple[ListFilter, ...]:
    """Plan the listings whose totals add up to the jobs in one status."""
    start_time_ms = None if status in IN_FLIGHT_STATUSES else horizon_ms
    kinds = value_batches(filters.job_types, target.job_types)
    return tuple(ListFilter(types, (status,), start_time_ms) for types in kinds)


def sum_totals(totals: Sequence[int | None]) -> int | None:
    """Add the totals of some listings; None where the API was silent about one."""
    return None if None in totals else sum(total or 0 for total in totals)


def audited_statuses(totals: Totals, horizon_ms: int | None, most: int) -> tuple[str, ...]:
    """
    Name the statuses to compare: the documented ones and `most` others.

    An undocumented status may hold jobs that have ended, so the API is asked for those within the lookback
    only, and a status in which the ledger has older ones, in flight, is not compared.
    """
    older = {status for (_, status), at_ms in totals.oldest_created_ms.items() if at_ms < (horizon_ms or 0)}
    invented = {status for _, status in totals.jobs} - {*STATUSES, OTHER} - older
    return (*STATUSES, *sorted(invented)[:most])


def job_query(job_id: int) -> ListQuery:
    """Plan the question whether one job is still listed."""
    return ListQuery(job_id=job_id, offset=0, limit=1)


def window_candidates(vanished: Sequence[JobRef]) -> tuple[int, ...]:
    """Give the creation times worth starting the window at: those of some vanished jobs, newest first."""
    newest_first = sorted({known.created_ms for known in vanished}, reverse=True)
    step = max(len(newest_first) // 8, 1)
    return tuple(sorted({*newest_first[step - 1 :: step], *newest_first[-1:]}, reverse=True))


def window_start(
    base_ms: int,
    vanished: Sequence[JobRef],
    rows_since: Sequence[tuple[int, int]],
    page_size: int,
    *,
    ids_work: bool,
) -> int:
    """
    Give where the window starts: at `base_ms` or earlier, wherever it costs the fewest requests.

    Shape: `rows_since` has (creation time, how many rows the ledger has from then on) for each of `cuts`.
    Where jobs cannot be asked for by id, the window goes back to the oldest of them.
    """
    if not vanished:
        return base_ms
    if not ids_work:
        return min(base_ms, *(known.created_ms for known in vanished))
    best_ms, best = base_ms, sum(known.created_ms < base_ms for known in vanished)
    for start_ms, rows in rows_since:
        cost = rows // page_size + sum(known.created_ms < start_ms for known in vanished)
        if start_ms < base_ms and cost < best:
            best_ms, best = start_ms, cost
    return best_ms


def audit_is_due(summary: TargetState, schedule: Schedule, now_ms: int) -> bool:
    """Tell whether to audit after this poll: at the interval, or to tell whether a difference stays."""
    audit = summary.audit
    return (
        audit is None
        or audit.again
        or audit.standing is None
        or has_passed(schedule.audit_interval_ms, audit.at_ms, now_ms)
    )


@dataclass(frozen=True, slots=True)
class StatusTotals:
    """The API's own total of a status, and the ledger's."""

    api: int
    ledger: int

    @property
    def difference(self) -> int:
        return self.api - self.ledger

    def nearer(self, before: StatusTotals) -> StatusTotals:
        """
        Give the one of two looks that differs less.

        Where one look shows too many and the other too few, jobs changed between them, and nothing differs.
        """
        if self.difference * before.difference <= 0:
            return StatusTotals(self.ledger, self.ledger)
        return min(self, before, key=lambda one: abs(one.difference))


def exclude_statusless(compared: Mapping[str, StatusTotals], rows: int) -> dict[str, StatusTotals]:
    """
    Take so many rows set apart, whose statuses cannot be read, out of the API's totals.

    The API counts each of them in a status that the row does not show: one of which it has too many.
    """
    left, result = rows, {}
    for status, one in compared.items():
        taken = min(max(one.difference, 0), left)
        left -= taken
        result[status] = StatusTotals(one.api - taken, one.ledger)
    return result


def evaluate_audit(before: Audit | None, compared: Mapping[str, StatusTotals], now_ms: int) -> Audit:
    """
    Judge the API's totals by status less the ledger's, with the audit before in mind.

    What differs to the same side at two audits in a row lasts. A full sync can mend it where jobs have ended
    (what is in flight is listed anew by every poll), where both audits show the same number, and where that
    is none that the ledger went through meanwhile. What stands right after a full sync does not call for
    another.
    """
    drift = {status: one.difference for status, one in compared.items()}
    totals = {status: one.api for status, one in compared.items()}
    earlier = {} if before is None else before.drift
    lasts = any(drift[status] * earlier.get(status, 0) > 0 for status in drift)
    standing = {} if before is None else before.standing
    if standing is None:  # everything was just read
        # Too few there means that jobs were deleted meanwhile, which does not stand.
        stands = {status: jobs for status, jobs in drift.items() if jobs > 0}
        return Audit(now_ms, drift, totals=totals, standing=stands, lasts=lasts)
    ended = [
        status
        for status in drift
        if drift[status] not in (0, standing.get(status, 0)) and is_terminal(status)
    ]
    persists = before is not None and any(
        drift[status] == earlier.get(status) and not _passed_through(before, status, compared[status].ledger)
        for status in ended
    )
    again = bool(ended) and not persists and not (before is not None and before.again)
    return Audit(now_ms, drift, persists, totals, again, standing, lasts)


def _passed_through(before: Audit, status: str, now: int) -> bool:
    """Tell whether the ledger's number of a status went from what it was, past the total then, to now's."""
    if status not in before.totals:
        return False
    total = before.totals[status]
    low, high = sorted((total - before.drift[status], now))
    return low <= total <= high


def count_difference(whole: int, recent: int, whole_again: int) -> int:
    """
    Give how many jobs the API lists more than the ledger, the recent ones aside.

    Shape: surpluses asked for in this order. A job that came while they were asked for is in the last of
    them, or in the last two: a surplus of 0 somewhere between the two differences is none.
    """
    low, high = sorted((whole - recent, whole_again - recent))
    return low if low > 0 else min(high, 0)


def wanted_rows(target: Target, jobs: Sequence[Job]) -> list[bool]:
    """Tell of each row whether it is the target's, should the server have ignored a filter."""
    if not target.job_types and not has_foreign_workspace(target, jobs):
        return [True] * len(jobs)
    workspaces, types = {None, target.workspace_id}, frozenset(target.job_types)
    anywhere, any_type = target.workspace_id is None, not types
    return [
        (anywhere or job.workspace_id in workspaces) and (any_type or job.job_type in types) for job in jobs
    ]


def has_foreign_workspace(target: Target, jobs: Sequence[Job]) -> bool:
    """Tell whether a row says that it is of another workspace than the one that was asked for."""
    if target.workspace_id is None:
        return False
    return not {job.workspace_id for job in jobs} <= {None, target.workspace_id}
