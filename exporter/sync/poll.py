"""One poll of one target: read what is listed, ask for what is missing, record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from exporter.ledger.protocol import CountingRules, Ledger, Missing, Observation, Staged
from exporter.model import Job, Target, Totals
from exporter.octopus.client import RequestCounter
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.listing import Reader
from exporter.sync.planner import (
    MOST_SINGLE_QUESTIONS,
    Listing,
    belongs,
    in_flight_listings,
    single_question,
    window_listings,
)
from exporter.sync.serverclock import ServerClock


class PageSource(Protocol):
    """Where pages come from: octopus.client, for one poll."""

    async def list_page(self, target: Target, query: ListQuery, counter: RequestCounter) -> Page:
        """Ask for one page, counting every request that takes. Raises: ApiError."""


@dataclass(frozen=True, slots=True)
class PollRules:
    """How a target is read. Units: milliseconds; no `lookback_ms` means no limit."""

    lookback_ms: int | None
    page_size: int
    concurrency: int
    counting: CountingRules


@dataclass(slots=True)
class Poll:
    """
    The state of one poll; implements listing.Rows.

    Shape: `now_ms` is our own clock. Raises from `run`: PollError, and then nothing has been recorded.
    """

    target: Target
    source: PageSource
    ledger: Ledger
    rules: PollRules
    now_ms: Callable[[], int]
    counter: RequestCounter = field(default_factory=RequestCounter)
    server: ServerClock = field(default_factory=ServerClock)
    horizon_ms: int | None = None

    async def run(self) -> Totals:
        """Read everything, then record it in one transaction."""
        await self.ledger.begin(self.target)
        reader = Reader(self, self.rules.page_size, self.rules.concurrency)
        if self.rules.lookback_ms is not None:
            await _read(reader, in_flight_listings(self.target))
            # Known only now: the lookback goes by the server's clock.
            self.horizon_ms = max(self.server.now_ms(self.now_ms()) - self.rules.lookback_ms, 0)
        window = window_listings(self.target, self.horizon_ms)
        await _read(reader, window)
        await self._look_for_missing(reader, window)
        return await self.ledger.record(self._observation(), self.rules.counting)

    async def fetch(self, query: ListQuery) -> Page:
        sent_ms = self.now_ms()
        page = await self.source.list_page(self.target, query, self.counter)
        self.server.answered(page.server_time_ms, sent_ms)
        return page

    async def stage(self, jobs: Sequence[Job], pass_no: int) -> None:
        wanted = [belongs(self.target, job) for job in jobs]
        await self.ledger.stage(self.target, jobs, wanted, pass_no)

    async def staged(self, first_pass: int, pass_no: int) -> Staged:
        return await self.ledger.staged(self.target, first_pass, pass_no)

    async def _look_for_missing(self, reader: Reader, window: Iterable[Listing]) -> None:
        """
        Make sure that jobs which are known and were not listed are not there any more.

        One that was in flight may have ended outside the lookback; one that had ended may have slipped
        between two pages. Few are asked for by id; for many the window is read once more.
        """
        missing = await self._missing()
        few = missing.terminal if missing.terminal_total <= MOST_SINGLE_QUESTIONS else ()
        told = await self._ask_for((*missing.in_flight, *few))
        if not told or missing.terminal_total > MOST_SINGLE_QUESTIONS:
            await _read(reader, window)

    async def _missing(self) -> Missing:
        return await self.ledger.missing(self.target, self.horizon_ms, MOST_SINGLE_QUESTIONS)

    async def _ask_for(self, job_ids: Sequence[int]) -> bool:
        """Stage each of these jobs that is still there; False where the server does not filter by id."""
        told = True
        for at in range(0, len(job_ids), self.rules.concurrency):
            some = job_ids[at : at + self.rules.concurrency]
            told &= all(await asyncio.gather(*(self._ask_for_one(job_id) for job_id in some)))
        return told

    async def _ask_for_one(self, job_id: int) -> bool:
        page = await self.fetch(single_question(self.target, job_id))
        await self.stage([job for job in page.jobs if job.id == job_id], 0)
        return not page.jobs or any(job.id == job_id for job in page.jobs)

    def _observation(self) -> Observation:
        now_ms = self.now_ms()
        return Observation(
            target=self.target,
            began_ms=self.server.began_ms(now_ms),
            server_now_ms=self.server.now_ms(now_ms),
            now_ms=now_ms,
            horizon_ms=self.horizon_ms,
        )


async def _read(reader: Reader, listings: Iterable[Listing]) -> None:
    for listing in listings:
        await reader.read(listing)
