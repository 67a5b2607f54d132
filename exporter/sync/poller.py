"""
When a target is polled, and what is published then.

One task per target: what makes a poll hang or fail, be it a fault of this program, concerns no other target.
A poll that succeeds publishes what the ledger committed; one that fails publishes that it failed, and the
numbers stay as they were.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from exporter.errors import ApiError, ContractError, InternalFault, LedgerError, PollError
from exporter.model import Fault, PollStatus, Progress, SeriesKey, Target, TargetSnapshot, Totals
from exporter.state_log import FaultLog, StateLog
from exporter.sync.change_reader import JobSource, PollRules
from exporter.sync.ledger import Ledger
from exporter.sync.poll import Poll
from exporter.sync.server_traits import ServerFindings


class SnapshotSink(Protocol):
    """Where snapshots go: exposition.publication."""

    def publish(self, snapshot: TargetSnapshot) -> None:
        """Show this snapshot in place of the target's last one."""


class ProgressListener(Protocol):
    """Who is shown how a long listing goes."""

    def reading(self, target: Target, progress: Progress) -> None:
        """Some more rows were read."""

    def has_read(self, target: Target) -> None:
        """The listing has ended, well or not."""


@dataclass(frozen=True, slots=True)
class PollTiming:
    """How often a target is polled, and how long a failing one's gauges are believed. Units: seconds."""

    interval_seconds: float
    max_age_seconds: float


