"""Keepers of leases on a real PostgreSQL, in real time: joining, dying, leaving, and an absent server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from time import monotonic

from exporter.config import LedgerSettings
from exporter.errors import LedgerError
from exporter.leases import LeaseKeeper
from exporter.ledger.postgres.ledger import PostgresLedger
from exporter.model import TargetKey
from tests.postgres import PgBouncer, PostgresDatabase

LEASE = 3.0
SIX = tuple(TargetKey("perception", "p" * 32, str(number), "system-jobs") for number in range(6))


class Replica:
    """A keeper with a ledger of its own, as each process has; `polled` is what it was told to poll."""

    def __init__(self, ledger: PostgresLedger, name: str) -> None:
        self.ledger = ledger
        self.polled: set[TargetKey] = set()
        self.lost_once = False
        self.keeper = LeaseKeeper(ledger, name, LEASE, self)
        self.keeper.configure(SIX)

    @classmethod
    @asynccontextmanager
    async def running(cls, url: str, name: str) -> AsyncIterator[Replica]:
        """Run it; at the end it dies without a word."""
        settings = LedgerSettings(url=url, lease=f"{LEASE:g}s")  # type: ignore[arg-type]  # pydantic parses it
        replica = cls(await PostgresLedger.open(settings), name)
        tasks = [asyncio.create_task(replica.keeper.run()), asyncio.create_task(replica._look())]
        try:
            yield replica
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await replica.ledger.close()

    async def _look(self) -> None:
        while True:
            with suppress(LedgerError):
                self.keeper.seen(await self.ledger.look())
            await asyncio.sleep(0.2)

    async def stop(self) -> None:
        await self.keeper.stop_taking()
        await self.keeper.leave()
        self.polled.clear()

    def gained(self, targets: Collection[TargetKey]) -> None:
        self.polled |= set(targets)

    def lost(self, targets: Collection[TargetKey]) -> None:
        self.lost_once = True
        self.polled -= set(targets)

    async def finish(self, targets: Collection[TargetKey]) -> None:
        self.polled -= set(targets)


async def within(seconds: float, is_true: Callable[[], bool]) -> None:
    until = monotonic() + seconds
    while not is_true():
        assert monotonic() < until, "it takes too long"
        await asyncio.sleep(0.02)


async def test_replicas_join_die_and_leave(database: PostgresDatabase, bouncer: PgBouncer) -> None:
    """One of them through PgBouncer, which gives each transaction another connection."""
    async with Replica.running(database.url, "two") as two:
        async with Replica.running(bouncer.url(database.name), "one") as one:
            await within(10, lambda: len(one.polled) == len(two.polled) == 3)
            assert not one.polled & two.polled
        # It has died: its lease ends, and then the other takes over.
        await within(LEASE + 10, lambda: two.polled == set(SIX))
        fences = _fences(database)
        async with Replica.running(database.url, "three") as three:
            await within(10, lambda: len(two.polled) == len(three.polled) == 3)
            await two.stop()
            # It has left: nobody waits for its lease to end.
            await within(LEASE / 2 + 2, lambda: three.polled == set(SIX))
    assert all(_fences(database)[row] >= fence for row, fence in fences.items())
    assert not two.lost_once


async def test_a_replica_goes_on_after_the_server_was_away(database: PostgresDatabase) -> None:
    async with Replica.running(database.url, "one") as one:
        await within(10, lambda: one.polled == set(SIX))
        database.server.pause()
        await within(10, lambda: not one.polled)
        assert one.lost_once
        database.server.go_on()
        await within(20, lambda: one.polled == set(SIX))


async def test_leases_do_not_depend_on_the_databases_own_isolation_level(database: PostgresDatabase) -> None:
    database.sql(f"ALTER DATABASE {database.name} SET default_transaction_isolation TO serializable")
    async with Replica.running(database.url, "one") as one:
        await within(10, lambda: one.polled == set(SIX))
        shown = await one.ledger._keeper.ask(
            lambda db: db.execute("SHOW transaction_isolation").fetchone(), writes=True, within_seconds=5
        )
    assert shown == ("read committed",)


def _fences(database: PostgresDatabase) -> dict[str, int]:
    rows = database.sql("SELECT target, fence FROM leases").splitlines()
    return {row.split("|")[0]: int(row.split("|")[1]) for row in rows}
