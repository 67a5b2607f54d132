"""
This process as one of several replicas on a shared ledger: it polls what it holds and follows the rest.

Three tasks: heartbeats keep the leases (exporter.leases), a look once a second follows the targets of others
(exporter.followers), and gained targets get pollers. What is lost is stopped at once, from within the keeper.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import structlog

from exporter.config import Config
from exporter.errors import LedgerError, StartError
from exporter.events.delivery import Delivery
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.followers import Followers
from exporter.leases import LeaseKeeper, replica_name
from exporter.masking import Secrets
from exporter.model import PollStatus, Target, TargetKey
from exporter.pollers import Pollers
from exporter.series_release import SeriesReleaser
from exporter.state_log import FaultLog, StateLog
from exporter.sync.shared_ledger import SharedLedger, SharedTarget
from exporter.web.status.model import HolderStatus, LeaseStatus, ReplicasStatus, TakeoverStatus

# Where the polls of a target that is given back may be recorded for so long; then they are cancelled.
_GRACE_SECONDS = 3.0
# The pause before another attempt, where gained targets could not be looked at.
_RETRY_SECONDS = 1.0
# `once` gets the leases of a ledger that nobody uses with its first heartbeat.
_ALL_HELD_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts of the exporter that have to know when targets change hands."""

    delivery: Delivery
    publisher: Publisher
    pollers: Pollers
    releaser: SeriesReleaser
    instruments: Instruments


