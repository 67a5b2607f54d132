"""Ledgers that are refused at the start, for a reason that names the place, and left as they were."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from exporter.errors import LedgerError, StartError
from exporter.ledger.schema import APPLICATION_ID, MIGRATIONS, VERSION
from exporter.ledger.sqlite import SqliteLedger
from exporter.sync.ledger import Audit
from tests.e2e.ledgers import DAMAGE, REFUSED_AT_THE_START_ONLY, damage, without_types
from tests.fake_api import a_target, poll_rules
from tests.ledger_scene import FAILED, Scene


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A ledger with rows in every table."""
    scene = Scene(tmp_path / "ledger.db")
    await scene.open()
    await scene.poll()
    for job_id in range(1, 4):
        scene.run_job(job_id, msg_code="5", resource_spec="1Core_4GiB")
    scene.run_job(4, "RUNNING", ended_ms=None)
    await scene.poll()
    await scene.ledger.close()
    with scene.sql() as db:
        db.execute("INSERT INTO set_apart (target, key, status, problem) VALUES (1, 'k', '', 'no id')")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return scene.file


async def refusal(file: Path) -> str:
    """Open a ledger, which must be refused and left as it was; say why."""
    before = file.read_bytes()
    with pytest.raises(StartError) as refused:
        await SqliteLedger.open(file)
    assert file.read_bytes() == before
    text = str(refused.value)
    assert text.startswith(f"ledger {file}: ")
    assert text.isprintable()
    return text.removeprefix(f"ledger {file}: ")


def change(file: Path, script: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.executescript(script)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize(
    "column",
    [
        *(
            "targets.commits",
            "targets.watermark_ms",
            "targets.horizon_ms",
            "jobs.created_ms",
            "jobs.ended_ms",
        ),
        *("jobs.listed", "listing.jobs", "counters.value", "histograms.released", "hourly_runs.hour"),
        "set_apart.job_id",
    ],
)
async def test_a_value_of_a_wrong_type(file: Path, column: str) -> None:
    table, _, name = column.partition(".")
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        without_types(db, table, f"UPDATE {table} SET {name} = 'soon'")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert await refusal(file) == f"damaged: non-INTEGER value in {column}"


@pytest.mark.parametrize(
    "column",
    [
        *("targets.project", "targets.path", "targets.filters", "listing.job_type", "jobs.status"),
        *("counters.msg_code", "histograms.status", "hourly_runs.status", "set_apart.problem"),
    ],
)
async def test_text_that_is_not_utf_8(file: Path, column: str) -> None:
    table, _, name = column.partition(".")
    key = {"jobs": "id", "listing": "status", "counters": "family", "histograms": "family"}.get(table, "1")
    one = "" if key == "1" else f" WHERE {key} = (SELECT max({key}) FROM {table})"
    change(file, f"UPDATE OR REPLACE {table} SET {name} = CAST(X'41ff' AS TEXT){one}")
    said = await refusal(file)
    assert said.startswith(f"damaged: {column} of project ")
    assert said.endswith("workspace 0: found text that is not UTF-8")


@pytest.mark.parametrize(
    ("table", "family", "expected"),
    [
        ("counters", "creatud", "created, completed, failures, reruns"),
        ("counters", "running", "created, completed, failures, reruns"),
        ("histograms", "sqbmitting", "submitting, running, resource_submitting"),
        ("histograms", "completed", "submitting, running, resource_submitting"),
        ("resource_seconds", "created", "core_seconds, gpu_seconds, memory_seconds"),
    ],
)
async def test_the_name_of_a_family_that_its_table_does_not_have(
    file: Path, table: str, family: str, expected: str
) -> None:
    change(file, f"UPDATE {table} SET family = '{family}' WHERE family = (SELECT max(family) FROM {table})")
    said = await refusal(file)
    assert said.startswith(f"damaged: {table}.family of project ")
    assert f"found '{family}', expected one of {expected}" in said


@pytest.mark.parametrize("text", ["", "-5", "1e9", "1_0", "\u0665", "9" * 101])
async def test_a_sum_that_is_no_whole_number(file: Path, text: str) -> None:
    change(file, f"UPDATE resource_seconds SET value = '{text}'")
    said = await refusal(file)
    assert said.startswith("damaged: resource_seconds.value of project ")
    assert said.endswith(": found another text, expected a sum as a decimal number")


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DROP TABLE set_apart", "table set_apart is missing"),
        ("ALTER TABLE targets DROP COLUMN labels", "table targets is another"),
        ("ALTER TABLE targets ADD COLUMN colour TEXT", "table targets is another"),
        ("ALTER TABLE counters RENAME TO tallies", "table counters is missing"),
        ("DROP INDEX jobs_in_flight", "index jobs_in_flight is missing"),
        ("DROP TABLE jobs; CREATE TABLE jobs (target, id)", "table jobs is another"),
        ("DROP TABLE listing; CREATE VIEW listing AS SELECT 1", "table listing is missing"),
        (
            "DROP INDEX jobs_by_creation; CREATE INDEX jobs_by_creation ON jobs (created_ms)",
            "index jobs_by_creation is another",
        ),
    ],
)
async def test_tables_that_are_not_those_of_its_version(file: Path, statement: str, what: str) -> None:
    change(file, statement)
    assert await refusal(file) == f"damaged: its {what}, expected that of schema {VERSION}"


