"""
What a poll asks: pure.

The API filters by creation time, status and id, but it cannot list what was updated since a time. So a poll
of a known target asks for the jobs that may have changed:

1. all jobs in flight, however old; a finished job that was reopened is among them;
2. all jobs created since the watermark, less an overlap (the *window*);
3. the jobs that were in flight and are in neither answer (*vanished*): they have ended or were deleted. Where
   many of them are young, the window starts earlier, so that it covers them; the others are asked for by id;
4. a few of those that were in no answer of the last day (*gone*), by id: an answer may have lacked them.

Where the new jobs in flight would fill pages of the window a second time, it asks for finished jobs only.

A full sync asks for everything within the lookback, and for what is in flight. So does every poll of a target
that lists no more than a few pages.

Cost in requests, with pages(n) = 1 + (n - 1) // (page size less the overlap of pages):

    poll         pages(in flight) + pages(created since the window's start) + vanished jobs older than that
    full sync    pages(in flight) + pages(created within the lookback) + a few jobs that moved between two
    pages
    audit        one for each status
    count check  one, for the total of the lookback; two more where it differs from the ledger
    deletion     about log2(listed) to find a finished job that was deleted; a full sync where that is cheaper

So a poll costs what is in flight and what has changed, however much is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from exporter.model import IN_FLIGHT_STATUSES, OTHER, STATUSES, TERMINAL_STATUSES, Target, Totals, is_terminal
from exporter.octopus.wire import ListQuery
from exporter.sync.ledger import Audit, FoundBy, JobRef, TargetState
from exporter.sync.server_traits import Filters, ServerFindings, has_passed, value_batches

# A target with no more pages than this is read whole at every poll. That costs no more than asking what has
# changed, and it shows at once what nothing else would, such as a finished job that was deleted.
_SMALL_PAGES = 2
# A target with more pages than this is not read whole each time a job was deleted.
_LARGE_PAGES = 100
# Up to so many pages in flight, every poll lists all of them.
_MANY_PAGES = 50
_SWAP_LIMIT_MS = 300_000
# Later than any creation time.
NEVER_MS = 2**62
# A full sync asks for as many missing jobs by id. For more of them it reads the window once more.
MAX_ID_QUERIES = 20


@dataclass(frozen=True, slots=True)
class ListFilter:
    """The rows that match these filters; an empty filter matches all."""

    job_types: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    start_time_ms: int | None = None

    def page(self, offset: int, limit: int) -> ListQuery:
        """Give the query for at most `limit` rows from `offset` on."""
        return ListQuery(self.job_types, self.statuses, self.start_time_ms, offset=offset, limit=limit)


@dataclass(frozen=True, slots=True)
class ListRequest:
    """
    Which rows are asked for, and why; it stays with every page that answers it.

    Shape: `is_whole` if it covers all jobs in flight, or all jobs within the lookback. Only such a listing
    shows how many rows its total counts and its pages do not show.
    """

    filter: ListFilter
    found_by: FoundBy
    is_whole: bool

    @property
    def in_flight(self) -> bool:
        return self.found_by is FoundBy.IN_FLIGHT


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    When everything is read again.

    Units: milliseconds. Shape: `lookback_ms` is None for no limit; after `gap_ms` without a poll, changes may
    have been missed; a poll is due every `interval_ms`, and each of its requests takes `request_ms`.
    """

    lookback_ms: int | None
    overlap_ms: int
    full_sync_interval_ms: int
    audit_interval_ms: int
    gap_ms: int
    interval_ms: int = 30_000
    request_ms: float = 100


