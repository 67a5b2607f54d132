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
RECOVERY_SECONDS = 600.0
NAMED_LIMIT_SECONDS = 3600.0
_SLOWEST = 0.05
_WORTH_A_CHANGE = 1.05


class EndpointLimiter:
    """
    Let requests to one endpoint through, evenly spaced and first come, first served.

    No bursts: a bucket that holds a second's worth would let twice the rate through in the first second, and
    the server counts by the second. A throttling halves the rate, down to a twentieth of what is configured;
    it comes back over RECOVERY_SECONDS. A limit that the endpoint names is kept for NAMED_LIMIT_SECONDS.
    """

    def __init__(
        self,
        requests_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._configured = requests_per_second
        self._rate = requests_per_second
        self._rate_since = clock()
        self._named: float | None = None
        self._named_until = 0.0
        self._bucket = _bucket(requests_per_second)
        # The bucket alone is not fair: a newcomer may take the place of a waiter that was just woken.
        self._turn = asyncio.Lock()
        self._rest_until = 0.0
        self._clock = clock
        self._sleep = sleep

    @property
    def requests_per_second(self) -> float:
        """The rate in force: the configured one, or a lower one after a throttling."""
        return self._rate

    async def wait(self) -> None:
        """
        Wait for one's turn.

        Raises: RateLimited, when the endpoint has asked for a rest longer than LONGEST_WAIT_SECONDS.
        """
        async with self._turn:
            await self._rest()
            self._recover()
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
        Take a throttling to heart: everyone rests, and goes slower afterwards.

        Units: `retry_after_seconds` None stands for DEFAULT_REST_SECONDS; at most LONGEST_REST_SECONDS.
        """
        now = self._clock()
        resting = self._rest_until > now
        rest = DEFAULT_REST_SECONDS if retry_after_seconds is None else retry_after_seconds
        self._rest_until = max(self._rest_until, now + min(rest, LONGEST_REST_SECONDS))
        if limit is not None:
            self._named, self._named_until = limit.requests / limit.period_seconds, now + NAMED_LIMIT_SECONDS
        # Requests that were under way together are throttled together: that is one reason to slow down.
        slower = self._rate if resting else max(self._rate / 2, self._configured * _SLOWEST)
        self._set_rate(min(slower, self._ceiling()))

    def _recover(self) -> None:
        """Go faster again, in proportion to the time without a throttling."""
        gained = self._configured * (self._clock() - self._rate_since) / RECOVERY_SECONDS
        rate = min(self._rate + gained, self._ceiling())
        if rate > self._rate * _WORTH_A_CHANGE or rate == self._configured > self._rate:
            self._set_rate(rate)

    def _ceiling(self) -> float:
        if self._named is not None and self._clock() < self._named_until:
            return min(self._configured, self._named)
        return self._configured

    def _set_rate(self, rate: float) -> None:
        self._rate_since = self._clock()
        if rate != self._rate:
            self._rate = rate
            self._bucket = _bucket(rate)


def _bucket(requests_per_second: float) -> AsyncLimiter:
    return AsyncLimiter(1, 1 / requests_per_second)
