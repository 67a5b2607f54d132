"""The PostgreSQL ledger: SQL in its words, values that it cannot store, and databases that are no ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import psycopg
import pytest

from exporter.config import LedgerSettings
from exporter.errors import ExporterError, LedgerError, StartError
from exporter.ledger.opening import open_ledger
from exporter.ledger.postgres import connection
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.database import PostgresDatabase as Connection
from exporter.ledger.postgres.database import translated
from exporter.ledger.postgres.ledger import PostgresLedger
from exporter.ledger.postgres.schema import MIGRATIONS, VERSION
from exporter.sync.ledger import FoundBy, PageOrigin, RowKind
from exporter.sync.server_traits import Filters, ServerTraits
from exporter.sync.shared_ledger import Heartbeat
from tests.e2e.waiting import until
from tests.fake_api import COUNTING, a_job, a_target
from tests.ledger_scene import FAILED, Scene
from tests.ledgers import SharedDatabase, SoleReplica
from tests.postgres import PASSWORD, ROLE, PgBouncer, PostgresDatabase, PostgresServer

TARGET = a_target()


def settings(url: str, **given: object) -> LedgerSettings:
    return LedgerSettings(url=url, **given)  # type: ignore[arg-type]  # pydantic parses it


async def refusal(url: str, **given: object) -> str:
    """Open a ledger; give the line that says why it cannot be opened."""
    with pytest.raises(ExporterError) as refused:
        await (await open_ledger(settings(url, **given))).close()
    line = str(refused.value)
    assert "\n" not in line
    assert PASSWORD not in line
    return line.partition(": ")[2] if line.startswith("ledger postgresql://") else line


# -- SQL ---------------------------------------------------------------------------------------------------


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


@pytest.fixture
async def db(database: PostgresDatabase) -> AsyncIterator[Connection]:
    db = LedgerDatabase(settings(database.url)).connect()
    yield db
    db.connection.close()


async def test_values_are_as_in_sqlite(db: Connection) -> None:
    values = ('a\'b\\c%s "d" ?:e', "", 2**63 - 1, -(2**63), True, None, RowKind.OWN, 1.5, "ü😀" * 1000)
    row = db.execute(f"SELECT {', '.join('?' * len(values))}", values).fetchone()
    assert row == (*values[:4], 1, None, 1, 1.5, values[-1])
    assert db.execute("SELECT ?", ("nul\0 and half \ud800 a pair",)).fetchone() == (
        "nul\ufffd and half \ufffd a pair",
    )
    total = db.execute("SELECT sum(x) FROM unnest(?::bigint[]) AS x", ("{1,2,9223372036854775807}",))
    assert total.fetchone() == (2**63 + 2,)


async def test_long_lists_find_numbers_and_texts(db: Connection) -> None:
    numbers, texts = list(range(10_000)), [f'{n},"\\ {{}} NULL \0' for n in range(10_000)]
    for values, kind in ((numbers, "bigint"), (texts, "text")):
        db.execute(f"CREATE TABLE of_{kind} (x {kind})")
        db.executemany(f"INSERT INTO of_{kind} VALUES (?)", [(value,) for value in values])
        query = f"SELECT count(*) FROM of_{kind} WHERE x IN (SELECT value FROM json_each(?))"
        assert db.execute(query, (json(values),)).fetchone() == (10_000,)
        assert db.execute(query, ("[]",)).fetchone() == (0,)


async def test_many_rows_are_few_messages(db: Connection) -> None:
    db.execute("CREATE TABLE t (a bigint PRIMARY KEY, b text)")
    rows = [(number, None if number % 2 else "x") for number in range(2_500)]
    db.executemany("INSERT INTO t VALUES (?, ?) ON CONFLICT (a) DO UPDATE SET b = '%' || excluded.b", rows)
    db.executemany("UPDATE t SET b = ? WHERE a = ?", [("new", 1), ("newer", 1), ("new", 3)])
    assert db.execute("SELECT count(*), count(b) FROM t").fetchone() == (2_500, 1_252)
    assert db.execute("SELECT b FROM t WHERE a = 1").fetchone() == ("newer",)
    assert db.executemany("INSERT INTO t VALUES (?, ?)", []).fetchall() == []


# -- what the API may send ---------------------------------------------------------------------------------


async def test_texts_that_cannot_be_stored_count_like_others(database: PostgresDatabase) -> None:
    scene = Scene(SharedDatabase(database.url))
    await scene.open()
    await scene.poll()
    odd = {"msg_code": "4\0 7", "data_id": "\0", "resource_spec": "a\0"}
    scene.run_job(1, msg_error="\0" * 4096, **odd)
    scene.run_job(2, msg_error="ö" * 4096, job_type="NEW\0TYPE", **odd)
    for _ in range(2):
        totals = await scene.poll()
    await scene.ledger.close()
    assert totals.failures[*FAILED, "4\ufffd 7"].value == 1
    assert totals.failures["NEW\ufffdTYPE", FAILED[1], "4\ufffd 7"].value == 1


@pytest.mark.parametrize("field", ["id", "created_ms", "ended_ms"])
async def test_a_number_of_more_than_64_bits_fails_its_poll_in_one_line(
    database: PostgresDatabase, field: str
) -> None:
    ledger = await SoleReplica.at(database.url)
    await ledger.begin(TARGET)
    job = a_job(**{"job_id": 1, "status": "FINISHED", field.replace("id", "job_id"): 2**70})  # type: ignore[arg-type]
    await ledger.stage(TARGET, [job], [RowKind.OWN], PageOrigin(FoundBy.WINDOW, 1), COUNTING)
    with pytest.raises(LedgerError, match=r"^ledger postgresql://.*out of range[^\n]*$"):
        await ledger.staged(TARGET, 1, 1)
    await ledger.begin(TARGET)
    await ledger.close()


# -- databases that cannot be used -------------------------------------------------------------------------


async def test_a_server_that_cannot_be_reached_or_refuses_is_told_in_one_line(
    postgres: PostgresServer,
) -> None:
    port, hidden = postgres.port, f"wrong-{PASSWORD}"
    here = f'connection to server at "127.0.0.1", port {port} failed: FATAL: '
    wrong = f'{here}password authentication failed for user "{ROLE}"'
    assert await refusal(f"postgresql://{ROLE}:{hidden}@127.0.0.1:{port}/x") == wrong
    assert await refusal(postgres.url("nowhere")) == f'{here}database "nowhere" does not exist'
    assert "port 9 failed: Connection refused" in await refusal(f"postgresql://{ROLE}:pw@127.0.0.1:9/x")
    assert "failed to resolve host 'no.invalid'" in await refusal("postgresql://a:pw@no.invalid/x")


async def test_the_password_is_read_from_its_file_each_time(
    database: PostgresDatabase, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong-word\n")
    url = f"postgresql://{ROLE}@127.0.0.1:{database.server.port}/{database.name}"
    assert "password authentication failed" in await refusal(url, password_file=file)
    file.write_text(f"{PASSWORD}\n")
    await (await open_ledger(settings(url, password_file=file))).close()
    file.unlink()
    assert str(file) in await refusal(url, password_file=file)


async def test_two_replicas_that_start_together_make_the_tables_once(database: PostgresDatabase) -> None:
    ledgers = await asyncio.gather(*(PostgresLedger.open(settings(database.url)) for _ in range(4)))
    assert database.sql("SELECT version FROM schema_version") == str(VERSION)
    await asyncio.gather(*(ledger.close() for ledger in ledgers))


async def test_a_newer_schema_is_refused_at_the_start_and_while_running(database: PostgresDatabase) -> None:
    ledger = await SoleReplica.at(database.url)
    await ledger.begin(TARGET)
    database.sql(f"UPDATE schema_version SET version = {VERSION + 1}")
    newer = f"written by a newer version (schema {VERSION + 1}; this one knows {VERSION})"
    with pytest.raises(LedgerError) as refused:
        await ledger.begin(TARGET)
    assert str(refused.value).endswith(newer)
    with pytest.raises(LedgerError) as refused:
        await ledger.heartbeat(Heartbeat("me", (TARGET.key,), 15.0))
    assert str(refused.value).endswith(newer)
    await ledger.close()
    assert await refusal(database.url) == newer
    with pytest.raises(StartError, match="newer version"):
        await PostgresLedger.open_to_read(settings(database.url))


async def test_a_newer_version_migrates_while_an_older_one_runs(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the older one has begun to write ends first; from then on it writes nothing."""
    scene = Scene(SharedDatabase(database.url))
    await scene.open()
    await scene.poll()
    scene.run_job(1)
    await scene.poll()
    old = scene.ledger
    with newer_version(monkeypatch):
        with psycopg.connect(database.url) as writer:
            writer.execute("SELECT 1 FROM leases FOR KEY SHARE")  # as every transaction that writes
            opening = asyncio.create_task(scene.open())
            await asyncio.to_thread(until, lambda: waiting_for_locks(database) == 1, "the migration waits")
            writer.execute("UPDATE targets SET endpoint = 'written before'")
        await opening
    assert database.sql("SELECT endpoint, novelty FROM targets") == "written before|new"
    with pytest.raises(LedgerError, match="written by a newer version"):
        await old.begin(TARGET)
    scene.run_job(2)
    with newer_version(monkeypatch):
        assert (await scene.poll()).completed[FAILED].value == 2
    await old.close()
    await scene.ledger.close()


