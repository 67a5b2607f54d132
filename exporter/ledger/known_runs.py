"""
All runs that a ledger knows: the latest run of every listed job, and the failed runs it keeps.

From SQLite the answer is copied into a temporary table first, on disk if it is large. So it takes little
memory, and a slow reader does not delay the checkpoints of an exporter that is writing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import msgspec

from exporter.ledger.database import Database
from exporter.ledger.runs import target_rows
from exporter.model import TargetKey
from exporter.runs import KnownRun, RunFilter

AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class KnownRuns:
    """
    Runs, the newest first: those that have ended by their end, the others by their last change.

    Shape: `runs` can be gone through once; `more` if there are more than were asked for.
    """

    runs: Iterator[tuple[TargetKey, KnownRun]]
    more: bool


_FIELDS = tuple(field.name for field in fields(KnownRun))
COLUMNS = ", ".join(_FIELDS)
_FITS = "(:job_type IS NULL OR job_type = :job_type) AND (:status IS NULL OR status = :status)"
# Each row says when it was: the time by which runs are in order.
SELECT_KEPT = f"""
    SELECT target, at_ms AS moment, {COLUMNS} FROM failed_runs
    WHERE {{of_targets}} AND {_FITS} AND (:job_id IS NULL OR job_id = :job_id)
        AND (:since IS NULL OR at_ms >= :since) AND (:msg_code IS NULL OR msg_code = :msg_code)
"""  # noqa: S608 - constants only
# Of a job in flight `ended_ms` is the end of its run before. A failed run that is kept is told with more.
SELECT_LISTED = f"""
    SELECT target, coalesce(at_ms, updated_ms - rows_ahead_ms) AS moment, job_id, number, job_type, status,
        NULL, NULL, data_id, resource_spec, created_ms, started_ms, ended_ms, at_ms, NULL, NULL
    FROM (
        SELECT target, jobs.id AS job_id, runs + in_flight AS number, job_type, status, data_id,
            resource_spec, created_ms, updated_ms, started_ms, rows_ahead_ms,
            CASE WHEN in_flight = 0 THEN ended_ms END AS ended_ms,
            CASE WHEN in_flight = 0 THEN coalesce(ended_ms, updated_ms) - rows_ahead_ms END AS at_ms
        FROM jobs JOIN targets ON targets.id = jobs.target
        WHERE {{of_targets}} AND listed = 1 AND {{of_job}}
    ) AS latest
    WHERE {_FITS} AND (:failed = 0 OR substr(status, length(status) - 6) = '_FAILED')
        AND (:since IS NULL OR at_ms IS NULL OR at_ms >= :since) AND :msg_code IS NULL
        AND NOT EXISTS (
            SELECT 1 FROM {{kept}} AS kept
            WHERE kept.target = latest.target AND kept.job_id = latest.job_id AND kept.number = latest.number
        )
"""  # noqa: S608 - constants only
NEWEST_FIRST = "moment DESC, target DESC, job_id DESC, number DESC"
# SQLite has no index to find a kept run by its job.
_KEPT = """
    CREATE TEMP TABLE kept (target INTEGER, job_id INTEGER, number INTEGER,
        PRIMARY KEY (target, job_id, number)) WITHOUT ROWID
"""
_FOUND = f"CREATE TEMP TABLE found (target, moment, {COLUMNS})"


class KnownRunsQuery(Protocol):
    """Finds runs in a ledger that is open for that; see known_runs."""

    def __call__(
        self,
        targets: Sequence[TargetKey],
        which: RunFilter,
        /,
        *,
        failed_only: bool = False,
        most: int | None = None,
    ) -> KnownRuns: ...


def known_runs(
    db: sqlite3.Connection,
    targets: Sequence[TargetKey],
    which: RunFilter,
    *,
    failed_only: bool = False,
    most: int | None = None,
) -> KnownRuns:
    """
    Find runs, `most` of them at most.

    Shape: `which.since_ms` leaves out what ended before; a code fits only runs whose code is known.
    """
    rows = rows_of(db, targets, which)
    limit = -1 if most is None else most + 1
    given = {**values_of(which, failed_only=failed_only), "most": limit}
    db.execute(_KEPT)
    db.execute(_FOUND)
    of_target = "target = :target"
    kept = SELECT_KEPT.format(of_targets=of_target)
    listed = SELECT_LISTED.format(of_targets=of_target, of_job=of_job(which), kept="kept")
    for target in rows:
        of_this = given | {"target": target}
        db.execute("DELETE FROM kept")
        keys = "INSERT OR IGNORE INTO kept SELECT target, job_id, number FROM failed_runs WHERE target = ?"
        db.execute(keys, (target,))
        for select in (kept, listed):
            db.execute(f"INSERT INTO found {select} ORDER BY moment DESC LIMIT :most", of_this)
    (found,) = db.execute("SELECT count(*) FROM found").fetchone()
    return KnownRuns(
        _newest_first(db, rows, limit if most is None else most), most is not None and found > most
    )


def rows_of(db: Database, targets: Sequence[TargetKey], which: RunFilter) -> dict[int, TargetKey]:
    """Give the targets that are meant by their number in the ledger, as far as it has them."""
    return {row: key for row, key in target_rows(db, targets).items() if which.fits_target(key)}


def values_of(which: RunFilter, *, failed_only: bool) -> dict[str, object]:
    """Give the values of SELECT_KEPT and SELECT_LISTED."""
    return {
        "job_type": which.job_type,
        "status": which.status,
        "msg_code": which.msg_code,
        "job_id": which.job_id,
        "since": which.since_ms,
        "failed": int(failed_only),
    }


def of_job(which: RunFilter) -> str:
    """Give the condition for the job that is meant, written out, so that the primary key finds it."""
    return "1 = 1" if which.job_id is None else "jobs.id = :job_id"


def _newest_first(
    db: sqlite3.Connection, targets: dict[int, TargetKey], most: int
) -> Iterator[tuple[TargetKey, KnownRun]]:
    rows = db.execute(
        f"""
        SELECT target, {COLUMNS} FROM found ORDER BY {NEWEST_FIRST} LIMIT ?
        """,  # noqa: S608 - constants only
        (most,),
    )
    while some := rows.fetchmany(AT_ONCE):
        yield from read_runs(some, targets)


def read_runs(
    rows: Sequence[Sequence[Any]], targets: Mapping[int, TargetKey]
) -> Iterator[tuple[TargetKey, KnownRun]]:
    """Read rows of a target and COLUMNS; one with a damaged value is left out."""
    for target, *row in rows:
        with suppress(msgspec.ValidationError):
            run = msgspec.convert(dict(zip(_FIELDS, row, strict=True)), KnownRun)
            yield targets[target], _with_durations(run)


def _with_durations(run: KnownRun) -> KnownRun:
    """
    Take the durations that are not known from the times, as far as those do not contradict each other.

    Since when a run that is not its job's first has waited is not known.
    """
    waited, ran = run.submitting_ms, run.running_ms
    if waited is None and run.number == 1:
        waited = _between(run.created_ms, run.started_ms)
    if ran is None:
        ran = _between(run.started_ms, run.ended_ms)
    return replace(run, submitting_ms=waited, running_ms=ran)


def _between(first_ms: int | None, last_ms: int | None) -> int | None:
    if first_ms is None or last_ms is None or last_ms < first_ms:
        return None
    return last_ms - first_ms
