"""Retries: `retry_wait` decides which errors are retried, how often and after how long; Retrier waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from exporter.errors import ApiError, ApiTimeout, ApiUnavailable, RateLimited
from exporter.octopus.messages import ApiObserver

THROTTLED_ATTEMPTS = 6
UNAVAILABLE_ATTEMPTS = 5
# Each attempt takes a whole timeout.
TIMEOUT_ATTEMPTS = 3
# A server that answers 500 has a defect; it is not restarting or overloaded.
INTERNAL_ERROR_ATTEMPTS = 3

FIRST_BACKOFF_SECONDS = 0.5
# After a longer Retry-After the poll fails, so that `octopus_up` shows it; a later poll tries again.
LONGEST_WAIT_SECONDS = 60.0

_T = TypeVar("_T")


def retry_wait(error: ApiError, attempt: int, random: Callable[[], float]) -> float | None:
    """
    Return how long to wait before the next attempt; None means no further attempt.

    Shape: `attempt` counts the attempts made, including the failed one; `random` returns a number in [0, 1).
    Units: seconds, at most LONGEST_WAIT_SECONDS. The backoff doubles from FIRST_BACKOFF_SECONDS, with full
    jitter; so few attempts need no longest one. A Retry-After is the minimum wait.
    """
    attempts = 1
    if isinstance(error, RateLimited):
        attempts = THROTTLED_ATTEMPTS
    elif isinstance(error, ApiTimeout):
        attempts = TIMEOUT_ATTEMPTS
    elif isinstance(error, ApiUnavailable):
        attempts = INTERNAL_ERROR_ATTEMPTS if error.status == 500 else UNAVAILABLE_ATTEMPTS
    if attempt >= attempts:
        return None
    # Full jitter: after an outage, targets that failed together must not come back together.
    backoff = random() * FIRST_BACKOFF_SECONDS * 2.0 ** (attempt - 1)
    if not isinstance(error, RateLimited):
        return backoff
    wait = max(error.retry_after_seconds or 0.0, backoff)
    return wait if wait <= LONGEST_WAIT_SECONDS else None


@dataclass(frozen=True, slots=True)
class Retrier:
    """Repeats a call as `retry_wait` says, in all at most `attempts` times if that is not None."""

    observer: ApiObserver
    sleep: Callable[[float], Awaitable[None]]
    random: Callable[[], float]
    attempts: int | None = None

    async def run(self, call: Callable[[], Awaitable[_T]], project: str) -> _T:
        """Raises: the error of the last attempt."""
        # No retry library: the loop of the one that was measured took an eighth of the time of a page.
        attempt = 0
        while True:
            attempt += 1
            try:
                return await call()
            except ApiError as error:
                # A login can be part of a list request, each with its own Retrier. `given_up` stops the
                # outer one, or the attempts of both would be multiplied.
                wait_seconds = None if error.given_up else retry_wait(error, attempt, self.random)
                if wait_seconds is None or attempt == self.attempts:
                    error.given_up = True
                    raise
                self.observer.retry(project, error.reason)
            await self.sleep(wait_seconds)