def full_sync_reason(
    state: TargetState,
    target: Target,
    filters: Filters,
    schedule: Schedule,
    now_ms: int,
    row_now_ms: int,
    *,
    catching_up: bool,
    page_size: int,
    total_was_low: bool = False,
) -> str | None:
    """
    Tell why this poll has to read everything; None where it need not.

    A job that was restarted and ended between two polls shows only in a full listing. So there is a full sync
    after a gap, and on a target that is not large after every missed poll (`catching_up`). A new endpoint
    counts as a gap. With `total_was_low` the poll before saw totals that were too low: reading everything
    shows whether they are.
    Shape: one of model.FULL_SYNC_REASONS. Units: `now_ms` by our clock, `row_now_ms` by that of the rows.
    """
    scope = set(target.job_types or ("*",))
    lookback_from_ms = 0 if schedule.lookback_ms is None else row_now_ms - schedule.lookback_ms
    in_scope = "*" in state.scope or scope <= state.scope
    if not state.scope or not in_scope or lookback_from_ms + schedule.overlap_ms < state.covered_from_ms:
        return "first"
    if total_was_low or not filters.can_tell_changes:
        return "filters"
    large = is_large(state, page_size)
    moved = state.endpoint not in ("", target.endpoint)
    if moved or row_now_ms - state.watermark_ms > schedule.gap_ms or (catching_up and not large):
        return "gap"
    persists = state.audit is not None and state.audit.persists
    # Asking for changes does not show that an old unreadable row can be read again.
    may_be_readable = state.rows_unreadable > 0 and not large
    if persists or (may_be_readable and has_passed(schedule.audit_interval_ms, state.full_sync_ms, now_ms)):
        return "drift"
    if has_passed(schedule.full_sync_interval_ms, state.full_sync_ms, now_ms):
        return "scheduled"
    return None


def may_repeat_full_sync(state: TargetState, schedule: Schedule, page_size: int, now_ms: int) -> bool:
    """Tell whether a difference just found is worth a full sync; for a large target not too often."""
    long_ago = has_passed(schedule.audit_interval_ms, state.full_sync_ms, now_ms)
    return long_ago or not is_large(state, page_size)


def is_large(state: TargetState, page_size: int) -> bool:
    """Tell whether a full sync costs so much that it needs a good reason."""
    return state.listed > _LARGE_PAGES * page_size


def is_small(listed: int, page_size: int) -> bool:
    """Tell whether so few jobs are listed that every poll reads all of them, without a full sync."""
    return listed <= _SMALL_PAGES * page_size


def full_sync_cost(state: TargetState, page_size: int) -> int:
    """Give about how many requests a full sync takes."""
    return 1 + listing_cost(state.listed, page_size)


def list_filters(
    target: Target, filters: Filters, start_ms: int | None, statuses: Sequence[str] = ()
) -> tuple[ListFilter, ...]:
    """List all jobs created since `start_ms` (None: ever), in some statuses or in all."""
    start_time_ms = start_ms if filters.start_time else None
    types = value_batches(filters.job_types, target.job_types)
    batches = value_batches(filters.statuses, statuses)
    return tuple(ListFilter(*both, start_time_ms) for both in product(types, batches))


def status_filters(
    target: Target, filters: Filters, status: str, horizon_ms: int | None
) -> tuple[ListFilter, ...]:
    """List the jobs in one status; the totals of these listings add up to it."""
    # Jobs in flight are listed however old, and finished ones within the lookback: the ledger has the same.
    start_ms = None if status in IN_FLIGHT_STATUSES else horizon_ms
    return list_filters(target, filters, start_ms, (status,))


def window_statuses(filters: Filters, in_flight: int, page_size: int) -> tuple[str, ...]:
    """
    Give the statuses to list the window in; empty for all.

    `in_flight` of its rows have been listed already. Leaving them out delays a job that is created just now
    by one reading, so it is done only where it saves two requests or more.
    """
    saved = in_flight // page_size
    return TERMINAL_STATUSES if saved >= 2 and filters.statuses in {"array", "comma"} else ()


def sum_totals(totals: Sequence[int | None]) -> int | None:
    """Add the totals of some listings; None where the API left one out."""
    return None if None in totals else sum(total or 0 for total in totals)


