"""A token bucket, as golang.org/x/time/rate has it."""

from __future__ import annotations

import time
from collections.abc import Callable


class RateLimiter:
    """
    Allows `burst` requests at once and one more in every interval; a burst of 0 allows none.

    Units: `interval_seconds` above 0; `clock` gives seconds that never go back.
    """

    def __init__(
        self, interval_seconds: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_seconds = interval_seconds
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    def allows(self) -> bool:
        """Take a token; False where there is none."""
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._at) / self._interval_seconds, float(self._burst))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    @property
    def retry_after_seconds(self) -> float:
        """How long until the next request is allowed."""
        return (1 - self._tokens) * self._interval_seconds
