"""
The ledger in a PostgreSQL database that several replicas of the exporter share.

What belongs to a target is written by the replica that holds its lease, and by no other: each transaction
looks at the lease first (ledger.postgres.lanes). Replicas read whatever they like.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from exporter.config import LedgerSettings
from exporter.errors import LedgerError
from exporter.ledger.database import Database
from exporter.ledger.postgres.connection import LedgerDatabase, refuse_newer
from exporter.ledger.postgres.database import PostgresDatabase
from exporter.ledger.postgres.fence import NOT_HELD, Fence
from exporter.ledger.postgres.lanes import Lane, Lanes
from exporter.ledger.postgres.leases import LeaseTable, Looks, drop_forgotten, takeovers
from exporter.ledger.postgres.refusals import end_attempt, refuse_secret, try_secret
from exporter.ledger.postgres.runs import RunReaders
from exporter.ledger.postgres.staging import UnloggedTable
from exporter.ledger.runs import SqlRunReader
from exporter.ledger.sql import SqlLedger
from exporter.model import PollStatus, SecretRefusal, SecretUse, Target, TargetKey
from exporter.sync.shared_ledger import Heartbeat, HeldLeases, Lease, SharedTarget, Takeover

# What all replicas wait for must not wait for a server that is gone: the next second brings another attempt.
_LOOK_SECONDS = 3.0


class PostgresLedger(SqlLedger):
    """Implements sync.shared_ledger.SharedLedger. Raises: StartError from `open` and `open_to_read`."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database
        self._fences: dict[TargetKey, Fence] = {}
        self._forgetting: dict[TargetKey, Fence] = {}
        self._lanes = Lanes(database, self._fence_of)
        self._keeper = Lane(database, "ledger leases")
        self._readers = RunReaders(database)
        self._looks = Looks()
        self._leases: LeaseTable | None = None
        self._replica = ""
        super().__init__(self._lanes, UnloggedTable())

    @classmethod
    async def open(cls, settings: LedgerSettings) -> PostgresLedger:
        """Open the ledger, making or migrating its tables."""
        return await cls(LedgerDatabase(settings)).opened_or_closed()

    @classmethod
    async def open_to_read(cls, settings: LedgerSettings) -> PostgresLedger:
        """Open a ledger for looking at, in use or not; a standby will do."""
        return await cls(LedgerDatabase(settings, reads_only=True)).opened_or_closed()

    async def heartbeat(self, beat: Heartbeat) -> HeldLeases:
        """See sync.shared_ledger.SharedLedger."""
        table = self._leases = self._leases or LeaseTable(beat.replica)
        self._replica = beat.replica

        def work(db: PostgresDatabase) -> HeldLeases:
            refuse_newer(db)
            return table.heartbeat(db, beat)

        found = await self._keeper.ask(work, writes=True, within_seconds=beat.lease_seconds / 3)
        self._fences = {
            key: Fence(key, beat.replica, lease.fence, beat.lease_seconds)
            for key, lease in found.held.items()
        }
        return found

    async def give_back(self, leases: Collection[Lease]) -> None:
        """See sync.shared_ledger.SharedLedger."""
        table = self._leases
        if table is not None:
            self.let_go([lease.target for lease in leases])
            await self._keeper.ask(
                lambda db: table.give_back(db, leases), writes=True, within_seconds=_LOOK_SECONDS
            )

    def let_go(self, targets: Collection[TargetKey]) -> None:
        """See sync.shared_ledger.SharedLedger."""
        for target in targets:
            self._fences.pop(target, None)
        self._lanes.cut(targets)

    async def look(self) -> tuple[SharedTarget, ...]:
        """See sync.shared_ledger.SharedLedger."""
        self._lanes.cut_silent()
        return await self._keeper.ask(self._looks, within_seconds=_LOOK_SECONDS)

    async def record_poll(self, target: Target, status: PollStatus) -> None:
        """See sync.shared_ledger.SharedLedger."""
        table, fence = self._leases, self._fences.get(target.key)
        if table is None or fence is None:
            raise LedgerError(NOT_HELD)
        lease = Lease(target.key, fence.number)
        await self._lanes.run(lambda db: table.record_poll(db, lease, status), target.key, writes=True)

    def _events_of(self) -> str | None:
        return self._replica

    def _fence_of(self, key: TargetKey) -> Fence:
        fence = self._forgetting.get(key) or self._fences.get(key)
        if fence is None:
            raise LedgerError(NOT_HELD)
        return fence

    async def takeovers(self, most: int) -> Sequence[Takeover]:
        """See sync.shared_ledger.SharedLedger."""
        return await self._keeper.ask(lambda db: takeovers(db, most), within_seconds=_LOOK_SECONDS)

    async def try_secret(self, fingerprint: str) -> SecretUse:
        """See sync.shared_ledger.SharedLedger."""
        return await self._keeper.ask(
            lambda db: try_secret(db, self._replica, fingerprint), writes=True, within_seconds=_LOOK_SECONDS
        )

    async def secret_accepted(self, fingerprint: str) -> None:
        """See sync.shared_ledger.SharedLedger."""
        await self._keeper.ask(
            lambda db: end_attempt(db, self._replica, fingerprint), writes=True, within_seconds=_LOOK_SECONDS
        )

    async def secret_refused(self, fingerprint: str, refusal: SecretRefusal, seconds: float) -> None:
        """See sync.shared_ledger.SharedLedger."""
        await self._keeper.ask(
            lambda db: refuse_secret(db, self._replica, fingerprint, refusal, seconds),
            writes=True,
            within_seconds=_LOOK_SECONDS,
        )

    async def forget(self, key: TargetKey, is_unused: Callable[[], bool]) -> bool:
        """See sync.ledger.Ledger. The target is taken first, so that no other replica polls it meanwhile."""
        table = self._leases
        if table is None or not is_unused():
            return False
        taken = await self._keeper.ask(
            lambda db: table.take_to_forget(db, key), writes=True, within_seconds=_LOOK_SECONDS
        )
        if taken is None:
            return False
        seconds = self._database.settings.lease_seconds
        self._forgetting[key] = Fence(key, taken.holder, taken.fence, seconds)
        try:
            return await super().forget(key, is_unused)
        finally:
            del self._forgetting[key]
            await self._keeper.ask(drop_forgotten, writes=True, within_seconds=_LOOK_SECONDS)

    def reading(self) -> AbstractAsyncContextManager[SqlRunReader]:
        return nullcontext(SqlRunReader(self._readers))

    def _row(self, db: Database, target: Target) -> int:
        """Never from memory: another replica may have forgotten the target, and made it again."""
        return db.target_row if isinstance(db, PostgresDatabase) else super()._row(db, target)

    async def close(self) -> None:
        await asyncio.gather(super().close(), self._keeper.close(), self._readers.close())
