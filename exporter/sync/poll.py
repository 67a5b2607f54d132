"""One poll of one target: choose what to read, read it, ask for what is missing, record; then audit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from exporter.errors import ContractError, PollError
from exporter.ledger.protocol import (
    CountingRules,
    Ledger,
    Listed,
    Observation,
    Origin,
    Staged,
    Summary,
)
from exporter.model import Job, Progress, Target, Totals
from exporter.octopus.client import RequestCounter
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.filters import FILTERS, FilterFailed, Filters, blamed, ignored
from exporter.sync.listing import Reader
from exporter.sync.planner import (
    MOST_SINGLE_QUESTIONS,
    Listing,
    Schedule,
    added_up,
    audit_is_due,
    audited_statuses,
    belongs,
    cuts,
    full_sync_reason,
    in_flight_listings,
    is_foreign,
    is_large,
    is_small,
    judge,
    may_sync_again,
    single_question,
    status_listings,
    window_listings,
    window_start,
)
from exporter.sync.serverclock import ServerClock

# How often a difference has to come out the same before it is one that stays.
_PROOFS = 2


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
class Poll:
    """
    The state of one poll; implements listing.Rows.

    Shape: `now_ms` is our own clock; `catching_up` if no poll of this process came before, or the last one
    failed; `full_sync` is the reason why everything is read, None where nothing calls for it; `on_progress`
    is told while a full sync lists.
    Raises from `run` and `audit`: PollError, and then nothing has been recorded.
    """

    target: Target
    source: PageSource
    ledger: Ledger
    rules: PollRules
    now_ms: Callable[[], int]
    on_progress: Callable[[Progress], None] = lambda progress: None
    progress: Progress = field(default_factory=Progress)
    counter: RequestCounter = field(default_factory=RequestCounter)
    summary: Summary = field(init=False)
    filters: Filters = field(init=False)
    totals: Totals = field(init=False)
    server: ServerClock = field(default_factory=ServerClock)
    horizon_ms: int | None = None
    full_sync: str | None = None
    everything: bool = False
    catching_up: bool = False
    followed_up: bool = False
    _question: Listed = Listed.WINDOW

    async def run(self) -> Totals:
        """Read what may have changed, or everything, then record it in one transaction."""
        self.summary = await self.ledger.summary(self.target)
        before = self.summary.filters
        self.filters = before.tried_again(self.now_ms())
        await self._read_and_record()
        if not self.everything:
            await self._prove_if_possible()
        self._say_what_is_given_up(before)
        return self.totals

    async def _prove_if_possible(self) -> None:
        """Prove the poll. It is complete and recorded, so it stands where the API will not help with that."""
        try:
            try:
                await self._prove()
            except FilterFailed as failed:
                self.filters = self.filters.without(failed.name, self.now_ms())
                await self._read_again()
        except PollError as exc:
            structlog.get_logger().warning(
                "poll not proved",
                project=self.target.project,
                workspace=self.target.workspace,
                reason=exc.reason,
                error=str(exc),
            )

    async def _prove(self) -> None:
        """
        Make sure that the ledger now lists as many jobs as the API says there are.

        A job that came or went just now makes a difference that is gone, or another, when the changes are
        read once more. One that stays is a change that no question about changes shows, such as a finished
        job that was deleted: then everything is read.
        """
        difference = await self._difference()
        for _ in range(_PROOFS):
            if difference == 0:
                return
            await self._read_again()
            if await self._difference() != difference:
                return
        schedule, page_size = self.rules.schedule, self.rules.page_size
        if may_sync_again(self.summary, schedule, page_size, self.now_ms()):
            await self._read_again("drift")

    async def _difference(self) -> int:
        """Give the API's total of the lookback less the ledger's."""
        total = await self._sum(window_listings(self.target, self.filters, self.horizon_ms))
        return (total or 0) - await self.ledger.listed_since(self.target, self.horizon_ms)

    async def _read_again(self, reason: str | None = None) -> None:
        self.summary = await self.ledger.summary(self.target)
        self.followed_up = True
        await self._read_and_record(reason)

    async def _read_and_record(self, reason: str | None = None) -> None:
        while True:
            await self.ledger.begin(self.target)
            try:
                await self._read(reason)
                break
            except FilterFailed as failed:
                self.filters = self.filters.without(failed.name, self.now_ms())
        self.totals = await self.ledger.record(self._observation(), self.rules.counting)

    async def audit(self) -> Totals | None:
        """Compare the API's own totals with what was just recorded, where that is due; else None."""
        summary, now_ms = await self.ledger.summary(self.target), self.now_ms()
        if not audit_is_due(summary, self.rules.schedule, now_ms) or not self.filters.can_tell_changes:
            return None
        drift = {}
        for status in audited_statuses(summary.invented):
            total = await self._sum(status_listings(self.target, self.filters, status, self.horizon_ms))
            if total is None:
                return None
            drift[status] = total - self.totals.in_status(status)
        result = judge(summary.audit, drift, now_ms)
        return await self.ledger.audited(self.target, result, self.rules.counting)

    async def _sum(self, listings: Iterable[Listing]) -> int | None:
        """Ask how many rows some listings have together; None where the API gives no totals."""
        totals = [(await self.fetch(listing.page(0, 1))).total for listing in listings]
        return added_up(totals)

    # -- reading -----------------------------------------------------------------------------------------

    async def _read(self, reason: str | None = None) -> None:
        reader = Reader(self, self.rules.page_size, self.rules.concurrency)
        # The lookback goes by the server's clock, which the first answer tells.
        await self._read_in_flight(reader)
        self._set_horizon()
        server_ms = self.server.now_ms(self.now_ms())
        self.full_sync = reason or full_sync_reason(
            self.summary,
            self.target,
            self.filters,
            self.rules.schedule,
            self.now_ms(),
            server_ms,
            catching_up=self.catching_up and not self.followed_up,
            many=is_large(self.summary, self.rules.page_size),
        )
        if self.full_sync is not None:
            await self._check_job_types()
        self.everything = self.full_sync is not None or is_small(self.summary, self.rules.page_size)
        if self.everything:
            await self._read_window(reader, self.horizon_ms)
            self._set_horizon()
            await self._look_for_missing(reader)
        else:
            await self._read_window(reader, await self._window_start())
            await self._ask_for_vanished(reader)

    async def _read_in_flight(self, reader: Reader) -> None:
        if self.filters.statuses == "none":
            return
        self._question = Listed.IN_FLIGHT
        await _read_all(reader, in_flight_listings(self.target, self.filters, self.summary.invented))

    def _set_horizon(self) -> None:
        lookback_ms = self.rules.schedule.lookback_ms
        if lookback_ms is not None:
            self.horizon_ms = max(self.server.now_ms(self.now_ms()) - lookback_ms, 0)

    async def _read_window(self, reader: Reader, start_ms: int | None) -> None:
        self._question = Listed.WINDOW
        everything = self.filters.statuses == "none"
        await _read_all(reader, window_listings(self.target, self.filters, None if everything else start_ms))
        await self._check_in_flight(reader)

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

    async def _check_job_types(self) -> None:
        """Make sure that several job types in one filter list as many jobs as each by itself."""
        types = self.target.job_types
        if len(types) < 2 or self.filters.job_types not in ("array", "comma"):
            return
        together = window_listings(self.target, self.filters, self.horizon_ms)
        each = window_listings(self.target, replace(self.filters, job_types="single"), self.horizon_ms)
        for _ in range(2):  # jobs that come in between make a difference once
            totals = await self._sum(together), await self._sum(each)
            if totals[0] is not None and totals[0] == totals[1]:
                return
        raise FilterFailed("job_types")

    async def _window_start(self) -> int:
        base_ms = max(self.summary.watermark_ms - self.rules.schedule.overlap_ms, self.horizon_ms or 0)
        vanished = await self.ledger.vanished(self.target)
        most = (len(vanished) + 1) * self.rules.page_size
        rows = await self.ledger.rows_since(self.target, cuts(vanished), most)
        return window_start(base_ms, vanished, rows, self.rules.page_size, ids_work=self.filters.id)

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
        if not self.summary.scope:
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
            if refused.status == 400 and (name := blamed(query)):
                raise FilterFailed(name) from refused
            raise
        self.server.answered(page.server_time_ms, sent_ms, self.now_ms())
        if self._question is Listed.WINDOW:
            self.progress.total = page.total
        if page.total is None and self.filters.totals:
            raise FilterFailed("totals")
        if self.filters.workspace and any(is_foreign(self.target, job) for job in page.jobs):
            raise FilterFailed("workspace")
        if name := ignored(query, page.jobs):
            raise FilterFailed(name)
        return page

    async def stage(self, jobs: Sequence[Job], pass_no: int) -> None:
        wanted = [belongs(self.target, job) for job in jobs]
        await self.ledger.stage(self.target, jobs, wanted, Origin(self._question, pass_no))
        if self.full_sync is not None and self._question is Listed.WINDOW:
            self.progress.rows += len(jobs)
            self.on_progress(self.progress)

    async def staged(self, first_pass: int, pass_no: int) -> Staged:
        return await self.ledger.staged(self.target, first_pass, pass_no)

    def _say_what_is_given_up(self, before: Filters) -> None:
        for name in FILTERS:
            was, now = getattr(before, name), getattr(self.filters, name)
            if was != now:
                structlog.get_logger().warning(
                    "filter is honoured again" if self.filters.works(name) else "filter is not honoured",
                    project=self.target.project,
                    workspace=self.target.workspace,
                    filter=name,
                    was=was,
                    now=now,
                )

    def _observation(self) -> Observation:
        now_ms = self.now_ms()
        return Observation(
            target=self.target,
            began_ms=self.server.began_ms(now_ms),
            server_now_ms=self.server.now_ms(now_ms),
            now_ms=now_ms,
            horizon_ms=self.horizon_ms,
            full=self.everything,
            filters=self.filters,
            followed_up=self.followed_up,
        )


async def _read_all(reader: Reader, listings: Iterable[Listing]) -> None:
    for listing in listings:
        await reader.read(listing)
