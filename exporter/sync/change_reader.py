"""
Read what may have changed, and check each answer before its rows are staged.

The order of the requests matters. What is in flight comes first: its answers show which clock the rows go by,
on which the lookback depends, and the jobs that are missing in it decide how far back the window has to go.
The window comes second. Jobs that are in neither are asked for last, because most of them have just moved
from one to the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from exporter.counting.rules import CountingRules
from exporter.errors import AnswerTooLarge, ApiError, ContractError
from exporter.model import IN_FLIGHT_STATUSES, Job, Progress, Target
from exporter.octopus.client import RequestCounter
from exporter.octopus.wire import ListQuery, Page
from exporter.sync import planner
from exporter.sync.in_flight_check import InFlightCheck, in_flight_check
from exporter.sync.ledger import (
    ALL_ASKED,
    FoundBy,
    JobRef,
    Ledger,
    PageOrigin,
    PollResult,
    RowKind,
    Staged,
    TargetState,
    Unasked,
)
from exporter.sync.pagination import Paginator
from exporter.sync.planner import ListFilter, ListRequest, Schedule
from exporter.sync.server_clock import Clocks
from exporter.sync.server_traits import (
    SMALLEST_PAGE,
    FilterFailed,
    Filters,
    ServerFindings,
    has_foreign_workspace,
    rejected_filter,
    smaller_page,
    unapplied_filter,
    wanted_rows,
)
from exporter.sync.unreadable import UnreadableRows


class JobSource(Protocol):
    """Where pages come from: octopus.client, for one poll."""

    async def list_page(self, target: Target, query: ListQuery, counter: RequestCounter) -> Page:
        """Ask for one page, counting every request that takes. Raises: ApiError."""


@dataclass(frozen=True, slots=True)
class PollRules:
    """How a target is read and counted. With a `concurrency` of None it follows pace and latency."""

    schedule: Schedule
    page_size: int
    concurrency: int | None
    counting: CountingRules


@dataclass(slots=True)
class ChangeReader:
    """
    Reads for one poll, once or several times; implements pagination.PageSink.

    Shape: `now_ms` is our own clock; `on_progress` is called while a full sync lists; with `checks_lengths`
    every first page is followed by another request. `filters`, `horizon_ms`, `unreadable` and `unasked` are
    those of the last reading; `in_flight_ms` is when it began to list all jobs in flight, None if it did not.
    Raises from every method that asks: ApiError, LedgerError; FilterFailed where a filter does not work.
    """

    target: Target
    source: JobSource
    ledger: Ledger
    rules: PollRules
    now_ms: Callable[[], int]
    server: ServerFindings
    clocks: Clocks
    counter: RequestCounter
    on_progress: Callable[[Progress], None]
    checks_lengths: bool = False
    filters: Filters = field(default_factory=Filters)
    horizon_ms: int | None = None
    unreadable: UnreadableRows = field(default_factory=UnreadableRows)
    unasked: Unasked = ALL_ASKED
    in_flight_ms: int | None = None
    _progress: Progress = field(default_factory=Progress)
    _everything: bool = False
    _full_sync: str | None = None
    _narrowed_from_ms: int | None = None
    _state: TargetState = field(init=False)
    _paginator: Paginator = field(init=False)

    async def read(
        self,
        state: TargetState,
        filters: Filters,
        reason: str | None = None,
        *,
        catching_up: bool = False,
    ) -> PollResult:
        """
        Stage what may have changed since `state`; everything, where there is a reason for a full sync.

        Shape: `reason` is the caller's own reason for one; with `catching_up` the last poll was missed or
        failed.
        """
        await self.ledger.begin(self.target)
        self._state, self.filters, self.unreadable = state, filters, UnreadableRows()
        self._everything, self._full_sync = False, None
        self.unasked, self.in_flight_ms = ALL_ASKED, None
        rules, server = self.rules, self.server
        self._paginator = Paginator(
            self, server, rules.page_size, self.counter.concurrency, checks_lengths=self.checks_lengths
        )
        check = await self._begin_check()
        if check is None:
            await self._read_in_flight()
        self._set_horizon()
        self._full_sync = reason or self._full_sync_reason(catching_up=catching_up)
        if self._full_sync is not None:
            await self._check_job_types()
            self._paginator.checks_lengths = True
        self._everything = self._full_sync is not None or planner.is_small(state.listed, rules.page_size)
        if check is not None and (self._everything or not await self._read_checked(check)):
            self.unasked = ALL_ASKED
            # A job that the check has staged may have ended since, and no listing would show that.
            await self.ledger.begin(self.target)
            self.unreadable = UnreadableRows()
            await self._read_in_flight()
        if self._everything:
            await self._read_everything()
        elif self.unasked == ALL_ASKED:
            await self._read_changes()
            await self._check_in_flight()
        return await self._finish()

    def _full_sync_reason(self, *, catching_up: bool) -> str | None:
        now_ms = self.now_ms()
        return planner.full_sync_reason(
            self._state,
            self.target,
            self.filters,
            self.rules.schedule,
            now_ms,
            self.clocks.now_ms(now_ms),
            catching_up=catching_up,
            page_size=self.rules.page_size,
            total_was_low=self.server.total_was_low,
        )

    @property
    def can_resume(self) -> bool:
        """Tell whether this is a first sync that was interrupted while it listed everything."""
        return self._everything and not self._state.scope

    async def resume(self) -> PollResult:
        """
        Continue an interrupted first sync: the rows it has staged are still there.

        Rows that changed after they were staged are left to the next poll, which knows their jobs by then.
        """
        await self._read_everything()
        return await self._finish()

    async def _finish(self) -> PollResult:
        """Make sure that few rows cannot be read, and give what to record. Raises: ContractError."""
        if self.unreadable:
            self.unreadable.discard(await self.ledger.readable(self.target, self.unreadable.job_ids))
            self.unreadable.check((await self.ledger.staged(self.target, 0, 0)).in_all)
        self.server.latest_row_ms = self.clocks.latest_ms
        now_ms = self.now_ms()
        return PollResult(
            target=self.target,
            began_ms=self.clocks.began_ms(now_ms),
            clock_ms=self.clocks.now_ms(now_ms),
            lead_ms=self.clocks.lead_ms,
            now_ms=now_ms,
            horizon_ms=self.horizon_ms,
            full=self._everything,
            full_sync=self._full_sync,
            filters=self.filters,
            server=self.server.traits,
            set_apart=self.unreadable.all,
            undocumented_from_ms=self._undocumented_from_ms,
            unasked=self.unasked,
        )

    async def total(self, filters: Iterable[ListFilter]) -> int | None:
        """Ask how many rows some listings have together; None where the API gives no totals."""
        return planner.sum_totals([(await self.fetch(one.page(0, 1))).total for one in filters])

    @property
    def _undocumented(self) -> tuple[str, ...]:
        return self._state.invented[: self.rules.counting.max_statuses]

    @property
    def _undocumented_from_ms(self) -> int:
        # Jobs may stay in an undocumented status for ever, so the old ones are left to full syncs.
        return 0 if self._full_sync is not None else self.horizon_ms or 0

    def _set_horizon(self) -> None:
        lookback_ms = self.rules.schedule.lookback_ms
        if lookback_ms is not None:
            self.horizon_ms = max(self.clocks.now_ms(self.now_ms()) - lookback_ms, 0)

    # -- the three questions -----------------------------------------------------------------------------

    async def _list(self, filters: Iterable[ListFilter], found_by: FoundBy) -> None:
        is_whole = found_by is FoundBy.IN_FLIGHT or self._everything
        for one in filters:
            await self._paginator.read(ListRequest(one, found_by, is_whole))

    async def _read_in_flight(self, statuses: Sequence[str] = IN_FLIGHT_STATUSES) -> None:
        if self.filters.statuses == "none":
            return
        if statuses == IN_FLIGHT_STATUSES and self.in_flight_ms is None:
            self.in_flight_ms = self.now_ms()
        if statuses:
            filters = planner.list_filters(self.target, self.filters, None, statuses)
            await self._list(filters, FoundBy.IN_FLIGHT)
        if self._undocumented:
            # Jobs in such a status may have ended, so they are listed within the lookback only.
            self._set_horizon()
            filters = planner.list_filters(self.target, self.filters, self.horizon_ms, self._undocumented)
            await self._list(filters, FoundBy.IN_FLIGHT)

    async def _check_in_flight(self) -> None:
        """
        Make sure that the listing of jobs in flight was complete.

        A server may understand an array of statuses differently, and list only one of them. Then other
        answers show jobs in a status of which this listing has none. A job that was reopened just now looks
        the same, so the listing is read once more before the filter is downgraded.
        """
        if self.filters.statuses == "none" or self.unasked != ALL_ASKED:
            return
        for repeated in (False, True):
            before_ms = self.clocks.began_ms(self.now_ms())
            if await self.ledger.unlisted_statuses(self.target, before_ms) == 0:
                return
            if not repeated:
                await self._read_in_flight()
        raise FilterFailed("statuses")

    async def _read_window(self, start_ms: int | None, statuses: tuple[str, ...] = ()) -> None:
        # Without a filter by status, older jobs in flight are found by listing all jobs only.
        since_ms = None if self.filters.statuses == "none" else start_ms
        await self._list(planner.list_filters(self.target, self.filters, since_ms, statuses), FoundBy.WINDOW)
        await self._check_in_flight()

    async def _read_changes(self) -> None:
        """Read the window of changes, and ask for the jobs that were in flight and are in no answer."""
        await self._read_window(*await self._choose_window())
        # They have ended before the window, or were deleted.
        await self.ask_for([job.id for job in await self._vanished()])
        await self._ask_for_gone(planner.NEVER_MS)

    async def _ask_for_gone(self, before_ms: int) -> None:
        row_now_ms = self.clocks.now_ms(self.now_ms())
        # The poll is complete without them: a server that fails on one of them must not stop the target.
        with suppress(ApiError):
            await self.ask_for(planner.gone_to_ask_for(self._state, row_now_ms, before_ms))

    async def _choose_window(self) -> tuple[int, tuple[str, ...]]:
        """
        Give the start of the window of changes and its statuses, empty for all.

        What the listing of jobs in flight has shown is left out if that is much. A new job in an unknown
        status is then in neither listing. The count check finds that a job is missing, and the reading that
        follows leaves nothing out.
        """
        page_size, start_ms = self.rules.page_size, self._window_ms
        if vanished := await self._vanished():
            most = (len(vanished) + 1) * page_size
            rows = await self.ledger.rows_since(self.target, planner.window_candidates(vanished), most)
            start_ms = planner.window_start(start_ms, vanished, rows, page_size, ids_work=self.filters.id)
        if self._narrowed_from_ms is not None:
            return min(start_ms, self._narrowed_from_ms), ()
        if self.unasked != ALL_ASKED:
            return start_ms, ()
        listed = await self.ledger.staged_since(self.target, start_ms)
        statuses = planner.window_statuses(self.filters, listed, page_size)
        if statuses:
            self._narrowed_from_ms = start_ms
        return start_ms, statuses

    async def _vanished(self) -> tuple[JobRef, ...]:
        return await self.ledger.vanished(self.target, self._undocumented_from_ms, self.unasked)

    @property
    def _window_ms(self) -> int:
        return max(self._state.watermark_ms - self.rules.schedule.overlap_ms, self.horizon_ms or 0)

    # -- many jobs in flight: see in_flight_check -----------------------------------------------------------

    async def _begin_check(self) -> InFlightCheck | None:
        """Ask for totals in place of the jobs in flight, where that may do; None where those are listed."""
        rules, state = self.rules, self._state
        if planner.swap_limit_ms(state.listed, rules.schedule, rules.page_size) is None:
            return None
        in_flight = await self.ledger.in_flight_between(self.target, IN_FLIGHT_STATUSES, 0, planner.NEVER_MS)
        jobs, now_ms = sum(in_flight.values()), self.now_ms()
        large = planner.large_statuses(in_flight, rules.page_size)
        if not large or not planner.may_ask_for_totals(
            state, jobs, self.filters, self.server, rules.schedule, rules.page_size, now_ms
        ):
            return None
        check = in_flight_check(self, in_flight, large, self._window_ms, rules.page_size)
        return check if await check.ask_totals() else None

    async def _read_checked(self, check: InFlightCheck) -> bool:
        """Read the small statuses and the changes; tell whether the totals show that this is all."""
        self.unasked = Unasked(tuple(check.statuses), self._window_ms)
        await self._read_in_flight([name for name in IN_FLIGHT_STATUSES if name not in check.statuses])
        await self._read_changes()
        agrees = await check.agrees() and not self.unreadable
        trust = self.server.totals_trust
        trust.succeeded() if agrees else trust.failed()
        return agrees

    async def list_statuses(self, statuses: Sequence[str], most: int) -> bool:
        kept = tuple(name for name in self.unasked.statuses if name not in statuses)
        self.unasked = replace(self.unasked, statuses=kept)
        await self._list(planner.list_filters(self.target, self.filters, None, statuses), FoundBy.IN_FLIGHT)
        vanished = await self._vanished()
        if len(vanished) <= most:
            await self.ask_for([job.id for job in vanished])
        return len(vanished) <= most

    # -- a full sync -------------------------------------------------------------------------------------

    async def _check_job_types(self) -> None:
        """Make sure that several job types in one filter list as many jobs as each by itself."""
        types = self.target.job_types
        if len(types) < 2 or self.filters.job_types not in ("array", "comma"):
            return
        together = planner.list_filters(self.target, self.filters, self.horizon_ms)
        each = planner.list_filters(self.target, replace(self.filters, job_types="single"), self.horizon_ms)
        for _ in range(2):  # a job that is created between the two totals makes them differ once
            whole, parts = await self.total(together), await self.total(each)
            if whole is not None and whole == parts:
                return
        raise FilterFailed("job_types")

    async def _read_everything(self) -> None:
        """
        Read the whole window, and make sure that known jobs which were not listed are gone.

        A job that was in flight may have ended before the lookback. A finished one may have moved from one
        page to another that had been read already. Few of them are asked for by id; for many the window is
        read once more.
        """
        await self._read_window(self.horizon_ms)
        if not self._state.scope:
            return  # the first sync: no job is known yet
        self._set_horizon()
        vanished = await self._vanished()
        if len(vanished) > planner.MAX_ID_QUERIES and self.filters.statuses != "none" and self._undocumented:
            # List all jobs in undocumented statuses where that costs less than to ask for each by id.
            filters = planner.list_filters(self.target, self.filters, None, self._undocumented)
            total = await self.total(filters)
            page_size = self.server.traits.allowed_page(self.rules.page_size)
            if total is not None and total < len(vanished) * page_size:
                await self._list(filters, FoundBy.WINDOW)
                vanished = await self._vanished()
        missing = await self.ledger.missing(self.target, self.horizon_ms, planner.MAX_ID_QUERIES)
        many = missing.total > planner.MAX_ID_QUERIES
        await self.ask_for([job.id for job in vanished])
        # The younger ones would be in the window.
        await self._ask_for_gone(self.horizon_ms or 0)
        if not many:
            await self.ask_for(missing.some)
        if many or (missing.some and not self.filters.id):
            await self._read_window(self.horizon_ms)
        if vanished and not self.filters.id:
            await self._read_window(min(job.created_ms for job in vanished))

    async def ask_for(self, job_ids: Sequence[int]) -> None:
        """
        Stage each of these jobs that is still listed, where the server can be asked for one by id.

        The others are gone.
        """
        if not self.filters.id:
            return
        asked = 0
        while batch := job_ids[asked : asked + 2 * self.counter.concurrency.limit]:
            asked += len(batch)
            # All requests of a batch end before the first failure is raised: none may stage rows after that.
            outcomes = await asyncio.gather(*map(self._ask_for_one, batch), return_exceptions=True)
            for failure in filter(None, outcomes):
                raise failure

    async def _ask_for_one(self, job_id: int) -> None:
        async with self.counter.concurrency.place():
            page = await self.fetch(ListQuery(job_id=job_id, limit=1))
        # `fetch` refuses readable rows of other jobs.
        set_apart = tuple(row for row in page.set_apart if row.job_id == job_id)
        await self.stage(replace(page, set_apart=set_apart), FoundBy.BY_ID, 0, 0)
        if self.unasked != ALL_ASKED and not page.jobs and not set_apart:
            self.unasked = replace(self.unasked, gone=(*self.unasked.gone, job_id))

    # -- pagination.PageSink -----------------------------------------------------------------------------

    def row_time_ms(self, at_ms: int) -> int:
        return self.clocks.row_time_ms(at_ms)

    async def fetch(self, query: ListQuery) -> Page:
        """Ask for a page, or for a smaller one where the server refuses so many rows or sends too much."""
        sent_ms, server, page_size = self.now_ms(), self.server, self.server.traits.page_size
        while True:
            asked = replace(query, limit=server.traits.allowed_page(query.limit))
            try:
                page = await self.source.list_page(self.target, asked, self.counter)
                break
            except ContractError as refused:
                too_large = isinstance(refused, AnswerTooLarge)
                if refused.status == 400 or too_large:
                    if server.traits.allowed_page(asked.limit) < asked.limit:
                        continue  # another request has found out meanwhile
                    smaller = smaller_page(asked.limit)
                    server.traits = replace(server.traits, page_size=smaller or page_size)
                    if smaller is not None:
                        continue
                    # Every size was refused, so the size was not the reason.
                if not too_large and (name := rejected_filter(query, refused.status)):
                    raise FilterFailed(name) from refused
                raise
        self.clocks.observe(page.server_time_ms, sent_ms, self.now_ms(), page.jobs)
        return await self._checked(query, page)

    async def _checked(self, query: ListQuery, page: Page) -> Page:
        """Make sure that the rows of a page match the filters; ask for more rows where one says little."""
        if self.filters.workspace and has_foreign_workspace(self.target, page.jobs):
            raise FilterFailed("workspace")
        if name := unapplied_filter(query, page.jobs):
            if name != "statuses" or page.rows > 1:
                raise FilterFailed(name)
            # One row proves nothing: its job may have changed since the server looked at its status.
            if query.limit == 1:
                return await self.fetch(replace(query, limit=SMALLEST_PAGE))
        return page

    async def stage(self, page: Page, found_by: FoundBy, offset: int, pass_no: int) -> None:
        jobs: Sequence[Job] = page.jobs
        own, foreign = RowKind.OWN, RowKind.FOREIGN
        kinds = [own if wanted else foreign for wanted in wanted_rows(self.target, jobs)]
        if page.set_apart:
            unread = self.unreadable.add(page.set_apart, offset, pass_no)
            jobs, kinds = [*jobs, *unread], [*kinds, *[RowKind.UNREADABLE] * len(unread)]
        origin = PageOrigin(found_by, pass_no, self.clocks.history_before_ms)
        await self.ledger.stage(self.target, jobs, kinds, origin, self.rules.counting)
        if self._full_sync is not None and found_by is FoundBy.WINDOW:
            # Pages overlap, and a pass may be repeated: so progress is how far down the list the pages have
            # come. A page beyond the end has no rows, and is no progress.
            end = offset + page.rows if page.rows else 0
            rows = self._progress.rows = max(self._progress.rows, end)
            self._progress.total = None if page.total is None else max(page.total, rows)
            self.on_progress(self._progress)

    async def staged(self, first_pass: int, pass_no: int, before_ms: int | None = None) -> Staged:
        staged = await self.ledger.staged(self.target, first_pass, pass_no, before_ms=before_ms)
        return self.unreadable.counted_with(staged, first_pass, pass_no)

    async def gone(self, list_filter: ListFilter) -> int:
        statuses = [status for value in list_filter.statuses for status in value.split(",")]
        start_ms = list_filter.start_time_ms or self.horizon_ms or 0
        return await self.ledger.gone(self.target, statuses, start_ms)
