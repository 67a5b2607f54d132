"""
When a target is polled, and what is published then.

Each target has its own task, so a poll that hangs or fails, even by a fault of this program, delays no other
target. A successful poll publishes what the ledger committed. A failed one publishes that it failed, with the
numbers of the last successful one.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from exporter.counting.resources import SPEC_EXPECTED
from exporter.errors import ApiError, ContractError, InternalFault, LedgerError, PollError
from exporter.model import Fault, PollStatus, Progress, SeriesKey, Target, TargetSnapshot, Totals
from exporter.state_log import FaultLog, StateLog
from exporter.sync.change_reader import JobSource, PollRules
from exporter.sync.ledger import Ledger
from exporter.sync.poll import Poll
from exporter.sync.server_traits import ServerFindings

# So many first polls at once, of targets that share endpoint and credentials; a poll that takes longer than
# this is not counted any more.
_FIRST_AT_ONCE = 32
_SLOW_SECONDS = 5.0
# The second polls wait no longer than this for first ones: some have a million jobs to list, or an API that
# hangs.
_FIRST_POLLS_SECONDS = 30.0


class SnapshotSink(Protocol):
    """Where snapshots go: exposition.publication."""

    def publish(self, snapshot: TargetSnapshot) -> None:
        """Show this snapshot in place of the target's last one."""


class ProgressListener(Protocol):
    """Who is shown the progress of full syncs."""

    def on_progress(self, target: Target, progress: Progress) -> None:
        """More rows were read."""

    def on_finished(self, target: Target) -> None:
        """The full sync has ended, successfully or not."""


@dataclass(frozen=True, slots=True)
class PollTiming:
    """
    When a target is polled.

    Units: seconds. Shape: while polls fail, its gauges are published until they are `max_age_seconds` old.
    """

    interval_seconds: float
    max_age_seconds: float


class FirstPolls:
    """
    The first polls of many targets: so many at a time, in their order, and no target is polled twice before.

    Hundreds of polls at once would keep scrapes and signals waiting, and requests would reach their timeouts
    before they are sent. A slow poll soon stops to count, and each endpoint and credentials have their own
    queue: so targets that hang do not keep others waiting for long.
    """

    def __init__(self) -> None:
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._not_ended = _Crowd()

    @asynccontextmanager
    async def turn(self, target: Target) -> AsyncIterator[None]:
        """Wait for a place, and keep it during the first poll of a target."""
        queue = self._queue(target)
        with self._not_ended.entered():
            with queue.waiting.entered():
                await queue.places.acquire()
            with ExitStack() as place:
                place.callback(queue.places.release)
                # Closed a second time, the stack does nothing.
                slow = asyncio.get_running_loop().call_later(_SLOW_SECONDS, place.close)
                place.callback(slow.cancel)
                yield

    async def over(self, target: Target, within_seconds: float) -> None:
        """Wait until all of the target's queue have begun and, no longer than this, until all have ended."""
        await self._queue(target).waiting.empty.wait()
        await _is_set_within(self._not_ended.empty, within_seconds)

    def _queue(self, target: Target) -> _Queue:
        return self._queues.setdefault((target.endpoint, target.credentials), _Queue())


class _Queue:
    """The targets that share endpoint and credentials: those that wait, and places for first polls."""

    def __init__(self) -> None:
        self.waiting = _Crowd()
        self.places = asyncio.Semaphore(_FIRST_AT_ONCE)


class _Crowd:
    """Some tasks, and the event that there are none."""

    def __init__(self) -> None:
        self._size = 0
        self.empty = asyncio.Event()
        self.empty.set()

    @contextmanager
    def entered(self) -> Iterator[None]:
        self._size += 1
        self.empty.clear()
        try:
            yield
        finally:
            self._size -= 1
            if not self._size:
                self.empty.set()