@contextmanager
def newer_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the code that runs now know one schema more."""
    added = ("ALTER TABLE targets ADD COLUMN novelty TEXT NOT NULL DEFAULT 'new'",)
    with monkeypatch.context() as newer:
        newer.setattr(connection, "VERSION", VERSION + 1)
        newer.setattr(connection, "MIGRATIONS", (*MIGRATIONS, added))
        yield


def waiting_for_locks(database: PostgresDatabase) -> int:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{}'"
    return int(database.sql(waiting.format(database.name)))


@pytest.mark.parametrize("table", ["jobs (id int)", "schema_version (version int)"])
async def test_the_tables_of_another_program_are_refused_and_left_alone(
    database: PostgresDatabase, table: str
) -> None:
    database.sql(f"CREATE TABLE {table}")
    assert await refusal(database.url) == (
        f"not a ledger of octopus-exporter: it has a table {table.partition(' ')[0]} of another program,"
        " expected an empty database"
    )
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert database.sql(tables) == "1"


async def test_a_database_of_another_encoding_is_refused(postgres: PostgresServer) -> None:
    postgres.sql(f"CREATE DATABASE latin OWNER {ROLE} ENCODING 'LATIN1' TEMPLATE template0")
    try:
        assert await refusal(postgres.url("latin")) == "the database has the encoding LATIN1, expected UTF8"
    finally:
        postgres.sql("DROP DATABASE latin WITH (FORCE)")


async def test_missing_rights_are_named(database: PostgresDatabase) -> None:
    database.sql("CREATE ROLE guest LOGIN PASSWORD 'guest-word'")
    url = database.url.replace(f"{ROLE}:{PASSWORD}", "guest:guest-word")
    try:
        assert await refusal(url) == (
            "permission denied for schema public; to make or migrate the tables, the ledger's user must be"
            " the owner of the database"
        )
        await (await PostgresLedger.open(settings(database.url))).close()
        needed = "expected SELECT, INSERT, UPDATE, DELETE on all tables of the ledger"
        assert await refusal(url) == (
            "permission denied for table schema_version; the ledger's user needs SELECT, INSERT, UPDATE,"
            " DELETE on its tables"
        )
        database.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
        await (await PostgresLedger.open_to_read(settings(url))).close()
        assert await refusal(url) == f"the user has no right to INSERT on the table targets, {needed}"
        database.sql("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest")
        await (await PostgresLedger.open(settings(url))).close()
    finally:
        database.sql("DROP OWNED BY guest; DROP ROLE guest")


async def test_looking_at_a_ledger_makes_none(database: PostgresDatabase) -> None:
    with pytest.raises(StartError, match="there is no ledger in this database yet, `octopus-exporter run`"):
        await PostgresLedger.open_to_read(settings(database.url))
    assert database.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"


async def test_what_somebody_else_wrote_into_the_ledger_is_named(database: PostgresDatabase) -> None:
    scene = Scene(SharedDatabase(database.url))
    await scene.open()
    await scene.poll()
    database.sql("UPDATE targets SET filters = '{'")
    with pytest.raises(LedgerError, match=r"^ledger postgresql://.*: damaged: Input data was truncated$"):
        await scene.poll()
    database.sql("UPDATE targets SET filters = '{}'")
    scene.run_job(1, resource_spec="1Core_4GiB")
    await scene.poll()
    for table, column, text in (
        ("resource_seconds", "value", "1e9"),
        ("resource_seconds", "value", "9" * 400),
        ("histograms", "family", "completed"),
    ):
        before = database.sql(f"SELECT {column} FROM {table} ORDER BY 1 LIMIT 1")
        database.sql(f"UPDATE {table} SET {column} = '{text}' WHERE {column} = '{before}'")
        with pytest.raises(LedgerError, match=r"^ledger postgresql://.*: damaged: found .*, expected "):
            await scene.poll()
        database.sql(f"UPDATE {table} SET {column} = '{before}' WHERE {column} = '{text}'")
    database.sql("DROP TABLE listing")
    with pytest.raises(
        LedgerError, match='relation "listing" does not exist; the tables of the ledger are gone'
    ):
        await scene.poll()
    await scene.ledger.close()


# -- targets side by side ----------------------------------------------------------------------------------


async def test_work_that_takes_long_holds_up_no_other_target(database: PostgresDatabase) -> None:
    ledger = await SoleReplica.at(database.url)
    targets = [a_target(workspace=str(number), workspace_id=str(number)) for number in range(8)]
    for target in targets:
        await ledger.begin(target)
    with psycopg.connect(database.server.admin_url(database.name)) as other:
        other.execute("SELECT 1 FROM targets WHERE workspace = '0' FOR UPDATE")
        long = asyncio.create_task(ledger.learnt(targets[0], ServerTraits(), Filters()))
        await asyncio.sleep(0.6)  # until it is known to take long
        async with asyncio.timeout(10):
            for _ in range(2):
                await asyncio.gather(*(ledger.begin(target) for target in targets[1:]))
        assert not long.done()
    await long
    await ledger.close()


# -- servers that only read --------------------------------------------------------------------------------


async def test_a_failover_to_the_standby_goes_on_counting(database: PostgresDatabase) -> None:
    """The connections are open on a server that becomes read-only; the URL names both."""
    scene = Scene(SharedDatabase(database.url))
    await scene.open()
    await scene.poll()
    with database.server.standby() as standby:
        hosts = f"127.0.0.1:{database.server.port},127.0.0.1:{standby.port}"
        ledger = await SoleReplica.at(f"postgresql://{ROLE}:{PASSWORD}@{hosts}/{database.name}")
        await scene.ledger.close()
        scene.ledger = ledger
        scene.run_job(1)
        assert (await scene.poll()).completed[FAILED].value == 1
        database.server.set_read_only()
        scene.run_job(2)
        with pytest.raises(LedgerError, match="read-only"):
            await scene.poll()
        standby.promote()
        async with asyncio.timeout(20):
            while not await recorded(scene):
                await asyncio.sleep(0.1)
        assert (await scene.poll()).completed[FAILED].value == 2
        with psycopg.connect(standby.admin_url(database.name)) as db:
            assert db.execute("SELECT count(*) FROM failed_runs").fetchone() == (2,)
        await ledger.close()


async def recorded(scene: Scene) -> bool:
    try:
        await scene.poll()
    except LedgerError:
        return False
    return True


def json(values: list[object]) -> str:
    return msgspec.json.encode(values).decode()


def test_a_server_that_was_read_only_when_pgbouncer_began_is_written_to_later(
    database: PostgresDatabase, bouncer: PgBouncer
) -> None:
    """PgBouncer tells its clients what the server was when it first met it: read-only, or a standby."""
    ledger = LedgerDatabase(LedgerSettings.model_validate({"url": bouncer.url(database.name)}))
    ledger.open().connection.close()
    database.server.set_read_only()
    bouncer.restart()
    with suppress(StartError):
        ledger.open().connection.close()
    database.server.set_read_only(False)
    db = ledger.open()
    db.execute("DELETE FROM events")
    db.connection.close()