def window_candidates(vanished: Sequence[JobRef]) -> tuple[int, ...]:
    """Give the starts of the window worth comparing: creation times of some vanished jobs, newest first."""
    newest_first = sorted({job.created_ms for job in vanished}, reverse=True)
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
    Choose the start of the window that costs the fewest requests: `base_ms`, or an earlier time.

    Shape: `rows_since` has, for each of `window_candidates`, the time and how many rows the ledger has since.
    Where jobs cannot be asked for by id, the window has to cover all vanished jobs.
    """
    if not vanished:
        return base_ms
    if not ids_work:
        return min(base_ms, *(job.created_ms for job in vanished))
    best_ms, least = base_ms, sum(job.created_ms < base_ms for job in vanished)
    for start_ms, rows in rows_since:
        cost = rows // page_size + sum(job.created_ms < start_ms for job in vanished)
        if cost < least:  # never so of a start after the base
            best_ms, least = start_ms, cost
    return best_ms


def gone_to_ask_for(state: TargetState, row_now_ms: int, before_ms: int) -> tuple[int, ...]:
    """
    Choose jobs that are gone, created before `before_ms`, to ask for once more.

    Most of them were deleted. But an answer may have lacked a job that is in flight, and the job may end
    before the next poll: if it is older than the window, no listing shows it. It is asked for again a second
    later, then after 2 seconds, 4, 8 and so on: about 17 times in a day.
    """
    again = [
        job.id
        for job in state.gone
        if job.created_ms < before_ms
        and _doublings(row_now_ms - job.left_ms) > _doublings(state.watermark_ms - job.left_ms)
    ]
    return tuple(again[:MAX_ID_QUERIES])


def _doublings(age_ms: int) -> int:
    """Tell how often the first second has doubled within a time; 0 before it is over."""
    return (max(age_ms, 0) // 1_000).bit_length()


# -- many jobs in flight -----------------------------------------------------------------------------------


def swap_limit_ms(in_flight: int, schedule: Schedule, page_size: int) -> int | None:
    """
    Give within which time a change is seen that leaves every total as it was; None where it is at once.

    Source: contract, rule 5. It is five minutes, or twice the time that listing all in flight takes at the
    configured pace.
    """
    if in_flight <= _MANY_PAGES * page_size:
        return None
    return max(_SWAP_LIMIT_MS, 2 * _listing_ms(in_flight, schedule, page_size))


def may_ask_for_totals(
    state: TargetState,
    in_flight: int,
    filters: Filters,
    server: ServerFindings,
    schedule: Schedule,
    page_size: int,
    now_ms: int,
) -> bool:
    """
    Tell whether totals may show that what is in flight is as it was, in place of a listing.

    That takes many jobs in flight, filters and totals that work, no row that cannot be read, and a whole
    listing that began recently: the next one has to end within the limit of swaps, even if it begins a poll
    later.
    """
    limit_ms = swap_limit_ms(in_flight, schedule, page_size)
    if limit_ms is None or server.in_flight_ms is None:
        return False
    tells = filters.can_tell_changes and filters.id and not (state.rows_unreadable or server.total_was_low)
    agrees = not (server.traits.unlisted_jobs or server.traits.difference)
    # The window begins at the overlap, and not at a lookback that is shorter.
    has_window = schedule.lookback_ms is None or schedule.lookback_ms > 2 * schedule.overlap_ms
    listing_ms, interval_ms = _listing_ms(in_flight, schedule, page_size), schedule.interval_ms
    # A search takes up to half of a listing, and may so delay the next poll.
    latest_ms = limit_ms - listing_ms - interval_ms * max(math.ceil(listing_ms / 2 / interval_ms), 1)
    is_recent = 0 <= now_ms - server.in_flight_ms < latest_ms
    return tells and agrees and has_window and is_recent and server.totals_trust.take()


def large_statuses(in_flight: Mapping[str, int], page_size: int) -> tuple[str, ...]:
    """Give the documented statuses in flight with more jobs than a page has, the smallest first."""
    large = [status for status in IN_FLIGHT_STATUSES if in_flight.get(status, 0) > page_size]
    return tuple(sorted(large, key=lambda status: in_flight[status]))


def listing_cost(jobs: int, page_size: int) -> int:
    """Give about how many requests it takes to list some jobs."""
    return 1 + jobs // max(page_size - page_size // 20, 1)


def _listing_ms(in_flight: int, schedule: Schedule, page_size: int) -> int:
    return round(listing_cost(in_flight, page_size) * schedule.request_ms)


# -- comparing totals --------------------------------------------------------------------------------------


def audit_is_due(state: TargetState, schedule: Schedule, now_ms: int) -> bool:
    """Tell whether to audit after this poll: at the interval, or to find out whether a difference stays."""
    audit = state.audit
    return (
        audit is None
        or audit.again
        or audit.standing is None
        or has_passed(schedule.audit_interval_ms, audit.at_ms, now_ms)
    )


def audited_statuses(totals: Totals, horizon_ms: int | None, most: int) -> tuple[str, ...]:
    """
    Name the statuses to compare: the documented ones and up to `most` others.

    An undocumented status may hold jobs that have ended, so the API is asked for its jobs within the lookback
    only. Where the ledger has older ones in flight in such a status, the two numbers cannot be compared.
    """
    older = {status for (_, status), at_ms in totals.oldest_created_ms.items() if at_ms < (horizon_ms or 0)}
    undocumented = {status for _, status in totals.jobs} - {*STATUSES, OTHER} - older
    return (*STATUSES, *sorted(undocumented)[:most])


@dataclass(frozen=True, slots=True)
class StatusTotals:
    """How many jobs are in a status: the API's total, and the ledger's."""

    api: int
    ledger: int

    @property
    def difference(self) -> int:
        return self.api - self.ledger

    def nearer(self, before: StatusTotals) -> StatusTotals:
        """
        Give the comparison that differs less, of two made one after the other.

        Where one shows too many and the other too few, jobs changed between them, and nothing differs.
        """
        if self.difference * before.difference <= 0:
            return StatusTotals(self.ledger, self.ledger)
        return min(self, before, key=lambda one: abs(one.difference))


def exclude_statusless(compared: Mapping[str, StatusTotals], rows: int) -> dict[str, StatusTotals]:
    """
    Take `rows` set apart, whose statuses cannot be read, out of the API's totals.

    The API counts each of them in some status. So they are taken from those of which it counts too many.
    """
    left, result = rows, {}
    for status, one in compared.items():
        taken = min(max(one.difference, 0), left)
        left -= taken
        result[status] = StatusTotals(one.api - taken, one.ledger)
    return result


def evaluate_audit(before: Audit | None, compared: Mapping[str, StatusTotals], now_ms: int) -> Audit:
    """
    Decide what the differences between the API's totals and the ledger's mean, given the audit before.

    A difference *lasts* where two audits in a row find it to the same side. It *persists*, and calls for a
    full sync, where a full sync can mend it: in a status of finished jobs (every poll lists what is in flight
    anew), with the same number at both audits, unless the ledger went through the API's number meanwhile. A
    difference found right after a full sync is *standing*: another one would not change it.
    """
    drift = {status: one.difference for status, one in compared.items()}
    totals = {status: one.api for status, one in compared.items()}
    earlier = {} if before is None else before.drift
    lasts = any(drift[status] * earlier.get(status, 0) > 0 for status in drift)
    standing = {} if before is None else before.standing
    if standing is None:  # everything was just read
        # Where the API counts fewer, jobs were deleted meanwhile: that is for the next poll to find.
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


def _passed_through(before: Audit, status: str, ledger_now: int) -> bool:
    """Tell whether the API's total of then lies between the ledger's number of then and `ledger_now`."""
    if status not in before.totals:
        return False
    total = before.totals[status]
    low, high = sorted((total - before.drift[status], ledger_now))
    return low <= total <= high


def count_difference(whole: int, recent: int, whole_again: int) -> int:
    """
    Give how many jobs the API counts more than the ledger, without those created since the poll began.

    Shape: differences asked for in this order: of all jobs, of the recent ones, of all again. A job created
    meanwhile is in the last of them, or in the last two. So where 0 lies between the two results, nothing
    differs.
    """
    low, high = sorted((whole - recent, whole_again - recent))
    return low if low > 0 else min(high, 0)