class TargetPoller:
    """
    Polls one target at intervals, one poll at a time.

    Shape: `clock` gives Unix seconds, `timer` seconds that never step back; `status` continues that of the
    poller that had the target before, in this process or in another replica; `totals` are those published
    already; `catches_up` if polls were missed before the first one of this poller; with `created_series` the
    creation time of every counter is shown too. `on_polled` is called after each poll, and raises nothing.
    """

    def __init__(
        self,
        target: Target,
        source: JobSource,
        ledger: Ledger,
        sink: SnapshotSink,
        rules: PollRules,
        timing: PollTiming,
        *,
        status: PollStatus | None = None,
        totals: Totals | None = None,
        catches_up: bool = False,
        created_series: bool = False,
        on_polled: Callable[[Target, PollStatus], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        listener: ProgressListener | None = None,
    ) -> None:
        self.target = target
        self.status = status or PollStatus(began_ms=int(clock() * 1000))
        self.progress: Progress | None = None
        self.polling_since_ms: int | None = None
        self._created_series = created_series
        self._source = source
        self._ledger = ledger
        self._sink = sink
        self._rules = rules
        self._timing = timing
        self._clock = clock
        self._timer = timer
        self._listener = listener
        self._on_polled = on_polled
        self._totals = totals
        self._catches_up = catches_up
        self._is_retired = False
        self._expiry: asyncio.TimerHandle | None = None
        self._findings: ServerFindings | None = None
        self._interrupted: Poll | None = None
        self._reading_since = timer()
        self._first_is_logged = self.status.polls > sum(self.status.failures.values())
        self._states = _States(target)
        if totals is not None:
            self._states.were_named(totals)

    async def restore(self) -> Totals | None:
        """Publish what the ledger has of the target, if anything, and return it. Raises: LedgerError."""
        try:
            restored = await self._ledger.restore(self.target, self._rules.counting)
            if restored is not None:
                self._states.were_named(restored)
                self._adopt(restored)
        except LedgerError:
            raise
        except Exception as exc:
            self._states.poll_faults.log("target not restored", exc)
        if self._totals is not None:
            self.status = replace(self.status, last_success_ms=self._totals.committed_ms)
        self._publish()
        return self._totals

    def retire(self) -> None:
        """Publish nothing any more: the target has gone to another replica."""
        self._is_retired = True
        self._cancel_expiry()

    async def release(self, keys: Collection[SeriesKey]) -> None:
        """Record that held series show their values from now on, and publish them. Raises: LedgerError."""
        self._adopt(await self._ledger.release(self.target, keys, self._rules.counting, self._now_ms()))
        self._publish()

    async def release_all(self) -> None:
        """Release every series that is held. Raises: LedgerError."""
        if self._totals is not None and self._totals.held:
            await self.release(self._totals.held)

    def _adopt(self, totals: Totals) -> None:
        """Publish these totals, unless the published ones are newer: a release may overtake a poll."""
        if self._totals is None or totals.revision >= self._totals.revision:
            self._totals = totals

    async def run(self, stop: asyncio.Event, first_polls: FirstPolls) -> None:
        """Poll at every interval until told to stop; a poll that takes longer skips the next ones."""
        interval = self._timing.interval_seconds
        try:
            async with first_polls.turn(self.target):
                if not stop.is_set():
                    await self.poll()
            await first_polls.over(self.target, min(interval, _FIRST_POLLS_SECONDS))
            # A random offset, so that the targets do not all poll at the same moment.
            due = self._timer() + random.random() * interval
            while not await _is_set_within(stop, due - self._timer()):
                await self.poll()
                due = self._next_due(due)
        finally:
            self._cancel_expiry()

    def _next_due(self, due: float) -> float:
        """Give when to poll next, and count the polls that were skipped because this one took too long."""
        interval = self._timing.interval_seconds
        following = next_due(due, self._timer(), interval)
        skipped = round((following - due) / interval) - 1
        if skipped > 0:
            self.status = replace(self.status, skipped=self.status.skipped + skipped)
            self._states.late.holds("late", self._clock(), polls_skipped=skipped)
            self._publish()
        else:
            self._states.late.is_over(self._clock())
        return following

    async def poll(self) -> bool:
        """Poll once and publish the outcome; tell whether it succeeded. Raises nothing."""
        began = self._timer()
        self.polling_since_ms = self._now_ms()
        poll = self._next_poll()
        try:
            try:
                totals = await poll.run()
            finally:
                self.polling_since_ms = None
                self._findings = poll.findings
                progress, self.progress = self.progress, None
                if progress is not None and self._listener is not None:
                    self._listener.on_finished(self.target)
            self._succeeded(totals, poll)
            self._states.poll_faults.clear()
        except PollError as exc:
            self._failed(exc)
            # An answer that breaks the contract may have staged wrong rows, so then nothing is resumed.
            if isinstance(exc, ApiError) and not isinstance(exc, ContractError):
                self._interrupted = poll
        except Exception as exc:
            self._states.poll_faults.log("poll failed", exc)
            self._failed(InternalFault(exc))
        self.status = replace(
            self.status,
            polls=self.status.polls + 1,
            duration_seconds=self._timer() - began,
            requests=poll.counter.sent,
            last_poll_ms=self._now_ms(),
        )
        # Before the audit: an audit may take long, and the poll is complete without it.
        self._publish()
        await self._tell()
        if self.status.up:
            await self._audit(poll)
        return bool(self.status.up)

    async def _tell(self) -> None:
        if self._on_polled is not None:
            await self._on_polled(self.target, self.status)

    def _next_poll(self) -> Poll:
        """Give a new poll, or the first sync that was interrupted and can be resumed."""
        interrupted, self._interrupted = self._interrupted, None
        if interrupted is not None and interrupted.can_resume:
            return interrupted
        self._reading_since = self._timer()
        catches_up, self._catches_up = self._catches_up, False
        return Poll(
            self.target,
            self._source,
            self._ledger,
            self._rules,
            self._now_ms,
            on_progress=self._show_progress,
            catching_up=catches_up or not self.status.up,
            before=self._findings,
        )

    def _show_progress(self, progress: Progress) -> None:
        self.progress = progress
        if self._listener is not None:
            self._listener.on_progress(self.target, progress)

    async def _audit(self, poll: Poll) -> None:
        """Audit if that is due. A failed audit does not fail the poll; the next poll audits again."""
        counted = poll.full_sync
        try:
            audited = await poll.audit()
        except PollError as exc:
            self._states.audit_failing.holds(exc.reason, self._clock(), error=str(exc))
            audited = poll.totals  # the audit may have read and recorded again before it failed
        except Exception as exc:
            self._states.audit_faults.log("audit failed", exc)
            audited = poll.totals
        else:
            self._states.audit_faults.clear()
            if audited is None:
                return
            self._states.audit_failing.is_over(self._clock())
        self._count_full_sync(poll.full_sync if poll.full_sync != counted else None)
        self._states.name_specs(audited)
        self._adopt(audited)
        self.status = replace(self.status, requests=poll.counter.sent)
        self._publish()
        await self._tell()

    def _succeeded(self, totals: Totals, poll: Poll) -> None:
        self._count_full_sync(poll.full_sync)
        self._states.succeeded(totals, poll, self._clock())
        self._adopt(totals)
        self.status = replace(
            self.status,
            up=True,
            last_success_ms=totals.committed_ms,
            error=None,
            swap_limit_seconds=poll.swap_limit_seconds,
        )
        if not self._first_is_logged:
            self._first_is_logged = True
            what = "first listing" if poll.full_sync == "first" else "first poll, on from the ledger"
            jobs, seconds = sum(totals.jobs.values()), self._timer() - self._reading_since
            self._states.log.info(f"{what}: {jobs:,} jobs in {seconds:.1f} s", requests=poll.counter.sent)

    def _count_full_sync(self, reason: str | None) -> None:
        if reason is not None:
            full_syncs = {**self.status.full_syncs, reason: self.status.full_syncs[reason] + 1}
            self.status = replace(self.status, full_syncs=full_syncs)

    def _failed(self, exc: PollError) -> None:
        before = self.status.error
        # Failures in a row are one outage: it began with the first of them.
        since_ms = self._now_ms() if before is None else before.since_ms
        if isinstance(exc, ApiError):
            fault = Fault(exc.reason, exc.message, since_ms, exc.status, exc.code, exc.url, exc.request_id)
        else:
            fault = Fault(exc.reason, str(exc), since_ms)
        self._states.failing.holds(
            (exc.reason, fault.status), self._clock(), reason=exc.reason, error=str(exc)
        )
        failures = {**self.status.failures, exc.reason: self.status.failures[exc.reason] + 1}
        self.status = replace(self.status, up=False, failures=failures, error=fault)

    def _publish(self) -> None:
        """Publish the target as it is now. Where its gauges are to expire, publish it again at that time."""
        self._cancel_expiry()
        if self._is_retired:
            return
        left = float("inf")
        if not self.status.up and self.status.last_success_ms is not None:
            left = self.status.last_success_ms / 1000 + self._timing.max_age_seconds - self._clock()
        snapshot = TargetSnapshot(self.target, self._totals, self.status, left <= 0, self._created_series)
        try:
            self._sink.publish(snapshot)
            self._states.publish_faults.clear()
        except Exception as exc:
            self._states.publish_faults.log("target not published", exc)
        if 0 < left < float("inf"):
            self._expiry = asyncio.get_running_loop().call_later(left, self._publish)

    def _cancel_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


class _States:
    """What the log tells of a target when it begins, when it changes and when it ends."""

    def __init__(self, target: Target) -> None:
        self.log = log = structlog.get_logger().bind(project=target.project, workspace=target.workspace)
        self.failing = StateLog(log, "poll failed", "polling works again")
        self.late = StateLog(log, "poll took longer than its interval", "polls keep to their interval again")
        self.audit_failing = StateLog(log, "audit failed", "audits work again")
        self.poll_faults, self.audit_faults, self.publish_faults = (FaultLog(log) for _ in range(3))
        self._unverified = StateLog(log, "poll not proved", "polls are proved again")
        self._set_apart = StateLog(log, "rows cannot be read and are set apart", "all rows can be read again")
        self._unlisted = StateLog(
            log,
            "the API's total counts jobs that it does not list",
            "the API's total is that of its rows again",
        )
        self._named_specs: set[str] = set()

    def succeeded(self, totals: Totals, poll: Poll, now: float) -> None:
        """Tell what a poll that succeeded found."""
        self.failing.is_over(now)
        if (exc := poll.count_error) is None:
            self._unverified.is_over(now)
        else:
            self._unverified.holds(exc.reason, now, reason=exc.reason, error=str(exc))
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
        self.name_specs(totals)

    def were_named(self, totals: Totals) -> None:
        """Take the unreadable specs of the ledger as named: by a poller before this one."""
        self._named_specs.update(totals.unreadable_specs)

    def name_specs(self, totals: Totals) -> None:
        """Name each spec that cannot be read once: the ledger keeps them, and only so many."""
        for spec in totals.unreadable_specs:
            if spec not in self._named_specs:
                self._named_specs.add(spec)
                self.log.warning(
                    "resource spec cannot be read and adds no resource seconds",
                    resource_spec=spec,
                    expected=SPEC_EXPECTED,
                )


def next_due(due: float, now: float, interval: float) -> float:
    """Give when to poll next: a whole number of intervals after the last time, and not in the past."""
    return due + interval * max(math.ceil((now - due) / interval), 1)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, but no longer than this; tell whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(max(seconds, 0)):
            await event.wait()
    return event.is_set()
