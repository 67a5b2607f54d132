"""`check --online` on a PostgreSQL ledger: whether it can be reached, its schema, its grants, a row each."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.commands.check.display import ledger_as_json
from exporter.config import LedgerSettings
from exporter.ledger import opening
from exporter.ledger.opening import inspect_ledger
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.schema import VERSION
from exporter.masking import Secrets
from tests.e2e.processes import free_port
from tests.postgres import PASSWORD, PostgresDatabase


def told(url: str, **keys: object) -> dict[str, tuple[bool, str]]:
    found = inspect_ledger(LedgerSettings.model_validate({"url": url, **keys}))
    assert len({one.what for one in found}) == len(found)
    return {one.what: (one.works, one.text) for one in found}


def made(database: PostgresDatabase) -> None:
    LedgerDatabase(LedgerSettings.model_validate({"url": database.url})).open().connection.close()


def test_of_a_file_nothing_is_told() -> None:
    assert told("sqlite:///ledger.db") == {}


def test_an_empty_database_is_fine_and_stays_empty(database: PostgresDatabase) -> None:
    found = told(database.url)
    assert found["driver"][1].startswith("psycopg 3.")
    works, text = found["connection"]
    assert works
    assert text.startswith("PostgreSQL ")
    assert f"at 127.0.0.1, database {database.name}, user octopus, without TLS, in " in text
    assert text.endswith(" connections in use")
    assert found["durability"] == (
        True,
        "warning: fsync is off: counters go back after a crash of the server",
    )
    assert found["schema"] == (True, "none yet: run makes it")
    assert found["grants"] == (True, "CREATE in the schema public")
    assert database.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"


def test_a_ledger_in_use_is_fine(database: PostgresDatabase) -> None:
    made(database)
    found = told(database.url)
    assert found["schema"] == (True, str(VERSION))
    assert found["grants"] == (True, "SELECT, INSERT, UPDATE, DELETE on all tables")
    assert found["upgrades"] == (True, "owner of the tables: a new version changes them")
    assert found["replicas"] == (True, "0 at work")
    assert all(works for works, _ in found.values())


def test_missing_grants_are_named(database: PostgresDatabase) -> None:
    made(database)
    database.sql(
        "CREATE ROLE reader LOGIN PASSWORD 'r'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"
    )
    try:
        found = told(database.url.replace(f"octopus:{PASSWORD}", "reader:r"))
        works, text = found["grants"]
        assert not works
        assert text.startswith("missing: DELETE on counters, INSERT on counters, UPDATE on counters and ")
        assert found["upgrades"][1].startswith("not the owner of the tables: ")
    finally:
        database.sql("DROP OWNED BY reader; DROP ROLE reader")


def test_a_schema_in_which_nothing_can_be_made_is_a_failure(database: PostgresDatabase) -> None:
    database.sql("ALTER SCHEMA public OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM PUBLIC, octopus")
    works, text = told(database.url)["grants"]
    assert (works, text) == (False, "missing: CREATE in the schema public, or tables made by their owner")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE schema_version SET version = 99", "written by a newer version (schema 99; this one knows "),
        ("DROP TABLE schema_version", "not a ledger of octopus-exporter"),
    ],
)
def test_a_schema_of_others_is_a_failure(database: PostgresDatabase, sql: str, said: str) -> None:
    made(database)
    database.sql(sql)
    works, text = told(database.url)["schema"]
    assert not works
    assert text.startswith(said)


def test_a_server_that_is_not_there_is_a_failure() -> None:
    found = told(f"postgresql://u:hunter2@127.0.0.1:{free_port()}/o")
    works, text = found["connection"]
    assert not works
    assert "Connection refused" in text
    assert "hunter2" not in text


def test_a_wrong_password_is_a_failure_that_does_not_show_it(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    (tmp_path / "pw").write_text("hunter2")
    url = database.url.replace(f":{PASSWORD}", "")
    settings = LedgerSettings.model_validate({"url": url, "password_file": str(tmp_path / "pw")})
    (_, refused) = ledger_as_json(inspect_ledger(settings), Secrets())
    assert refused["works"] is False
    assert "password authentication failed" in refused["found"]
    assert "hunter2" not in refused["found"]


def test_a_driver_that_cannot_be_loaded_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As psycopg says it without libpq; nothing of the driver is loaded here."""

    def broken(name: str) -> object:
        raise ImportError("no pq wrapper available")

    monkeypatch.setattr(opening, "import_module", broken)
    assert told("postgresql://db/o") == {
        "driver": (
            False,
            "ledger postgresql://db/o: the driver psycopg cannot be loaded: no pq wrapper available",
        )
    }
