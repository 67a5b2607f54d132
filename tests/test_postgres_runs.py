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
from tests.e2e.waiting import until
from tests.fake_api import a_job, a_target, poll_rules
from tests.ledger_scene import Scene
from tests.ledgers import SharedDatabase, SoleReplica
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

    await asyncio.to_thread(until, lambda: asleep() == 1, "the question is being answered")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.to_thread(until, lambda: asleep() == 0, "the server has stopped")
    assert await readers(lambda db: db.execute("SELECT 1").fetchone()) == (1,)


async def test_a_question_writes_nothing(database: PostgresDatabase, readers: RunReaders) -> None:
    with pytest.raises(LedgerError, match="read-only transaction"):
        await readers(lambda db: db.execute("CREATE TABLE t (n INTEGER)"))


async def test_a_database_without_a_ledger_is_told(database: PostgresDatabase) -> None:
    missing = pytest.raises(StartError, match="there is no ledger in this database yet")
    with missing, opened_for_runs(settings(database)):
        pass
    assert database.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"


async def test_a_connection_that_ends_while_runs_are_read_is_a_line(database: PostgresDatabase) -> None:
    await (await SoleReplica.at(database.url)).close()
    lost = pytest.raises(LedgerError, match=f"ledger postgresql://octopus:<secret>@.*/{database.name}")
    with lost, opened_for_runs(settings(database)) as known_runs:
        found = known_runs([a_target().key], RunFilter())
        database.terminate()
        list(found.runs)


async def test_what_a_first_sync_has_staged_is_swept_at_once(database: PostgresDatabase) -> None:
    """Else the questions of the next polls would walk over its dead rows."""
    scene = Scene(SharedDatabase(database.url))
    await scene.open()
    for job_id in range(10_000):
        scene.api.put(a_job(job_id, "FINISHED"))
    await scene.poll(rules=poll_rules(page_size=200))
    assert database.sql("SELECT pg_relation_size('staged')") == "0"
    await scene.ledger.close()