class Replica:
    """
    Implements leases.LeaseHolder, for the keeper, and pollers.SharedTargets.

    Shape: `start_pollers` starts what `may_poll` allows and has no poller yet; `share_rates` gets the targets
    that are polled here, whenever they have changed.
    """

    def __init__(
        self,
        ledger: SharedLedger,
        config: Config,
        secrets: Secrets,
        around: Surroundings,
        start_pollers: Callable[[], Awaitable[None]],
        share_rates: Callable[[Collection[TargetKey]], None],
    ) -> None:
        self.name = replica_name()
        self._ledger = ledger
        self._secrets = secrets
        self._around = around
        self._start_pollers = start_pollers
        self._share_rates = share_rates
        self.keeper = LeaseKeeper(ledger, self.name, config.ledger.lease_seconds, self)
        self.followers = Followers(
            ledger,
            around.publisher,
            secrets,
            config,
            is_ours=around.pollers.publishes,
            on_look=self.keeper.seen,
        )
        self._allowed: set[TargetKey] = set()
        self._has_gained = asyncio.Event()
        self._gaining: asyncio.Task[None] | None = None
        log = structlog.get_logger()
        self._not_recorded = StateLog(log, "state of polls not recorded", "state of polls recorded again")
        self._faults = FaultLog(log)
        around.pollers.share(self)

    # -- tasks -------------------------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        """Take up the targets of a configuration, at the start and at each reload."""
        self.followers.configure(config)
        self.keeper.configure([target.key for target in config.targets()])
        self._share_rates(self._allowed)

    async def run(self) -> None:
        """Hold and follow targets until cancelled; `configure` comes first."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keeper.run(), name="leases")
            group.create_task(self.followers.run(), name="targets of other replicas")
            self._gaining = group.create_task(self._poll_gained(), name="gained targets")

    async def _poll_gained(self) -> None:
        while True:
            await self._has_gained.wait()
            self._has_gained.clear()
            # The counters of polls go on from what the holder before has recorded last.
            if await self.followers.look():
                await self._start_pollers()
            else:
                await asyncio.sleep(_RETRY_SECONDS)
                self._has_gained.set()

    async def stop_taking(self) -> None:
        """Let the others know that this replica stops, while its last polls end. Raises nothing."""
        if self._gaining is not None:
            # Else the stop would wait for a ledger that does not answer.
            self._gaining.cancel()
        with suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(_RETRY_SECONDS):
                await self.keeper.stop_taking()

    async def leave(self) -> None:
        """Give back all leases, after the last polls have ended and `run` has."""
        held = self.keeper.held
        await self.keeper.leave()
        self._give_up(held)

    @asynccontextmanager
    async def holding_all(self, config: Config) -> AsyncIterator[None]:
        """
        Hold all targets while `once` polls them, as the only exporter at this ledger.

        Raises: StartError (another one is at work); LedgerError.
        """
        where = f"ledger {config.ledger.url}"
        held = [one for one in await self._ledger.look() if one.holder and one.lease_left_seconds > 0]
        if held:
            left = max(one.lease_left_seconds for one in held)
            raise StartError(
                f"{where}: in use by the exporter {', '.join(sorted({one.holder for one in held}))}, whose"
                f" /metrics has all targets: stop it first (if it has died, wait for {left:.0f} s)"
            )
        self.configure(config)
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(self.keeper.run(), name="leases")
                await self._hold({target.key for target in config.targets()}, where)
                yield
                keeping.cancel()
        finally:
            await self.leave()

    async def _hold(self, targets: Collection[TargetKey], where: str) -> None:
        try:
            async with asyncio.timeout(_ALL_HELD_SECONDS):
                while not self.keeper.held >= set(targets):
                    await self._has_gained.wait()
                    self._has_gained.clear()
        except TimeoutError:
            raise StartError(f"{where}: another exporter has begun to poll its targets") from None

    # -- what the keeper calls ---------------------------------------------------------------------------

    def gained(self, targets: Collection[TargetKey]) -> None:
        self._allowed.update(targets)
        self._share_rates(self._allowed)
        self._has_gained.set()
        self._around.delivery.look_again()

    def lost(self, targets: Collection[TargetKey]) -> None:
        self._around.pollers.cancel(targets)
        self._around.instruments.leases_lost(len(targets))
        self._give_up(targets)

    async def finish(self, targets: Collection[TargetKey]) -> None:
        self._allowed.difference_update(targets)
        await self._around.pollers.finish(targets, _GRACE_SECONDS)
        self._give_up(targets)

    def _give_up(self, targets: Collection[TargetKey]) -> None:
        self._allowed.difference_update(targets)
        self._share_rates(self._allowed)
        self._around.releaser.drop(targets)
        self.followers.given_up(targets)

    # -- what the pollers call ---------------------------------------------------------------------------

    def may_poll(self, key: TargetKey) -> bool:
        return key in self._allowed

    async def polled(self, target: Target, status: PollStatus) -> None:
        try:
            recorded = masked_status(status, self._secrets.masked)
            await self._ledger.record_poll(target, self.followers.recordable(target.key, recorded))
            self._not_recorded.is_over(time.time())
        except LedgerError as exc:
            self._not_recorded.holds(exc.reason, time.time(), error=str(exc))
        except Exception as exc:
            self._faults.log("state of polls not recorded", exc)

    # -- what others ask ---------------------------------------------------------------------------------

    def is_held_elsewhere(self, key: TargetKey) -> bool:
        """Tell whether another replica polls a target, by the last look."""
        seen = self.followers.sight.targets.get(key)
        return seen is not None and seen.lease_left_seconds > 0 and seen.holder not in ("", self.name)

    def status(self) -> ReplicasStatus:
        """Return what is known of all replicas, by the last look."""
        sight = self.followers.sight
        held = Counter(
            one.holder for one in sight.targets.values() if one.holder and one.lease_left_seconds > 0
        )
        return ReplicasStatus(
            name=self.name,
            alive=self.keeper.replicas,
            read_ms=sight.at_ms,
            away_since_ms=sight.away_since_ms,
            holders=tuple(HolderStatus(*one) for one in sorted(held.items())),
            takeovers=tuple(
                TakeoverStatus(one.target.project, one.target.workspace, one.before, one.holder, one.at_ms)
                for one in sight.takeovers
            ),
        )

    def leases(self) -> dict[TargetKey, LeaseStatus]:
        """Return who polls each target, by the last look."""
        sight = self.followers.sight
        return {key: self._lease(one, sight.at_ms) for key, one in sight.targets.items()}

    def _lease(self, seen: SharedTarget, at_ms: int) -> LeaseStatus:
        holder = seen.holder if seen.lease_left_seconds > 0 else ""
        until_ms = at_ms + round(seen.lease_left_seconds * 1000)
        return LeaseStatus(holder, holder == self.name, seen.since_ms, until_ms)


def masked_status(status: PollStatus, masked: Callable[[str], str]) -> PollStatus:
    """Mask what a server said of a failed poll: another replica, with other secrets, may show it."""
    error = status.error
    if error is None:
        return status
    masked_error = replace(
        error,
        message=masked(error.message),
        code=masked(error.code),
        url=masked(error.url),
        request_id=masked(error.request_id),
    )
    return replace(status, error=masked_error)
