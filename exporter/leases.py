"""
The leases of this replica: heartbeats, what was gained and lost, and what is given back to others.

The keeper goes by its own clock. A lease counts from before its heartbeat was sent, and what it allows ends
two seconds early: so this replica stops before another one may begin, whatever the clocks of both machines
say. Where that fails, because the process stood still, the fence in the ledger refuses what it writes.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Protocol

import structlog

from exporter.errors import LedgerError
from exporter.model import TargetKey
from exporter.state_log import FaultLog, LineLimiter, StateLog
from exporter.sync.shared_ledger import Heartbeat, HeldLeases, Lease, SharedLedger, SharedTarget

# These are for a lease of 15 seconds; shorter ones have less of each.
_MARGIN_SECONDS = 2.0
_RETRY_SECONDS = 1.0  # after a heartbeat that failed; the ledger itself does not connect that often
_LEASE_SECONDS = 15.0
# At the end, the others take over sooner if they are told; but the process must not wait long for that.
_LEAVING_SECONDS = 2.0
# There may be thousands.
_NAMED_IN_THE_LOG = 5
_LINES_AT_ONCE = 20
_LINES_PER_HOUR = 20.0


def replica_name() -> str:
    """Name this process and no other, also not the one that a restart puts in its place."""
    return f"{socket.gethostname()}-{token_hex(3)}"


def since_boot() -> float:
    """Give seconds that go on while the machine is suspended, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class LeaseHolder(Protocol):
    """
    Who polls what is held: the runtime. The keeper calls these in the event loop, one after the other.

    Between `gained` and the next `lost` (or the end of `finish`) of a target its poller may run. `gained` and
    `lost` return at once: starting and stopping pollers is a task of the holder, which goes by the last call.
    """

    def gained(self, targets: Collection[TargetKey]) -> None:
        """Restore and poll these from now on."""

    def lost(self, targets: Collection[TargetKey]) -> None:
        """Cancel the polls of these at once: what they read would not be recorded."""

    async def finish(self, targets: Collection[TargetKey]) -> None:
        """
        End the pollers of these, which are to be given back: return when their last polls are recorded.

        Polls under way get some seconds, and are cancelled then. `lost` may come while this waits.
        """


@dataclass(frozen=True, slots=True)
class Changes:
    """
    What a heartbeat changes. Shape: a target that another replica had meanwhile is lost and gained; what was
    taken and is to be given back at once is not gained.
    """

    lost: frozenset[TargetKey]
    gained: frozenset[TargetKey]


def changes(before: Mapping[TargetKey, Lease], found: HeldLeases) -> Changes:
    """Compare what was held with what a heartbeat has found."""
    same = {key for key, lease in before.items() if found.held.get(key) == lease}
    return Changes(
        lost=frozenset(before.keys() - same),
        gained=frozenset(found.held.keys() - same - set(found.to_give)),
    )


