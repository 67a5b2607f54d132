"""
Read a listing whole, although its rows move while it is read and its total may be wrong.

The order of the rows is not documented, and jobs are created, changed and deleted between two requests. So
the same offset means another row at each request. Four rules make sure that no row is missed:

- Pages overlap, and each page has to show a row of the page before. Where it does not, rows between the two
  may have been missed, and the gap is read again until the two pages join.
- The pages decide where a listing ends, not its total. A page with as many rows as the server ever gives is
  followed by another request, whatever the total says. So is a first page that is the longest so far.
- The number of distinct rows in a pass has to lie between the server's totals at the pass's beginning and
  end. Where it does not, the listing is read again, until a pass agrees or repeats the pass before.
- Where two passes agree with each other and the total says more, the total counts rows that no page shows.
  This is believed where jobs that the ledger lists have just disappeared (the total may be late), or where
  the poll before saw the same. Otherwise the poll fails, and the next one decides.

The server decides how many rows an answer holds: the next offset follows from the rows that came, never from
the limit that was asked for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Set
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from exporter.errors import ApiError, ContractError
from exporter.octopus.concurrency import Concurrency
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.ledger import FoundBy, Staged
from exporter.sync.planner import ListFilter, ListRequest
from exporter.sync.server_traits import CLOCK_BLUR_MS, LATE_TOTAL_MS, RowRange, ServerFindings

MAX_PASSES = 5
_MAX_BRIDGES = 6
# So many pages in a row without a new row end a pass.
_MAX_REPEATS = 2


class PageSink(Protocol):
    """Where pages come from and where their rows go: change_reader.ChangeReader."""

    def now_ms(self) -> int:
        """Give the time by our own clock."""

    def row_time_ms(self, at_ms: int) -> int:
        """Give what the clock that stamps the rows showed when our own clock showed `at_ms`."""

    async def fetch(self, query: ListQuery) -> Page:
        """Ask for one page."""

    async def stage(self, page: Page, found_by: FoundBy, offset: int, pass_no: int) -> None:
        """Keep the rows of a page until the poll is recorded."""

    async def staged(self, first_pass: int, pass_no: int, before_ms: int | None = None) -> Staged:
        """Count the rows that these passes brought; with `before_ms` only of jobs created before it."""

    async def gone(self, list_filter: ListFilter) -> int:
        """Count the jobs that the ledger lists under this filter and no page has shown."""


@dataclass(frozen=True, slots=True)
class PageSpan:
    """One answer: the offset it was asked for, how many rows came, and their creation times by job id."""

    offset: int
    rows: int
    created_ms: Mapping[int, int]
    total: int | None

    @property
    def ids(self) -> Set[int]:
        return self.created_ms.keys()

    @property
    def end(self) -> int:
        return self.offset + self.rows


@dataclass(slots=True)
class ListingPass:
    """
    One pass over a listing, from its first page on.

    Shape: `newest` is the last page that brought a new row; `covered` is the offset that the pages reach to;
    `repeats` counts the pages in a row that brought no new row; `extra_pages` is how many pages to ask for
    though the total does not call for them; `last_total` is the total of the page that came last; `joined` if
    every page showed a row of the page before; `contradicted` if a page is empty where rows must be, or
    repeats the page before it.
    Units: `began_ms` by the clock of the rows.
    """

    request: ListRequest
    began_ms: int
    first: PageSpan
    newest: PageSpan
    covered: int
    extra_pages: int
    last_total: int | None
    repeats: int = 0
    joined: bool = True
    contradicted: bool = False

    @property
    def totals(self) -> tuple[int, int] | None:
        """The smaller and the larger of the totals at the two ends; None where one did not come."""
        if self.first.total is None or self.last_total is None:
            return None
        low, high = sorted((self.first.total, self.last_total))
        return low, high


class Paginator:
    """
    Reads the listings of one poll, with as many requests at a time as `concurrency` allows.

    Shape: with `checks_lengths` every first page is followed by one more request. A listing that was
    interrupted by a failed request continues where it stood when it is read again.
    Raises: ContractError where a listing never agrees with itself; what `sink` raises.
    """

    def __init__(
        self,
        sink: PageSink,
        server: ServerFindings,
        page_size: int,
        concurrency: Concurrency,
        *,
        checks_lengths: bool = False,
    ) -> None:
        self.checks_lengths = checks_lengths
        self._sink = sink
        self._server = server
        self._page_size = page_size
        self._concurrency = concurrency
        self._pass_no = 0
        self._interrupted: ListingPass | None = None

    async def read(self, request: ListRequest) -> None:
        """Stage every row of a listing."""
        interrupted = self._interrupted
        continues = interrupted is not None and interrupted.request == request
        first_pass = self._pass_no if continues else self._pass_no + 1
        surplus = self._server.traits.surplus(in_flight=request.in_flight)
        before: ListingPass | None = None
        staged_before: Staged | None = None
        for _ in range(MAX_PASSES):
            this = await self._read_pass(request, interrupted if continues else None)
            continues = False
            staged = await self._sink.staged(first_pass, self._pass_no)
            if is_complete(this, staged, staged_before, surplus):
                break
            if before is not None and await self._total_is_high(before, this, first_pass):
                break
            before, staged_before = this, staged
        else:
            if this.contradicted or not this.joined or _is_short(this, staged, surplus):
                raise ContractError(
                    f"payload.list: {MAX_PASSES} readings brought {staged.in_all} rows and no complete "
                    f"listing: page_info.total says {this.last_total}"
                )
            # No row can be missing, so a total that never agrees does not fail the poll.
            structlog.get_logger().debug(
                "listing does not agree with its total", rows=staged.in_pass, total=this.last_total
            )
        await self._compare_total(this, staged, first_pass)

    async def _total_is_high(self, before: ListingPass, this: ListingPass, first_pass: int) -> bool:
        """
        Tell whether the total counts rows that no page shows, and whether that is believed.

        Only the jobs created before the first of the two passes are compared, since a busy project creates
        others meanwhile. Raises: ContractError where the total is too high and that is not believed yet.
        """
        if not (before.joined and this.joined) or before.first.total is None or this.contradicted:
            return False
        early = await self._sink.staged(first_pass, self._pass_no, before.began_ms - CLOCK_BLUR_MS)
        late = await self._sink.staged(first_pass, self._pass_no, before.began_ms + CLOCK_BLUR_MS)
        rows = RowRange(before.first.total - late.in_all, before.first.total - early.in_all)
        if early.in_pass != early.repeated or rows.most <= 0:
            return False
        gone = await self._sink.gone(this.request.filter)
        if not this.first.rows and gone:
            return False  # an empty answer by a fault must not make all jobs look deleted
        if rows.least <= gone or self._server.confirm_surplus(rows, in_flight=this.request.in_flight):
            return True
        raise ContractError(
            f"payload.list: two readings agree, and page_info.total says {before.first.total}, "
            f"{rows.least} more than the rows that came: believed if the next poll finds the same"
        )

    async def _compare_total(self, this: ListingPass, staged: Staged, first_pass: int) -> None:
        """Note a total that is missing, that is too low, or that is less too high than it was before."""
        if this.totals is None:
            self._server.total_is_low = True
            return
        low, high = this.totals
        if this.request.is_whole:
            self._server.lower_surplus(max(low - staged.in_all, 0), in_flight=this.request.in_flight)
        if staged.in_pass > high:
            # Rows that have just been created may be missing in a total that is only late.
            old = await self._sink.staged(first_pass, self._pass_no, this.began_ms - LATE_TOTAL_MS)
            self._server.total_is_low |= old.in_pass > high

    async def _read_pass(self, request: ListRequest, interrupted: ListingPass | None) -> ListingPass:
        """Read the pages of a listing once, or the rest of them where the pass was interrupted."""
        this = interrupted or await self._begin_pass(request)
        self._interrupted = None
        pages = Prefetcher(lambda offset: self._take(request, offset), this, self._concurrency)
        try:
            while (page := await pages.next(this.last_total)) is not None:
                this.last_total = page.total
                if page.ids <= this.newest.ids:
                    # This is the end, whatever the total says, unless a page full of new jobs has come in
                    # front and moved the others on: so one more page is read before the pass ends.
                    this.repeats += 1
                    this.covered = page.end
                    if page.rows:
                        this.contradicted = self._is_full(page)  # as many rows again: the offset was ignored
                    else:
                        # Pages overlap, so a page that begins before the end of the other cannot be empty.
                        this.contradicted = page.offset < min(this.newest.end, page.total or 0)
                    if this.contradicted or this.repeats == _MAX_REPEATS or not page.rows:
                        break
                    this.extra_pages = 0
                    continue
                # A row created since the pass began says nothing about how many rows a page can have.
                since_ms = this.began_ms - CLOCK_BLUR_MS
                follows = any(
                    job_id not in this.newest.ids
                    for job_id, created_ms in page.created_ms.items()
                    if created_ms < since_ms
                )
                if follows and this.newest is this.first:
                    self._server.traits = replace(self._server.traits, page_limit=this.first.rows)
                this.joined = await self._join(request, this.newest, page) and this.joined
                this.newest, this.covered, this.repeats = page, page.end, 0
                this.extra_pages = 0
                if follows and self._is_full(page):
                    # The total calls for no more pages, or for none at all: the pages decide.
                    beyond = page.total is None or page.end > page.total
                    this.extra_pages = 2 * self._concurrency.limit if beyond else 1
        except ApiError:
            self._interrupted = this
            raise
        finally:
            await pages.close()
        return this

    async def _begin_pass(self, request: ListRequest) -> ListingPass:
        self._pass_no += 1
        self._concurrency.begin_listing()
        began_ms = self._sink.now_ms()
        first = await self._take(request, 0)
        # Only now: this may be the first answer, and the answers show how far the clock of the rows is ahead.
        began_ms = self._sink.row_time_ms(began_ms)
        traits = self._server.traits
        self._server.traits = traits.with_first_page(first.rows)
        checks = self.checks_lengths or first.rows > traits.longest_page or self._is_full(first)
        extra_pages = int(bool(first.rows) and checks)
        return ListingPass(request, began_ms, first, first, first.rows, extra_pages, first.total)

    def _is_full(self, page: PageSpan) -> bool:
        """Tell whether a page has as many rows as a page of this server can have, so that more may follow."""
        limit = self._server.traits.page_limit
        asked = self._server.traits.allowed_page(self._page_size)
        return page.rows >= (asked if limit is None else min(limit, asked))

    async def _join(self, request: ListRequest, left: PageSpan, right: PageSpan) -> bool:
        """Tell whether no row can stand between two pages, reading the pages between them where one may."""
        for _ in range(_MAX_BRIDGES):
            if left.ids & right.ids:
                return True
            half = max(left.rows, right.rows) // 2
            bridge = await self._take(request, max(min(left.end, right.offset) - half, 0))
            if not bridge.ids & left.ids:
                return False
            left = bridge
        return False

    async def _take(self, request: ListRequest, offset: int) -> PageSpan:
        """Ask for one page and stage it."""
        async with self._concurrency.place():
            limit = self._server.traits.allowed_page(self._page_size)
            page = await self._sink.fetch(request.filter.page(offset, limit))
        await self._sink.stage(page, request.found_by, offset, self._pass_no)
        created_ms = {job.id: job.created_ms for job in page.jobs}
        created_ms |= {row.job_id: row.created_ms or 0 for row in page.set_apart if row.job_id is not None}
        return PageSpan(offset, page.rows, created_ms, page.total)


class Prefetcher:
    """
    Asks for the pages after those that a pass has covered, in their order.

    Twice as many at a time as requests: while some are being staged, the others are asked for.
    """

    def __init__(
        self,
        take: Callable[[int], Coroutine[None, None, PageSpan]],
        this: ListingPass,
        concurrency: Concurrency,
    ) -> None:
        self._take = take
        self._pass = this
        self._rows = this.first.rows
        self._asked_to = this.covered
        self._concurrency = concurrency
        self._tasks: deque[asyncio.Task[PageSpan]] = deque()

    async def next(self, total: int | None) -> PageSpan | None:
        """Give the next page; None once the pages cover `total` rows and the extra pages have come."""
        while len(self._tasks) < self._pass.extra_pages or (
            self._rows and self._asked_to < (total or 0) and len(self._tasks) < 2 * self._concurrency.limit
        ):
            offset = max(self._asked_to, self._pass.covered) - overlap(self._rows)
            self._asked_to = offset + self._rows
            self._tasks.append(asyncio.create_task(self._take(offset)))
        if not self._tasks:
            return None
        page = await self._tasks.popleft()
        self._rows = max(self._rows, page.rows)
        return page

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def overlap(rows: int) -> int:
    """Give how many rows of a page the next one repeats: a twentieth, at least one if that leaves a step."""
    return max(rows // 20, min(rows - 1, 1))


def is_complete(this: ListingPass, staged: Staged, before: Staged | None, surplus: int = 0) -> bool:
    """
    Tell whether a pass has shown every row that was listed all the while.

    A pass is believed in three cases: its pages join, and its rows agree with the total if there is one; all
    passes together agree with a total that did not move; or it showed the same rows as the pass before
    (`before` is what was staged then). Fewer rows than the total are not believed, except for the known
    `surplus`.
    """
    if this.contradicted or _is_short(this, staged, surplus):
        return False
    if this.totals is None:
        agrees = this.joined
    else:
        low, high = this.totals
        agrees = (this.joined and low - surplus <= staged.in_pass <= high) or (
            low == high and high - surplus <= staged.in_all <= high
        )
    same_again = before is not None and staged.in_pass == before.in_pass == staged.repeated
    return agrees or same_again


def _is_short(this: ListingPass, staged: Staged, surplus: int) -> bool:
    return this.totals is not None and staged.in_all < this.totals[0] - surplus
