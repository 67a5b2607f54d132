"""
When a target is polled, and what is published then.

One task per target: a poll that hangs or fails is nobody else's. A poll that succeeds publishes what the
ledger committed; one that fails publishes that it failed, and the numbers stay as they were.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from exporter.errors import PollError
from exporter.ledger.protocol import Ledger
from exporter.model import Fault, PollStatus, Target, TargetSnapshot, Totals
from exporter.sync.poll import PageSource, Poll, PollRules


class Publications(Protocol):
    """Where snapshots go: exposition.publication."""

    def publish(self, snapshot: TargetSnapshot) -> None:
        """Show this snapshot in place of the target's last one."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a target is polled, and how long a failing one's gauges are believed. Units: seconds."""

    interval_seconds: float
    max_age_seconds: float


class Poller:
    """
    Polls one target, again and again, one poll at a time.

    Shape: `clock` gives Unix seconds, `timer` seconds that never step back; `status` goes on from the poller
    that had the target before a reload.
    """

    def __init__(
        self,
        target: Target,
        source: PageSource,
        ledger: Ledger,
        publications: Publications,
        rules: PollRules,
        rhythm: Rhythm,
        *,
        status: PollStatus | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.status = status or PollStatus()
        self._source = source
        self._ledger = ledger
        self._publications = publications
        self._rules = rules
        self._rhythm = rhythm
        self._clock = clock
        self._timer = timer
        self._totals: Totals | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._log = structlog.get_logger().bind(project=target.project, workspace=target.workspace)

    async def restore(self) -> None:
        """Publish what the ledger has of the target, if anything. Raises: LedgerError."""
        self._totals = await self._ledger.restore(self.target, self._rules.counting)
        if self._totals is not None:
            self.status = replace(self.status, last_success_ms=self._totals.committed_ms)
        self._publish()

    async def run(self, stop: asyncio.Event) -> None:
        """Poll at every interval until told to stop; a poll that overruns it skips the next ones."""
        due = self._timer()
        try:
            while not stop.is_set():
                await self.poll()
                due = next_due(due, self._timer(), self._rhythm.interval_seconds)
                await _wait(stop, due - self._timer())
        finally:
            self._disarm()

    async def poll(self) -> bool:
        """Poll once and publish the outcome; tell whether it succeeded."""
        began = self._timer()
        poll = Poll(self.target, self._source, self._ledger, self._rules, self._now_ms)
        try:
            self._totals = await poll.run()
        except PollError as exc:
            self._failed(exc)
        else:
            self._succeeded(self._totals)
        self.status = replace(
            self.status,
            polls=self.status.polls + 1,
            duration_seconds=self._timer() - began,
            requests=poll.counter.sent,
        )
        self._publish()
        return bool(self.status.up)

    def _succeeded(self, totals: Totals) -> None:
        if self.status.error is not None:
            self._log.info("polling works again")
        self.status = replace(self.status, up=True, last_success_ms=totals.committed_ms, error=None)

    def _failed(self, exc: PollError) -> None:
        before = self.status.error
        since_ms = self._now_ms() if before is None else before.since_ms
        if before is None or before.reason != exc.reason:
            self._log.warning("poll failed", reason=exc.reason, error=str(exc))
        else:
            self._log.debug("poll failed again", reason=exc.reason, error=str(exc))
        failures = {**self.status.failures, exc.reason: self.status.failures[exc.reason] + 1}
        fault = Fault(exc.reason, str(exc), since_ms)
        self.status = replace(self.status, up=False, failures=failures, error=fault)

    def _publish(self) -> None:
        """Show the state of things; what is not known any more when its time comes is then taken back."""
        self._disarm()
        left = self._seconds_to_believe()
        self._publications.publish(TargetSnapshot(self.target, self._totals, self.status, stale=left <= 0))
        if 0 < left < float("inf"):
            self._expiry = asyncio.get_running_loop().call_later(left, self._publish)

    def _seconds_to_believe(self) -> float:
        if self.status.up or self.status.last_success_ms is None:
            return float("inf")
        return self.status.last_success_ms / 1000 + self._rhythm.max_age_seconds - self._clock()

    def _disarm(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def next_due(due: float, now: float, interval: float) -> float:
    """Give when to poll next: a whole number of intervals after the last time, and not in the past."""
    return due + interval * max(math.ceil((now - due) / interval), 1)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(seconds, 0)):
            await stop.wait()
