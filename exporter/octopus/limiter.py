"""How fast an endpoint may be asked, over all its targets."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from aiolimiter import AsyncLimiter

from exporter.errors import ApiError, RateLimit, RateLimited
from exporter.state_log import StateLog

# What is told to wait longer fails at once, so that its poll is seen to fail.
LONGEST_WAIT_SECONDS = 60.0
LONGEST_REST_SECONDS = 300.0
DEFAULT_REST_SECONDS = 1.0
RECOVERY_SECONDS = 600.0
NAMED_LIMIT_SECONDS = 3600.0
_SLOWEST = 0.05
_WORTH_A_CHANGE = 1.05
_RESTS = "the endpoint asked for a rest: its polls fail until it is over"

_log = structlog.get_logger(__name__)


class EndpointLimiter:
    """
    Let requests to one endpoint through, evenly spaced and first come, first served.

    No bursts: a bucket that holds a second's worth would let twice the rate through in the first second, and
    the server counts by the second. A throttling halves the rate, down to a twentieth of what is configured;
    it comes back over RECOVERY_SECONDS. A limit that the endpoint names is kept for NAMED_LIMIT_SECONDS.

    A rest that the endpoint asks for is kept, up to LONGEST_REST_SECONDS. After one longer than
    LONGEST_WAIT_SECONDS a single request is sent first: the others wait for its answer.
    """

    def __init__(
        self,
        requests_per_second: float,
        *,
        endpoint: str = "",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._configured = requests_per_second
        self._rate = requests_per_second
        self._rate_since = clock()
        self._named: float | None = None
        self._named_until = 0.0
        self._bucket = _bucket(requests_per_second)
        # The bucket alone is not fair: a newcomer may take the place of a waiter that was just woken.
        self._turn = asyncio.Lock()
        self._rest_until = -math.inf
        # From a long rest on, until a request was answered otherwise than by another throttling.
        self._is_resting = False
        self._long_rest = StateLog(_log, _RESTS, "the endpoint's rest is over")
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep

    @property
    def requests_per_second(self) -> float:
        """The rate in force: the configured one, or a lower one after a throttling."""
        return self._rate

    @property
    def rest_seconds(self) -> float | None:
        """
        How long the endpoint still rests; None where it does not, or for less than a poll waits.

        It is 0 from the end of the rest until a request shows that the endpoint answers again.
        """
        return max(self._rest_until - self._clock(), 0.0) if self._is_resting else None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """
        Wait for one's turn; the request is sent inside the block, which tells what its answer was.

        Raises: RateLimited, when the endpoint has asked for a rest longer than LONGEST_WAIT_SECONDS.
        """
        async with self._turn:
            await self._wait()
            if self._is_resting:
                async with self._judged():
                    yield
                return
        async with self._judged():
            yield

    @asynccontextmanager
    async def _judged(self) -> AsyncIterator[None]:
        try:
            yield
        except RateLimited as error:
            self.penalise(error.retry_after_seconds, error.limit)
            raise
        except ApiError:
            self._wake()
            raise
        self._wake()

    def _wake(self) -> None:
        """Note that a request was not throttled; one sent before the rest says nothing of its end."""
        if self._is_resting and self._clock() >= self._rest_until:
            self._is_resting = False
            self._long_rest.is_over(self._wall_clock(), endpoint=self._endpoint)

    async def _wait(self) -> None:
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
        asked = DEFAULT_REST_SECONDS if retry_after_seconds is None else retry_after_seconds
        rest = min(asked, LONGEST_REST_SECONDS)
        self._rest_until = max(self._rest_until, now + rest)
        if rest > LONGEST_WAIT_SECONDS:
            self._begin_long_rest(rest, asked)
        if limit is not None:
            # However low: nothing may wait for its turn longer than for a rest.
            named = max(limit.requests / limit.period_seconds, 1 / LONGEST_WAIT_SECONDS)
            self._named, self._named_until = named, now + NAMED_LIMIT_SECONDS
        # Requests that were under way together are throttled together: that is one reason to slow down.
        slower = self._rate if resting else max(self._rate / 2, self._configured * _SLOWEST)
        self._set_rate(min(slower, self._ceiling()))

    def _begin_long_rest(self, seconds: float, asked_seconds: float) -> None:
        self._is_resting = True
        self._long_rest.holds(
            "resting",
            self._wall_clock(),
            endpoint=self._endpoint,
            rest_seconds=round(seconds),
            asked_seconds=round(asked_seconds),
        )

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
