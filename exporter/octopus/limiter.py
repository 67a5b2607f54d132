"""The request rate of an endpoint, shared by all its targets."""

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

# A request that would wait longer fails at once, so that its poll is seen to fail.
LONGEST_WAIT_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 300.0
DEFAULT_PAUSE_SECONDS = 1.0
RECOVERY_SECONDS = 600.0
REPORTED_LIMIT_SECONDS = 3600.0
_LOWEST_SHARE = 0.05
# A new rate needs a new bucket, which forgets the last request: not for a smaller change than this.
_LEAST_INCREASE = 1.05
# A turn that comes late by up to this much does not delay those who wait behind it.
_LATENESS_SECONDS = 0.01

_log = structlog.get_logger(__name__)


class EndpointLimiter:
    """
    Spaces the requests to one endpoint evenly, first come, first served.

    A 429 halves the rate, down to a twentieth of the configured one; it recovers over RECOVERY_SECONDS. A
    limit that the endpoint reports is kept for REPORTED_LIMIT_SECONDS.

    A 429 also pauses the endpoint, for its Retry-After but at most LONGEST_PAUSE_SECONDS. After a long pause,
    which is longer than LONGEST_WAIT_SECONDS, a single probe is sent first; the others wait for its response.
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
        self._all = requests_per_second
        self._share = 1.0
        self._configured = requests_per_second
        self._rate = requests_per_second
        self._rate_since = clock()
        self._reported: float | None = None
        self._reported_until = 0.0
        self._bucket = _bucket(requests_per_second)
        # AsyncLimiter alone is not fair: a new caller can take the place of a waiter that was just woken.
        self._turn = asyncio.Lock()
        self._paused_until = -math.inf
        # True from a long pause on, until a request gets another response than 429.
        self._in_long_pause = False
        self._long_pause = StateLog(
            _log,
            "the endpoint asked for a rest: its polls fail until it is over",
            "the endpoint's rest is over",
        )
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep

    @property
    def requests_per_second(self) -> float:
        """The current rate: the share of the configured one, or a lower one after a 429."""
        return self._rate

    def set_share(self, share: float) -> None:
        """
        Use only a part of the configured rate, and of one that the endpoint reports: replicas use the rest.

        A rate that was lowered after a 429 stays lowered. Units: `share` is above 0 and at most 1.
        """
        if share != self._share:
            # What was regained until now, at the share until now.
            rate = self._recovered() * share / self._share
            self._share, self._configured = share, self._all * share
            self._set_rate(min(rate, self._highest_rate()))

    @property
    def pause_seconds(self) -> float | None:
        """
        How much is left of a long pause; None if there is none.

        It is 0 from the end of the pause until a request shows that the endpoint answers again.
        """
        return max(self._paused_until - self._clock(), 0.0) if self._in_long_pause else None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """
        Wait for a turn. Send the request inside the block: an error that leaves the block is noted.

        Raises: RateLimited (the rest of the pause is longer than LONGEST_WAIT_SECONDS).
        """
        is_queued = self._turn.locked()
        await self._turn.acquire()
        is_holding = True
        try:
            await self._wait_for_pause()
            rate = self._recovered()
            if rate > self._rate * _LEAST_INCREASE or rate == self._configured > self._rate:
                self._set_rate(rate)
            await self._bucket.acquire(1 if is_queued else self._share_of_the_first())
            # Again: another response may have started a pause while this request waited.
            await self._wait_for_pause()
            # A probe keeps the turn until its response came. After any other request the next one may go.
            if not self._in_long_pause:
                self._turn.release()
                is_holding = False
            try:
                yield
            except RateLimited as error:
                self.on_throttled(error.retry_after_seconds, error.limit)
                raise
            except ApiError:
                self._end_long_pause()
                raise
            self._end_long_pause()
        finally:
            if is_holding:
                self._turn.release()

    def on_throttled(self, retry_after_seconds: float | None, limit: RateLimit | None) -> None:
        """
        Pause the endpoint after a 429, and lower its rate.

        Units: `retry_after_seconds` None means DEFAULT_PAUSE_SECONDS; at most LONGEST_PAUSE_SECONDS.
        """
        now = self._clock()
        was_paused = self._paused_until > now
        asked_seconds = DEFAULT_PAUSE_SECONDS if retry_after_seconds is None else retry_after_seconds
        pause_seconds = min(asked_seconds, LONGEST_PAUSE_SECONDS)
        self._paused_until = max(self._paused_until, now + pause_seconds)
        if pause_seconds > LONGEST_WAIT_SECONDS:
            self._in_long_pause = True
            self._long_pause.holds(
                "resting",
                self._wall_clock(),
                endpoint=self._endpoint,
                rest_seconds=round(pause_seconds),
                asked_seconds=round(asked_seconds),
            )
        if limit is not None:
            self._reported = limit.requests / limit.period_seconds
            self._reported_until = now + REPORTED_LIMIT_SECONDS
        # Concurrent requests get their 429 together: halve the rate once for all of them.
        rate = self._rate if was_paused else max(self._rate / 2, self._configured * _LOWEST_SHARE)
        self._set_rate(min(rate, self._highest_rate()))

    def _share_of_the_first(self) -> float:
        """Tell what a request that did not wait takes: the room for late ones too, because none is late."""
        room = self._bucket.max_rate
        return room if self._bucket.has_capacity(room) else 1

    def _end_long_pause(self) -> None:
        # The response to a request from before the pause says nothing about its end.
        if self._in_long_pause and self._clock() >= self._paused_until:
            self._in_long_pause = False
            self._long_pause.is_over(self._wall_clock(), endpoint=self._endpoint)

    async def _wait_for_pause(self) -> None:
        while (left := self._paused_until - self._clock()) > 0:
            if left > LONGEST_WAIT_SECONDS:
                raise RateLimited(
                    f"not sent: the endpoint asked for a rest, {left:.0f} s of it left",
                    retry_after_seconds=left,
                    status=0,
                )
            await self._sleep(left)

    def _recovered(self) -> float:
        """Give the rate that is recovered in proportion to the time without a 429."""
        gained = self._configured * (self._clock() - self._rate_since) / RECOVERY_SECONDS
        return min(self._rate + gained, self._highest_rate())

    def _highest_rate(self) -> float:
        if self._reported is not None and self._clock() < self._reported_until:
            # Not below one request in LONGEST_WAIT_SECONDS: a poll would wait longer than for a pause.
            return min(self._configured, max(self._reported * self._share, 1 / LONGEST_WAIT_SECONDS))
        return self._configured

    def _set_rate(self, rate: float) -> None:
        self._rate_since = self._clock()
        if rate != self._rate:
            self._rate = rate
            self._bucket = _bucket(rate)


def _bucket(requests_per_second: float) -> AsyncLimiter:
    # Room for one request, so without bursts: a server that counts by the second would see twice the rate in
    # the first second after an idle one. And for as many as a busy event loop may be late with.
    room = 1 + requests_per_second * _LATENESS_SECONDS
    return AsyncLimiter(room, room / requests_per_second)
