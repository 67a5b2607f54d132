"""
Read a listing whole, although its rows move while it is read and its total may be wrong.

Rows have no known order, and jobs are created, changed and deleted between one page and the next. So an
offset means something else at every request. Four rules make sure of what is read:

- Pages overlap, and the next page has to show a row of the one before. Where it does not, rows in between may
  have been missed, and the gap is read again until the two sides join.
- The pages decide how long a listing is, not its total. A page of as many rows as the server ever gives is
  followed by another request, whatever the total says. So is a first page that is the longest so far.
- The distinct rows of a pass have to agree with the server's total at the pass's beginning or end, or lie
  between the two. Where they do not, the listing is read once more, until a pass agrees or repeats the last.
- Where two passes agree with each other and the total says more, the total counts rows that no page shows.
  This is believed where jobs that the ledger knows have just gone (the total may be late), or where the poll
  before saw the same. Else the poll fails, and the next one decides.

How many rows an answer holds is up to the server: the step goes by the rows that came, never by the limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Set
from dataclasses import dataclass
from typing import Protocol

import structlog

from exporter.errors import ApiError, ContractError
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.ledger import Staged
from exporter.sync.planner import ListFilter
from exporter.sync.server_traits import CLOCK_BLUR_MS, LATE_TOTAL_MS, RowRange, ServerTraits

MAX_PASSES = 5
_MAX_BRIDGES = 6
# So many pages in a row without a new row end a pass.
_MOST_REPEATS = 2


class PageSink(Protocol):
    """Where pages come from and where their rows go, for one listing at a time."""

    traits: ServerTraits

    @property
    def page_size(self) -> int:
        """How many rows to ask for; less than before where the server has refused so many."""

    def now_ms(self) -> int:
        """Our clock."""

    def by_rows(self, at_ms: int) -> int:
        """Give what the clock that stamps the rows showed when ours showed `at_ms`."""

    async def fetch(self, query: ListQuery) -> Page:
        """Ask for one page."""

    async def stage(self, page: Page, offset: int, pass_no: int) -> None:
        """Keep its rows until the poll is recorded."""

    async def staged(self, first_pass: int, pass_no: int, before_ms: int | None = None) -> Staged:
        """Count what the passes of a listing have brought; of the jobs created before a time, or of all."""

    async def gone(self, listing: ListFilter) -> int:
        """Count the jobs that the ledger lists among these and no page has shown."""

    def believed_surplus(self) -> int:
        """How many rows the totals of this listing are known to count and no page shows."""

    def surplus_is(self, rows: int) -> None:
        """Note that a whole listing lacks only so many of the rows that its total counts."""

    def saw_surplus(self, rows: RowRange) -> bool:
        """Note that the total counts more rows than the pages show; tell whether that is believed."""

    def saw_low_total(self) -> None:
        """Note that the pages show more rows than the total counts."""


@dataclass(frozen=True, slots=True)
class _PageSpan:
    """The rows of one answer: where they stood, how many they were, and which were created when."""

    offset: int
    rows: int
    created_ms: Mapping[int, int]
    total: int | None

    @property
    def ids(self) -> Set[int]:
        return self.created_ms.keys()

    def brings_rows(self, left: _PageSpan, before_ms: int) -> bool:
        """Tell whether it shows a job that the page before does not, and that was there at a time."""
        return any(job_id not in left.ids for job_id, at_ms in self.created_ms.items() if at_ms < before_ms)

    @property
    def end(self) -> int:
        return self.offset + self.rows


@dataclass(slots=True)
class ListingPass:
    """
    One pass.

    Shape: the server's totals at its two ends, None if it gives none; `joined` if every page showed a row of
    the one before; `contradicted` if a page is empty where there are rows, or repeats the one before;
    `is_empty` if the first page is.
    Units: `began_ms` by the clock of the rows.
    """

    first_total: int | None
    last_total: int | None
    joined: bool = True
    contradicted: bool = False
    is_empty: bool = False
    began_ms: int = 0

    @property
    def totals(self) -> tuple[int, int] | None:
        """The smaller and the larger of the two totals; None where one did not come."""
        if self.first_total is None or self.last_total is None:
            return None
        low, high = sorted((self.first_total, self.last_total))
        return low, high


@dataclass(slots=True)
class _Pass:
    """
    A pass under way.

    Shape: `left` is the last page with news, `covered` the row that the pages reach to, `repeats` how many
    pages in a row brought nothing new, `beyond` how many pages to ask for though the total calls for none.
    """

    listing: ListFilter
    walk: ListingPass
    first: _PageSpan
    left: _PageSpan
    covered: int
    beyond: int
    repeats: int = 0


class Paginator:
    """
    Reads the listings of one poll, with `concurrency` requests under way.

    Shape: `checks_lengths` makes sure of every first page with one more request. A listing that broke off
    goes on where it stood when it is read again.
    Raises: ContractError where a listing never comes to agree with itself; what `Rows` raises.
    """

    def __init__(self, rows: PageSink, concurrency: int, *, checks_lengths: bool = False) -> None:
        self.checks_lengths = checks_lengths
        self._rows = rows
        self._concurrency = concurrency
        self._requests = asyncio.Semaphore(concurrency)
        self._pass = 0
        self._broken: _Pass | None = None

    async def read(self, listing: ListFilter) -> None:
        """Stage every row of a listing."""
        first_pass = self._pass + 1 if self._broken_off(listing) is None else self._pass
        walk_before: ListingPass | None = None
        before: Staged | None = None
        surplus = self._rows.believed_surplus()
        for _ in range(MAX_PASSES):
            walk = await self._walk(listing)
            staged = await self._rows.staged(first_pass, self._pass)
            if is_complete(walk, staged, before, surplus) or (
                walk_before is not None and await self._is_surplus(listing, walk_before, walk, first_pass)
            ):
                await self._learn(walk, staged, first_pass)
                return
            walk_before, before = walk, staged
        if walk.contradicted or not walk.joined or _is_short(walk, staged, surplus):
            raise ContractError(
                f"payload.list: {MAX_PASSES} readings brought {staged.in_all} rows and no complete listing: "
                f"page_info.total says {walk.last_total}"
            )
        structlog.get_logger().debug(
            "listing does not agree with its total", rows=staged.in_pass, total=walk.last_total
        )
        await self._learn(walk, staged, first_pass)

    async def _is_surplus(
        self, listing: ListFilter, before: ListingPass, walk: ListingPass, first_pass: int
    ) -> bool:
        """
        Tell whether the total counts rows that are not there to be shown, and whether that is believed.

        Only the jobs created before the first of the two passes are compared: what a busy project does
        meanwhile says nothing. Raises: ContractError where the surplus is there and not believed yet.
        """
        if not (before.joined and walk.joined) or before.first_total is None or walk.contradicted:
            return False
        early = await self._rows.staged(first_pass, self._pass, before.began_ms - CLOCK_BLUR_MS)
        late = await self._rows.staged(first_pass, self._pass, before.began_ms + CLOCK_BLUR_MS)
        rows = RowRange(before.first_total - late.in_all, before.first_total - early.in_all)
        if early.in_pass != early.repeated or rows.most <= 0:
            return False
        gone = await self._rows.gone(listing)
        if walk.is_empty and gone:
            return False  # an empty answer by a fault must not make all jobs look deleted
        if rows.least <= gone or self._rows.saw_surplus(rows):
            return True
        raise ContractError(
            f"payload.list: two readings agree, and page_info.total says {before.first_total}, "
            f"{rows.least} more than the rows that came: believed if the next poll finds the same"
        )

    async def _learn(self, walk: ListingPass, staged: Staged, first_pass: int) -> None:
        """Take note of a total that does not come, or that is less than the rows that were there before."""
        if walk.totals is None:
            self._rows.saw_low_total()
            return
        low, high = walk.totals
        self._rows.surplus_is(max(low - staged.in_all, 0))
        if staged.in_pass > high:
            old = await self._rows.staged(first_pass, self._pass, walk.began_ms - LATE_TOTAL_MS)
            if old.in_pass > high:
                self._rows.saw_low_total()

    async def _walk(self, listing: ListFilter) -> ListingPass:
        pass_ = self._broken_off(listing)
        if pass_ is None:
            self._pass += 1
            pass_ = await self._begin(listing)
        walk, self._broken = pass_.walk, None
        # More pages than requests: while some are staged, the others are asked for.
        pages = _Prefetcher(lambda offset: self._take(listing, offset), pass_, 2 * self._concurrency)
        try:
            while (right := await pages.next(walk.last_total)) is not None:
                walk.last_total = right.total
                if right.ids <= pass_.left.ids:
                    walk.contradicted = self._contradicts(pass_.left, right)
                    # The end, whatever the total says; or a page full of new rows has come in front.
                    pass_.repeats += 1
                    pass_.covered = right.end
                    if walk.contradicted or pass_.repeats == _MOST_REPEATS or not right.rows:
                        break
                    pass_.beyond = 0
                    continue
                # What came since the pass began says nothing about how many rows a page can have.
                follows = right.brings_rows(pass_.left, walk.began_ms - CLOCK_BLUR_MS)
                if follows and pass_.left is pass_.first:
                    self._rows.traits = self._rows.traits.with_limit(pass_.first.rows)
                walk.joined = await self._join(listing, pass_.left, right) and walk.joined
                pass_.left, pass_.covered, pass_.repeats = right, right.end, 0
                pass_.beyond = self._pages_beyond(right) if follows else 0
        except ApiError:
            self._broken = pass_
            raise
        finally:
            await pages.close()
        return walk

    def _broken_off(self, listing: ListFilter) -> _Pass | None:
        """Give the pass over this listing that broke off and can go on; None where none did."""
        return self._broken if self._broken is not None and self._broken.listing == listing else None

    async def _begin(self, listing: ListFilter) -> _Pass:
        began_ms = self._rows.now_ms()
        first = await self._take(listing, 0)
        # What the clock of the rows is known to show, this first answer may be the first to tell.
        began_ms = self._rows.by_rows(began_ms)
        walk = ListingPass(first.total, first.total, is_empty=not first.rows, began_ms=began_ms)
        is_news = self.checks_lengths or first.rows > self._rows.traits.longest_page
        self._rows.traits = self._rows.traits.with_first_page(first.rows)
        beyond = int(bool(first.rows) and (is_news or self._is_full(first)))
        return _Pass(listing, walk, first, first, covered=first.rows, beyond=beyond)

    def _contradicts(self, left: _PageSpan, right: _PageSpan) -> bool:
        """Tell whether a page that brings nothing new cannot be the end of the list."""
        if not right.rows:
            return right.offset < min(left.end, right.total or 0)  # where it overlaps there are rows
        return self._is_full(right)  # the offset was ignored

    def _is_full(self, page: _PageSpan) -> bool:
        """Tell whether a page has as many rows as a page of this server can have, so that more may follow."""
        limit = self._rows.traits.page_limit
        return page.rows >= (self._rows.page_size if limit is None else min(limit, self._rows.page_size))

    def _pages_beyond(self, page: _PageSpan) -> int:
        """Tell how many pages to ask for after this one where the total calls for none."""
        if not self._is_full(page):
            return 0
        return 2 * self._concurrency if page.total is None or page.end > page.total else 1

    async def _join(self, listing: ListFilter, left: _PageSpan, right: _PageSpan) -> bool:
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

    async def _take(self, listing: ListFilter, offset: int) -> _PageSpan:
        async with self._requests:
            page = await self._rows.fetch(listing.page(offset, self._rows.page_size))
        await self._rows.stage(page, offset, self._pass)
        created_ms = {job.id: job.created_ms for job in page.jobs}
        created_ms |= {row.job_id: row.created_ms or 0 for row in page.set_apart if row.job_id is not None}
        return _PageSpan(offset, page.rows, created_ms, page.total)


class _Prefetcher:
    """The pages after those that a pass has covered, in their order, `most` of them being read ahead."""

    def __init__(
        self, take: Callable[[int], Coroutine[None, None, _PageSpan]], pass_: _Pass, most: int
    ) -> None:
        self._take = take
        self._pass = pass_
        self._rows = pass_.first.rows
        self._covered = pass_.covered
        self._most = most
        self._under_way: deque[asyncio.Task[_PageSpan]] = deque()

    async def next(self, total: int | None) -> _PageSpan | None:
        """Give the next page; None once the pages cover `total` rows, and those wanted beyond have come."""
        while self._rows and self._covered < (total or 0) and len(self._under_way) < self._most:
            self._ask()
        while len(self._under_way) < self._pass.beyond:
            self._ask()
        if not self._under_way:
            return None
        page = await self._under_way.popleft()
        self._rows = max(self._rows, page.rows)
        return page

    def _ask(self) -> None:
        offset = max(self._covered, self._pass.covered) - overlap(self._rows)
        self._covered = offset + self._rows
        self._under_way.append(asyncio.create_task(self._take(offset)))

    async def close(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)


def overlap(rows: int) -> int:
    """Give how many rows of a page the next one repeats: a twentieth, at least one if that leaves a step."""
    return max(rows // 20, min(rows - 1, 1))


def is_complete(walk: ListingPass, staged: Staged, before: Staged | None, surplus: int = 0) -> bool:
    """
    Tell whether a pass has shown every row that was there all the while.

    A pass is believed if its pages join and its rows agree with the total, where there is one; if all passes
    together agree with a total that did not move; or if it showed the very rows of the pass before. Fewer
    rows than the total says are not believed, but for the `surplus` that is known of it.
    """
    if walk.contradicted or _is_short(walk, staged, surplus):
        return False
    if walk.totals is None:
        agrees = walk.joined
    else:
        low, high = walk.totals
        agrees = (walk.joined and low - surplus <= staged.in_pass <= high) or (
            low == high and high - surplus <= staged.in_all <= high
        )
    same_again = before is not None and staged.in_pass == before.in_pass == staged.repeated
    return agrees or same_again


def _is_short(walk: ListingPass, staged: Staged, surplus: int) -> bool:
    return walk.totals is not None and staged.in_all < walk.totals[0] - surplus
