"""
Which targets that left the configuration are forgotten, at the start and then daily.

A clock that is wrong must not forget what somebody wants back tomorrow. So two clocks have to agree that the
time is over: ours, and that of the API, as the targets that are polled have recorded it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

import structlog

from exporter.errors import LedgerError
from exporter.model import TargetKey
from exporter.state_log import FaultLog
from exporter.sync.filters import has_passed
from exporter.sync.ledger import Ledger, RecordedTarget

DAY_SECONDS = 86_400
LEAST_MS = 30 * DAY_SECONDS * 1000


def overdue(
    remembered: Sequence[RecordedTarget], configured: Collection[TargetKey], now_ms: int, after_ms: int
) -> list[TargetKey]:
    """Name the targets that are not configured, and for which nothing was recorded for so long."""
    unused = [one for one in remembered if not is_configured(one.key, configured)]
    api_now_ms = max((one.watermark_ms for one in remembered if one not in unused), default=0)
    return [
        one.key
        for one in unused
        if has_passed(after_ms, one.committed_ms, now_ms) and api_now_ms - one.watermark_ms >= after_ms
    ]


def is_configured(key: TargetKey, configured: Collection[TargetKey]) -> bool:
    """Tell whether a target is polled; one without a path is that of the next poll under its names."""
    if key.path:
        return key in configured
    names = {(each.project, each.project_id, each.workspace) for each in configured}
    return (key.project, key.project_id, key.workspace) in names


def after_ms(lookback_ms: int | None) -> int:
    """Give how long a target is kept after its last record; no lookback means all of time."""
    return max(LEAST_MS, lookback_ms or 0)


class Forgetting:
    """
    Forgets targets. `configured` gives the targets of the configuration as it is now.

    Units: `lookback_ms` gives milliseconds, None for no limit; `clock` gives Unix seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        configured: Callable[[], Collection[TargetKey]],
        lookback_ms: Callable[[], int | None],
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._configured = configured
        self._lookback_ms = lookback_ms
        self._clock = clock
        self._sleep = sleep
        self._faults = FaultLog(structlog.get_logger())

    async def run(self) -> None:
        """Forget what is overdue now, and then every day."""
        while True:
            try:
                await self._forget()
                self._faults.clear()
            except LedgerError as exc:
                structlog.get_logger().warning("targets not forgotten", error=str(exc))
            except Exception as exc:
                self._faults.log("targets not forgotten", exc)
            await self._sleep(DAY_SECONDS)

    async def _forget(self) -> None:
        after = after_ms(self._lookback_ms())
        remembered = await self._ledger.remembered()
        forgotten = [
            key
            for key in overdue(remembered, self._configured(), int(self._clock() * 1000), after)
            if await self._ledger.forget(key, partial(self._is_unused, key))
        ]
        if forgotten:
            structlog.get_logger().info(
                "targets forgotten that are not configured",
                targets=[f"{key.project}/{key.workspace}" for key in forgotten],
                days_without_record=after // (DAY_SECONDS * 1000),
            )

    def _is_unused(self, key: TargetKey) -> bool:
        return not is_configured(key, self._configured())
