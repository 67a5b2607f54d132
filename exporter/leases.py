"""
The leases of this replica: heartbeats, what was gained and lost, and what is given back to others.

The keeper goes by its own monotonic clock. A lease counts from before its heartbeat was sent, and what it
allows ends MARGIN_SECONDS early: so this replica stops before another one may begin, whatever the clocks of
both machines say. Where that fails, because the process or its machine stood still, the fence in the ledger
refuses what it writes.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from secrets import token_hex
from typing import Protocol

from exporter.model import TargetKey
from exporter.sync.shared_ledger import SharedLedger, SharedTarget

MARGIN_SECONDS = 2.0


def replica_name() -> str:
    """Name this process and no other, also not the one that a restart puts in its place."""
    return f"{socket.gethostname()}-{token_hex(3)}"


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


class LeaseKeeper:
    """
    Keeps the leases of this replica; `run` is its task.

    Shape: `held` are the targets that may be polled; `replicas` how many replicas are alive, as far as known;
    `lost_total` how many leases ended that this replica did not give back.
    """

    def __init__(self, ledger: SharedLedger, replica: str, lease_seconds: float, holder: LeaseHolder) -> None:
        self._ledger = ledger
        self._replica = replica
        self._lease_seconds = lease_seconds
        self._holder = holder
        self.replicas = 0
        self.lost_total = 0

    @property
    def held(self) -> frozenset[TargetKey]:
        raise NotImplementedError

    def configure(self, targets: Collection[TargetKey]) -> None:
        """
        Take the targets of a configuration, at the start and at each reload; a heartbeat follows at once.

        Targets that left the configuration are finished and given back.
        """
        raise NotImplementedError

    def seen(self, targets: Collection[SharedTarget]) -> None:
        """Tell what a look has shown, once a second: where something is free, a heartbeat follows at once."""
        raise NotImplementedError

    async def run(self) -> None:
        """Heartbeats, until cancelled. `configure` comes first."""
        raise NotImplementedError

    async def leave(self) -> None:
        """
        Give back everything, so that others take it at once: after the last poll was recorded.

        Call it after `run` has ended. It takes a few seconds at most, also without the database.
        """
        raise NotImplementedError

    async def stop_taking(self) -> None:
        """Tell the others that this replica leaves: at the begin of a stop, while its last polls end."""
        raise NotImplementedError
