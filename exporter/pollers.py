"""
The pollers of the configured targets, and what they take from the configuration.

A target whose settings stay the same keeps its poller over a reload. Another one gets a new poller, which
goes on counting from the ledger.

On a shared ledger only the targets whose leases this replica holds have a poller. It begins with what is
published already, so that no series goes back or disappears when a target changes hands.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from exporter.clients import ClientFactory
from exporter.config import Config
from exporter.counting.rules import CountingRules, EventRules
from exporter.errors import LedgerError, StartError
from exporter.exposition.publication import Publisher
from exporter.masking import Secrets
from exporter.model import PollStatus, Progress, SeriesKey, Target, TargetKey, Totals
from exporter.state_log import StateLog
from exporter.sync.change_reader import PollRules
from exporter.sync.ledger import Ledger
from exporter.sync.planner import Schedule
from exporter.sync.poller import FirstPolls, PollTiming, ProgressListener, TargetPoller

# So many targets are restored at once: enough that the ledger never waits for the next question, and few
# enough that a stop, and the polls that run already, wait for no more than these.
_RESTORED_AT_ONCE = 32


class SharedTargets(Protocol):
    """What is different for the targets of a ledger that replicas share."""

    def may_poll(self, key: TargetKey) -> bool:
        """Tell whether this replica holds the lease of a target."""

    async def polled(self, target: Target, status: PollStatus) -> None:
        """Let the other replicas know how the polls go. Raises nothing."""


@dataclass(frozen=True, slots=True)
class _Running:
    poller: TargetPoller
    stop: asyncio.Event
    task: asyncio.Task[None]


class Pollers:
    """
    One poller for each configured target, each in a task of `group`.

    Shape: once `is_stopping` returns True, no poller is restored or started any more.
    """

    def __init__(
        self,
        ledger: Ledger,
        publisher: Publisher,
        secrets: Secrets,
        group: asyncio.TaskGroup,
        progress_listener: ProgressListener,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._secrets = secrets
        self._group = group
        self._progress_listener = progress_listener
        self._is_stopping = is_stopping
        self._first_polls = FirstPolls()
        self._running: dict[TargetKey, _Running] = {}
        self._starting: dict[TargetKey, TargetPoller] = {}
        self._shared: SharedTargets | None = None
        self._has_started = False
        self._unrestored: dict[TargetKey, StateLog] = {}

    def __len__(self) -> int:
        return len(self._running)

    def progress(self) -> Mapping[TargetKey, Progress]:
        progress = {key: running.poller.progress for key, running in self._running.items()}
        return {key: one for key, one in progress.items() if one is not None}

    def polling_since_ms(self) -> dict[TargetKey, int]:
        began = {key: running.poller.polling_since_ms for key, running in self._running.items()}
        return {key: since_ms for key, since_ms in began.items() if since_ms is not None}

    def share(self, shared: SharedTargets) -> None:
        """Poll from now on only the targets whose leases are held."""
        self._shared = shared

    def publishes(self, key: TargetKey) -> bool:
        """Tell whether a poller publishes this target."""
        return key in self._running or key in self._starting

    def cancel(self, keys: Collection[TargetKey]) -> None:
        """Stop the pollers of these targets at once: what they have read cannot be recorded any more."""
        for key in keys:
            if (starting := self._starting.pop(key, None)) is not None:
                starting.retire()
            if (running := self._running.pop(key, None)) is not None:
                running.poller.retire()
                running.task.cancel()

    async def finish(self, keys: Collection[TargetKey], grace_seconds: float) -> None:
        """Stop the pollers of these targets: polls under way may end within the grace period."""
        self.cancel([key for key in keys if key in self._starting])
        leaving = {key: self._running[key] for key in keys if key in self._running}
        await _stop(leaving.values(), grace_seconds)
        # Those that were cancelled meanwhile are gone already.
        self.cancel([key for key, running in leaving.items() if self._running.get(key) is running])

    async def stop_replaced(self, before: Config, config: Config) -> dict[TargetKey, PollStatus]:
        """Stop the pollers whose target left or changed; return their statuses for those that follow."""
        wanted = {target.key: target for target in config.targets()}
        leaving = {
            key: running
            for key, running in self._running.items()
            if key not in wanted or _identity(before, running.poller.target) != _identity(config, wanted[key])
        }
        # Without grace: what a cancelled poll has not recorded is read again by the poller that follows.
        await _stop(leaving.values(), 0)
        for key in leaving:
            self._running.pop(key, None)
            if key not in wanted:
                self._publisher.withdraw(key)
        return {key: running.poller.status for key, running in leaving.items()}

    async def start_missing(
        self, config: Config, clients: ClientFactory, statuses: Mapping[TargetKey, PollStatus]
    ) -> None:
        """
        Start a poller for each target without one. Raises: StartError (only at the first call).

        All are restored before the first of them polls: the ledger does one thing after the other, so among
        the work of the polls a target would wait long to be restored.
        """
        rules = poll_rules(config)
        missing = [
            self._poller(config, rules, clients, target, statuses.get(target.key))
            for target in config.targets()
            if target.key not in self._running and (self._shared is None or self._shared.may_poll(target.key))
        ]
        self._starting = {poller.target.key: poller for poller in missing}
        try:
            await self._restore_all(missing)
            if not self._is_stopping():
                for poller in self._starting.values():  # without those whose leases were lost meanwhile
                    self._start(poller)
                self._has_started = True
        finally:
            self._starting = {}

    def _start(self, poller: TargetPoller) -> None:
        target, stop = poller.target, asyncio.Event()
        name = f"poll {target.project}/{target.workspace}"
        task = self._group.create_task(poller.run(stop, self._first_polls), name=name)
        self._running[target.key] = _Running(poller, stop, task)

    async def stop(self, grace_seconds: float) -> None:
        """Stop all: polls under way may end within the grace period, and are cancelled after it."""
        await _stop(self._running.values(), grace_seconds)

    async def release(self, key: TargetKey, keys: frozenset[SeriesKey]) -> None:
        """Release some new series of a target, if it is polled here. Raises: LedgerError."""
        if key in self._running:
            await self._running[key].poller.release(keys)

    async def poll_once(self, config: Config, clients: ClientFactory) -> bool:
        """
        Poll every target once, without a timer; return whether all polls succeeded.

        New series are released at once: nothing scrapes them at 0 first. Raises: StartError.
        """
        rules = poll_rules(config)
        pollers = [self._poller(config, rules, clients, target) for target in config.targets()]
        await self._restore_all(pollers)

        async def poll(poller: TargetPoller) -> bool:
            async with self._first_polls.turn(poller.target):
                succeeded = await poller.poll()
            try:
                await poller.release_all()
            except LedgerError as exc:
                structlog.get_logger().error("new series not released", error=str(exc))
                return False
            return succeeded

        return all(await asyncio.gather(*map(poll, pollers)))

    def _poller(
        self,
        config: Config,
        rules: PollRules,
        clients: ClientFactory,
        target: Target,
        status: PollStatus | None = None,
    ) -> TargetPoller:
        published = None if self._shared is None else self._publisher.last(target.key)
        if published is not None:
            status = status or published.poll
        interval_seconds = config.poll.interval_seconds
        return TargetPoller(
            target,
            clients.client(target),
            self._ledger,
            self._publisher,
            rules,
            PollTiming(interval_seconds, config.metrics.max_age_seconds),
            # Counters of polls and failures go on, although the poller is a new one.
            status=status,
            totals=None if published is None else published.totals,
            catches_up=published is not None and misses_polls(published.poll, interval_seconds, time.time()),
            created_series=config.metrics.created_series,
            on_polled=None if self._shared is None else self._shared.polled,
            listener=self._progress_listener,
        )

    async def _restore_all(self, pollers: Sequence[TargetPoller]) -> None:
        """Restore some targets, until told to stop. Raises: StartError."""
        for start in range(0, len(pollers), _RESTORED_AT_ONCE):
            if not self._is_stopping():
                await asyncio.gather(*map(self._restore, pollers[start : start + _RESTORED_AT_ONCE]))

    async def _restore(self, poller: TargetPoller) -> None:
        """
        Publish the target's totals from the ledger.

        At the start a target that cannot be restored ends the process. At a reload, and of a ledger that
        replicas share, it is logged and the target is polled all the same: the other targets must go on.
        Raises: StartError.
        """
        target = poller.target
        state = self._unrestored.get(target.key)
        try:
            totals = await poller.restore()
        except LedgerError as exc:
            if not self._has_started and self._shared is None:
                raise StartError(str(exc)) from exc
            if state is None:
                state = self._unrestored[target.key] = StateLog(
                    structlog.get_logger(), "target not restored", "target restored again", is_error=True
                )
            names = {"project": target.project, "workspace": target.workspace}
            state.holds(exc.reason, time.time(), **names, error=str(exc))
            return
        if state is not None:
            state.is_over(time.time(), project=target.project)
        if totals is not None:
            keep_exported_labels(self._secrets, totals)


def misses_polls(status: PollStatus, interval_seconds: float, now: float) -> bool:
    """
    Tell whether a poll that was due has not come: the holder of the target crashed, or all were stopped.

    The last poll before that may have succeeded. Where two machines disagree about the time, nobody knows.
    """
    last_ms = status.last_poll_ms
    return last_ms is None or abs(now - last_ms / 1000) > 1.5 * interval_seconds


def keep_exported_labels(secrets: Secrets, totals: Totals) -> None:
    """Let label values that are exported already stay as they are, even if a secret is equal to one now."""
    for labels in (totals.jobs, totals.completed, totals.failures, totals.resource_jobs):
        secrets.keep_labels(label for series in labels for label in series)


async def _stop(some: Collection[_Running], grace_seconds: float) -> None:
    """Let these pollers end within the grace period, then cancel them."""
    for running in some:
        running.stop.set()
    if some:
        _, late = await asyncio.wait([running.task for running in some], timeout=grace_seconds)
        for task in late:
            task.cancel()
        # A poller that fails while it is cancelled must not keep the others from ending.
        await asyncio.gather(*late, return_exceptions=True)


def poll_rules(config: Config) -> PollRules:
    """Translate what the configuration says of reading and counting into the poll's own units."""
    poll = config.poll
    return PollRules(
        schedule=Schedule(
            lookback_ms=None if poll.lookback_seconds is None else round(poll.lookback_seconds * 1000),
            overlap_ms=round(poll.overlap_seconds * 1000),
            full_sync_interval_ms=round(poll.full_sync_interval_seconds * 1000),
            audit_interval_ms=round(poll.audit_interval_seconds * 1000),
            # One or two failed polls are no gap, nor is a pause that the overlap covers.
            gap_ms=round(max(poll.overlap_seconds, 3 * poll.interval_seconds) * 1000),
            interval_ms=round(poll.interval_seconds * 1000),
            request_ms=1000 / poll.requests_per_second,
        ),
        page_size=config.poll.page_size,
        concurrency=config.poll.concurrency,
        counting=CountingRules(
            submitting_bounds=config.metrics.submitting_buckets,
            running_bounds=config.metrics.running_buckets,
            max_msg_codes=config.metrics.max_msg_codes,
            max_job_types=config.metrics.max_job_types,
            max_statuses=config.metrics.max_statuses,
            max_resource_specs=config.metrics.max_resource_specs,
            count_history=config.metrics.count_history,
            events=None if config.events is None else EventRules(config.events.include),
        ),
    )


def _identity(config: Config, target: Target) -> tuple[object, ...]:
    """Return all settings of a poller: a reload that leaves them as they are leaves the poller alone."""
    # The hold belongs to the releaser and not to a poller, so it may change without a new one.
    metrics = config.metrics.model_copy(update={"new_series_hold_seconds": 0.0})
    include = None if config.events is None else config.events.include
    return (target, config.credentials_of(target), config.poll, metrics, include)
