"""Renewal of a token or temporary key: cache it, renew it before it expires, with one fetch at a time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import structlog

from exporter.errors import ApiError
from exporter.state_log import StateLog

# The least time between two successful fetches, and after a failed one while the old secret is still valid.
RENEWAL_PAUSE_SECONDS = 60.0

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ExpiringSecret(Generic[_T]):
    """
    A token or key with the times of its renewal and expiry.

    Units: Unix seconds, `obtained_at`, `renew_at` and `ends_at` by the local clock. `ends_at` is infinite if
    no expiry is known: then the secret is used until it is rejected. `expires_at` is the expiry to report in
    metrics, by the server's clock; None if there is none to report.
    """

    value: _T = field(repr=False)
    fingerprint: str
    obtained_at: float
    renew_at: float = math.inf
    ends_at: float = math.inf
    expires_at: float | None = None


def renewal_time(now: float, life_seconds: float) -> float:
    """Return when to renew: at 80 % of the life or 30 minutes before its end, but never in its first half."""
    return now + min(0.8 * life_seconds, max(life_seconds - 1800, 0.5 * life_seconds))


class SecretRenewer(Generic[_T]):
    """
    Caches one expiring secret and renews it.

    `fetch` gets a new one; its argument says whether to retry: while the old secret is valid, one attempt is
    enough. Successful fetches are at least `pause_seconds` apart, however many callers request one.
    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[bool], Coroutine[Any, Any, ExpiringSecret[_T]]],
        *,
        pause_seconds: float = RENEWAL_PAUSE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._current: ExpiringSecret[_T] | None = None
        self._retry_at = -math.inf
        self._failing = StateLog(_log, "renewal failed, the old one is used on", "renewal works again")
        self._renewal: asyncio.Task[ExpiringSecret[_T]] | None = None
        self._callers = 0

    @property
    def expires_at(self) -> float | None:
        """The expiry of the current secret, as the server reported it (Unix seconds). Thread-safe."""
        current = self._current
        return None if current is None else current.expires_at

    async def get(self) -> ExpiringSecret[_T]:
        """Raises: what `fetch` raises, unless the old secret is still valid."""
        if self._current is not None and self._clock() < self._current.renew_at:
            return self._current
        return await self._renew_once()

    async def replace(self, rejected: str) -> ExpiringSecret[_T]:
        """Return another secret than the one with this fingerprint, unless that is younger than the pause."""
        current = self._current
        if current is not None and current.fingerprint == rejected:
            if self._age(current) < self._pause_seconds:
                return current
            self._current = None
        return await self.get()

    async def refresh(self, denied: str, min_age_seconds: float) -> ExpiringSecret[_T]:
        """
        Return a newer secret than the one with this fingerprint, which stays in use until the new one came.

        A secret younger than `min_age_seconds` is returned again, and so is one that cannot be renewed now.
        """
        current = self._current
        if current is None:
            return await self.get()
        is_old = current.fingerprint == denied and self._age(current) >= min_age_seconds
        return await self._renew_once() if is_old and self._clock() >= self._retry_at else current

    def _age(self, secret: ExpiringSecret[_T]) -> float:
        # Absolute: after the clock was set back, the age would be negative, and no renewal due for hours.
        return abs(self._clock() - secret.obtained_at)

    async def _renew_once(self) -> ExpiringSecret[_T]:
        """
        Renew once for all callers that need the result at the same time. Raises: what `fetch` raises, to all.

        The renewal has its own task: a cancelled caller leaves it running for the others. When the last
        caller is cancelled, the renewal is cancelled too, so that no task outlives its callers.
        """
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())
        task = self._renewal
        self._callers += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._callers -= 1
            if not self._callers:
                self._renewal = None
                if not task.done():
                    task.cancel()
                    await asyncio.wait([task])
                if not task.cancelled():
                    # Read the exception, or asyncio logs "never retrieved" if every caller was cancelled.
                    task.exception()

    async def _renew(self) -> ExpiringSecret[_T]:
        try:
            renewed = await self._fetch(self._valid() is None)
        except ApiError as error:
            # Looked up again: the old secret may have been rejected or expired during the fetch.
            valid = self._valid()
            if valid is None:
                raise
            now = self._clock()
            self._failing.holds(error.reason, now, credentials=self._name, error=str(error))
            self._retry_at = now + RENEWAL_PAUSE_SECONDS
            renewed = replace(valid, renew_at=self._retry_at)
        else:
            self._failing.is_over(self._clock(), credentials=self._name)
        self._current = renewed
        return renewed

    def _valid(self) -> ExpiringSecret[_T] | None:
        current = self._current
        return current if current is not None and self._clock() < current.ends_at else None
