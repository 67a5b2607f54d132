"""
Check that the ledger lists as many jobs as the API says there are, and find the finished jobs that were
deleted.

No listing of changes shows a finished job that was deleted. The API's total is then less than the ledger's
number, and that is all. But the two can be compared for the jobs created since any time. So halve the span of
creation times until few jobs are left, and ask for each of those by id. One job in a million costs twenty
requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.octopus.wire import ListQuery
from exporter.sync.change_reader import ChangeReader
from exporter.sync.planner import count_difference, list_filters

# Where more jobs are missing than this, everything is read again.
_MAX_DELETED = 20
_DAY_MS = 86_400_000
# A job that is created between two requests makes them contradict each other once.
_ATTEMPTS = 3
# A span with no more jobs than this for each missing one is asked for by id: halving it further costs as
# much.
_JOBS_PER_MISSING = 3
# Servers may compare creation times by the second.
_STEP_MS = 1_000


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """Creation times from `start_ms` to before `end_ms`, of which `missing` jobs are not listed any more."""

    start_ms: int
    end_ms: int
    missing: int

    @property
    def middle_ms(self) -> int:
        return (self.start_ms + self.end_ms) // 2 // _STEP_MS * _STEP_MS

    def halves(self, late: int) -> list[TimeSpan] | None:
        """Split in the middle, where `late` jobs are missing after it; None if there cannot be so many."""
        if not 0 <= late <= self.missing:
            return None
        early = TimeSpan(self.start_ms, self.middle_ms, self.missing - late)
        return [half for half in (early, TimeSpan(self.middle_ms, self.end_ms, late)) if half.missing]


class CountCheck:
    """
    Compares the API's totals with what one poll has recorded.

    Raises: ApiError, LedgerError; FilterFailed where a filter does not work.
    """

    def __init__(self, reader: ChangeReader) -> None:
        self._reader = reader
        self._target = reader.target
        self._ledger = reader.ledger
        self._is_busy = False
        self._recent: int | None = None

    async def difference(self) -> int:
        """
        Give how many jobs the API counts more than the ledger, of those created before the poll began.

        Jobs created later are left to the next poll. They are subtracted only where the totals differ, so
        that a quiet target costs one request. Where the API gives no total, the difference is the one already
        known.
        """
        known = self._reader.server.traits.difference
        whole = await self._difference_of_all()
        if whole is None:
            self._reader.server.total_is_low = True
            return known
        # Rows without a readable id or status may be rows of jobs that the ledger still lists. Such a job is
        # counted on both sides, so as many may be missing in the total.
        statusless = 0
        if whole < known:
            statusless = (await self._ledger.set_apart_by_status(self._target)).get("", 0)
        if known - statusless <= whole <= known:
            return known
        recent, again = await self._difference_since(self._began_ms), await self._difference_of_all()
        if recent is None or again is None:
            return known
        self._is_busy, self._recent = recent != 0, recent
        if recent:
            # A server that always counts too many counts them even in a time in which no job can be.
            recent -= await self._total(self._began_ms + _DAY_MS) or 0
        return known + count_difference(whole - known, recent, again - known)

    async def find_deleted(self, missing: int, max_requests: int) -> tuple[int, ...] | None:
        """
        Name the `missing` finished jobs that the API does not list any more.

        Returns None where they are not found with `max_requests`, or where the numbers contradict each other,
        as they do on a project that deletes many jobs at this moment.
        """
        reader = self._reader
        # A row without an id may be the missing job.
        if not 0 < missing <= _MAX_DELETED or not reader.filters.id or reader.unreadable.has_rows_without_id:
            return None
        start_ms = reader.horizon_ms or await self._ledger.oldest_created(self._target)
        end_ms = -(-(self._began_ms + 1) // _STEP_MS) * _STEP_MS
        spans = [TimeSpan(start_ms // _STEP_MS * _STEP_MS, end_ms, missing)]
        found: list[int] = []
        requests = 0
        while spans:
            span = spans.pop()
            most = _JOBS_PER_MISSING * span.missing
            jobs = await self._ledger.finished_between(self._target, span.start_ms, span.end_ms, most + 1)
            if len(jobs) <= most or span.end_ms - span.start_ms <= _STEP_MS:
                requests += len(jobs)
                if requests > max_requests:
                    return None
                for job_id in jobs:
                    page = await reader.fetch(ListQuery(job_id=job_id, limit=1))
                    found += [] if page.rows else [job_id]
                continue
            requests += 1
            difference = await self._settled_difference_since(span.middle_ms)
            if difference is None or requests > max_requests:
                return None
            # The later half of a span comes first, so what is missing after this span has been found already.
            later = missing - span.missing - sum(earlier.missing for earlier in spans)
            halves = span.halves(-difference - later)
            if halves is None:
                return None
            spans += halves
        return tuple(found) if len(found) == missing else None

    async def _settled_difference_since(self, start_ms: int) -> int | None:
        """Give the difference of the jobs created since, without those created since the poll began."""
        for _ in range(_ATTEMPTS):
            some = await self._difference_since(start_ms)
            if some is None or not self._is_busy:
                return some
            # A job created between the two requests would be in one of them only.
            before, self._recent = self._recent, await self._difference_since(self._began_ms)
            if self._recent is not None and self._recent == before:
                return some - self._recent
        return None

    @property
    def _began_ms(self) -> int:
        return self._reader.clocks.began_ms(self._reader.now_ms())

    async def _difference_of_all(self) -> int | None:
        horizon_ms = self._reader.horizon_ms
        total = await self._total(horizon_ms)
        return None if total is None else total - await self._ledger.listed_since(self._target, horizon_ms)

    async def _difference_since(self, start_ms: int) -> int | None:
        total = await self._total(start_ms)
        return None if total is None else total - await self._ledger.listed_lately(self._target, start_ms)

    async def _total(self, start_ms: int | None) -> int | None:
        reader = self._reader
        return await reader.total(list_filters(self._target, reader.filters, start_ms))
