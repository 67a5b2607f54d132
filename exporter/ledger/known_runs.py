"""
All runs that a ledger knows: the latest run of every listed job, and the failed runs it keeps.

The answer is copied into a temporary table first, on disk if it is large. So it takes little memory, and a
slow reader does not delay the checkpoints of an exporter that is writing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import msgspec

from exporter.ledger.runs import target_rows
from exporter.model import TargetKey
from exporter.runs import KnownRun, RunFilter

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class KnownRuns:
    """
    Runs, the newest first: those that have ended by their end, the others by their last change.

    Shape: `runs` can be gone through once; `more` if there are more than were asked for.
    """

    runs: Iterator[tuple[TargetKey, KnownRun]]
    more: bool


_FIELDS = tuple(field.name for field in fields(KnownRun))
_COLUMNS = ", ".join(_FIELDS)
_FITS = "(:job_type IS NULL OR job_type = :job_type) AND (:status IS NULL OR status = :status)"
_FOUND = f"CREATE TEMP TABLE found (target, moment, {_COLUMNS})"
_FIND_KEPT = f"""
    INSERT INTO found
    SELECT target, at_ms, {_COLUMNS} FROM main.failed_runs
    WHERE target = :target AND {_FITS} AND (:job_id IS NULL OR job_id = :job_id)
        AND (:since IS NULL OR at_ms >= :since) AND (:msg_code IS NULL OR msg_code = :msg_code)
    ORDER BY at_ms DESC LIMIT :most
"""  # noqa: S608 - constants only
# Of a job in flight `ended_ms` is the end of its run before. A failed run that is kept is told with more.
_FIND_LISTED = f"""
    INSERT INTO found
    SELECT target, ifnull(at_ms, updated_ms - :ahead) AS moment, job_id, number, job_type, status, NULL, NULL,
        data_id, resource_spec, created_ms, started_ms, ended_ms, at_ms, NULL, NULL
    FROM (
        SELECT target, id AS job_id, runs + in_flight AS number, job_type, status, data_id, resource_spec,
            created_ms, updated_ms, started_ms, iif(in_flight, NULL, ended_ms) AS ended_ms,
            iif(in_flight, NULL, ifnull(ended_ms, updated_ms) - :ahead) AS at_ms
        FROM main.jobs WHERE target = :target AND listed = 1 AND {{of_job}}
    ) AS latest
    WHERE {_FITS} AND (:failed = 0 OR substr(status, -7) = '_FAILED')
        AND (:since IS NULL OR at_ms IS NULL OR at_ms >= :since) AND :msg_code IS NULL
        AND NOT EXISTS (SELECT 1 FROM kept WHERE kept.job_id = latest.job_id AND kept.number = latest.number)
    ORDER BY moment DESC LIMIT :most
"""  # noqa: S608 - constants only


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
    rows = {row: key for row, key in target_rows(db, targets).items() if which.fits_target(key)}
    limit = -1 if most is None else most + 1
    given = {
        "job_type": which.job_type,
        "status": which.status,
        "msg_code": which.msg_code,
        "job_id": which.job_id,
        "since": which.since_ms,
        "failed": failed_only,
        "most": limit,
    }
    db.execute(
        "CREATE TEMP TABLE kept (job_id INTEGER, number INTEGER, PRIMARY KEY (job_id, number)) WITHOUT ROWID"
    )
    db.execute(_FOUND)
    for target in rows:
        db.execute("DELETE FROM kept")
        keys = "INSERT OR IGNORE INTO kept SELECT job_id, number FROM main.failed_runs WHERE target = ?"
        db.execute(keys, (target,))
        (ahead_ms,) = db.execute("SELECT rows_ahead_ms FROM targets WHERE id = ?", (target,)).fetchone()
        of_target = given | {"target": target, "ahead": ahead_ms}
        db.execute(_FIND_KEPT, of_target)
        # Written out, so that the primary key finds it.
        of_job = "1" if which.job_id is None else "id = :job_id"
        db.execute(_FIND_LISTED.format(of_job=of_job), of_target)
    (found,) = db.execute("SELECT count(*) FROM found").fetchone()
    return KnownRuns(
        _newest_first(db, rows, limit if most is None else most), most is not None and found > most
    )


def _newest_first(
    db: sqlite3.Connection, targets: dict[int, TargetKey], most: int
) -> Iterator[tuple[TargetKey, KnownRun]]:
    rows = db.execute(
        f"""
        SELECT target, {_COLUMNS} FROM found
        ORDER BY moment DESC, target DESC, job_id DESC, number DESC LIMIT ?
        """,  # noqa: S608 - constants only
        (most,),
    )
    while some := rows.fetchmany(_AT_ONCE):
        for target, *row in some:
            try:
                run = msgspec.convert(dict(zip(_FIELDS, row, strict=True)), KnownRun)
            except msgspec.ValidationError:  # a damaged value: the others are shown
                continue
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
