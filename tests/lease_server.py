"""The leases of a ledger that replicas share: without a database, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from exporter.ledger.postgres.shares import Division, moves
from exporter.model import TargetKey
from exporter.sync.shared_ledger import Heartbeat, HeldLeases, Lease, SharedTarget


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class LeaseServer:
    """The database, without one: rows of leases and replicas, and its own clock."""

    until: dict[str, float] = field(default_factory=dict)
    configured: dict[str, tuple[TargetKey, ...]] = field(default_factory=dict)
    leases: dict[TargetKey, tuple[str, int]] = field(default_factory=dict)
    # What replicas do: not known to the database.
    polled: set[TargetKey] = field(default_factory=set)
    polled_twice: set[TargetKey] = field(default_factory=set)

    def is_alive(self, name: str) -> bool:
        return self.until.get(name, 0.0) > now()

    def beat(self, beat: Heartbeat) -> HeldLeases:
        me = beat.replica
        self.until[me], self.configured[me] = now() + beat.lease_seconds, beat.targets
        for target in beat.targets:
            self.leases.setdefault(target, ("", 0))
        alive = [name for name in self.until if self.is_alive(name)]
        rows = list(enumerate(self.leases.items()))
        division = Division(
            {name: self._rows(self.configured[name]) for name in alive},
            {name: frozenset(row for row, (_, (holder, _)) in rows if holder == name) for name in alive},
            frozenset(row for row, (_, (holder, _)) in rows if not self.is_alive(holder)),
        )
        found = moves(me, division)
        for row, (target, (_, fence)) in rows:
            if row in found.take:
                self.leases[target] = me, fence + 1
        held = {key: Lease(key, fence) for key, (holder, fence) in self.leases.items() if holder == me}
        given = tuple(target for row, (target, _) in rows if row in found.give and target in held)
        return HeldLeases(held, given, len(alive))

    def _rows(self, keys: Collection[TargetKey]) -> frozenset[int]:
        return frozenset(row for row, key in enumerate(self.leases) if key in keys)

    def give_back(self, me: str, leases: Collection[Lease]) -> None:
        for lease in leases:
            if self.leases[lease.target] == (me, lease.fence):
                self.leases[lease.target] = "", lease.fence

    def look(self) -> Sequence[SharedTarget]:
        return [
            SharedTarget(key, 0, None, holder, 0, self.until.get(holder, 0.0) - now())
            for key, (holder, _) in self.leases.items()
        ]
