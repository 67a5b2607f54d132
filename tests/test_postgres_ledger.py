"""The PostgreSQL ledger: SQL in its words, values that it cannot store, leases, and databases of others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from exporter.config import LedgerSettings
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.database import translated
from exporter.ledger.postgres.schema import VERSION
from tests.ledger_scene import FAILED, Scene
from tests.ledgers import SoleReplica
from tests.postgres import PostgresDatabase


@pytest.mark.parametrize(
    ("sqlite", "postgresql"),
    [
        ("SELECT ?, :name, ?", "SELECT %s, %s, %s"),
        ("SELECT ':kept ?', '%', a::bigint", "SELECT ':kept ?', '%%', a::bigint"),
        ("id IN (SELECT value FROM json_each(:ids))", "id = ANY (%s)"),
        ("id IN (SELECT value FROM json_each(?)) AND a = ?", "id = ANY (%s) AND a = %s"),
        ("FROM jobs AS known INDEXED BY jobs_in_flight WHERE", "FROM jobs AS known  WHERE"),
        ("a.b IS NOT c.b", "a.b IS DISTINCT FROM c.b"),
        ("a IS NOT NULL AND b IS NULL", "a IS NOT NULL AND b IS NULL"),
    ],
)
def test_spellings_of_sqlite_are_put_into_postgresqls_words(sqlite: str, postgresql: str) -> None:
    assert translated(sqlite).text == postgresql


async def test_polls_count_as_in_sqlite(database: PostgresDatabase) -> None:
    scene = Scene(Path("none"))
    scene.ledger = await SoleReplica.at(database.url)
    await scene.poll()
    scene.run_job(1)
    scene.run_job(2, "FINISHED")
    await scene.poll()
    totals = await scene.poll()
    await scene.ledger.close()
    assert totals.failures[*FAILED, ""].value == 1
    assert totals.jobs[FAILED[0], "FINISHED"] == 1


def test_replicas_that_start_together_make_the_tables_once(database: PostgresDatabase) -> None:
    """Each looks for tables, then waits for the one that makes them, and looks again."""
    ledger = LedgerDatabase(LedgerSettings.model_validate({"url": database.url}))
    together = Barrier(4)

    def start(_: int) -> None:
        together.wait()
        ledger.open().connection.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(start, range(4)))
    assert database.sql("SELECT version FROM schema_version") == str(VERSION)
