"""A secret that ends: kept, renewed in time, by one call however many need it."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import structlog

from exporter.errors import ApiError
from exporter.octopus.flight import SingleFlight

RENEWAL_PAUSE_SECONDS = 60.0

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Lease(Generic[_T]):
    """Units: `renew_at` and `ends_at` in Unix seconds by our clock."""

    value: _T = field(repr=False)
    fingerprint: str
    renew_at: float
    ends_at: float


def renewal_time(now: float, life_seconds: float) -> float:
    """Say when to renew: at 80 % of the life or 30 minutes before its end, and never before half of it."""
    return now + min(0.8 * life_seconds, max(life_seconds - 1800, 0.5 * life_seconds))


class LeaseKeeper(Generic[_T]):
    """
    Holds one lease.

    `fetch` gets a new one; its argument says whether it may be patient: while the old one still serves, a
    single attempt will do, and another follows after RENEWAL_PAUSE_SECONDS.
    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[bool], Coroutine[Any, Any, Lease[_T]]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._clock = clock
        self._lease: Lease[_T] | None = None
        self._renewal = SingleFlight(self._renew)

    async def get(self) -> Lease[_T]:
        """Raises: what `fetch` raises, unless the old lease still serves."""
        if self._lease is not None and self._clock() < self._lease.renew_at:
            return self._lease
        return await self._renewal.run()

    async def replace(self, rejected: str) -> Lease[_T]:
        """Get another lease than the one of this fingerprint, which was rejected."""
        if self._lease is not None and self._lease.fingerprint == rejected:
            self._lease = None
        return await self.get()

    async def _renew(self) -> Lease[_T]:
        try:
            lease = await self._fetch(self._serving() is None)
        except ApiError as error:
            # Asked again: it may have been rejected, or have ended, while the new one was on its way.
            serving = self._serving()
            if serving is None:
                raise
            _log.warning("renewal failed, the old one is used on", credentials=self._name, error=str(error))
            lease = replace(serving, renew_at=self._clock() + RENEWAL_PAUSE_SECONDS)
        self._lease = lease
        return lease

    def _serving(self) -> Lease[_T] | None:
        lease = self._lease
        return lease if lease is not None and self._clock() < lease.ends_at else None
