"""How fast an endpoint may be asked, over all its targets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiolimiter import AsyncLimiter

from exporter.errors import RateLimit, RateLimited

LONGEST_WAIT_SECONDS = 60.0
LONGEST_REST_SECONDS = 3600.0
DEFAULT_REST_SECONDS = 1.0


class EndpointLimiter:
    """
    Let requests to one endpoint through, evenly spaced and first come, first served.

    No bursts: a bucket that holds a second's worth would let twice the rate through in the first second, and
    the server counts by the second.
    """

    def __init__(
        self,
        requests_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = requests_per_second
        self._bucket = _bucket(requests_per_second)
        # The bucket alone is not fair: a newcomer may take the place of a waiter that was just woken.
        self._turn = asyncio.Lock()
        self._rest_until = 0.0
        self._clock = clock
        self._sleep = sleep

    @property
    def requests_per_second(self) -> float:
        """The rate in force: the configured one, or a lower one the endpoint told us."""
        return self._rate

    async def wait(self) -> None:
        """
        Wait for one's turn.

        Raises: RateLimited, when the endpoint has asked for a rest longer than LONGEST_WAIT_SECONDS.
        """
        async with self._turn:
            await self._rest()
            await self._bucket.acquire()
            # While this one queued, another's answer may have asked for a rest.
            await self._rest()

    async def _rest(self) -> None:
        while (left := self._rest_until - self._clock()) > 0:
            if left > LONGEST_WAIT_SECONDS:
                raise RateLimited(
                    f"not sent: the endpoint asked for a rest, {left:.0f} s of it left",
                    retry_after_seconds=left,
                    status=0,
                )
            await self._sleep(left)

    def penalise(self, retry_after_seconds: float | None, limit: RateLimit | None) -> None:
        """
        Take a throttling to heart: everyone rests, and nobody goes faster than the limit it named.

        Units: `retry_after_seconds` None stands for DEFAULT_REST_SECONDS; at most LONGEST_REST_SECONDS.
        """
        rest = DEFAULT_REST_SECONDS if retry_after_seconds is None else retry_after_seconds
        self._rest_until = max(self._rest_until, self._clock() + min(rest, LONGEST_REST_SECONDS))
        if limit is not None and (rate := limit.requests / limit.period_seconds) < self._rate:
            self._rate = rate
            self._bucket = _bucket(rate)


def _bucket(requests_per_second: float) -> AsyncLimiter:
    return AsyncLimiter(1, 1 / requests_per_second)
