"""How many requests of a target may be under way at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from exporter.errors import ApiUnavailable, RateLimited

MOST_AT_ONCE = 16
# Before the latency is known. A server that has become slow, but answers, always gets as many.
_USUAL = 4
# Latencies vary, so a little more than their mean needs is under way.
_HEADROOM = 1.25
# The weight of the newest latency in the mean.
_SMOOTHING = 0.1
# An answer that takes this many times as long as without load shows that the server has too much to do.
_SLOWDOWN = 2.0


class Concurrency:
    """
    Bounds the requests of one target that are under way.

    Shape: `limit` is the bound now. It never changes if a number is given. Without one it follows Little's
    law: a pace of R requests a second and a latency of L seconds need R x L requests under way, up to
    MOST_AT_ONCE.

    A server under load answers later, and the law alone would then send it even more. So the latency is
    compared with that of the listing's first page, which is requested alone: the bound does not grow with an
    answer that takes much longer. A failed request halves it; after that it grows only by one a round.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self.limit = fixed or _USUAL
        self._is_fixed = fixed is not None
        self._permits = asyncio.Semaphore(self.limit)
        self._issued = self.limit
        self._under_way = 0
        self._alone: float | None = None
        self._mean = 0.0
        self._has_failed = False
        # Outcomes of requests that were under way at the last failure; then answers since the last change.
        self._before_failure = 0
        self._answers = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait until another request may be under way; it is for as long as the block lasts."""
        await self._permits.acquire()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._give_back()

    @contextmanager
    def observed(
        self,
        clock: Callable[[], float],
        requests_per_second: float,
        *,
        is_page: bool,
        waited_seconds: float = 0.0,
    ) -> Iterator[None]:
        """
        Note how the request that is sent in the block ends. A single row says nothing about a page.

        Units: before the block it has waited for its turn for `waited_seconds`.
        """
        began = clock()
        try:
            yield
        except (ApiUnavailable, RateLimited):
            self.failed()
            raise
        if is_page:
            self.answered(clock() - began, requests_per_second, waited_seconds)

    def begin_listing(self) -> None:
        """Expect the first page of another listing: what its rows cost the server is not known yet."""
        self._alone = None

    def answered(self, seconds: float, requests_per_second: float, waited_seconds: float = 0.0) -> None:
        """Note how long a page took, the pace at the moment, and the wait for the turn before."""
        if self._is_fixed:
            return
        self._before_failure = max(self._before_failure - 1, 0)
        self._answers += 1
        if self._alone is None:
            self._alone = self._mean = seconds
        self._mean += _SMOOTHING * (seconds - self._mean)
        self._alone = min(self._alone, self._mean)
        wanted = math.ceil(_HEADROOM * requests_per_second * self._mean) + 1
        # Who waits longer than an answer takes shares the pace with other targets: more requests would only
        # make the queue longer, also for a target that has a single one.
        if self._mean > _SLOWDOWN * self._alone or waited_seconds > self._mean:
            wanted = min(wanted, _USUAL)
        # A step at a time: an answer each while nothing has failed, a round of answers each after that.
        if self._answers >= (self.limit if self._has_failed else 1):
            self.limit += (self.limit < min(wanted, MOST_AT_ONCE)) - (self.limit > wanted)
            self._answers = 0

    def failed(self) -> None:
        """Note that the server is overloaded or away. Requests under way together fail together: once."""
        if self._is_fixed:
            return
        if self._before_failure:
            self._before_failure -= 1
            return
        self._before_failure = max(self._under_way - 1, 0)
        self.limit = max(self.limit // 2, 1)
        self._has_failed, self._answers = True, 0

    def _give_back(self) -> None:
        """Return a permit, more than one if the bound has grown, or none if it has shrunk."""
        if self._issued > self.limit:
            self._issued -= 1
            return
        self._permits.release()
        while self._issued < self.limit:
            self._issued += 1
            self._permits.release()
