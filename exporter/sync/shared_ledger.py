"""
A ledger that several replicas of the exporter share, as the runtime uses it.

Each target is polled by the replica that holds its *lease*. A lease has a *fence*: a number that grows by one
whenever the holder changes, and is never reset. Whatever a replica writes of a target is written in a
transaction that checks holder and fence first. So a replica that slept through its lease changes nothing.

Only the database's clock decides when a lease ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from exporter.model import PollStatus, SecretRefusal, SecretUse, Target, TargetKey
from exporter.sync.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Lease:
    """A target that this replica may poll and write."""

    target: TargetKey
    fence: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """
    What a replica says of itself at each heartbeat.

    Shape: `replica` names this process and no other, also not the one that a restart puts in its place;
    `targets` are those of its configuration. With none the replica leaves: it keeps what it holds until it
    gives it back, takes nothing, and does not count where the others divide the targets.
    """

    replica: str
    targets: tuple[TargetKey, ...]
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class HeldLeases:
    """
    What a replica holds after a heartbeat.

    Shape: `to_give` are those of them that it has to give back: other replicas have less than their share,
    or it does not have them in its configuration any more. `replicas` is how many are alive, this one
    included.
    """

    held: Mapping[TargetKey, Lease]
    to_give: tuple[TargetKey, ...]
    replicas: int


@dataclass(frozen=True, slots=True)
class SharedTarget:
    """
    What every replica can see of a target.

    Shape: `revision` is that of the totals (model.Totals.revision), 0 before the first commit; `poll` is the
    status that its holder recorded last; `holder` is "" while nobody holds it. Units: `since_ms` (when the
    holder took it, or gave it back) and `lease_left_seconds` (0 or less: nobody holds it, or the lease has
    ended) by the database's clock.
    """

    key: TargetKey
    revision: int
    poll: PollStatus | None
    holder: str
    since_ms: int
    lease_left_seconds: float


@dataclass(frozen=True, slots=True)
class Takeover:
    """A target that went from one holder to another. Shape: `before` is "" if it was given back."""

    target: TargetKey
    before: str
    holder: str
    at_ms: int


@runtime_checkable
class SharedLedger(Ledger, Protocol):
    """Raises: LedgerError from every method where the database cannot be read or written."""

    async def heartbeat(self, beat: Heartbeat) -> HeldLeases:
        """
        Renew what this replica holds, take free and expired ones up to its share; give what it holds.

        From now on the ledger writes with these leases, and with no others.
        """

    async def give_back(self, leases: Collection[Lease]) -> None:
        """Let other replicas take these targets at once. Their polls have ended, and are recorded."""

    def let_go(self, targets: Collection[TargetKey]) -> None:
        """Write nothing of these targets any more: their leases may have ended. Asks nobody."""

    async def look(self) -> tuple[SharedTarget, ...]:
        """Give all targets of the ledger, in one statement. Every replica asks this once a second."""

    async def record_poll(self, target: Target, status: PollStatus) -> None:
        """Record how the polls of a target go, for all replicas to publish."""

    async def takeovers(self, most: int) -> Sequence[Takeover]:
        """Give the last takeovers, the newest first."""

    async def try_secret(self, fingerprint: str) -> SecretUse:
        """Tell whether a secret may be tried now: by one replica at a time, and not while it cools down."""

    async def secret_accepted(self, fingerprint: str) -> None:
        """Let other replicas try it too: it was accepted, or the attempt has ended in another way."""

    async def secret_refused(self, fingerprint: str, refusal: SecretRefusal, seconds: float) -> None:
        """Keep all replicas from trying it for so long."""
