"""
The targets of the ledger: their rows, and deleting all that is recorded of one.

A target that left the configuration is deleted in pieces that take little time each. The first piece makes it
one that was never recorded: if the rest does not come to its end, and the target is configured again, it
begins anew. Half of its rows would make the other half count twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from exporter.counting.released import Released
from exporter.ledger.database import Database, Given
from exporter.model import Target, TargetKey
from exporter.sync.ledger import Audit, RecordedTarget
from exporter.sync.server_traits import Filters, ServerTraits

_ROWS_AT_ONCE = 5_000
_SMALL_TABLES = (
    *("listing", "counters", "histograms", "failed_runs", "hourly_runs", "set_apart"),
    *("resource_jobs", "resource_seconds"),
)


@dataclass(frozen=True, slots=True)
class TargetRow:
    """
    A target as the ledger has it.

    Shape: `baselines` as transitions.Baselines.at_ms; `shown_types` had their series published at `commits`,
    and since then; `released` says which of these are released; `endpoint` is the one that was polled last,
    "" where an older version did not record it; `revision` and
    `unreadable_specs` as in model.Totals.
    """

    id: int
    endpoint: str
    commits: int
    committed_ms: int
    baselines: dict[str, int | None]
    forgotten_before_ms: int | None
    shown_types: dict[str, int]
    horizon_ms: int | None
    watermark_ms: int
    covered_from_ms: int
    full_sync_ms: int
    filters: Filters
    audit: Audit | None
    server: ServerTraits
    released: Released
    revision: int
    unreadable_specs: tuple[str, ...]


_decode_audit = msgspec.json.Decoder(Audit).decode
_COLUMNS = tuple(field.name for field in fields(TargetRow))
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "baselines": msgspec.json.Decoder(dict[str, int | None]).decode,
    "shown_types": msgspec.json.Decoder(dict[str, int]).decode,
    "filters": msgspec.json.Decoder(Filters).decode,
    "audit": lambda audit: None if audit is None else _decode_audit(audit),
    "server": msgspec.json.Decoder(ServerTraits).decode,
    "released": msgspec.json.Decoder(Released).decode,
    "unreadable_specs": msgspec.json.Decoder(tuple[str, ...]).decode,
}
_READ = f"SELECT {', '.join(_COLUMNS)} FROM targets WHERE id = ?"  # noqa: S608 - constants only


def fetch_number(db: Database, statement: str, given: Given) -> int:
    """Give the one number that a statement asks for."""
    (number,) = db.execute(statement, given).fetchone()
    return int(number)


def target_id(db: Database, target: Target) -> int:
    """
    Give a target's id in the ledger, making its row where it is new.

    A row without a path was written by a version that did not record it. It becomes this target's row.
    """
    key = target.key
    found = _find(db, key)
    if found is None:
        (made,) = db.execute(
            "INSERT INTO targets (project, project_id, workspace, path) VALUES (?, ?, ?, ?) RETURNING id",
            (key.project, key.project_id, key.workspace, key.path),
        ).fetchone()
        return int(made)
    target_row, path = found
    if path != key.path:
        db.execute("UPDATE targets SET path = ? WHERE id = ?", (key.path, target_row))
    return target_row


def find_target(db: Database, key: TargetKey) -> int | None:
    """Give a target's id in the ledger: of the row with this path, else of the one without a path."""
    found = _find(db, key)
    return None if found is None else found[0]


def _find(db: Database, key: TargetKey) -> tuple[int, str] | None:
    """Give the id and the path of that row."""
    row = db.execute(
        """
        SELECT id, path FROM targets
        WHERE project = ? AND project_id = ? AND workspace = ? AND path IN (?, '') ORDER BY path = ''
        """,
        (key.project, key.project_id, key.workspace, key.path),
    ).fetchone()
    return None if row is None else (int(row[0]), row[1])


def read_target(db: Database, target: int) -> TargetRow:
    row = zip(_COLUMNS, db.execute(_READ, (target,)).fetchone(), strict=True)
    decoded = {name: _DECODERS[name](value) if name in _DECODERS else value for name, value in row}
    return TargetRow(**decoded)


def remembered(db: Database) -> tuple[RecordedTarget, ...]:
    """Give every target there is a row of."""
    rows = db.execute("SELECT project, project_id, workspace, path, committed_ms, watermark_ms FROM targets")
    return tuple(RecordedTarget(TargetKey(*row[:4]), *row[4:]) for row in rows)


def forget_counts(db: Database, target: int) -> bool:
    """Leave nothing of a target but its jobs, which nothing lists or compares then."""
    for table in _SMALL_TABLES:
        db.execute(f"DELETE FROM {table} WHERE target = ?", (target,))  # noqa: S608 - constants only
    key = db.execute("SELECT project, project_id, workspace, path FROM targets WHERE id = ?", (target,))
    (names,) = key.fetchall()
    db.execute("DELETE FROM targets WHERE id = ?", (target,))
    db.execute(
        "INSERT INTO targets (id, project, project_id, workspace, path) VALUES (?, ?, ?, ?, ?)",
        (target, *names),
    )
    return True


def forget_some_jobs(db: Database, target: int) -> bool:
    """Delete some of the jobs; tell whether those were the last."""
    deleted = db.execute(
        """
        DELETE FROM jobs
        WHERE target = :target AND id IN (SELECT id FROM jobs WHERE target = :target LIMIT :some)
        """,
        {"target": target, "some": _ROWS_AT_ONCE},
    ).rowcount
    return deleted < _ROWS_AT_ONCE


def forget_some_unrecorded(db: Database, target: int) -> bool:
    """Delete some of the jobs of a target that was never recorded; tell whether those were the last."""
    commits = fetch_number(db, "SELECT commits FROM targets WHERE id = ?", (target,))
    return commits > 0 or forget_some_jobs(db, target)


def forget_some_events(db: Database, target: int) -> bool:
    """Delete some of the events that wait; tell whether those were the last."""
    deleted = db.execute(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE target = ? LIMIT ?)",
        (target, _ROWS_AT_ONCE),
    ).rowcount
    return deleted < _ROWS_AT_ONCE


def forget_name(db: Database, target: int) -> bool:
    db.execute("DELETE FROM targets WHERE id = ?", (target,))
    return True


# In this order, each until it says that it has come to its end.
PIECES: tuple[Callable[[Database, int], bool], ...] = (
    forget_counts,
    forget_some_jobs,
    forget_some_events,
    forget_name,
)
