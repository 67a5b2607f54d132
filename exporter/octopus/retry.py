"""What is tried again, how often, and after how long: the one place that says so."""

from __future__ import annotations

from collections.abc import Callable

from exporter.errors import ApiError, ApiTimeout, ApiUnavailable, RateLimited

THROTTLED_ATTEMPTS = 6
UNAVAILABLE_ATTEMPTS = 5
# Each costs a whole timeout, or asks a server that is broken rather than away.
TIMEOUT_ATTEMPTS = 3
INTERNAL_ERROR_ATTEMPTS = 3

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
# Told to wait longer than this, a poll fails and the next one sees.
LONGEST_WAIT_SECONDS = 60.0


def retry_wait(error: ApiError, attempt: int, random: Callable[[], float]) -> float | None:
    """
    Say how long to wait before the next attempt; None: do not try again.

    Shape: `attempt` is how many were made, the failed one included; `random` gives a number in [0, 1).
    Units: seconds, at most LONGEST_WAIT_SECONDS. Backoff doubles from FIRST_BACKOFF_SECONDS up to
    LONGEST_BACKOFF_SECONDS, with full jitter; a Retry-After is the least that is waited.
    """
    if attempt >= _attempts(error):
        return None
    backoff = random() * min(FIRST_BACKOFF_SECONDS * 2.0 ** (attempt - 1), LONGEST_BACKOFF_SECONDS)
    if not isinstance(error, RateLimited):
        return backoff
    wait = max(error.retry_after_seconds or 0.0, backoff)
    return wait if wait <= LONGEST_WAIT_SECONDS else None


def _attempts(error: ApiError) -> int:
    if isinstance(error, RateLimited):
        return THROTTLED_ATTEMPTS
    if isinstance(error, ApiTimeout):
        return TIMEOUT_ATTEMPTS
    if isinstance(error, ApiUnavailable):
        return INTERNAL_ERROR_ATTEMPTS if error.status == 500 else UNAVAILABLE_ATTEMPTS
    return 1
