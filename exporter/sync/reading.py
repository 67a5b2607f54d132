"""What one poll reads: its questions in their order, each answer checked before its rows are staged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from exporter.errors import ContractError
from exporter.ledger.protocol import CountingRules, Ledger, Listed, Origin, Staged, Summary
from exporter.model import Job, Progress, Target
from exporter.octopus.client import RequestCounter
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.filters import FilterFailed, Filters, blamed, ignored
from exporter.sync.listing import Reader
from exporter.sync.planner import (
    MOST_SINGLE_QUESTIONS,
    Listing,
    Schedule,
    added_up,
    are_foreign,
    belonging,
    cuts,
    full_sync_reason,
    in_flight_listings,
    is_large,
    is_small,
    single_question,
    window_listings,
    window_start,
    window_statuses,
)
from exporter.sync.serverclock import ServerClock


class PageSource(Protocol):
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
class Reading:
    """
    The state of one poll's reading; implements listing.Rows.

    Shape: `now_ms` is our own clock; `catching_up` if no poll of this process came before, or the last one
    failed; `full_sync` is the reason why everything is read, None where nothing calls for it; `on_progress`
    is told while a full sync lists.
    Raises, from all that asks: ApiError, LedgerError; FilterFailed where a filter turns out not to work.
    """

    target: Target
    source: PageSource
    ledger: Ledger
    rules: PollRules
    now_ms: Callable[[], int]
    summary: Summary
    filters: Filters
    on_progress: Callable[[Progress], None]
    catching_up: bool
    counter: RequestCounter
    progress: Progress = field(default_factory=Progress)
    server: ServerClock = field(default_factory=ServerClock)
    horizon_ms: int | None = None
    full_sync: str | None = None
    everything: bool = False
    _question: Listed = Listed.WINDOW
    _history_pass: int | None = None
    _narrow_from_ms: int | None = None

    async def read(self, reason: str | None) -> None:
        """Stage what may have changed since `summary`; everything, where there is a reason for it."""
        await self.ledger.begin(self.target)
        self._history_pass = None
        reader = Reader(self, self.rules.page_size, self.rules.concurrency)
        # The lookback goes by the server's clock, which the first answer tells.
        await self._read_in_flight(reader)
        self._set_horizon()
        self.full_sync = reason or self._full_sync_reason()
        if self.full_sync is not None:
            await self._check_job_types()
        self.everything = self.full_sync is not None or is_small(self.summary, self.rules.page_size)
        if self.everything:
            await self._read_window(reader, self.horizon_ms)
            self._set_horizon()
            await self._look_for_missing(reader)
        else:
            await self._read_changes(reader)
            await self._ask_for_vanished(reader)

    async def sum(self, listings: Iterable[Listing]) -> int | None:
        """Ask how many rows some listings have together; None where the API gives no totals."""
        totals = [(await self.fetch(listing.page(0, 1))).total for listing in listings]
        return added_up(totals)

    def _full_sync_reason(self) -> str | None:
        now_ms = self.now_ms()
        return full_sync_reason(
            self.summary,
            self.target,
            self.filters,
            self.rules.schedule,
            now_ms,
            self.server.now_ms(now_ms),
            catching_up=self.catching_up,
            many=is_large(self.summary, self.rules.page_size),
        )

    def _set_horizon(self) -> None:
        lookback_ms = self.rules.schedule.lookback_ms
        if lookback_ms is not None:
            self.horizon_ms = max(self.server.now_ms(self.now_ms()) - lookback_ms, 0)

    # -- what is in flight -------------------------------------------------------------------------------

    async def _read_in_flight(self, reader: Reader) -> None:
        if self.filters.statuses == "none":
            return
        self._question = Listed.IN_FLIGHT
        await _read_all(reader, in_flight_listings(self.target, self.filters, self.summary.invented))

    async def _check_in_flight(self, reader: Reader) -> None:
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
        before_ms = self.server.began_ms(self.now_ms())
        return await self.ledger.unlisted_statuses(self.target, before_ms) > 0

    # -- what was created since --------------------------------------------------------------------------

    async def _read_window(
        self, reader: Reader, start_ms: int | None, statuses: tuple[str, ...] = ()
    ) -> None:
        self._question = Listed.WINDOW
        since_ms = None if self.filters.statuses == "none" else start_ms
        await _read_all(reader, window_listings(self.target, self.filters, since_ms, statuses))
        await self._check_in_flight(reader)

    async def _read_changes(self, reader: Reader) -> None:
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
        vanished = await self.ledger.vanished(self.target)
        most = (len(vanished) + 1) * self.rules.page_size
        rows = await self.ledger.rows_since(self.target, cuts(vanished), most)
        return window_start(base_ms, vanished, rows, self.rules.page_size, ids_work=self.filters.id)

    async def _check_job_types(self) -> None:
        """Make sure that several job types in one filter list as many jobs as each by itself."""
        types = self.target.job_types
        if len(types) < 2 or self.filters.job_types not in ("array", "comma"):
            return
        together = window_listings(self.target, self.filters, self.horizon_ms)
        each = window_listings(self.target, replace(self.filters, job_types="single"), self.horizon_ms)
        for _ in range(2):  # jobs that come in between make a difference once
            totals = await self.sum(together), await self.sum(each)
            if totals[0] is not None and totals[0] == totals[1]:
                return
        raise FilterFailed("job_types")

    # -- what is in neither ------------------------------------------------------------------------------

    async def _ask_for_vanished(self, reader: Reader) -> None:
        """Ask for what was in flight and is in no answer: it ended outside the window, or it was deleted."""
        await self._ask_for([known.id for known in await self.ledger.vanished(self.target)])
        await self._check_in_flight(reader)

    async def _look_for_missing(self, reader: Reader) -> None:
        """
        Make sure that jobs which are known and were not listed are not there any more.

        One that was in flight may have ended outside the lookback; one that had ended may have slipped
        between two pages. Few are asked for by id; for many the window is read once more. The first poll
        knows of none.
        """
        if self._is_first:
            return
        vanished = await self.ledger.vanished(self.target)
        missing = await self.ledger.missing(self.target, self.horizon_ms, MOST_SINGLE_QUESTIONS)
        many = missing.total > MOST_SINGLE_QUESTIONS
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
        self._question = Listed.BY_ID
        for at in range(0, len(job_ids), self.rules.concurrency):
            some = job_ids[at : at + self.rules.concurrency]
            told = await asyncio.gather(*map(self._ask_for_one, some), return_exceptions=True)
            for failure in filter(None, told):
                raise failure

    async def _ask_for_one(self, job_id: int) -> None:
        page = await self.fetch(single_question(job_id))
        await self.stage([job for job in page.jobs if job.id == job_id], 0)

    # -- listing.Rows ------------------------------------------------------------------------------------

    async def fetch(self, query: ListQuery) -> Page:
        sent_ms = self.now_ms()
        try:
            page = await self.source.list_page(self.target, query, self.counter)
        except ContractError as refused:
            if name := blamed(query, refused.status):
                raise FilterFailed(name) from refused
            raise
        self.server.answered(page.server_time_ms, sent_ms, self.now_ms())
        if self._question is Listed.WINDOW:
            self.progress.total = page.total
        if page.total is None and self.filters.totals:
            raise FilterFailed("totals")
        if self.filters.workspace and are_foreign(self.target, page.jobs):
            raise FilterFailed("workspace")
        if name := ignored(query, page.jobs):
            raise FilterFailed(name)
        return page

    async def stage(self, jobs: Sequence[Job], pass_no: int) -> None:
        await self.ledger.stage(self.target, jobs, belonging(self.target, jobs), self._origin(pass_no))
        if self.full_sync is not None and self._question is Listed.WINDOW:
            self.progress.rows += len(jobs)
            self.on_progress(self.progress)

    async def staged(self, first_pass: int, pass_no: int) -> Staged:
        kept = first_pass == self._history_pass
        return await self.ledger.staged(self.target, first_pass, pass_no, with_history=kept)

    @property
    def _is_first(self) -> bool:
        return not self.summary.scope

    def _origin(self, pass_no: int) -> Origin:
        """
        Say where rows come from, and what of them is history that can be kept at once.

        That is what a first sync's one listing of everything shows at its first pass, and no more: which pass
        has shown a row is not known of what is kept.
        """
        if self._history_pass is None and self._keeps_history:
            self._history_pass = pass_no
        if self._question is not Listed.WINDOW or pass_no != self._history_pass:
            return Origin(self._question, pass_no)
        return Origin(self._question, pass_no, self.server.began_ms(self.now_ms()), self.horizon_ms or 0)

    @property
    def _keeps_history(self) -> bool:
        one_listing = len(window_listings(self.target, self.filters, None)) == 1
        counts = self.rules.counting.count_history
        return self._is_first and self._question is Listed.WINDOW and one_listing and not counts


async def _read_all(reader: Reader, listings: Iterable[Listing]) -> None:
    for listing in listings:
        await reader.read(listing)
