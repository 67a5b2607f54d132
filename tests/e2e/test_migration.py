"""A ledger of the version before, brought up to date by a process that is killed in the midst of it."""

from __future__ import annotations

import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from exporter.ledger.schema import APPLICATION_ID, MIGRATIONS
from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.exposed import told
from tests.e2e.ledgers import HOUR, lived_through, two_targets
from tests.e2e.processes import started

pytestmark = pytest.mark.e2e

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
    """Put what a ledger holds into the tables of schema 2, as the version of that time made them."""
    new = file.rename(file.with_suffix(".new"))
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        for statement in (*MIGRATIONS[0], *MIGRATIONS[1]):
            db.execute(statement)
        db.execute("ATTACH ? AS new", (str(new),))
        for table in ("targets", "jobs", "counters", "histograms", "recent_failures"):
            names = [
                name for (name,) in db.execute("SELECT name FROM pragma_table_info(?, 'main')", (table,))
            ]
            columns = ", ".join(names)
            db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
        grouped = "SELECT target, job_type, status, sum(jobs) FROM new.listing GROUP BY 1, 2, 3"
        db.execute(f"INSERT INTO main.listing {grouped}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 2")
    new.unlink()


def version(file: Path) -> int:
    with closing(sqlite3.connect(file)) as db:
        (number,) = db.execute("PRAGMA user_version").fetchone()
    return int(number)


def test_a_ledger_of_the_version_before_counts_on_exactly(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate(workspaces=["0", "7"], jobs_per_day=4000)
    exporter = two_targets(tmp_path / "exporter", simulator)
    lived_through(exporter, simulator)
    made_older(exporter.ledger)
    for statements in range(len(MIGRATIONS[2]) + 6):
        kill_while_it_migrates(exporter, statements)
        assert version(exporter.ledger) == 2
    kill_while_it_migrates(exporter, -1)  # just before the commit
    assert version(exporter.ledger) == 2
    simulator.advance(HOUR)
    with exporter.ready() as program:
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator)
        assert exposed.total("octopus_ledger_full_syncs_total", reason="first") == 0
        assert told(exposed, workspace="7")["ended"]
        assert program.stop()[0] == 0
    assert version(exporter.ledger) == 3


def kill_while_it_migrates(exporter: Exporter, statements: int) -> None:
    command = (sys.executable, "-c", KILLED, str(statements), "run", "--config", exporter.write())
    with started(command, exporter.folder, name="killed") as program:
        assert program.wait() == -signal.SIGKILL, program.errors
