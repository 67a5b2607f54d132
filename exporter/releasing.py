"""
Releasing new series: the timer, and what it does where the ledger fails.

The publisher tells what is shown, the web server what was scraped (exposition.hold decides). A release is
recorded in the ledger before its values are published.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from exporter.errors import LedgerError
from exporter.exposition.hold import Hold
from exporter.exposition.render import Exposition
from exporter.model import SeriesKey, TargetKey
from exporter.state_log import FaultLog, StateLog

# All targets of a first start are due at nearly the same time, and the ledger has other work in between: one
# after the other would wait for that work as often. More at once would keep polls and reloads waiting.
_AT_ONCE = 16

Release = Callable[[TargetKey, frozenset[SeriesKey]], Awaitable[None]]
"""Records a release and publishes the target. Raises: LedgerError."""


class Releasing:
    """
    Holds new series and releases them.

    Units: `timer` gives seconds that never step back, `clock` Unix seconds.
    """

    def __init__(
        self,
        hold_seconds: float,
        *,
        timer: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._hold = Hold(hold_seconds)
        self._timer = timer
        self._clock = clock
        self._changed = asyncio.Event()
        self._faults = FaultLog(structlog.get_logger())
        self._failing: set[TargetKey] = set()
        self._not_released = StateLog(
            structlog.get_logger(), "new series not released", "new series are released again", is_error=True
        )

    def hold_for(self, seconds: float) -> None:
        """Take up another `metrics.new_series_hold`, for what is held already too."""
        self._hold.hold_seconds = seconds
        self._changed.set()

    def shown(self, bodies: Exposition) -> None:
        """Note that this is the exposition from now on."""
        self._hold.shown(bodies.held, self._timer())
        self._changed.set()

    def served(self, bodies: Exposition) -> None:
        """Note that a scrape of this was answered completely."""
        if bodies.held:
            self._hold.answered(bodies.held, self._timer())
            self._changed.set()

    async def run(self, release: Release, reloading: asyncio.Lock) -> None:
        """
        Release what is due, for as long as the task lives.

        Shape: `reloading` is held while pollers are replaced. `release` is called while it is not.
        """
        while True:
            self._changed.clear()
            due = list(self._hold.due(self._timer()).items())
            for start in range(0, len(due), _AT_ONCE):
                async with reloading:
                    some = (self._release(release, *one) for one in due[start : start + _AT_ONCE])
                    await asyncio.gather(*some)
            self._failing &= self._hold.targets
            if not self._failing:
                self._not_released.is_over(self._clock())
            await self._until_due()

    async def _until_due(self) -> None:
        due = self._hold.next_due()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(due - self._timer(), 0.0)):
                await self._changed.wait()

    async def _release(self, release: Release, target: TargetKey, keys: frozenset[SeriesKey]) -> None:
        """Release some series of a target. One that cannot be released now does not stop the others."""
        try:
            await release(target, keys)
        except LedgerError as exc:
            self._not_released.holds(exc.reason, self._clock(), error=str(exc))
        except Exception as exc:
            self._faults.log("new series not released", exc)
        else:
            self._failing.discard(target)
            self._hold.released(target, keys)
            return
        self._failing.add(target)
        self._hold.failed(target, self._timer())
