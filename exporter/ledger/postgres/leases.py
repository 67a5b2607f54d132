"""
Who polls which target: the leases of the PostgreSQL ledger (sync.shared_ledger), as one replica uses them.

A lease lasts as long as its holder is alive: `replicas.until` is renewed by every heartbeat, in one row for
all that a replica holds. So a heartbeat writes as much with a thousand targets as with one.

Nothing here waits for a lock while it holds another one, so there is no deadlock: a heartbeat locks its own
row of `replicas` first, and skips what others have locked. A takeover locks the row of the replica that has
died. So a late heartbeat of that one either comes before, and it is not dead, or sees what was taken.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from exporter.model import PollStatus, TargetKey
from exporter.sync.shared_ledger import Heartbeat, HeldLeases, Lease, SharedTarget, Takeover

Database = Any  # until ledger.database is there

# The tables; schema.py runs these statements.
TABLES: tuple[str, ...] = (
    # `since` is when the holder took it, or gave it back; `poll` the last model.PollStatus, as JSON.
    """
    CREATE TABLE leases (
        target BIGINT PRIMARY KEY,
        holder TEXT NOT NULL DEFAULT '',
        fence BIGINT NOT NULL DEFAULT 0,
        since TIMESTAMPTZ NOT NULL DEFAULT now(),
        poll TEXT
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX leases_by_holder ON leases (holder)",
    # `targets` are those of its configuration, `fingerprint` stands for them; `beat` numbers its last
    # heartbeat; until `patient_until` it takes nothing from others, because the clock may have been moved.
    """
    CREATE TABLE replicas (
        name TEXT PRIMARY KEY,
        until TIMESTAMPTZ NOT NULL,
        lease INTERVAL NOT NULL,
        patient_until TIMESTAMPTZ NOT NULL,
        beat BIGINT NOT NULL,
        fingerprint TEXT NOT NULL,
        targets BIGINT[] NOT NULL
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE takeovers (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        target BIGINT NOT NULL,
        before TEXT NOT NULL,
        holder TEXT NOT NULL,
        at TIMESTAMPTZ NOT NULL
    )
    """,
    # The secret cannot be had from its fingerprint (octopus.auth.lockout_guard).
    """
    CREATE TABLE refusals (
        fingerprint TEXT PRIMARY KEY,
        replica TEXT NOT NULL,
        tried_until TIMESTAMPTZ NOT NULL,
        refused_until TIMESTAMPTZ NOT NULL,
        refusal TEXT NOT NULL
    )
    """,
)

# A writing transaction begins with this; it takes the parameters `target` (its id), `replica` and `fence`.
# KEY SHARE lets the holder's record_poll pass, and not a takeover.
FENCE_CHECK = """
    SELECT 1 FROM leases WHERE target = :target AND holder = :replica AND fence = :fence FOR KEY SHARE
"""


class LeaseTable:
    """
    The leases as one replica sees and takes them; used by one thread.

    Shape: each method is a part of a transaction of its caller, at the level READ COMMITTED.
    Raises: LedgerError; psycopg.Error.
    """

    def __init__(self, replica: str) -> None:
        self._replica = replica

    def heartbeat(self, db: Database, beat: Heartbeat) -> HeldLeases:
        """See sync.shared_ledger.SharedLedger. Raises: LedgerError where a later heartbeat came before."""
        raise NotImplementedError

    def give_back(self, db: Database, leases: Collection[Lease]) -> None:
        """Let other replicas take these targets at once."""
        raise NotImplementedError

    def record_poll(self, db: Database, lease: Lease, status: PollStatus) -> None:
        """Record how the polls of a target go. Raises: LedgerError where the lease has gone."""
        raise NotImplementedError

    def take_to_forget(self, db: Database, key: TargetKey, lease_seconds: float) -> Lease | None:
        """Take a target that no replica has in its configuration, so that none polls it while it goes."""
        raise NotImplementedError


def look(db: Database) -> tuple[SharedTarget, ...]:
    """Give all targets of the ledger, with one statement."""
    raise NotImplementedError


def takeovers(db: Database, most: int) -> Sequence[Takeover]:
    """Give the last takeovers, the newest first."""
    raise NotImplementedError
