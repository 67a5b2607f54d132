"""docs/operations.md, "Replicas": its SQL and its pgbouncer.ini do what the text says, on real servers."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from exporter.config import LedgerSettings
from exporter.ledger.opening import inspect_ledger
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.schema import LEDGER_TABLES
from tests.postgres import PgBouncer, PostgresServer, pgbouncer
from tests.test_readme import blocks

PAGE = Path(__file__).parent.parent / "docs" / "operations.md"
SIMPLE, LEAST, AS_OWNER = blocks(PAGE, "sql")
(INI,) = blocks(PAGE, "ini")


def renamed(sql: str, name: str) -> str:
    """The server has roles and databases of other tests, so these get names of their own."""
    return re.sub(r"\b(octopus|ledger_owner)\b", rf"{name}_\1", sql)


def url(server: PostgresServer, role: str, password: str, database: str) -> str:
    return f"postgresql://{role}:{password}@127.0.0.1:{server.port}/{database}"


def grants(url: str) -> dict[str, bool]:
    found = inspect_ledger(LedgerSettings.model_validate({"url": url}))
    return {one.what: one.works for one in found}


def opened(url: str) -> None:
    """Open the ledger as `run` does: make the tables where there are none."""
    LedgerDatabase(LedgerSettings.model_validate({"url": url})).open().connection.close()


def run(server: PostgresServer, sql: str, database: str = "postgres") -> None:
    # One by one: CREATE DATABASE is refused in the transaction that psql makes of several.
    for statement in filter(None, map(str.strip, sql.split(";"))):
        server.sql(statement, database)


def removed(server: PostgresServer, name: str) -> None:
    server.sql(f"DROP DATABASE {name}_octopus WITH (FORCE)")
    for role in ("octopus", "ledger_owner"):
        server.sql(f"DROP ROLE IF EXISTS {name}_{role}")


def test_a_role_that_owns_a_database_of_its_own_is_enough(postgres: PostgresServer) -> None:
    run(postgres, renamed(SIMPLE, "simple"))
    try:
        where = url(postgres, "simple_octopus", "change-me", "simple_octopus")
        opened(where)
        assert all(grants(where).values())
    finally:
        removed(postgres, "simple")


def test_the_least_rights_are_enough_and_no_more(postgres: PostgresServer) -> None:
    run(postgres, renamed(LEAST, "least"))
    try:
        owner = url(postgres, "least_ledger_owner", "change-me", "least_octopus")
        where = url(postgres, "least_octopus", "change-me-too", "least_octopus")
        with psycopg.connect(owner, autocommit=True) as db:
            db.execute(renamed(AS_OWNER, "least").encode())
        assert grants(where)["grants"] is False  # no tables yet, and no right to make any
        opened(owner)
        assert all(grants(where).values())
        opened(where)
        with psycopg.connect(where, autocommit=True) as db:
            for refused in (f"DROP TABLE {LEDGER_TABLES[0]}", "CREATE TABLE another (id int)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    db.execute(refused)  # type: ignore[arg-type]
    finally:
        removed(postgres, "least")


def test_the_settings_of_pgbouncer_work(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    run(postgres, renamed(SIMPLE, "pooled"))

    def changed(bouncer: PgBouncer) -> None:
        text = INI.replace(
            "host=db.example.com port=5432 dbname=octopus", f"host=127.0.0.1 port={postgres.port}"
        )
        text = text.replace("octopus =", "pooled_octopus =").replace("6432", str(bouncer.port))
        text = text.replace("/etc/pgbouncer", str(bouncer.folder))
        (bouncer.folder / "pgbouncer.ini").write_text(f"{text}unix_socket_dir =\n")
        (bouncer.folder / "users.txt").write_text('"pooled_octopus" "change-me"\n')

    start = PgBouncer.start
    monkeypatch.setattr(PgBouncer, "start", lambda bouncer: (changed(bouncer), start(bouncer))[-1])
    try:
        with pgbouncer(postgres) as bouncer:
            where = f"postgresql://pooled_octopus:change-me@127.0.0.1:{bouncer.port}/pooled_octopus"
            opened(where)
            assert all(grants(where).values())
            with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter"):
                psycopg.connect(f"{where}?options=-csearch_path%3Dpublic")
    finally:
        removed(postgres, "pooled")
