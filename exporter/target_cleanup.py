"""
Deletes targets from the ledger that left the configuration long ago, at the start and then daily.

A wrong clock must not delete a target that may come back tomorrow. So two clocks have to agree that the time
is over: ours, and that of the API, as recorded by the targets that are still polled.

A target of another shard is deleted at once: another exporter counts its runs now. If it came back later and
its counts went on from the old record, all that the other exporter counted would be counted again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

import structlog

from exporter.config import Shard
from exporter.errors import LedgerError
from exporter.model import TargetKey
from exporter.state_log import FaultLog
from exporter.sync.ledger import Ledger, RecordedTarget
from exporter.sync.server_traits import has_passed

DAY_SECONDS = 86_400
LEAST_MS = 30 * DAY_SECONDS * 1000
# There may be thousands.
_NAMED_IN_THE_LOG = 10
# Events of a target are deleted with it. So the deletion waits for their output, an hour at most.
_LOOKS_FOR_EVENTS, _SECONDS_BETWEEN_LOOKS = 60, 60


def expired_targets(
    recorded: Sequence[RecordedTarget], configured: Collection[TargetKey], now_ms: int, kept_ms: int
) -> list[TargetKey]:
    """Return the targets that are not configured and for which nothing was recorded for `kept_ms`."""
    unused = [one for one in recorded if not is_configured(one.key, configured)]
    api_now_ms = max((one.watermark_ms for one in recorded if one not in unused), default=0)
    return [
        one.key
        for one in unused
        if has_passed(kept_ms, one.committed_ms, now_ms) and api_now_ms - one.watermark_ms >= kept_ms
    ]


def is_configured(key: TargetKey, configured: Collection[TargetKey]) -> bool:
    """Return whether a target is polled; one without a path is taken over by the next poll of its names."""
    if key.path:
        return key in configured
    names = {(each.project, each.project_id, each.workspace) for each in configured}
    return (key.project, key.project_id, key.workspace) in names


def retention_ms(lookback_ms: int | None) -> int:
    """Return how long a target is kept after its last record; also without a limit of the lookback."""
    return max(LEAST_MS, lookback_ms or 0)


class TargetCleanup:
    """
    The daily deletion. `configured` gives the targets of the configuration as it is now.

    Shape: without a `shard` there are no targets of other shards; `is_held_elsewhere` tells of a target that
    another replica polls, so that it is not deleted although it is not configured here.
    Units: `lookback_ms` gives milliseconds, None for no limit; `clock` gives Unix seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        configured: Callable[[], Collection[TargetKey]],
        lookback_ms: Callable[[], int | None],
        *,
        shard: Shard | None = None,
        is_held_elsewhere: Callable[[TargetKey], bool] = lambda _: False,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._configured = configured
        self._lookback_ms = lookback_ms
        self._shard = shard
        self._is_held_elsewhere = is_held_elsewhere
        self._clock = clock
        self._sleep = sleep
        self._faults = FaultLog(structlog.get_logger())
        self._looks_for_events = _LOOKS_FOR_EVENTS

    async def run(self) -> None:
        while True:
            pause_seconds = DAY_SECONDS
            try:
                if not await self._delete_of_other_shards():
                    pause_seconds = _SECONDS_BETWEEN_LOOKS
                await self._delete_expired()
                self._faults.clear()
            except LedgerError as exc:
                structlog.get_logger().warning("targets not forgotten", error=str(exc))
            except Exception as exc:
                self._faults.log("targets not forgotten", exc)
            await self._sleep(pause_seconds)

    async def _delete_of_other_shards(self) -> bool:
        """Delete them; return False where they are still there, because events wait to be written."""
        shard = self._shard
        if shard is None:
            return True
        recorded = [one.key for one in await self._ledger.remembered()]
        others = [key for key in recorded if not shard.has(key.project_id, key.workspace)]
        if not others:
            return True
        if self._looks_for_events and await self._ledger.count_events():
            self._looks_for_events -= 1
            return False
        # Before the work, which may take long.
        structlog.get_logger().warning(
            "the ledger has targets of other shards; they are forgotten, and begin with a baseline where they"
            " are polled now",
            shard=str(shard),
            targets=len(others),
            first=[_named(key) for key in others[:_NAMED_IN_THE_LOG]],
        )
        for key in others:
            await self._ledger.forget(key, partial(self._is_unused, key))
        return True

    async def _delete_expired(self) -> None:
        kept_ms = retention_ms(self._lookback_ms())
        now_ms = int(self._clock() * 1000)
        recorded = await self._ledger.remembered()
        deleted = [
            key
            for key in expired_targets(recorded, self._configured(), now_ms, kept_ms)
            # The ledger asks again in its own thread: a reload may have brought the target back meanwhile.
            if await self._ledger.forget(key, partial(self._is_unused, key))
        ]
        if deleted:
            structlog.get_logger().info(
                "targets forgotten that are not configured",
                targets=[_named(key) for key in deleted],
                days_without_record=kept_ms // (DAY_SECONDS * 1000),
            )

    def _is_unused(self, key: TargetKey) -> bool:
        return not is_configured(key, self._configured()) and not self._is_held_elsewhere(key)


def _named(key: TargetKey) -> str:
    return f"{key.project}/{key.workspace}"
