"""Single runs read from PostgreSQL: beside the polls, and no longer than somebody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from exporter.config import LedgerSettings
from exporter.errors import LedgerError, StartError
from exporter.ledger.opening import opened_for_runs
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.runs import RunReaders
from exporter.runs import RunFilter
from tests.e2e.waiting import until_async
from tests.fake_api import a_target
from tests.ledgers import SoleReplica
from tests.postgres import PostgresDatabase


def settings(database: PostgresDatabase) -> LedgerSettings:
    return LedgerSettings.model_validate({"url": database.url})


@pytest.fixture
async def readers(database: PostgresDatabase) -> AsyncIterator[RunReaders]:
    readers = RunReaders(LedgerDatabase(settings(database)))
    yield readers
    await readers.close()


async def test_a_question_that_nobody_waits_for_is_stopped(
    database: PostgresDatabase, readers: RunReaders
) -> None:
    asked = asyncio.create_task(readers(lambda db: db.execute("SELECT pg_sleep(60)").fetchone()))
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active'"

    def asleep() -> int:
        return int(database.sql(f"{sleeping} AND pid <> pg_backend_pid()"))

    await until_async(lambda: asleep() == 1, "the question is being answered")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await until_async(lambda: asleep() == 0, "the server has stopped")
    assert await readers(lambda db: db.execute("SELECT 1").fetchone()) == (1,)


async def test_a_question_writes_nothing(database: PostgresDatabase, readers: RunReaders) -> None:
    with pytest.raises(LedgerError, match="read-only transaction"):
        await readers(lambda db: db.execute("CREATE TABLE t (n INTEGER)"))


async def test_a_database_without_a_ledger_is_told(database: PostgresDatabase) -> None:
    with pytest.raises(StartError, match="there is no ledger in this database yet"):
        with opened_for_runs(settings(database)):
            pass
    assert database.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"


async def test_a_connection_that_ends_while_runs_are_read_is_a_line(database: PostgresDatabase) -> None:
    await (await SoleReplica.at(database.url)).close()
    with pytest.raises(LedgerError, match=f"ledger postgresql://octopus@.*/{database.name}: "):
        with opened_for_runs(settings(database)) as known_runs:
            found = known_runs([a_target().key], RunFilter())
            database.terminate()
            list(found.runs)
