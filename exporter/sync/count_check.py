"""
Whether the ledger lists as many jobs as the API says there are; implements deletions.Counts.

Jobs created since the poll began are the next poll's. They are subtracted, but only where there is a
difference: a poll of a quiet target costs one request here.
"""

from __future__ import annotations

from exporter.sync.change_reader import ChangeReader
from exporter.sync.deletions import find_deleted
from exporter.sync.ledger import Ledger
from exporter.sync.planner import count_difference, job_query, window_filters

# Of more missing jobs than this everything is read anew.
_MOST_DELETED = 20
_A_DAY_MS = 86_400_000
# A job that comes between two requests makes them contradict each other once.
_LOOKS = 3


class CountCheck:
    """
    Compares the API's totals with what one poll has recorded.

    Raises: ApiError, LedgerError; FilterFailed where a filter turns out not to work.
    """

    def __init__(self, reading: ChangeReader, ledger: Ledger) -> None:
        self._reading = reading
        self._target = reading.target
        self._ledger = ledger
        self._is_busy = False
        self._recent: int | None = None

    async def difference(self) -> int:
        """
        Give how many jobs the API lists more than the ledger, of those created before the poll began.

        Where the API gives no total, nothing is known to differ from what the last full sync left.
        """
        known = self._reading.traits.difference
        whole = await self._of_all()
        if whole is None:
            self._reading.findings.total_is_low = True
            return known
        if whole == known:
            return known
        if await self._may_be_nameless(whole - known):
            return known
        recent, again = await self._since(self._began_ms), await self._of_all()
        if recent is None or again is None:
            return known
        self._is_busy, self._recent = recent != 0, recent
        if recent:
            # A server that counts too many everywhere counts them even where no job can be.
            recent -= await self._total(self._began_ms + _A_DAY_MS) or 0
        return known + count_difference(whole - known, recent, again - known)

    async def find_deleted(self, missing: int, most_requests: int) -> tuple[int, ...] | None:
        """Name the finished jobs that the API does not list any more; None where they are not found."""
        if not 0 < missing <= _MOST_DELETED or not self._reading.filters.id:
            return None
        if self._reading.unreadable.has_nameless:
            return None  # that row may be the missing job
        start_ms = self._reading.horizon_ms or await self._ledger.oldest_created(self._target)
        return await find_deleted(self, start_ms, self._began_ms + 1, missing, most_requests)

    # -- deletions.Counts --------------------------------------------------------------------------------

    async def difference_since(self, start_ms: int) -> int | None:
        """Give the difference of the jobs created since, without those created since the poll began."""
        for _ in range(_LOOKS):
            some = await self._since(start_ms)
            if some is None or not self._is_busy:
                return some
            # A job that came between the two requests would be in one of them only.
            before, self._recent = self._recent, await self._since(self._began_ms)
            if self._recent is not None and self._recent == before:
                return some - self._recent
        return None

    async def listed_between(self, start_ms: int, end_ms: int, most: int) -> tuple[int, ...]:
        return await self._ledger.finished_between(self._target, start_ms, end_ms, most)

    async def is_deleted(self, job_id: int) -> bool:
        page = await self._reading.fetch(job_query(job_id))
        return not page.rows

    async def _may_be_nameless(self, difference: int) -> bool:
        """
        Tell whether rows without a readable id or status explain a difference.

        Each may be the row of a job that the ledger still lists, and then it is counted on both sides.
        """
        if difference > 0:
            return False
        set_apart = await self._ledger.set_apart_by_status(self._target)
        return -difference <= set_apart.get("", 0)

    @property
    def _began_ms(self) -> int:
        return self._reading.clocks.began_ms(self._reading.now_ms())

    async def _of_all(self) -> int | None:
        horizon_ms = self._reading.horizon_ms
        total = await self._total(horizon_ms)
        return None if total is None else total - await self._ledger.listed_since(self._target, horizon_ms)

    async def _since(self, start_ms: int) -> int | None:
        total = await self._total(start_ms)
        return None if total is None else total - await self._ledger.listed_lately(self._target, start_ms)

    async def _total(self, start_ms: int | None) -> int | None:
        return await self._reading.sum(window_filters(self._target, self._reading.filters, start_ms))
