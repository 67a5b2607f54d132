"""
Read a listing whole, although its rows move while it is read.

Rows have no known order, and jobs are created, changed and deleted between one page and the next, so an
offset means something else at every request. What is read is made sure of in three ways:

- Pages overlap, and the next page has to show a row of the one before. Where it does not, rows in between may
  have slipped through, and the gap is read again until the two sides join.
- The rows of a pass, counted once each, have to agree with the server's own total at its beginning or end, or
  lie between the two.
- Where that is not so, the listing is read once more, until a pass agrees or repeats the one before.

How many rows an answer holds is up to the server: the step goes by the rows that came, never by the limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from exporter.errors import ContractError
from exporter.ledger.protocol import Staged
from exporter.model import Job
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.planner import Listing

MAX_PASSES = 5
_MAX_BRIDGES = 6


class Rows(Protocol):
    """Where pages come from and where their rows go."""

    async def fetch(self, query: ListQuery) -> Page:
        """Ask for one page."""

    async def stage(self, jobs: Sequence[Job], pass_no: int) -> None:
        """Keep its rows until the poll is recorded."""

    async def staged(self, first_pass: int, pass_no: int) -> Staged:
        """Count what the passes of a listing have brought."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The rows of one answer: where they stood, how many they were, and which."""

    offset: int
    rows: int
    ids: frozenset[int]
    total: int | None

    @property
    def end(self) -> int:
        return self.offset + self.rows

    @property
    def contradicted(self) -> bool:
        """Tell whether the answer shows no rows where its own total says there are some."""
        return not self.rows and self.total is not None and self.offset < self.total


@dataclass(slots=True)
class Walk:
    """
    One pass.

    Shape: the server's totals at its two ends, None if it gives none; `joined` if every page showed a row of
    the one before; `contradicted` if an answer was empty where its total says otherwise.
    """

    first_total: int | None
    last_total: int | None
    joined: bool = True
    contradicted: bool = False

    @property
    def least_total(self) -> int:
        return min(self.first_total or 0, self.last_total or 0)


class Reader:
    """
    Reads the listings of one poll, with `concurrency` requests under way.

    Raises: ContractError where a listing never comes to agree with itself; what `Rows` raises.
    """

    def __init__(self, rows: Rows, page_size: int, concurrency: int) -> None:
        self._rows = rows
        self._page_size = page_size
        self._concurrency = concurrency
        self._requests = asyncio.Semaphore(concurrency)
        self._pass = 0

    async def read(self, listing: Listing) -> None:
        """Stage every row of a listing."""
        first_pass = self._pass + 1
        before: Staged | None = None
        for _ in range(MAX_PASSES):
            self._pass += 1
            walk = await self._walk(listing)
            staged = await self._rows.staged(first_pass, self._pass)
            if is_complete(walk, staged, before):
                return
            before = staged
        if walk.contradicted or not walk.joined or staged.in_all < walk.least_total:
            raise ContractError(
                f"payload.list: {MAX_PASSES} readings brought {staged.in_all} rows and no complete listing: "
                f"page_info.total says {walk.last_total}"
            )
        structlog.get_logger().warning(
            "listing does not agree with its total", rows=staged.in_pass, total=walk.last_total
        )

    async def _walk(self, listing: Listing) -> Walk:
        left = await self._take(listing, 0)
        walk = Walk(left.total, left.total, contradicted=left.contradicted)
        if not left.rows:
            return walk
        # More pages than requests: while some are staged, the others are asked for.
        pages = _Ahead(lambda offset: self._take(listing, offset), left, 2 * self._concurrency)
        try:
            while (right := await pages.next(walk.last_total)) is not None and not walk.contradicted:
                walk.last_total = right.total
                walk.contradicted = right.contradicted
                if right.total is None and right.ids <= left.ids:
                    break
                if right.rows:
                    walk.joined = await self._join(listing, left, right) and walk.joined
                    left = right
        finally:
            await pages.close()
        return walk

    async def _join(self, listing: Listing, left: _Stretch, right: _Stretch) -> bool:
        """Tell whether no row can stand between two pages, reading what does where there may be one."""
        for _ in range(_MAX_BRIDGES):
            if left.ids & right.ids:
                return True
            half = max(left.rows, right.rows) // 2
            bridge = await self._take(listing, max(min(left.end, right.offset) - half, 0))
            if not bridge.ids & left.ids:
                return False
            left = bridge
        return False

    async def _take(self, listing: Listing, offset: int) -> _Stretch:
        async with self._requests:
            page = await self._rows.fetch(listing.page(offset, self._page_size))
        await self._rows.stage(page.jobs, self._pass)
        return _Stretch(offset, len(page.jobs), frozenset(job.id for job in page.jobs), page.total)


class _Ahead:
    """The pages after the first, in their order, `most` of them being read ahead."""

    def __init__(
        self, take: Callable[[int], Coroutine[None, None, _Stretch]], first: _Stretch, most: int
    ) -> None:
        self._take = take
        self._overlap = overlap(first.rows)
        self._step = first.rows - self._overlap
        self._covered = first.rows
        self._most = most
        self._under_way: deque[asyncio.Task[_Stretch]] = deque()

    async def next(self, total: int | None) -> _Stretch | None:
        """Give the next page; None once the pages cover `total` rows. Without a total there is always one."""
        while len(self._under_way) < self._most and (total is None or self._covered < total):
            self._covered += self._step
            offset = self._covered - self._step - self._overlap
            self._under_way.append(asyncio.create_task(self._take(offset)))
        return await self._under_way.popleft() if self._under_way else None

    async def close(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)


def overlap(rows: int) -> int:
    """Give how many rows of a page the next one repeats: a twentieth, at least one if that leaves a step."""
    return max(rows // 20, min(rows - 1, 1))


def is_complete(walk: Walk, staged: Staged, before: Staged | None) -> bool:
    """
    Tell whether a pass has shown every row that was there all the while.

    A pass is believed if its pages join and its rows agree with the total, where there is one; if all passes
    together agree with a total that did not move; or if it showed the very rows of the pass before. Fewer
    rows than the total says are never believed.
    """
    if walk.contradicted or staged.in_all < walk.least_total:
        return False
    if walk.first_total is None or walk.last_total is None:
        agrees = walk.joined
    else:
        low, high = sorted((walk.first_total, walk.last_total))
        agrees = (walk.joined and low <= staged.in_pass <= high) or low == high == staged.in_all
    same_again = before is not None and staged.in_pass == before.in_pass == staged.repeated
    return agrees or same_again