class TargetPoller:
    """
    Polls one target, again and again, one poll at a time.

    Shape: `clock` gives Unix seconds, `timer` seconds that never step back; `status` goes on from the poller
    that had the target before a reload; `created_series` has the beginning of every counter shown.
    """

    def __init__(
        self,
        target: Target,
        source: JobSource,
        ledger: Ledger,
        publications: SnapshotSink,
        rules: PollRules,
        rhythm: PollTiming,
        *,
        status: PollStatus | None = None,
        created_series: bool = False,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        watcher: ProgressListener | None = None,
    ) -> None:
        self.target = target
        self.status = status or PollStatus(began_ms=int(clock() * 1000))
        self._created_series = created_series
        self._source = source
        self._ledger = ledger
        self._publications = publications
        self._rules = rules
        self._rhythm = rhythm
        self._clock = clock
        self._timer = timer
        self._watcher = watcher
        self._totals: Totals | None = None
        self.progress: Progress | None = None
        self.polling_since_ms: int | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._findings = ServerFindings()
        self._unfinished: Poll | None = None
        self._reading_since = timer()
        self._has_told_of_first = self.status.polls > sum(self.status.failures.values())
        names = {"project": target.project, "workspace": target.workspace}
        self._log = log = structlog.get_logger().bind(**names)
        self._failing = StateLog(log, "poll failed", "polling works again")
        self._late = StateLog(log, "poll took longer than its interval", "polls keep to their interval again")
        self._not_proved = StateLog(log, "poll not proved", "polls are proved again")
        self._set_apart = StateLog(log, "rows cannot be read and are set apart", "all rows can be read again")
        self._unlisted = StateLog(
            log,
            "the API's total counts jobs that it does not list",
            "the API's total is that of its rows again",
        )
        self._audit_failing = StateLog(log, "audit failed", "audits work again")
        self._poll_faults, self._audit_faults, self._shown_faults = (FaultLog(log) for _ in range(3))

    async def restore(self) -> None:
        """Publish what the ledger has of the target, if anything. Raises: LedgerError."""
        try:
            self._totals = await self._ledger.restore(self.target, self._rules.counting)
        except LedgerError:
            raise
        except Exception as exc:
            self._poll_faults.log("target not restored", exc)
        if self._totals is not None:
            self.status = replace(self.status, last_success_ms=self._totals.committed_ms)
        self._publish()

    async def release(self, keys: Collection[SeriesKey]) -> None:
        """Record that held series show their values from now on, and publish them. Raises: LedgerError."""
        rules = self._rules.counting
        self._take_up(await self._ledger.release(self.target, keys, rules, self._now_ms()))
        self._publish()

    async def release_all(self) -> None:
        """Release every series that is held. Raises: LedgerError."""
        if self._totals is not None and self._totals.held:
            await self.release(self._totals.held)

    def _take_up(self, totals: Totals) -> None:
        """Let this be what is published, unless what is published was read from the ledger later."""
        if self._totals is None or totals.revision >= self._totals.revision:
            self._totals = totals

    async def run(self, stop: asyncio.Event) -> None:
        """Poll at every interval until told to stop; a poll that overruns it skips the next ones."""
        try:
            await self.poll()
            # The others come at a time of this target's own, so that targets do not poll in step.
            due = self._timer() + random.random() * self._rhythm.interval_seconds
            while not await _told(stop, due - self._timer()):
                await self.poll()
                due = self._next(due)
        finally:
            self._disarm()

    def _next(self, due: float) -> float:
        """Give when to poll next, and tell of the polls that this one has outlasted."""
        interval = self._rhythm.interval_seconds
        following = next_due(due, self._timer(), interval)
        skipped = round((following - due) / interval) - 1
        if skipped > 0:
            self.status = replace(self.status, skipped=self.status.skipped + skipped)
            self._late.holds("late", self._clock(), polls_skipped=skipped)
            self._publish()
        else:
            self._late.is_over(self._clock())
        return following

    async def poll(self) -> bool:
        """Poll once and publish the outcome; tell whether it succeeded. Raises nothing."""
        began = self._timer()
        self.polling_since_ms = self._now_ms()
        poll = self._next_poll()
        try:
            await self._read_and_record(poll)
        except PollError as exc:
            self._failed(exc)
            if isinstance(exc, ApiError) and not isinstance(exc, ContractError):
                self._unfinished = poll
        except Exception as exc:
            self._poll_faults.log("poll failed", exc)
            self._failed(InternalFault(exc))
        seconds = self._timer() - began
        self.status = replace(
            self.status,
            polls=self.status.polls + 1,
            duration_seconds=seconds,
            requests=poll.counter.sent,
            last_poll_ms=self._now_ms(),
        )
        self._publish()
        if self.status.up:
            await self._audit(poll)
        return bool(self.status.up)

    def _next_poll(self) -> Poll:
        """Give a new poll, or a first sync that broke off and can go on where it stood."""
        unfinished, self._unfinished = self._unfinished, None
        if unfinished is not None and unfinished.can_go_on:
            return unfinished
        self._reading_since = self._timer()
        return Poll(
            self.target,
            self._source,
            self._ledger,
            self._rules,
            self._now_ms,
            on_progress=self._reading,
            catching_up=not self.status.up,
            before=self._findings,
        )

    async def _read_and_record(self, poll: Poll) -> None:
        try:
            totals = await poll.run()
        finally:
            self.polling_since_ms = None
            self._findings = poll.findings
            self._has_read()
        self._succeeded(totals, poll)
        self._tell_of_first(totals, poll)
        self._poll_faults.clear()

    def _reading(self, progress: Progress) -> None:
        self.progress = progress
        if self._watcher is not None:
            self._watcher.reading(self.target, progress)

    def _has_read(self) -> None:
        progress, self.progress = self.progress, None
        if progress is not None and self._watcher is not None:
            self._watcher.has_read(self.target)

    async def _audit(self, poll: Poll) -> None:
        """Audit where that is due. The poll stands whatever comes of it; the next one tries again."""
        counted = poll.full_sync
        try:
            audited = await poll.audit()
        except PollError as exc:
            self._audit_failing.holds(exc.reason, self._clock(), error=str(exc))
            audited = poll.totals  # it may have read and recorded once more
        except Exception as exc:
            self._audit_faults.log("audit failed", exc)
            audited = poll.totals
        else:
            self._audit_faults.clear()
            if audited is None:
                return
            self._audit_failing.is_over(self._clock())
        self._count_full_sync(poll.full_sync if poll.full_sync != counted else None)
        self._take_up(audited)
        self.status = replace(self.status, requests=poll.counter.sent)
        self._publish()

    def _succeeded(self, totals: Totals, poll: Poll) -> None:
        self._count_full_sync(poll.full_sync)
        self._failing.is_over(self._clock())
        exc = poll.not_proved
        if exc is None:
            self._not_proved.is_over(self._clock())
        else:
            self._not_proved.holds(exc.reason, self._clock(), reason=exc.reason, error=str(exc))
        self._tell_of_rows(totals, poll)
        self._take_up(totals)
        self.status = replace(self.status, up=True, last_success_ms=totals.committed_ms, error=None)

    def _tell_of_first(self, totals: Totals, poll: Poll) -> None:
        """Log what the first poll that succeeds has found, and how long that took with broken tries."""
        if self._has_told_of_first:
            return
        self._has_told_of_first = True
        what = "first listing" if poll.full_sync == "first" else "first poll, on from the ledger"
        jobs, seconds = sum(totals.jobs.values()), self._timer() - self._reading_since
        self._log.info(f"{what}: {jobs:,} jobs in {seconds:.1f} s", requests=poll.counter.sent)

    def _count_full_sync(self, reason: str | None) -> None:
        if reason is not None:
            full_syncs = {**self.status.full_syncs, reason: self.status.full_syncs[reason] + 1}
            self.status = replace(self.status, full_syncs=full_syncs)

    def _tell_of_rows(self, totals: Totals, poll: Poll) -> None:
        """Tell of rows that cannot be read, and of a total that counts more jobs than the API lists."""
        now = self._clock()
        if totals.set_apart:
            self._set_apart.holds(
                tuple(row.key for row in totals.set_apart),
                now,
                rows=totals.rows_unreadable,
                job_ids=["none" if row.job_id is None else str(row.job_id) for row in totals.set_apart],
                problem=totals.set_apart[0].problem,
            )
        else:
            self._set_apart.is_over(now)
        if poll.unlisted_jobs:
            self._unlisted.holds(poll.unlisted_jobs, now, jobs=poll.unlisted_jobs)
        else:
            self._unlisted.is_over(now)

    def _failed(self, exc: PollError) -> None:
        before = self.status.error
        since_ms = self._now_ms() if before is None else before.since_ms
        status = exc.status if isinstance(exc, ApiError) else 0
        self._failing.holds((exc.reason, status), self._clock(), reason=exc.reason, error=str(exc))
        failures = {**self.status.failures, exc.reason: self.status.failures[exc.reason] + 1}
        self.status = replace(self.status, up=False, failures=failures, error=_fault(exc, since_ms))

    def _publish(self) -> None:
        """Show the state of things; what is not known any more when its time comes is then taken back."""
        self._disarm()
        left = self._seconds_to_believe()
        snapshot = TargetSnapshot(self.target, self._totals, self.status, left <= 0, self._created_series)
        try:
            self._publications.publish(snapshot)
            self._shown_faults.clear()
        except Exception as exc:
            self._shown_faults.log("target not published", exc)
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


def _fault(exc: PollError, since_ms: int) -> Fault:
    if isinstance(exc, ApiError):
        return Fault(exc.reason, exc.message, since_ms, exc.status, exc.code, exc.url, exc.request_id)
    return Fault(exc.reason, str(exc), since_ms)


def next_due(due: float, now: float, interval: float) -> float:
    """Give when to poll next: a whole number of intervals after the last time, and not in the past."""
    return due + interval * max(math.ceil((now - due) / interval), 1)


async def _told(stop: asyncio.Event, seconds: float) -> bool:
    """Wait to be told to stop, but no longer than this."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(seconds, 0)):
            await stop.wait()
    return stop.is_set()
