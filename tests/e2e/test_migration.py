"""A ledger of the version before, brought up to date by a process that is killed in the midst of it."""

from __future__ import annotations

import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from exporter.counting.increments import RERUNS, RESOURCE_SUBMITTING
from exporter.ledger.schema import APPLICATION_ID, MIGRATIONS, VERSION
from tests.e2e.agreement import assert_agreement, assert_failures_kept
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.exposed import told
from tests.e2e.ledgers import HOUR, lived_through, two_targets
from tests.e2e.processes import started

pytestmark = pytest.mark.e2e

OLDER = 3
NEWER_FAMILIES = (RERUNS, RESOURCE_SUBMITTING)

# The exporter itself, killed when SQLite is about to run a statement: so many after the beginning of the
# migration, or, below 0, its commit.
KILLED = """
import os, signal, sqlite3, sys

statements, connect = int(sys.argv.pop(1)), sqlite3.connect

def watched(*args, **kwargs):
    db, seen = connect(*args, **kwargs), []
    def look(statement):
        if statement.startswith("BEGIN EXCLUSIVE") or seen:
            seen.append(statement)
        if len(seen) > statements or (len(seen) > 1 and statements < 0 and statement == "COMMIT"):
            os.kill(os.getpid(), signal.SIGKILL)
    db.set_trace_callback(look)
    return db

sqlite3.connect = watched
from exporter.cli import main
main()
"""


def made_older(file: Path) -> None:
    """Put what a ledger holds into the tables of an older schema, as the version of that time made them."""
    new = file.rename(file.with_suffix(".new"))
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        for statement in (statement for migration in MIGRATIONS[:OLDER] for statement in migration):
            db.execute(statement)
        db.execute("ATTACH ? AS new", (str(new),))
        for table in ("targets", "jobs", "listing", "counters", "histograms"):
            had, has = columns_of(db, table, "main"), columns_of(db, table, "new")
            values = {name: name for name in had if name in has}
            if "born" in had:
                commits = "(SELECT commits FROM new.targets WHERE targets.id = target)"
                values["born"] = f"iif(released, 0, {commits})"
            columns, given = ", ".join(values), ", ".join(values.values())
            known = f" WHERE family NOT IN {NEWER_FAMILIES}" if "family" in had else ""
            db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {given} FROM new.{table}{known}")
        names = ("job_id", "job_type", "status", "msg_code", "msg_error", "at_ms")
        failure = ", ".join(f"'{name}', {name}" for name in names)
        kept = f"SELECT target, at_ms, json_object({failure}) FROM new.failed_runs"
        db.execute(f"INSERT INTO main.recent_failures {kept}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {OLDER}")
    new.unlink()


def columns_of(db: sqlite3.Connection, table: str, schema: str) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM pragma_table_info(?, ?)", (table, schema))]


def version(file: Path) -> int:
    with closing(sqlite3.connect(file)) as db:
        (number,) = db.execute("PRAGMA user_version").fetchone()
    return int(number)


def test_a_ledger_of_the_version_before_counts_on_exactly(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate(workspaces=["0", "7"], jobs_per_day=4000)
    exporter = two_targets(tmp_path / "exporter", simulator)
    lived_through(exporter, simulator)
    made_older(exporter.ledger)
    upgraded_ms = simulator.now_ms() + 1
    for statements in range(sum(map(len, MIGRATIONS[OLDER:])) + 6):
        kill_while_it_migrates(exporter, statements)
        assert version(exporter.ledger) == OLDER
    kill_while_it_migrates(exporter, -1)  # just before the commit
    assert version(exporter.ledger) == OLDER
    simulator.advance(HOUR)
    with exporter.ready() as program:
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator, upgraded_ms=upgraded_ms)
        assert_failures_kept(exporter, simulator)
        assert exposed.total("octopus_ledger_full_syncs_total", reason="first") == 0
        assert told(exposed, workspace="7")["ended"]
        assert program.stop()[0] == 0
    assert version(exporter.ledger) == VERSION


def kill_while_it_migrates(exporter: Exporter, statements: int) -> None:
    command = (sys.executable, "-c", KILLED, str(statements), "run", "--config", exporter.write())
    with started(command, exporter.folder, name="killed") as program:
        assert program.wait() == -signal.SIGKILL, program.errors
