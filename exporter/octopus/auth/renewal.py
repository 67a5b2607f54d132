"""A token or key that ends: kept, renewed in time, by one call however many need it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import structlog

from exporter.errors import ApiError
from exporter.octopus.auth.single_flight import SingleFlight
from exporter.state_log import StateLog

# Between two fetches that succeeded, and after one that failed while the old lease still serves.
RENEWAL_PAUSE_SECONDS = 60.0

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Lease(Generic[_T]):
    """
    Something to be used until it ends.

    Units: Unix seconds, `obtained_at`, `renew_at` and `ends_at` by our clock. `ends_at` is infinite where no
    end is known: then it serves until it is refused. `expires_at` is the end as the server told it, None
    where there is none to tell.
    """

    value: _T = field(repr=False)
    fingerprint: str
    obtained_at: float
    renew_at: float = math.inf
    ends_at: float = math.inf
    expires_at: float | None = None


def renewal_time(now: float, life_seconds: float) -> float:
    """Say when to renew: at 80 % of the life or 30 minutes before its end, and never before half of it."""
    return now + min(0.8 * life_seconds, max(life_seconds - 1800, 0.5 * life_seconds))


class LeaseKeeper(Generic[_T]):
    """
    Holds one lease.

    `fetch` gets a new one; its argument says whether it may be patient: while the old one still serves, a
    single attempt will do. Fetches that succeed are at least `pause_seconds` apart, whoever asks for them.
    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[bool], Coroutine[Any, Any, Lease[_T]]],
        *,
        pause_seconds: float = RENEWAL_PAUSE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._lease: Lease[_T] | None = None
        self._retry_at = -math.inf
        self._failing = StateLog(_log, "renewal failed, the old one is used on", "renewal works again")
        self._renewal = SingleFlight(self._renew)

    @property
    def expires_at(self) -> float | None:
        """When the lease in use ends, as the server told it (Unix seconds). Any thread may ask."""
        lease = self._lease
        return None if lease is None else lease.expires_at

    async def get(self) -> Lease[_T]:
        """Raises: what `fetch` raises, unless the old lease still serves."""
        if self._lease is not None and self._clock() < self._lease.renew_at:
            return self._lease
        return await self._renewal.run()

    async def replace(self, rejected: str) -> Lease[_T]:
        """
        Get another lease than the one of this fingerprint, which was rejected.

        It is given again where it is younger than the pause.
        """
        lease = self._lease
        if lease is not None and lease.fingerprint == rejected:
            if self._age(lease) < self._pause_seconds:
                return lease
            self._lease = None
        return await self.get()

    async def refresh(self, denied: str, min_age_seconds: float) -> Lease[_T]:
        """
        Get a newer lease than the one of this fingerprint, which serves on until the new one is there.

        It is given again where it is younger than `min_age_seconds`, or where there is no new one to be had.
        """
        lease = self._lease
        if lease is None:
            return await self.get()
        is_old = lease.fingerprint == denied and self._age(lease) >= min_age_seconds
        return await self._renewal.run() if is_old and self._clock() >= self._retry_at else lease

    def _age(self, lease: Lease[_T]) -> float:
        # A clock that was set back must not hold a renewal off for longer than the pause.
        return abs(self._clock() - lease.obtained_at)

    async def _renew(self) -> Lease[_T]:
        try:
            lease = await self._fetch(self._serving() is None)
        except ApiError as error:
            # Asked again: it may have been rejected, or have ended, while the new one was on its way.
            serving = self._serving()
            if serving is None:
                raise
            now = self._clock()
            self._failing.holds(error.reason, now, credentials=self._name, error=str(error))
            self._retry_at = now + RENEWAL_PAUSE_SECONDS
            lease = replace(serving, renew_at=self._retry_at)
        else:
            self._failing.is_over(self._clock(), credentials=self._name)
        self._lease = lease
        return lease

    def _serving(self) -> Lease[_T] | None:
        lease = self._lease
        return lease if lease is not None and self._clock() < lease.ends_at else None
