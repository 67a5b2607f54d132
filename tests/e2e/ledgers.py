"""Ledgers of real exporters, and what somebody else does to their files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.e2e.exporting import Exporter, project
from tests.e2e.simulation import PROJECT, Simulation

WORKSPACES = ["0", "7"]
HOUR = 3600

ENDLESS = '{"job_id": 1, "value": 1, "at_ms": 1' + 400 * "0" + "}"
# A value that cannot be read, by the column it is put into.
DAMAGE = [
    ("targets.baselines", "{"),
    ("targets.baselines", '{"*": "soon"}'),
    ("targets.shown_types", "[]"),
    ("targets.filters", "{"),
    ("targets.filters", '{"statuses": "by pigeon"}'),
    ("targets.audit", "{}"),
    ("targets.server", "["),
    ("targets.labels", "null"),
    ("targets.released", '{"types": []}'),
    ("counters.exemplar", '{"job_id": 1}'),
    ("counters.exemplar", ENDLESS),
    ("histograms.value", "{}"),
    ("histograms.value", '{"bounds": [1], "counts": [1], "sum_ms": 0, "exemplars": [null]}'),
]
# A number without end is a number. A histogram of other bounds than the configured ones begins anew.
REFUSED_AT_THE_START_ONLY = {
    ENDLESS,
    '{"bounds": [1], "counts": [1], "sum_ms": 0, "exemplars": [null]}',
}


@contextmanager
def somebody_at(file: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection of another program to a ledger."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as db:
        yield db


def two_targets(folder: Path, simulator: Simulation) -> Exporter:
    """Give an exporter of the workspaces 0 and 7."""
    return Exporter(
        folder, simulator.url, projects=[project(simulator.url, "perception", PROJECT, workspaces=WORKSPACES)]
    )


def lived_through(exporter: Exporter, simulator: Simulation, hours: int = 3) -> bytes:
    """Let an exporter count for some hours; give the ledger it leaves behind, all in one file."""
    with exporter.ready() as program:
        exporter.scrape_until_polled()
        for _ in range(hours):
            simulator.advance(HOUR)
            exporter.scrape_after_polls(2)
        assert program.stop()[0] == 0
    with somebody_at(exporter.ledger) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return exporter.ledger.read_bytes()


def without_types(db: sqlite3.Connection, table: str, statement: str) -> None:
    """Run a statement on a table as if its columns took any type."""
    (made,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    _make(db, table, made.replace("STRICT, WITHOUT", "WITHOUT").replace(") STRICT", ")"))
    db.execute(statement)
    _make(db, table, made)


def _make(db: sqlite3.Connection, table: str, made: str) -> None:
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (made, table))
    db.execute("PRAGMA writable_schema = RESET")


def damage(file: Path, column: str, value: str) -> tuple[str, tuple[object, ...]]:
    """Put a value into a row of workspace 7; give the statement that puts the old one back."""
    table, _, name = column.partition(".")
    owner = "id" if table == "targets" else "target"
    with somebody_at(file) as db:
        (target,) = db.execute("SELECT id FROM targets WHERE workspace = '7'").fetchone()
        keys = key_of(db, table)
        chosen = db.execute(
            f"SELECT {name}, {', '.join(keys)} FROM {table} WHERE {owner} = ? AND {name} IS NOT NULL LIMIT 1",
            (target,),
        ).fetchone()
        assert chosen is not None, column
        old, *where = chosen
        update = f"UPDATE {table} SET {name} = ? WHERE {' AND '.join(f'{key} = ?' for key in keys)}"
        db.execute(update, (value, *where))
    return update, (old, *where)


def key_of(db: sqlite3.Connection, table: str) -> list[str]:
    keys = db.execute("SELECT name FROM pragma_table_xinfo(?) WHERE pk > 0 ORDER BY pk", (table,)).fetchall()
    return [key for (key,) in keys] or ["rowid"]