async def test_tables_that_are_not_those_of_an_older_version(tmp_path: Path) -> None:
    """It would be migrated, and must not be."""
    file = tmp_path / "ledger.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        for statement in (*MIGRATIONS[0], *MIGRATIONS[1], "DROP INDEX recent_failures_by_time"):
            db.execute(statement)
    change(file, f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2")
    assert (
        await refusal(file)
        == "damaged: its index recent_failures_by_time is missing, expected that of schema 2"
    )


async def test_a_value_in_a_ledger_of_an_older_version(tmp_path: Path) -> None:
    """It is found after the migration, which is then undone."""
    file = tmp_path / "ledger.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        for statement in (*MIGRATIONS[0], *MIGRATIONS[1]):
            db.execute(statement)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(
            "INSERT INTO targets (project, project_id, workspace, filters) VALUES ('p', '1', '0', '{')"
        )
    change(file, f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2")
    said = await refusal(file)
    assert said.startswith("damaged: targets.filters of project p, workspace 0: ")


@pytest.mark.parametrize("version", [0, -3])
async def test_a_version_that_there_never_was(file: Path, version: int) -> None:
    change(file, f"PRAGMA user_version = {version}")
    assert await refusal(file) == f"damaged: its schema has the number {version}"


async def test_a_ledger_of_an_older_version_is_not_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        for statement in MIGRATIONS[0]:
            db.execute(statement)
    change(file, f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
    with pytest.raises(StartError, match="written by an older version"):
        await SqliteLedger.open_to_read(file)


async def test_a_value_damaged_while_it_is_open_fails_polls_until_it_is_mended(tmp_path: Path) -> None:
    scene, target = Scene(tmp_path / "ledger.db"), a_target(workspace="7")
    await scene.open()
    await scene.poll(target)
    for job_id in range(1, 4):
        scene.run_job(job_id, msg_code="5")
    await scene.poll(target)
    await scene.ledger.audited(target, Audit(1, {}), poll_rules().counting)
    for column, value in DAMAGE:
        if REFUSED_AT_THE_START_ONLY & {column, value}:
            continue
        undo = damage(scene.file, column, value)
        scene.run_job(4)
        for _ in range(2):
            with pytest.raises(LedgerError) as failed:
                await scene.poll(target)
            start = f"ledger {scene.file}: damaged: {column} of project perception, workspace 7: "
            assert str(failed.value).startswith(start)
            # It is kept, as a caller may: nothing of it may hold the ledger.
        with scene.sql() as db:
            db.execute(*undo)
        assert (await scene.poll(target)).jobs[FAILED] == 4
    assert (await scene.poll(target)).completed[FAILED].value == 3 + len(DAMAGE) - 2
    await scene.ledger.close()