class LeaseKeeper:
    """
    Keeps the leases of this replica; `run` is its task.

    Shape: `replicas` is how many replicas are alive, as far as known. Units: `clock` gives seconds that never
    step back.
    """

    def __init__(
        self,
        ledger: SharedLedger,
        replica: str,
        lease_seconds: float,
        holder: LeaseHolder,
        *,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self.replicas = 0
        self._ledger = ledger
        self._replica = replica
        self._lease_seconds = lease_seconds
        self._holder = holder
        part = min(lease_seconds / _LEASE_SECONDS, 1.0)
        self._margin_seconds, self._retry_seconds = part * _MARGIN_SECONDS, part * _RETRY_SECONDS
        self._clock = clock
        self._configured: frozenset[TargetKey] = frozenset()
        self._is_leaving = self._has_left = False
        self._leases: dict[TargetKey, Lease] = {}
        self._giving: set[TargetKey] = set()
        # All leases end together, because one heartbeat renews all.
        self._until = -math.inf
        self._changed = asyncio.Event()  # another end of the leases
        self._due = asyncio.Event()  # a heartbeat, now
        self._unheld: frozenset[tuple[TargetKey, str]] = frozenset()
        # A heartbeat must not bring back what is being given back.
        self._asking = asyncio.Lock()
        log = structlog.get_logger()
        self._log = log
        self._not_renewed = StateLog(log, "leases not renewed", "leases renewed again")
        self._faults = FaultLog(log)
        self._lines = LineLimiter(_LINES_AT_ONCE, _LINES_PER_HOUR)

    @property
    def held(self) -> frozenset[TargetKey]:
        """The targets that this replica may poll and write now."""
        return frozenset(self._leases) if self._clock() < self._until else frozenset()

    def configure(self, targets: Collection[TargetKey]) -> None:
        """
        Take the targets of a configuration, at the start and at each reload; a heartbeat follows at once.

        Targets that left the configuration are finished and given back.
        """
        self._configured = frozenset(targets)
        self._due.set()

    def seen(self, targets: Collection[SharedTarget]) -> None:
        """
        Take what a look has shown, once a second: a heartbeat follows at once where a target is free, or held
        by another replica than this one thinks. Each such finding counts once: it may be the share of others.
        """
        self._expire()
        unheld = frozenset(
            (one.key, one.holder)
            for one in targets
            if (one.key in self._configured and one.lease_left_seconds <= 0)
            or (one.key in self._leases and one.holder != self._replica)
        )
        if unheld - self._unheld:
            self._due.set()
        self._unheld = unheld

    # -- the task ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send heartbeats, until cancelled. `configure` comes first."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stop_in_time(), name="end of leases")
            while True:
                self._due.clear()
                began = self._clock()
                pause = self._retry_seconds
                if (found := await self._heartbeat()) is not None:
                    pause = began + self._lease_seconds / 3 - self._clock()
                    self._give(group, found)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(pause, 0.0)):
                        await self._due.wait()

    async def _stop_in_time(self) -> None:
        """Let go of the leases when they end, whatever the heartbeat waits for."""
        while True:
            self._changed.clear()
            self._expire()
            left = self._until - self._clock() if self._leases else None
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def _expire(self) -> None:
        if self._leases and self._clock() >= self._until:
            held = len(self._leases)
            self._ledger.let_go(tuple(self._leases))
            self._lose(self._leases)
            self._not_renewed.holds(
                "lost",
                time.time(),
                error="the leases have ended, other replicas may poll these targets now",
                targets=held,
            )

    async def _heartbeat(self) -> HeldLeases | None:
        """Renew and take leases; give what is held, None where that failed."""
        try:
            async with self._asking:
                sent = self._clock()
                async with asyncio.timeout(self._lease_seconds * 0.4):
                    is_leaving = self._is_leaving
                    configured = () if is_leaving else tuple(self._configured)
                    beat = Heartbeat(self._replica, configured, self._lease_seconds)
                    found = await self._ledger.heartbeat(beat)
                    self._has_left = is_leaving
                until = sent + self._lease_seconds - self._margin_seconds
                if self._clock() >= until:
                    self._ledger.let_go(found.held)
                    raise LedgerError("the answer to the heartbeat came when the leases had ended")
                self._take_up(found, until)
        except (LedgerError, TimeoutError) as exc:
            self._fail(str(exc) or "the ledger does not answer in time")
        except Exception as exc:
            self._faults.log("leases not renewed", exc)
        else:
            self._not_renewed.is_over(time.time(), targets=len(self._leases))
            self._faults.clear()
            return found
        return None

    def _fail(self, error: str) -> None:
        self._expire()
        left = round(self._until - self._clock(), 1) if self._leases else 0
        kind = "renewing" if self._leases else "lost"
        self._not_renewed.holds(
            kind, time.time(), error=error, targets=len(self._leases), stop_in_seconds=left
        )

    def _take_up(self, found: HeldLeases, until: float) -> None:
        """Go on with what a heartbeat has found."""
        self.replicas = found.replicas
        # What had ended before the answer came was not renewed in time: it begins again.
        before = self._leases if self._clock() < self._until else {}
        changed = changes(before, found)
        if lost := changed.lost | (self._leases.keys() - before.keys()):
            taken = lost - found.held.keys()
            # Not what it holds again: the ledger writes with the new leases already.
            self._ledger.let_go(taken)
            self._lose(lost)
            self._write("leases lost: other replicas poll these targets now", taken)
        self._until = until
        self._changed.set()
        # What is being given back, and was lost for a moment, goes all the same.
        gained = changed.gained - self._giving
        self._leases |= {key: found.held[key] for key in gained}
        if gained:
            self._holder.gained(gained)
            self._write("leases taken", gained)

    def _lose(self, targets: Collection[TargetKey]) -> None:
        lost = tuple(targets)
        for target in lost:
            del self._leases[target]
        self._holder.lost(lost)

    def _write(self, what: str, targets: Collection[TargetKey]) -> None:
        if targets and self._lines.take(time.time()):
            named = sorted(f"{key.project}/{key.workspace}" for key in targets)
            self._log.info(
                what,
                targets=len(named),
                first=named[:_NAMED_IN_THE_LOG],
                held=len(self._leases),
                replicas=self.replicas,
            )

    # -- giving back -------------------------------------------------------------------------------------

    def _give(self, group: asyncio.TaskGroup, found: HeldLeases) -> None:
        """Give back what others want. At a stop, `leave` does that after the last polls."""
        leases = [found.held[key] for key in found.to_give if key not in self._giving]
        if leases and not self._is_leaving:
            self._giving.update(lease.target for lease in leases)
            group.create_task(self._finish_and_give(leases), name="leases given back")

    async def _finish_and_give(self, leases: Collection[Lease]) -> None:
        targets = [lease.target for lease in leases]
        try:
            await self._holder.finish(targets)
            async with self._asking:
                # What was lost meanwhile may have been gained again, with another fence.
                for lease in leases:
                    if self._leases.get(lease.target) == lease:
                        del self._leases[lease.target]
                async with asyncio.timeout(self._lease_seconds / 3):
                    await self._ledger.give_back(leases)
            self._write("leases given back", targets)
        except (LedgerError, TimeoutError) as exc:
            # The next heartbeat finds it still to be given back.
            self._log.debug("leases not given back", error=str(exc))
        except Exception as exc:
            self._faults.log("leases not given back", exc)
        finally:
            self._giving.difference_update(targets)

    async def stop_taking(self) -> None:
        """
        Tell the others that this replica leaves: at the begin of a stop, while its last polls end.

        They take what it gives back then, although it is still alive.
        """
        self._is_leaving = True
        await self._heartbeat()

    async def leave(self) -> None:
        """
        Give back everything, so that others take it at once: after the last poll was recorded.

        Call it after `run` has ended. It takes a few seconds at most, also without the database.
        """
        leases = tuple(self._leases.values())
        self._leases = {}
        try:
            async with asyncio.timeout(_LEAVING_SECONDS):
                if leases:
                    await self._ledger.give_back(leases)
                if not self._has_left:
                    await self.stop_taking()
        except (LedgerError, TimeoutError) as exc:
            error = str(exc) or "the ledger does not answer in time"
            self._log.warning("leases not given back: others wait until they end", error=error)
