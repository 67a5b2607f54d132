"""
Deleting all that is recorded of a target that left the configuration, in pieces that take little time each.

The first piece makes the target one that was never recorded. So if the rest does not come to its end, and the
target is configured again, it begins anew; half of its rows would make the other half count twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from exporter.model import TargetKey
from exporter.sync.ledger import RecordedTarget

_ROWS_AT_ONCE = 5_000
_SMALL_TABLES = ("listing", "counters", "histograms", "failed_runs", "hourly_runs", "set_apart")


def remembered(db: sqlite3.Connection) -> tuple[RecordedTarget, ...]:
    """Give every target there is a row of."""
    rows = db.execute("SELECT project, project_id, workspace, path, committed_ms, watermark_ms FROM targets")
    return tuple(RecordedTarget(TargetKey(*row[:4]), *row[4:]) for row in rows)


def forget_counts(db: sqlite3.Connection, target: int) -> bool:
    """Leave nothing of a target but its jobs, which nothing lists or compares then."""
    db.execute("BEGIN IMMEDIATE")
    for table in _SMALL_TABLES:
        db.execute(f"DELETE FROM {table} WHERE target = ?", (target,))  # noqa: S608 - constants only
    key = db.execute("SELECT project, project_id, workspace, path FROM targets WHERE id = ?", (target,))
    (names,) = key.fetchall()
    db.execute("DELETE FROM targets WHERE id = ?", (target,))
    db.execute(
        "INSERT INTO targets (id, project, project_id, workspace, path) VALUES (?, ?, ?, ?, ?)",
        (target, *names),
    )
    db.execute("COMMIT")
    return True


def forget_some_jobs(db: sqlite3.Connection, target: int) -> bool:
    """Delete some of the jobs; tell whether those were the last."""
    deleted = db.execute(
        """
        DELETE FROM jobs
        WHERE target = :target AND id IN (SELECT id FROM jobs WHERE target = :target LIMIT :some)
        """,
        {"target": target, "some": _ROWS_AT_ONCE},
    ).rowcount
    return deleted < _ROWS_AT_ONCE


def forget_some_unrecorded(db: sqlite3.Connection, target: int) -> bool:
    """Delete some of the jobs of a target that was never recorded; tell whether those were the last."""
    (commits,) = db.execute("SELECT commits FROM targets WHERE id = ?", (target,)).fetchone()
    return commits > 0 or forget_some_jobs(db, target)


def forget_some_events(db: sqlite3.Connection, target: int) -> bool:
    """Delete some of the events that wait; tell whether those were the last."""
    deleted = db.execute(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE target = ? LIMIT ?)",
        (target, _ROWS_AT_ONCE),
    ).rowcount
    return deleted < _ROWS_AT_ONCE


def forget_name(db: sqlite3.Connection, target: int) -> bool:
    db.execute("DELETE FROM targets WHERE id = ?", (target,))
    return True


# In this order, each until it says that it has come to its end.
PIECES: tuple[Callable[[sqlite3.Connection, int], bool], ...] = (
    forget_counts,
    forget_some_jobs,
    forget_some_events,
    forget_name,
)
