"""
Check by totals that many jobs in flight are as they were, and find the few that are not.

To list 100,000 jobs takes 529 requests, and most of them are as they were at the poll before. So a poll asks
for totals in place of them. A status with few jobs is listed all the same, and so is the window of changes.
Of a large status the API's totals are compared with what the ledger expects:

    total(status) - total(status, created in the window) = jobs expected in it that were created before

Where all large statuses agree, no job has left or entered one of them, unless another did the opposite. Such
*swaps* are seen when all is listed again, within the time that planner.swap_limit_ms gives. Where a status
does not agree, the reason is looked for:

1. Statuses of some pages are listed. Most jobs that leave a large status turn up there.
2. In a large status the span of creation times is halved until few jobs are left. Those are asked for by id.
3. The totals are asked for again and compared. If they still do not agree, or if the search costs more than
   half of a listing, everything in flight is listed.

So the numbers stay exact whatever the totals say: each row that is recorded was read in this poll, and a job
that was not read stays as it was only where its status agreed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from exporter.model import Target
from exporter.octopus.client import RequestCounter
from exporter.sync.ledger import Ledger, Unasked
from exporter.sync.planner import ListFilter, list_filters, listing_cost
from exporter.sync.server_traits import Filters

# A status of no more pages is listed before any other is searched.
_SOME_PAGES = 16
# Jobs change between two requests, so the totals may have to be compared once more.
_ROUNDS = 2
# A span with no more jobs than this for each that has changed is asked for by id.
_JOBS_PER_CHANGE = 3
# Servers may compare creation times by the second.
STEP_MS = 1_000


class InFlightReader(Protocol):
    """Who asks: change_reader.ChangeReader."""

    target: Target
    ledger: Ledger
    filters: Filters
    counter: RequestCounter
    unasked: Unasked

    async def total(self, filters: Iterable[ListFilter]) -> int | None:
        """Ask how many rows some listings have together; None where the API gives no totals."""

    async def ask_for(self, job_ids: Sequence[int]) -> None:
        """Stage each of these jobs that is still listed, and note the others as gone."""

    async def list_statuses(self, statuses: Sequence[str], most: int) -> bool:
        """List all jobs in some statuses, and ask for those that left, up to `most`; False if more did."""


class _OverBudget(Exception):
    """The search costs more than to list everything."""


@dataclass(slots=True)
class InFlightCheck:
    """
    The check of one poll.

    Shape: `statuses` are the large ones, the smallest first, with the number of jobs in each; `budget` is how
    many requests the search may take.
    Units: `before_ms` is a whole second at or after the start of the window, by the clock of the rows.
    """

    reader: InFlightReader
    statuses: dict[str, int]
    before_ms: int
    page_size: int
    budget: int
    _early: dict[str, int] = field(default_factory=dict)
    _since: dict[tuple[str, int], int] = field(default_factory=dict)
    _began_at: int = 0

    async def ask_totals(self) -> bool:
        """Ask how many jobs created before the window each large status has; tell whether the API says so."""
        self._early.clear()
        self._since.clear()
        for status in self.statuses:
            whole = await self._total(status, None)
            late = await self._total(status, self.before_ms)
            if whole is None or late is None:
                return False
            self._early[status] = whole - late
            self._since[status, self.before_ms] = late
        return True

    async def agrees(self) -> bool:
        """Tell whether all large statuses agree with their totals, once the changes that show were found."""
        if not await self._differences():
            return True
        self._began_at = self.reader.counter.sent
        some_pages = [
            status for status, jobs in self.statuses.items() if jobs <= _SOME_PAGES * self.page_size
        ]
        if some_pages:
            if not await self.reader.list_statuses(some_pages, self.budget):
                return False
            self.statuses = {name: jobs for name, jobs in self.statuses.items() if name not in some_pages}
        try:
            for _ in range(_ROUNDS):
                if not await self.ask_totals():
                    return False
                if not await self._search_all():
                    return True
            return await self.ask_totals() and not await self._differences()
        except _OverBudget:
            return False

    async def _search_all(self) -> bool:
        """Look for the changes in every status that differs; tell whether there was one."""
        searched = set[str]()
        # What has left one status may explain what another has too many of: so those that lack jobs first.
        while left := {
            name: jobs for name, jobs in (await self._differences()).items() if name not in searched
        }:
            status, difference = min(left.items(), key=lambda item: item[1])
            searched.add(status)
            await self._search(status, difference)
        return bool(searched)

    async def _search(self, status: str, difference: int) -> None:
        """Halve the span of creation times until few jobs are left, and ask for each of them."""
        reader = self.reader
        oldest_ms = await reader.ledger.oldest_in_flight(reader.target, status)
        if difference > 0:  # also an older job that had finished may be in it now
            oldest_ms = min(oldest_ms, await reader.ledger.oldest_created(reader.target) or oldest_ms)
        spans = [(oldest_ms // STEP_MS * STEP_MS, self.before_ms, difference)]
        while spans:
            start_ms, end_ms, changed = spans.pop()
            # What a status has too many of may be any job of the span, also a finished one.
            statuses = (status,) if changed < 0 else ()
            most = _JOBS_PER_CHANGE * abs(changed)
            jobs = await reader.ledger.unstaged_between(
                reader.target, statuses, start_ms, end_ms, max(most, self.budget) + 1
            )
            if len(jobs) <= most or end_ms - start_ms <= STEP_MS:
                self._spend(len(jobs))
                await reader.ask_for(jobs)
                continue
            middle_ms = (start_ms + end_ms) // 2 // STEP_MS * STEP_MS
            late = await self._difference_between(status, middle_ms, end_ms)
            if not min(changed, 0) <= late <= max(changed, 0):
                # A job was created between the two totals, or two changes hide each other.
                self._since.pop((status, middle_ms), None)
                self._since.pop((status, end_ms), None)
                late = await self._difference_between(status, middle_ms, end_ms)
            halves = (start_ms, middle_ms, changed - late), (middle_ms, end_ms, late)
            spans += [half for half in halves if half[2]]

    async def _difference_between(self, status: str, start_ms: int, end_ms: int) -> int:
        """Give how many jobs the API counts more than expected, of those created in a span."""
        numbers = []
        for at_ms in (start_ms, end_ms):
            if (status, at_ms) not in self._since:
                self._spend(1)
                total = await self._total(status, at_ms)
                if total is None:
                    raise _OverBudget
                self._since[status, at_ms] = total
            numbers.append(self._since[status, at_ms])
        return numbers[0] - numbers[1] - (await self._expected((status,), start_ms, end_ms))[status]

    async def _differences(self) -> dict[str, int]:
        """Give the statuses that differ: how many jobs the API counts more, created before the window."""
        expected = await self._expected(tuple(self.statuses), 0, self.before_ms)
        differences = {status: self._early[status] - jobs for status, jobs in expected.items()}
        return {status: jobs for status, jobs in differences.items() if jobs}

    async def _expected(self, statuses: Sequence[str], start_ms: int, end_ms: int) -> dict[str, int]:
        reader = self.reader
        return await reader.ledger.in_flight_between(
            reader.target, statuses, start_ms, end_ms, reader.unasked.gone
        )

    async def _total(self, status: str, start_ms: int | None) -> int | None:
        filters = list_filters(self.reader.target, self.reader.filters, start_ms, (status,))
        return await self.reader.total(filters)

    def _spend(self, requests: int) -> None:
        if self.reader.counter.sent - self._began_at + requests > self.budget:
            raise _OverBudget


def in_flight_check(
    reader: InFlightReader, in_flight: dict[str, int], statuses: Sequence[str], start_ms: int, page_size: int
) -> InFlightCheck:
    """Begin a check of large statuses, with a window from `start_ms` on."""
    before_ms = -(-start_ms // STEP_MS) * STEP_MS
    budget = listing_cost(sum(in_flight.values()), page_size) // 2
    return InFlightCheck(reader, {name: in_flight[name] for name in statuses}, before_ms, page_size, budget)
