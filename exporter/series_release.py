"""
Releases new series from their hold, by a timer.

A new series is exported as 0 first (exposition.hold decides for how long). The publisher reports what is
exported, the web server what was scraped. A release is recorded in the ledger before its values are exported.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

import structlog

from exporter.errors import LedgerError
from exporter.exposition.hold import Hold
from exporter.exposition.render import Exposition
from exporter.model import SeriesKey, TargetKey
from exporter.state_log import FaultLog, StateLog

# All targets of a first start are due at nearly the same time. One after the other would wait for the other
# work of the ledger each time; more at once would make polls and reloads wait.
_AT_ONCE = 16

Release = Callable[[TargetKey, frozenset[SeriesKey]], Awaitable[None]]
"""Records a release and publishes the target. Raises: LedgerError."""


class SeriesReleaser:
    """
    Holds new series and releases them, those of the targets that `is_ours`: of a target that another replica
    polls, that one releases them.

    Units: `timer` gives monotonic seconds, `clock` Unix seconds.
    """

    def __init__(
        self,
        hold_seconds: float,
        *,
        is_ours: Callable[[TargetKey], bool] = lambda _: True,
        timer: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._hold = Hold(hold_seconds)
        self._is_ours = is_ours
        self._timer = timer
        self._clock = clock
        self._changed = asyncio.Event()
        self._faults = FaultLog(structlog.get_logger())
        self._failing: set[TargetKey] = set()
        self._not_released = StateLog(
            structlog.get_logger(), "new series not released", "new series are released again", is_error=True
        )

    def hold_for(self, seconds: float) -> None:
        """Take up another `metrics.new_series_hold`, also for the series that are held now."""
        self._hold.hold_for(seconds)
        self._changed.set()

    def shown(self, exposition: Exposition) -> None:
        """Note that this exposition is served from now on."""
        ours = {target: held for target, held in exposition.held.items() if self._is_ours(target)}
        self._hold.shown(ours, self._timer())
        self._changed.set()

    def drop(self, targets: Collection[TargetKey]) -> None:
        """Forget the holds of targets that went to another replica. One that comes back is held anew."""
        self._hold.drop(targets)

    def served(self, exposition: Exposition) -> None:
        """Note that a scrape received this exposition completely."""
        if exposition.held:
            self._hold.answered(exposition.held, self._timer())
            self._changed.set()

    async def run(self, release: Release, reloading: asyncio.Lock) -> None:
        """
        Release what is due, for as long as the task lives.

        Shape: `reloading` is held while pollers are replaced; `release` is called under this lock.
        """
        while True:
            self._changed.clear()
            due = list(self._hold.due(self._timer()).items())
            for start in range(0, len(due), _AT_ONCE):
                # The lock is let go between two batches, so that a reload need not wait for all of them.
                async with reloading:
                    batch = due[start : start + _AT_ONCE]
                    await asyncio.gather(*(self._release(release, *one) for one in batch))
            self._failing &= self._hold.targets
            if not self._failing:
                self._not_released.is_over(self._clock())
            next_due = self._hold.next_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if next_due is None else max(next_due - self._timer(), 0.0)):
                    await self._changed.wait()

    async def _release(self, release: Release, target: TargetKey, keys: frozenset[SeriesKey]) -> None:
        """Release some series of a target; a failure is logged, so that it does not stop the others."""
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
        # The hold makes it due again a little later, so a broken ledger is not asked in a loop.
        self._hold.failed(target, self._timer())
