"""`migrate`: a ledger in another back end is the same ledger."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exporter.commands.migrate import ledger_at, migrate
from exporter.config import LedgerSettings
from exporter.counting.rules import EventRules
from exporter.errors import ConfigError, LedgerError, StartError
from exporter.ledger import migration
from exporter.ledger.connection import connect
from exporter.ledger.file import LedgerFile
from exporter.ledger.migration import ROW_NUMBER, TABLES
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.migration import postgres_source, postgres_target
from exporter.ledger.schema import VERSION
from exporter.model import Totals
from tests.fake_api import a_job, a_target, poll_rules
from tests.ledger_scene import Scene
from tests.ledgers import BackEnd, SharedDatabase, SqliteFile
from tests.postgres import PASSWORD, PgBouncer, PostgresDatabase, PostgresServer

RULES = poll_rules(events=EventRules())
TARGETS = (a_target(), a_target(workspace="7", workspace_id="7"))


def at(where: str | Path, **environ: str) -> LedgerSettings:
    return ledger_at("--from", f"sqlite:///{where}" if isinstance(where, Path) else where, None, environ)


def content(file: Path) -> dict[str, Any]:
    """Give all rows of a ledger, and the number of its last event."""
    with closing(sqlite3.connect(file)) as db:
        rows: dict[str, Any] = {
            table: db.execute(
                f"SELECT {', '.join((*ROW_NUMBER.get(table, ()), '*'))} FROM {table} ORDER BY {order}"
            ).fetchall()
            for table, order in TABLES.items()
        }
        return rows | {"last event": db.execute("SELECT name, seq FROM sqlite_sequence").fetchall()}


@pytest.fixture
async def scene(tmp_path: Path) -> Scene:
    """A closed ledger that has something in every table, and an API with news for it."""
    scene = Scene(tmp_path / "ledger.db")
    await scene.open()
    for target in TARGETS:
        await scene.poll(target, RULES)
    for job_id in range(1, 13):
        error = "脚本失败 \\N\t\\. {\"}'%s"
        scene.run_job(job_id, msg_code=str(job_id % 3), msg_error=error, resource_spec="2Core_4GiB")
        scene.api.put(
            a_job(100 + job_id, "RUNNING", created_ms=scene.api.now_ms, started_ms=scene.api.now_ms)
        )
    scene.api.put(*(a_job(200 + n, "FINISHED", created_ms=500 + n, updated_ms=600 + n) for n in range(60)))
    scene.api.odd = frozenset({201})
    for target in TARGETS:
        await scene.poll(target, RULES)
        await scene.poll(target, RULES)
    await scene.ledger.close()
    with scene.sql() as db:
        db.execute("DELETE FROM events WHERE id <= 3")  # as if they were written
    before = content(scene.file)
    assert all(before.values()), [name for name, rows in before.items() if not rows]
    assert any('"created"' in str(row) for row in before["targets"])  # releases
    scene.run_job(50)
    return scene


def postgres_content(database: PostgresDatabase) -> dict[str, Any]:
    """Give all rows of a PostgreSQL ledger as `content` does."""
    with psycopg.connect(database.server.admin_url(database.name)) as db:
        rows: dict[str, Any] = {}
        for table, order in TABLES.items():
            columns = [*ROW_NUMBER.get(table, ()), *columns_of(table)]
            # In the byte order of SQLite.
            found = db.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()  # type: ignore[arg-type]
            keys = [columns.index(name) for name in order.split(", ")]
            rows[table] = sorted(found, key=lambda row, keys=keys: [row[key] for key in keys])  # type: ignore[misc]
        last = db.execute("SELECT pg_sequence_last_value(pg_get_serial_sequence('events', 'id')::regclass)")
        return rows | {"last event": [("events", *row) for row in last]}


def columns_of(table: str) -> list[str]:
    with closing(connect(None)) as db:
        return [name for (name,) in db.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))]


async def polled(scene: Scene, place: BackEnd) -> list[Totals]:
    scene.back_end = place
    await scene.open()
    totals = [await scene.poll(target, RULES) for target in TARGETS]
    await scene.ledger.close()
    return totals


def test_a_copy_of_a_file_is_equal_and_sound(scene: Scene, tmp_path: Path) -> None:
    before, new = content(scene.file), tmp_path / "new.db"
    migrate(at(scene.file), at(new))
    assert content(new) == before
    assert content(scene.file) == before
    with closing(sqlite3.connect(new)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert sorted(path.name for path in tmp_path.glob("*")) == ["ledger.db", "ledger.db-closed", "new.db"]
    assert list(tmp_path.glob(".*")) == []


async def test_the_counts_go_on_from_a_copy(scene: Scene, tmp_path: Path) -> None:
    migrate(at(scene.file), at(tmp_path / "new.db"))
    now_ms = scene.api.now_ms
    moved = await polled(scene, SqliteFile(tmp_path / "new.db"))
    scene.api.now_ms = now_ms
    stayed = await polled(scene, SqliteFile(tmp_path / "ledger.db"))
    assert moved == stayed
    assert moved[0].failures


def test_what_was_copied_is_told(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    migrate(at(scene.file), at(tmp_path / "new.db"))
    first, *tables, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"copied sqlite:///{scene.file} to sqlite:///{tmp_path / 'new.db'} in 1s, 0.")
    assert [line.split()[0] for line in tables] == list(TABLES)
    assert tables[0].split() == ["targets", "2"]
    assert last.startswith("The old ledger is as it was. Set ledger.url to the new one")


def test_a_ledger_in_use_is_not_copied(scene: Scene, tmp_path: Path) -> None:
    running = LedgerFile.lock(scene.file)
    with pytest.raises(StartError, match=r"ledger\.db: in use by another process$"):
        migrate(at(scene.file), at(tmp_path / "new.db"))
    running.close()
    assert not (tmp_path / "new.db").exists()


def test_no_exporter_can_start_on_a_ledger_while_it_is_copied(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def try_to_start(_table: str, _rows: int) -> None:
        with pytest.raises(StartError, match="in use"):
            LedgerFile.lock(scene.file)
        tried.append("refused")

    with migration.sqlite_source(scene.file) as old, migration.sqlite_target(tmp_path / "new.db") as new:
        migration.copy_ledger(old, new, try_to_start)
    assert tried


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (None, "there is none yet"),
        ("text", "not an SQLite database"),
        ("PRAGMA application_id = 1", "not a ledger of octopus-exporter"),
        (f"PRAGMA user_version = {VERSION + 1}", rf"written by a newer version \(schema {VERSION + 1}; "),
        (f"PRAGMA user_version = {VERSION - 1}", "`run` brings it up to date"),
        ("UPDATE targets SET audit = 'x'", r"damaged: targets\.audit of project perception"),
    ],
)
def test_what_is_no_sound_ledger_of_this_version_is_not_copied(
    scene: Scene, tmp_path: Path, made: str | None, said: str
) -> None:
    file = scene.file
    if made is None:
        file.unlink()
    elif made == "text":
        file.write_text("no database " * 100)
    else:
        with closing(sqlite3.connect(file, isolation_level=None)) as db:
            db.execute(made)
    with pytest.raises(StartError, match=said):
        migrate(at(file), at(tmp_path / "new.db"))
    assert not (tmp_path / "new.db").exists()
    assert list(tmp_path.glob(".*")) == []


def test_a_file_that_is_there_is_not_replaced(scene: Scene, tmp_path: Path) -> None:
    there = tmp_path / "new.db"
    there.write_text("something else")
    with pytest.raises(StartError, match=r"new\.db: it is there already, expected the name of a new file$"):
        migrate(at(scene.file), at(there))
    with pytest.raises(StartError, match="it is there already"):
        migrate(at(scene.file), at(scene.file))
    assert there.read_text() == "something else"


def test_a_file_that_somebody_makes_meanwhile_is_not_replaced(scene: Scene, tmp_path: Path) -> None:
    there = tmp_path / "new.db"

    def copy() -> None:
        with migration.sqlite_source(scene.file) as old, migration.sqlite_target(there) as new:
            migration.copy_ledger(old, new, lambda _table, _rows: None)
            there.write_text("something else")

    with pytest.raises(LedgerError, match="another program has made it meanwhile"):
        copy()
    assert there.read_text() == "something else"
    assert list(tmp_path.glob(".*")) == []


def test_an_interruption_leaves_nothing(scene: Scene, tmp_path: Path) -> None:
    def interrupt(table: str, _rows: int) -> None:
        if table == "events":
            raise KeyboardInterrupt

    def copy() -> None:
        with migration.sqlite_source(scene.file) as old, migration.sqlite_target(tmp_path / "new.db") as new:
            migration.copy_ledger(old, new, interrupt)

    with pytest.raises(KeyboardInterrupt):
        copy()
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("ledger.db")]


def test_damage_that_decides_no_count_is_no_reason_to_stay(scene: Scene, tmp_path: Path) -> None:
    with closing(sqlite3.connect(scene.file, isolation_level=None)) as db:
        db.execute("UPDATE failed_runs SET msg_error = CAST(x'ff41' AS TEXT) WHERE job_id = 1")
    migrate(at(scene.file), at(tmp_path / "new.db"))
    with closing(sqlite3.connect(tmp_path / "new.db")) as db:
        (text,) = db.execute("SELECT DISTINCT msg_error FROM failed_runs WHERE job_id = 1").fetchone()
    assert text == "\N{REPLACEMENT CHARACTER}A"


def test_memory_does_not_grow_with_the_ledger(tmp_path: Path) -> None:
    """Whatever the size, two portions are alive at most."""
    file = tmp_path / "big.db"
    with closing(connect(file)) as db:
        db.execute("INSERT INTO targets (id, project, project_id, workspace) VALUES (1, 'p', 'i', '0')")
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
            " INSERT INTO jobs (target, id, job_type, status, created_ms, updated_ms, listed, in_flight)"
            " SELECT 1, i, 'T', 'FINISHED', i, i, 1, 0 FROM n"
        )
    portions: list[int] = []
    with migration.sqlite_source(file) as old, migration.sqlite_target(tmp_path / "new.db") as new:
        sizes = migration.copy_ledger(old, new, lambda _table, rows: portions.append(rows))
    assert sizes["jobs"] == 20_000
    assert max(portions) == migration.ROWS_AT_ONCE


class TestFlags:
    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("nowhere", "--from: found nowhere, expected sqlite:///file.db"),
            ("sqlite://", "--from: found sqlite://, which is in memory, expected a file or a database"),
            ("postgresql://db/o?ssl=1", "--from: the query has ssl, expected sslmode=require"),
            ("${NOT_SET}", "--from: variable NOT_SET is not set"),
        ],
    )
    def test_a_url_is_read_as_in_the_configuration(self, url: str, said: str) -> None:
        with pytest.raises(ConfigError) as caught:
            at(url)
        assert str(caught.value).startswith(said)

    def test_variables_are_replaced(self) -> None:
        assert at("postgresql://u:${WORD}@db/o", WORD="hunter2").url.passwords == ("hunter2",)

    def test_a_password_file_is_for_postgresql(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"^--to-password-file: found it beside a SQLite ledger"):
            ledger_at("--to", "sqlite:///o.db", tmp_path / "pw", {})


class TestPostgresql:
    def test_a_ledger_goes_there_and_back_and_is_equal(
        self, scene: Scene, tmp_path: Path, database: PostgresDatabase
    ) -> None:
        before = content(scene.file)
        migrate(at(scene.file), at(database.url))
        assert postgres_content(database) == before
        migrate(at(database.url), at(tmp_path / "back.db"))
        assert content(tmp_path / "back.db") == before
        assert postgres_content(database) == before

    async def test_the_counts_go_on_there_as_they_would_have_here(
        self, scene: Scene, tmp_path: Path, database: PostgresDatabase
    ) -> None:
        migrate(at(scene.file), at(database.url))
        now_ms = scene.api.now_ms
        moved = await polled(scene, SharedDatabase(database.url))
        scene.api.now_ms = now_ms
        assert moved == await polled(scene, SqliteFile(tmp_path / "ledger.db"))

    def test_only_the_way_polls_went_is_not_copied(self, database: PostgresDatabase) -> None:
        """A column that one back end has and the other lacks would be lost without a word."""
        with LedgerDatabase(at(database.url)).open().connection as connection:
            found = connection.execute(
                "SELECT table_name || '.' || column_name FROM information_schema.columns"
                " WHERE table_schema = 'public'"
            ).fetchall()
        there = {name for (name,) in found if name.partition(".")[0] in TABLES}
        here = {f"{table}.{name}" for table in TABLES for name in columns_of(table)}
        assert here <= there
        assert there - here == {"failed_runs.rowid"}

    def test_every_table_of_the_file_is_copied(self) -> None:
        with closing(connect(None)) as db:
            found = {
                name for (name,) in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")
            }
        assert found - {"sqlite_sequence"} == set(TABLES)

    def test_numbers_go_on_and_fences_never_go_back(
        self, scene: Scene, postgres: PostgresServer, database: PostgresDatabase
    ) -> None:
        migrate(at(scene.file), at(database.url))
        database.sql("INSERT INTO leases (target, fence, holder) VALUES (1, 41, 'gone')")
        other = PostgresDatabase(postgres)
        try:
            migrate(at(database.url), at(other.url))
            assert postgres_content(other) == postgres_content(database)
            assert other.sql("SELECT target, fence, holder FROM leases") == "1|41|"
            last = int(database.sql("SELECT max(id) FROM events"))
            for table, columns, values in (
                ("events", "target, counted_ms, run", "1, 1, ''"),
                ("targets", "project, project_id, workspace", "'a', 'a', 'a'"),
            ):
                other.sql(f"INSERT INTO {table} ({columns}) VALUES ({values})")
            assert int(other.sql("SELECT max(id) FROM events")) == last + 1
        finally:
            other.drop()

    def test_a_database_in_use_is_not_copied_and_not_written(
        self, scene: Scene, tmp_path: Path, postgres: PostgresServer, database: PostgresDatabase
    ) -> None:
        migrate(at(scene.file), at(database.url))
        alive(database, seconds=40)
        said = (
            r"in use by the exporter one: stop all of them first \(one that has died .* for (40|39) s more\)$"
        )
        with pytest.raises(StartError, match=said):
            migrate(at(database.url), at(tmp_path / "back.db"))
        assert not (tmp_path / "back.db").exists()
        empty = PostgresDatabase(postgres)
        try:
            LedgerDatabase(at(empty.url)).open().connection.close()
            alive(empty, seconds=40)
            with pytest.raises(StartError, match="in use by the exporter one"):
                migrate(at(scene.file), at(empty.url))
        finally:
            empty.drop()
        # One that has died is no user of it.
        database.sql("UPDATE replicas SET until = now() - interval '1 ms'")
        migrate(at(database.url), at(tmp_path / "back.db"))
        # Nor is one that was stopped, although its last heartbeat is not long ago.
        database.sql("UPDATE replicas SET until = now() + interval '9 s', targets = '{}'")
        migrate(at(database.url), at(tmp_path / "another.db"))

    def test_a_database_that_is_not_empty_is_left_as_it_is(
        self, scene: Scene, database: PostgresDatabase
    ) -> None:
        migrate(at(scene.file), at(database.url))
        before = postgres_content(database)
        with pytest.raises(StartError, match=r"it is not empty \(2 targets, .*\), expected a new database$"):
            migrate(at(scene.file), at(database.url))
        assert postgres_content(database) == before

    @pytest.mark.parametrize(
        ("made", "said"),
        [
            ("CREATE TABLE targets (id int)", "not a ledger of octopus-exporter"),
            ("UPDATE schema_version SET version = 99", r"written by a newer version \(schema 99; "),
        ],
    )
    def test_a_database_of_others_or_of_a_newer_version_is_refused(
        self, scene: Scene, tmp_path: Path, database: PostgresDatabase, made: str, said: str
    ) -> None:
        if made.startswith("UPDATE"):
            LedgerDatabase(at(database.url)).open().connection.close()
        database.sql(made)
        with pytest.raises(StartError, match=said):
            migrate(at(scene.file), at(database.url))
        with pytest.raises(StartError, match=said):
            migrate(at(database.url), at(tmp_path / "new.db"))

    def test_an_empty_database_is_no_ledger(self, tmp_path: Path, database: PostgresDatabase) -> None:
        with pytest.raises(StartError, match="there is no ledger in this database yet"):
            migrate(at(database.url), at(tmp_path / "new.db"))

    @pytest.mark.parametrize("at_table", ["jobs", "events"])
    def test_a_connection_that_is_lost_leaves_nothing(
        self, scene: Scene, database: PostgresDatabase, at_table: str
    ) -> None:
        def cut(table: str, _rows: int) -> None:
            if table == at_table:
                assert database.terminate("backend_type = 'client backend'") == 1

        def copy() -> None:
            with (
                migration.sqlite_source(scene.file) as old,
                postgres_target(at(database.url)) as new,
            ):
                migration.copy_ledger(old, new, cut)

        with pytest.raises(LedgerError, match=r"ledger postgresql://octopus:<secret>@"):
            copy()
        assert not any(rows for table, rows in postgres_content(database).items() if table in TABLES)
        migrate(at(scene.file), at(database.url))
        assert postgres_content(database) == content(scene.file)

    def test_no_exporter_gets_a_lease_while_a_ledger_is_copied(
        self, scene: Scene, tmp_path: Path, database: PostgresDatabase
    ) -> None:
        migrate(at(scene.file), at(database.url))
        tried: list[str] = []

        def try_to_join(_table: str, _rows: int) -> None:
            with psycopg.connect(database.url, autocommit=True) as db:
                db.execute("SET lock_timeout = 10")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    db.execute(ALIVE.format(seconds=5))  # type: ignore[arg-type]
            tried.append("refused")

        with postgres_source(at(database.url)) as old, migration.sqlite_target(tmp_path / "new.db") as new:
            migration.copy_ledger(old, new, try_to_join)
        assert tried

    def test_texts_that_postgresql_does_not_have_are_replaced(
        self, scene: Scene, database: PostgresDatabase
    ) -> None:
        with scene.sql() as db:
            db.execute("UPDATE failed_runs SET msg_error = 'a' || char(0) || 'b'")
        migrate(at(scene.file), at(database.url))
        assert database.sql("SELECT DISTINCT msg_error FROM failed_runs") == "a\N{REPLACEMENT CHARACTER}b"

    def test_it_works_through_a_pooler_in_transaction_mode(
        self, scene: Scene, tmp_path: Path, database: PostgresDatabase, bouncer: PgBouncer
    ) -> None:
        migrate(at(scene.file), at(bouncer.url(database.name)))
        migrate(at(bouncer.url(database.name)), at(tmp_path / "back.db"))
        assert content(tmp_path / "back.db") == content(scene.file)

    def test_a_password_is_never_shown(
        self, scene: Scene, tmp_path: Path, database: PostgresDatabase, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "pw").write_text(PASSWORD)
        bare = database.url.replace(f":{PASSWORD}", "")
        migrate(at(scene.file), ledger_at("--to", bare, tmp_path / "pw", {}))
        (tmp_path / "pw").write_text(f"wrong {PASSWORD}")
        with pytest.raises(StartError, match="password authentication failed") as refused:
            migrate(at(scene.file), ledger_at("--to", bare, tmp_path / "pw", {}))
        assert PASSWORD not in str(refused.value)
        assert PASSWORD not in "".join(capsys.readouterr())


ALIVE = (
    "INSERT INTO replicas (name, until, lease, patient_until, beat, fingerprint, targets)"
    " VALUES ('one', now() + interval '{seconds} s', interval '15 s', now(), 1, '', '{{1}}')"
)


def alive(database: PostgresDatabase, seconds: int) -> None:
    """Let an exporter have sent a heartbeat."""
    database.sql(ALIVE.format(seconds=seconds))
