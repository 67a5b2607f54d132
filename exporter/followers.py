"""
Publishes the targets that other replicas poll, from the ledger that all of them share.

Once a second one statement shows what has changed. Totals are read again where their revision has moved; how
the polls of a target go comes with that statement. So every replica exports the same of every target, within
a few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import add
from typing import Self, TypeVar

import structlog

from exporter.config import Config
from exporter.counting.rules import CountingRules
from exporter.errors import LedgerError
from exporter.exposition.publication import Publisher
from exporter.masking import Secrets
from exporter.model import Fault, PollStatus, Target, TargetKey, TargetSnapshot, Totals
from exporter.pollers import keep_exported_labels, poll_rules
from exporter.state_log import FaultLog, StateLog
from exporter.sync.shared_ledger import SharedLedger, SharedTarget, Takeover

_LOOK_SECONDS = 1.0
# So many targets are read at once: polls of this replica need the ledger too.
_READ_AT_ONCE = 8
# After so many leases without the ledger, the gauges of targets that are not polled here are dropped.
_LEASES_WITHOUT_LEDGER = 4
_TAKEOVERS = 20

K = TypeVar("K", bound=str)


@dataclass(frozen=True, slots=True)
class Sight:
    """
    What the last look at the ledger has shown.

    Shape: `targets` of all replicas, configured here or not. Units: `at_ms` by our clock, 0 before the first
    look; `away_since_ms` is when the ledger could first not be read, None while it can.
    """

    targets: Mapping[TargetKey, SharedTarget]
    takeovers: tuple[Takeover, ...] = ()
    at_ms: int = 0
    away_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Followed:
    """How targets are published: what a new configuration may change."""

    targets: Mapping[TargetKey, Target]
    counting: CountingRules
    max_age_seconds: float
    interval_seconds: float
    created_series: bool

    @classmethod
    def of(cls, config: Config) -> Self:
        return cls(
            {target.key: target for target in config.targets()},
            poll_rules(config).counting,
            config.metrics.max_age_seconds,
            config.poll.interval_seconds,
            config.metrics.created_series,
        )


class Followers:
    """
    Looks at the ledger, and publishes the targets that `is_ours` does not name.

    Shape: `on_look` gets what each look has shown. Units: `timer` gives seconds that never step back, `clock`
    Unix seconds.
    """

    def __init__(
        self,
        ledger: SharedLedger,
        publisher: Publisher,
        secrets: Secrets,
        config: Config,
        *,
        is_ours: Callable[[TargetKey], bool],
        on_look: Callable[[Sequence[SharedTarget]], None],
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sight = Sight({})
        self._ledger = ledger
        self._publisher = publisher
        self._secrets = secrets
        self._lease_seconds = config.ledger.lease_seconds
        self._is_ours = is_ours
        self._on_look = on_look
        self._clock = clock
        self._timer = timer
        self._followed = _Followed.of(config)
        self._looked_at = timer()
        self._next_failure_at = 0.0
        # What was recorded of the polls of each target when this process first looked.
        self._before: dict[TargetKey, PollStatus] = {}
        # Which target and rules the published totals were read for.
        self._read_for: dict[TargetKey, tuple[Target, CountingRules]] = {}
        self._moved: dict[TargetKey, Target] = {}
        self._has_moved = asyncio.Event()
        self._looking = asyncio.Lock()
        log = structlog.get_logger()
        self._not_looked = StateLog(log, "shared ledger not read", "shared ledger is read again")
        self._not_read = StateLog(log, "targets of other replicas not read", "they are read again")
        self._faults = FaultLog(log)

    # -- the configuration -------------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        """Follow the targets of this configuration from now on; withdraw those that have left it."""
        before, self._followed = self._followed, _Followed.of(config)
        for key in before.targets.keys() - self._followed.targets.keys():
            self._publisher.withdraw(key)
            self._read_for.pop(key, None)

    def given_up(self, keys: Collection[TargetKey]) -> None:
        """Publish at once that these targets are not polled here any more."""
        for key in keys:
            if (last := self._publisher.last(key)) is not None:
                self._publisher.publish(replace(last, held=False))
        self._publisher.refresh()

    def recordable(self, key: TargetKey, status: PollStatus) -> PollStatus:
        """Add what the replicas before this process have counted to the counters of a poll."""
        before = self._before.get(key)
        return status if before is None else continued(before, status)

    # -- looking -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look once a second, and read what has moved, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_moved(), name="targets of other replicas")
            while True:
                began = self._timer()
                await self.look()
                await asyncio.sleep(max(0.0, began + _LOOK_SECONDS - self._timer()))

    async def look(self) -> bool:
        """Look at the ledger, and publish what needs no further reading; tell whether that worked."""
        async with self._looking:
            return await self._look()

    async def _look(self) -> bool:
        try:
            async with asyncio.timeout(max(_LOOK_SECONDS, self._lease_seconds / 3)):
                seen = {one.key: one for one in await self._ledger.look()}
                takeovers = self.sight.takeovers
                if self._holders_changed(seen):
                    takeovers = tuple(await self._ledger.takeovers(_TAKEOVERS))
        except (LedgerError, TimeoutError) as exc:
            error = str(exc) or "it does not answer in time"
            self._not_looked.holds("away", self._clock(), error=error)
            self._without_ledger(error)
            return False
        except Exception as exc:
            self._faults.log("shared ledger not read", exc)
            self._without_ledger("a fault of the exporter")
            return False
        self._not_looked.is_over(self._clock())
        self._looked_at = self._timer()
        self.sight = Sight(seen, takeovers, self._now_ms())
        self._follow(seen)
        self._on_look(tuple(seen.values()))
        return True

    def _holders_changed(self, seen: Mapping[TargetKey, SharedTarget]) -> bool:
        before = self.sight.targets
        return self.sight.at_ms == 0 or any(
            key not in before or before[key].holder != one.holder for key, one in seen.items()
        )

    def _follow(self, seen: Mapping[TargetKey, SharedTarget]) -> None:
        """Publish how the polls of others go; note which totals are to be read."""
        wanted = self._followed.counting
        for key, target in self._followed.targets.items():
            last, shared = self._publisher.last(key), seen.get(key)
            self._before.setdefault(key, (shared and shared.poll) or PollStatus())
            if self._is_ours(key):
                self._read_for[key] = (target, wanted)  # by its poller
                continue
            totals = None if last is None else last.totals
            revision = 0 if shared is None else shared.revision
            has_moved = revision > (0 if totals is None else totals.revision)
            if revision and (has_moved or self._read_for.get(key) != (target, wanted)):
                self._moved[key] = target
                self._has_moved.set()
            else:
                self._publish(target, totals, shared)

    # -- reading -----------------------------------------------------------------------------------------

    async def _read_moved(self) -> None:
        while True:
            await self._has_moved.wait()
            self._has_moved.clear()
            moved, self._moved = list(self._moved.values()), {}
            for start in range(0, len(moved), _READ_AT_ONCE):
                results = await asyncio.gather(*map(self._read, moved[start : start + _READ_AT_ONCE]))
                if all(results):
                    self._not_read.is_over(self._clock())

    async def _read(self, target: Target) -> bool:
        """Read the totals of one target and publish them; a failure is logged, and the next look retries."""
        followed = self._followed
        try:
            totals = await self._ledger.restore(target, followed.counting)
        except LedgerError as exc:
            self._not_read.holds(exc.reason, self._clock(), error=str(exc))
            return False
        except Exception as exc:
            self._faults.log("target of another replica not read", exc)
            return False
        # Meanwhile a poller may have begun to publish the target, or a reload may have changed it.
        if totals is None or self._is_ours(target.key) or self._followed is not followed:
            return True
        keep_exported_labels(self._secrets, totals)
        last = self._publisher.last(target.key)
        if last is None or last.totals is None or totals.revision >= last.totals.revision:
            self._publish(target, totals, self.sight.targets.get(target.key))
            self._read_for[target.key] = (target, followed.counting)
        return True

    # -- publishing --------------------------------------------------------------------------------------

    def _publish(self, target: Target, totals: Totals | None, shared: SharedTarget | None) -> None:
        """Publish a target as its holder would."""
        last = self._publisher.last(target.key)
        known = PollStatus(began_ms=self._now_ms()) if last is None else last.poll
        status = known
        if shared is not None and shared.poll is not None:
            status = merged(known, counted_from(self._before[target.key], shared.poll))
        if status.last_success_ms is None and totals is not None:
            status = replace(status, last_success_ms=totals.committed_ms)
        is_polled = shared is not None and shared.holder != "" and shared.lease_left_seconds > 0
        if status.up and shared is not None and shared.lease_left_seconds < -self._lease_seconds:
            # A takeover has taken place by then. How the last poll went says nothing any more.
            fault = Fault("ledger", "no replica polls this target", status.last_poll_ms or 0)
            status = replace(status, up=False, error=fault)
        fails = not (status.up and is_polled)
        self._show(target, totals, status, stale=fails and self._is_too_old(status))

    def _show(self, target: Target, totals: Totals | None, status: PollStatus, *, stale: bool) -> None:
        followed, last = self._followed, self._publisher.last(target.key)
        shown = (target, status, stale, followed.created_series, False)
        # The totals are compared by identity: they are large, and only a reading replaces them.
        if last is None or last.totals is not totals or shown != _without_totals(last):
            self._publisher.publish(
                TargetSnapshot(target, totals, status, stale, followed.created_series, held=False)
            )

    def _is_too_old(self, status: PollStatus) -> bool:
        if status.last_success_ms is None:
            return False
        return status.last_success_ms / 1000 + self._followed.max_age_seconds <= self._clock()

    def _without_ledger(self, error: str) -> None:
        """
        Let targets fail whose polls cannot be known: at first as if their polls failed, then without gauges.

        They count failed polls as a poller would whose ledger is away, so that the alerts on polls fire.
        """
        followed, now = self._followed, self._timer()
        away_seconds = now - self._looked_at
        if self.sight.at_ms == 0 or away_seconds < self._lease_seconds:
            return
        if self.sight.away_since_ms is None:
            since_ms = self._now_ms() - round(away_seconds * 1000)
            self.sight = replace(self.sight, away_since_ms=since_ms)
            self._next_failure_at = now
        counts = now >= self._next_failure_at
        if counts:
            self._next_failure_at = now + followed.interval_seconds
        fault = Fault("ledger", error, self.sight.away_since_ms or 0)
        stale = away_seconds >= _LEASES_WITHOUT_LEDGER * self._lease_seconds
        for key, target in followed.targets.items():
            last = self._publisher.last(key)
            if last is None or self._is_ours(key):
                continue
            status = replace(last.poll, up=False, error=fault)
            if counts:
                failures = {**status.failures, "ledger": status.failures["ledger"] + 1}
                status = replace(status, polls=status.polls + 1, failures=failures)
            self._show(target, last.totals, status, stale=stale or self._is_too_old(status))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _without_totals(last: TargetSnapshot) -> tuple[object, ...]:
    return (last.target, last.poll, last.stale, last.created_series, last.held)


# A process counts polls from 0, as one with a SQLite ledger does; the ledger goes on from what was recorded.
# If a process began with that, it could begin below what the one before it showed, whose last polls were not
# recorded. Prometheus takes that for a restart from 0, and counts all polls once more.


def counted_from(before: PollStatus, recorded: PollStatus) -> PollStatus:
    """Give a recorded status with counters that were at 0 before."""
    return _combined(recorded, before, lambda count, earlier: max(count - earlier, 0))


def continued(before: PollStatus, status: PollStatus) -> PollStatus:
    """Give a status as it is recorded: the opposite of `counted_from`."""
    began_ms = status.began_ms if before.began_ms is None else before.began_ms
    return replace(_combined(status, before, add), began_ms=began_ms)


def merged(known: PollStatus, recorded: PollStatus) -> PollStatus:
    """
    Give the status that the holder has recorded, with counters that never go back.

    What is known may be ahead: the last polls of a holder that could not record them.
    """
    return replace(_combined(recorded, known, max), began_ms=known.began_ms)


def _combined(status: PollStatus, other: PollStatus, combine: Callable[[int, int], int]) -> PollStatus:
    """Combine each counter of a status with that of another."""

    def each(counts: Mapping[K, int], others: Mapping[K, int]) -> dict[K, int]:
        return {reason: combine(count, others.get(reason, 0)) for reason, count in counts.items()}

    return replace(
        status,
        polls=combine(status.polls, other.polls),
        skipped=combine(status.skipped, other.skipped),
        failures=each(status.failures, other.failures),
        full_syncs=each(status.full_syncs, other.full_syncs),
    )
