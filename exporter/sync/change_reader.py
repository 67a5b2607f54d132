"""What one poll reads: its questions in their order, each answer checked before its rows are staged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn, Protocol

from exporter.counting.rules import CountingRules
from exporter.errors import AnswerTooLarge, ContractError
from exporter.model import Job, Progress, Target
from exporter.octopus.client import RequestCounter
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.filters import FilterFailed, Filters, rejected_filter, unapplied_filter
from exporter.sync.ledger import FoundBy, JobRef, Ledger, PageOrigin, RowKind, Staged, TargetState
from exporter.sync.pagination import Paginator
from exporter.sync.planner import (
    MAX_ID_QUERIES,
    ListFilter,
    Schedule,
    full_sync_reason,
    has_foreign_workspace,
    in_flight_filters,
    is_large,
    is_small,
    job_query,
    sum_totals,
    wanted_rows,
    window_candidates,
    window_filters,
    window_start,
    window_statuses,
)
from exporter.sync.server_clock import Clocks
from exporter.sync.server_traits import RowRange, ServerFindings, ServerTraits, smaller_page
from exporter.sync.unreadable import UnreadableRows


class JobSource(Protocol):
    """Where pages come from: octopus.client, for one poll."""

    async def list_page(self, target: Target, query: ListQuery, counter: RequestCounter) -> Page:
        """Ask for one page, counting every request that takes. Raises: ApiError."""


@dataclass(frozen=True, slots=True)
class PollRules:
    """How a target is read and counted."""

    schedule: Schedule
    page_size: int
    concurrency: int
    counting: CountingRules


@dataclass(slots=True)
class ChangeReader:
    """
    The state of one poll's reading; implements listing.Rows.

    Shape: `now_ms` is our own clock; `catching_up` if no poll of this process came before, or the last one
    failed; `before` is what the poll before found and could not decide; `checks_lengths` makes sure of every
    first page; `full_sync` is the reason why everything is read, None where nothing calls for it;
    `on_progress` is told while a full sync lists.
    Raises, from all that asks: ApiError, LedgerError; FilterFailed where a filter turns out not to work.
    """

    target: Target
    source: JobSource
    ledger: Ledger
    rules: PollRules
    now_ms: Callable[[], int]
    summary: TargetState
    filters: Filters
    traits: ServerTraits
    before: ServerFindings
    on_progress: Callable[[Progress], None]
    catching_up: bool
    counter: RequestCounter
    checks_lengths: bool = False
    progress: Progress = field(default_factory=Progress)
    clocks: Clocks = field(default_factory=Clocks)
    findings: ServerFindings = field(default_factory=ServerFindings)
    horizon_ms: int | None = None
    full_sync: str | None = None
    everything: bool = False
    unreadable: UnreadableRows = field(default_factory=UnreadableRows)
    _question: FoundBy = FoundBy.WINDOW
    _narrow_from_ms: int | None = None
    _reader: Paginator | None = None

    async def read(self, reason: str | None) -> None:
        """Stage what may have changed since `summary`; everything, where there is a reason for it."""
        await self.ledger.begin(self.target)
        self.unreadable = UnreadableRows()
        self._reader = reader = Paginator(self, self.rules.concurrency, checks_lengths=self.checks_lengths)
        # The lookback goes by the clock of the rows, which the first answers tell.
        await self._read_in_flight(reader)
        self._set_horizon()
        self.full_sync = reason or self._full_sync_reason()
        if self.full_sync is not None:
            await self._check_job_types()
            reader.checks_lengths = True
        little = is_small(self.summary.listed, self.rules.page_size)
        self.everything = self.full_sync is not None or little
        if self.everything:
            await self._read_everything(reader)
        else:
            await self._read_changes(reader)
            await self._ask_for_vanished(reader)
        await self._check_unreadable()

    @property
    def can_go_on(self) -> bool:
        """Tell whether this reading is a first sync that broke off while it listed everything."""
        return self._is_first and self._reader is not None and self.everything

    async def go_on(self) -> None:
        """
        Go on with a first sync where it broke off: what is staged is still there.

        What happened meanwhile to the rows already read is for the next poll: their jobs are known to it.
        """
        if self._reader is None:
            raise RuntimeError("nothing was begun")
        await self._read_everything(self._reader)
        await self._check_unreadable()

    async def _read_everything(self, reader: Paginator) -> None:
        await self._read_window(reader, self.horizon_ms)
        if not self._is_first:
            self._set_horizon()
        await self._look_for_missing(reader)

    async def sum(self, listings: Iterable[ListFilter]) -> int | None:
        """Ask how many rows some listings have together; None where the API gives no totals."""
        totals = [(await self.fetch(listing.page(0, 1))).total for listing in listings]
        return sum_totals(totals)

    def _full_sync_reason(self) -> str | None:
        now_ms = self.now_ms()
        return full_sync_reason(
            self.summary,
            self.target,
            self.filters,
            self.rules.schedule,
            now_ms,
            self.clocks.now_ms(now_ms),
            catching_up=self.catching_up,
            many=is_large(self.summary, self.rules.page_size),
            doubts=self.before.total_is_low,
        )

    def _set_horizon(self) -> None:
        lookback_ms = self.rules.schedule.lookback_ms
        if lookback_ms is not None:
            self.horizon_ms = max(self.clocks.now_ms(self.now_ms()) - lookback_ms, 0)

    @property
    def undocumented_from_ms(self) -> int:
        """
        Since when jobs in flight in an undocumented status are asked for: such a status may be one that jobs
        stay in, so older ones are left to full syncs.
        """
        return 0 if self.full_sync is not None else self.horizon_ms or 0

    # -- what is in flight -------------------------------------------------------------------------------

    async def _read_in_flight(self, reader: Paginator) -> None:
        if self.filters.statuses == "none":
            return
        self._question = FoundBy.IN_FLIGHT
        await _read_all(reader, in_flight_filters(self.target, self.filters))
        if self._invented:
            # Such a status may hold what has ended in it too, so it is listed within the lookback.
            self._set_horizon()
            listings = window_filters(self.target, self.filters, self.horizon_ms, self._invented)
            await _read_all(reader, listings)

    async def _check_in_flight(self, reader: Paginator) -> None:
        """
        Make sure that the listing of what is in flight was one.

        If it showed no job in some status, and other answers show one that was there before the poll began,
        then the server understood the filter's values otherwise than they were meant; unless the job was
        reopened just now, so the listing is read once more before it is given up.
        """
        if self.filters.statuses == "none" or not await self._lacks_a_status():
            return
        await self._read_in_flight(reader)
        if await self._lacks_a_status():
            raise FilterFailed("statuses")

    async def _lacks_a_status(self) -> bool:
        before_ms = self.clocks.began_ms(self.now_ms())
        return await self.ledger.unlisted_statuses(self.target, before_ms) > 0

    # -- what was created since --------------------------------------------------------------------------

    async def _read_window(
        self, reader: Paginator, start_ms: int | None, statuses: tuple[str, ...] = ()
    ) -> None:
        self._question = FoundBy.WINDOW
        since_ms = None if self.filters.statuses == "none" else start_ms
        await _read_all(reader, window_filters(self.target, self.filters, since_ms, statuses))
        await self._check_in_flight(reader)

    async def _read_changes(self, reader: Paginator) -> None:
        """
        Read the window of changes, without what the listing of what is in flight has shown if that is much.

        A new job in a status nobody knows is in neither; it is missing in the proof, and the reading that
        follows leaves nothing out.
        """
        start_ms = await self._window_start()
        if self._narrow_from_ms is not None:
            await self._read_window(reader, min(start_ms, self._narrow_from_ms))
            return
        listed = await self.ledger.staged_since(self.target, start_ms)
        statuses = window_statuses(self.filters, listed, self.rules.page_size)
        self._narrow_from_ms = start_ms if statuses else None
        await self._read_window(reader, start_ms, statuses)

    async def _window_start(self) -> int:
        base_ms = max(self.summary.watermark_ms - self.rules.schedule.overlap_ms, self.horizon_ms or 0)
        vanished = await self._vanished()
        most = (len(vanished) + 1) * self.rules.page_size
        rows = await self.ledger.rows_since(self.target, window_candidates(vanished), most)
        return window_start(base_ms, vanished, rows, self.rules.page_size, ids_work=self.filters.id)

    async def _check_job_types(self) -> None:
        """Make sure that several job types in one filter list as many jobs as each by itself."""
        types = self.target.job_types
        if len(types) < 2 or self.filters.job_types not in ("array", "comma"):
            return
        together = window_filters(self.target, self.filters, self.horizon_ms)
        each = window_filters(self.target, replace(self.filters, job_types="single"), self.horizon_ms)
        for _ in range(2):  # jobs that come in between make a difference once
            totals = await self.sum(together), await self.sum(each)
            if totals[0] is not None and totals[0] == totals[1]:
                return
        raise FilterFailed("job_types")

    # -- what is in neither ------------------------------------------------------------------------------

    async def _ask_for_vanished(self, reader: Paginator) -> None:
        """Ask for what was in flight and is in no answer: it ended outside the window, or it was deleted."""
        await self._ask_for([known.id for known in await self._vanished()])
        await self._check_in_flight(reader)

    async def _vanished(self) -> tuple[JobRef, ...]:
        return await self.ledger.vanished(self.target, self.undocumented_from_ms)

    async def _read_old_undocumented(self, reader: Paginator) -> None:
        """List all in undocumented statuses where that costs less than to ask for each job that vanished."""
        vanished = await self._vanished()
        if len(vanished) <= MAX_ID_QUERIES or self.filters.statuses == "none" or not self._invented:
            return
        listings = window_filters(self.target, self.filters, None, self._invented)
        total = await self.sum(listings)
        if total is not None and total < len(vanished) * self.page_size:
            await _read_all(reader, listings)

    async def _look_for_missing(self, reader: Paginator) -> None:
        """
        Make sure that jobs which are known and were not listed are not there any more.

        One that was in flight may have ended outside the lookback; one that had ended may have slipped
        between two pages. Few are asked for by id; for many the window is read once more. The first poll
        knows of none.
        """
        if self._is_first:
            return
        await self._read_old_undocumented(reader)
        vanished = await self._vanished()
        missing = await self.ledger.missing(self.target, self.horizon_ms, MAX_ID_QUERIES)
        many = missing.total > MAX_ID_QUERIES
        await self._ask_for([known.id for known in vanished])
        if not many:
            await self._ask_for(missing.some)
        if many or (missing.some and not self.filters.id):
            await self._read_window(reader, self.horizon_ms)
        if vanished and not self.filters.id:
            await self._read_window(reader, min(known.created_ms for known in vanished))

    async def _ask_for(self, job_ids: Sequence[int]) -> None:
        """Stage each of these jobs that is still there, where the server can be asked for one."""
        if not self.filters.id:
            return
        self._question = FoundBy.BY_ID
        for at in range(0, len(job_ids), self.rules.concurrency):
            some = job_ids[at : at + self.rules.concurrency]
            told = await asyncio.gather(*map(self._ask_for_one, some), return_exceptions=True)
            for failure in filter(None, told):
                raise failure

    async def _ask_for_one(self, job_id: int) -> None:
        page = await self.fetch(job_query(job_id))
        wanted = tuple(job for job in page.jobs if job.id == job_id)
        set_apart = tuple(row for row in page.set_apart if row.job_id == job_id)
        await self.stage(replace(page, jobs=wanted, set_apart=set_apart), 0, 0)

    # -- listing.Rows ------------------------------------------------------------------------------------

    @property
    def page_size(self) -> int:
        return min(self.rules.page_size, self.traits.page_size or self.rules.page_size)

    def by_rows(self, at_ms: int) -> int:
        return self.clocks.by_rows(at_ms)

    async def fetch(self, query: ListQuery) -> Page:
        """Ask for a page, or for a smaller one where the server refuses so many rows or sends too much."""
        sent_ms, page_size = self.now_ms(), self.traits.page_size
        while True:
            asked = replace(query, limit=min(query.limit, self.page_size))
            try:
                page = await self.source.list_page(self.target, asked, self.counter)
                break
            except ContractError as refused:
                if refused.status != 400 and not isinstance(refused, AnswerTooLarge):
                    self._blame(query, refused)
                if self.page_size >= asked.limit:  # else another request has found the same already
                    smaller = smaller_page(asked.limit)
                    if smaller is None:
                        # It was not the size: whatever was refused, it was refused of every size.
                        self.traits = replace(self.traits, page_size=page_size)
                        self._blame(query, refused)
                    self.traits = replace(self.traits, page_size=smaller)
        self.clocks.answered(page.server_time_ms, sent_ms, self.now_ms(), page.jobs)
        self._check_filters(query, page)
        return page

    def _blame(self, query: ListQuery, refused: ContractError) -> NoReturn:
        """Raise: FilterFailed for the filter that a refusal is about, else the refusal."""
        if not isinstance(refused, AnswerTooLarge) and (name := rejected_filter(query, refused.status)):
            raise FilterFailed(name) from refused
        raise refused

    def _check_filters(self, query: ListQuery, page: Page) -> None:
        if self.filters.workspace and has_foreign_workspace(self.target, page.jobs):
            raise FilterFailed("workspace")
        if name := unapplied_filter(query, page.jobs):
            raise FilterFailed(name)

    async def stage(self, page: Page, offset: int, pass_no: int) -> None:
        jobs: Sequence[Job] = page.jobs
        yes, no = RowKind.OWN, RowKind.FOREIGN
        wanted = [yes if fits else no for fits in wanted_rows(self.target, jobs)]
        if page.set_apart:
            unread = self.unreadable.add(page.set_apart, offset, pass_no)
            jobs, wanted = [*jobs, *unread], [*wanted, *[RowKind.UNREADABLE] * len(unread)]
        origin = PageOrigin(self._question, pass_no)
        await self.ledger.stage(self.target, jobs, wanted, origin, self.rules.counting)
        if self.full_sync is not None and self._question is FoundBy.WINDOW:
            # Pages overlap, and a pass may be repeated: count how far down the list the pages have come.
            rows = self.progress.rows = max(self.progress.rows, offset + page.rows)
            self.progress.total = None if page.total is None else max(page.total, rows)
            self.on_progress(self.progress)

    async def staged(self, first_pass: int, pass_no: int, before_ms: int | None = None) -> Staged:
        staged = await self.ledger.staged(self.target, first_pass, pass_no, before_ms=before_ms)
        return self.unreadable.counted_with(staged, first_pass, pass_no)

    async def gone(self, listing: ListFilter) -> int:
        statuses = [status for value in listing.statuses for status in value.split(",")]
        return await self.ledger.gone(self.target, statuses, listing.start_time_ms or self.horizon_ms or 0)

    def believed_surplus(self) -> int:
        return self.traits.surplus(in_flight=self._lists_in_flight)

    def surplus_is(self, rows: int) -> None:
        in_flight = self._lists_in_flight
        if rows < self.believed_surplus() and (in_flight or self.everything):
            self.traits = self.traits.with_surplus(rows, in_flight=in_flight)

    def saw_surplus(self, rows: RowRange) -> bool:
        in_flight = self._lists_in_flight
        self.findings.surplus[in_flight] = rows
        seen_before = self.before.surplus.get(in_flight)
        both = None if seen_before is None else rows.common(seen_before)
        if both is None or both.most <= 0:
            return False
        self.traits = self.traits.with_surplus(both.most, in_flight=in_flight)
        return True

    def saw_low_total(self) -> None:
        self.findings.total_is_low = True

    @property
    def _lists_in_flight(self) -> bool:
        return self._question is FoundBy.IN_FLIGHT

    async def _check_unreadable(self) -> None:
        """Make sure that few rows cannot be read. Raises: ContractError."""
        if self.unreadable:
            self.unreadable.were_read(await self.ledger.readable(self.target, self.unreadable.job_ids))
            self.unreadable.check((await self.ledger.staged(self.target, 0, 0)).in_all)

    @property
    def _invented(self) -> tuple[str, ...]:
        return self.summary.invented[: self.rules.counting.max_statuses]

    @property
    def _is_first(self) -> bool:
        return not self.summary.scope


async def _read_all(reader: Paginator, listings: Iterable[ListFilter]) -> None:
    for listing in listings:
        await reader.read(listing)
