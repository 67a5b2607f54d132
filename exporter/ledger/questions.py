"""What a poll asks while it reads: of the rows that it has staged, beside the jobs that are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from exporter.ledger.database import Database
from exporter.ledger.targets import fetch_number
from exporter.model import IN_FLIGHT_STATUSES
from exporter.sync.ledger import ALL_ASKED, FoundBy, JobRef, Missing, RowKind, Staged, Unasked

_MISSING = """
    known.target = :target AND known.listed = 1 AND {which}
      AND NOT EXISTS (
        SELECT 1 FROM staged
        WHERE staged.target = known.target AND staged.id = known.id AND staged.wanted <> 0
      )
"""
# Polls list jobs in an undocumented status only if they are young. The older ones are not missing.
MISSING_IN_FLIGHT = _MISSING.format(
    which=f"""known.in_flight = 1
      AND (known.status IN {IN_FLIGHT_STATUSES} OR known.created_ms >= :undocumented)"""
)
MISSING_TERMINAL = _MISSING.format(which="known.in_flight = 0 AND known.created_ms >= :horizon")
# The index is named because SQLite, without statistics, would walk the primary key: all stored jobs.
IN_FLIGHT_JOBS = "jobs AS known INDEXED BY jobs_in_flight"
FINISHED_JOBS = "jobs AS known INDEXED BY jobs_by_creation"
_LISTED_IN_FLIGHT = f"SELECT known.id, known.created_ms FROM {IN_FLIGHT_JOBS} WHERE {MISSING_IN_FLIGHT}"  # noqa: S608
_LISTED_TERMINAL = f"SELECT known.id FROM {FINISHED_JOBS} WHERE {MISSING_TERMINAL} LIMIT :most"  # noqa: S608
_COUNT_TERMINAL = f"SELECT count(*) FROM {FINISHED_JOBS} WHERE {MISSING_TERMINAL}"  # noqa: S608
# A status and a span of creation times, of each type by itself: only so SQLite finds them in the index.
_IN_FLIGHT_IN = """
    known.target = :target AND known.in_flight = 1 AND known.status IN {statuses}
    AND known.job_type IN (SELECT job_type FROM listing WHERE target = :target)
    AND known.created_ms >= :start AND known.created_ms < :end
"""
_GIVEN_STATUSES = "(SELECT value FROM json_each(:statuses))"
_COUNT_BETWEEN = f"""
    SELECT known.status, count(*) FROM {IN_FLIGHT_JOBS}
    WHERE {_IN_FLIGHT_IN.format(statuses=_GIVEN_STATUSES)} GROUP BY known.status
"""  # noqa: S608 - constants only
_COUNT_LISTED = (
    "SELECT status, CAST(sum(jobs) AS BIGINT) FROM listing"
    " WHERE target = :target AND in_flight = 1 GROUP BY status"
)
# What replaces a known job in flight, or shows one that is new. A CROSS JOIN is read in this order by SQLite,
# which would walk all stored jobs instead, and look for each among the staged rows.
_STAGED_BETWEEN = """
    SELECT known.status, -count(*)
    FROM staged CROSS JOIN jobs AS known
    WHERE staged.target = :target AND staged.wanted = 1 AND known.in_flight = 1
        AND known.target = staged.target AND known.id = staged.id
        AND known.created_ms >= :start AND known.created_ms < :end
    GROUP BY known.status
    UNION ALL
    SELECT status, count(*) FROM staged
    WHERE target = :target AND wanted = 1 AND in_flight = 1 AND created_ms >= :start AND created_ms < :end
    GROUP BY status
    UNION ALL
    SELECT status, -count(*) FROM jobs
    WHERE target = :target AND id IN (SELECT value FROM json_each(:gone)) AND in_flight = 1
        AND created_ms >= :start AND created_ms < :end
    GROUP BY status
"""
_OLDEST = """
    SELECT coalesce(min((
        SELECT min(created_ms) FROM jobs INDEXED BY jobs_in_flight
        WHERE target = :target AND in_flight = 1 AND job_type = kinds.job_type AND status = :status
    )), 0) FROM (SELECT DISTINCT job_type FROM listing WHERE target = :target) AS kinds
"""
_NOT_STAGED = """
    NOT EXISTS (SELECT 1 FROM staged
        WHERE staged.target = known.target AND staged.id = known.id AND staged.wanted <> 0)
"""
_UNSTAGED_IN_FLIGHT = f"""
    SELECT known.id, known.created_ms FROM {IN_FLIGHT_JOBS}
    WHERE {_IN_FLIGHT_IN.format(statuses=_GIVEN_STATUSES)} AND {_NOT_STAGED} LIMIT :most
"""  # noqa: S608 - constants only
_UNSTAGED_FINISHED = f"""
    SELECT known.id FROM {FINISHED_JOBS}
    WHERE known.target = :target AND known.in_flight = 0 AND known.listed = 1
        AND known.created_ms >= :start AND known.created_ms < :end AND {_NOT_STAGED} LIMIT :most
"""  # noqa: S608 - constants only
_GONE = """
    SELECT id, created_ms FROM jobs
    WHERE target = :target AND in_flight = 1 AND id IN (SELECT value FROM json_each(:gone))
"""
_NEVER = 2**63 - 1


def count(db: Database, target: int, first_pass: int, pass_no: int, before_ms: int | None = None) -> Staged:
    given = {"target": target, "first": first_pass, "pass": pass_no}
    row = db.execute(
        """
        SELECT count(*) FILTER (WHERE last_pass = :pass), count(*) FILTER (WHERE last_pass >= :first),
            count(*) FILTER (WHERE last_pass = :pass AND repeated = 1)
        FROM staged WHERE target = :target AND created_ms < :before
        """,
        given | {"before": _NEVER if before_ms is None else before_ms},
    ).fetchone()
    return Staged(*map(int, row))


def vanished(db: Database, target: int, undocumented_from_ms: int, unasked: Unasked) -> tuple[JobRef, ...]:
    given: dict[str, object] = {"target": target, "undocumented": undocumented_from_ms}
    if unasked == ALL_ASKED:
        return tuple(JobRef(*row) for row in db.execute(_LISTED_IN_FLIGHT, given))
    # Without the many that were not asked for. Of those in an undocumented status the young ones were.
    undocumented = [
        status for status, _ in db.execute(_COUNT_LISTED, given) if status not in IN_FLIGHT_STATUSES
    ]
    listed = [status for status in IN_FLIGHT_STATUSES if status not in unasked.statuses]
    spans = ((unasked.statuses, unasked.before_ms), (listed, 0), (undocumented, undocumented_from_ms))
    rows = set(db.execute(_GONE, {**given, "gone": _encoded(unasked.gone)}))
    for statuses, start_ms in spans:
        span = {**given, "statuses": _encoded(statuses), "start": start_ms, "end": _NEVER, "most": _NEVER}
        rows.update(db.execute(_UNSTAGED_IN_FLIGHT, span))
    return tuple(JobRef(*row) for row in sorted(rows))


def in_flight_between(
    db: Database,
    target: int,
    statuses: Sequence[str],
    start_ms: int,
    end_ms: int,
    gone: Sequence[int],
) -> dict[str, int]:
    given: dict[str, object] = {"target": target, "start": start_ms, "end": end_ms}
    given |= {"statuses": _encoded(statuses), "gone": _encoded(gone)}
    jobs: Counter[str] = Counter()
    if start_ms > 0:
        jobs.update(dict(db.execute(_COUNT_BETWEEN, given)))
    else:
        # All are counted already, and few were created since the end.
        jobs.update(dict(db.execute(_COUNT_LISTED, given)))
        jobs.subtract(dict(db.execute(_COUNT_BETWEEN, {**given, "start": end_ms, "end": _NEVER})))
    for status, more in db.execute(_STAGED_BETWEEN, given):
        jobs[status] += more
    return {status: jobs[status] for status in statuses}


def oldest_in_flight(db: Database, target: int, status: str) -> int:
    return fetch_number(db, _OLDEST, {"target": target, "status": status})


def unstaged_between(
    db: Database, target: int, statuses: Sequence[str], start_ms: int, end_ms: int, most: int
) -> tuple[int, ...]:
    given = {"target": target, "start": start_ms, "end": end_ms, "most": most}
    in_flight = {**given, "statuses": _encoded(statuses or IN_FLIGHT_STATUSES)}
    found = [job_id for job_id, _ in db.execute(_UNSTAGED_IN_FLIGHT, in_flight)]
    if not statuses and len(found) < most:
        found += [job_id for (job_id,) in db.execute(_UNSTAGED_FINISHED, given | {"most": most - len(found)})]
    return tuple(found)


def missing(db: Database, target: int, horizon_ms: int | None, most: int) -> Missing:
    given = {"target": target, "horizon": horizon_ms or 0}
    some = db.execute(_LISTED_TERMINAL, given | {"most": most})
    return Missing(tuple(row[0] for row in some), fetch_number(db, _COUNT_TERMINAL, given))


def gone(db: Database, target: int, statuses: Sequence[str], start_ms: int) -> int:
    given = {
        "target": target,
        "horizon": start_ms,
        "undocumented": start_ms,
        "statuses": _encoded(statuses),
    }
    chosen = f"known.status IN {_GIVEN_STATUSES}" if statuses else "1 = 1"
    in_flight = f"""
        SELECT count(*) FROM {IN_FLIGHT_JOBS}
        WHERE {MISSING_IN_FLIGHT} AND known.created_ms >= :horizon AND {chosen}
    """  # noqa: S608 - constants only
    return fetch_number(db, in_flight, given) + fetch_number(db, f"{_COUNT_TERMINAL} AND {chosen}", given)


def readable(db: Database, target: int, job_ids: Sequence[int]) -> tuple[int, ...]:
    rows = db.execute(
        "SELECT id FROM staged WHERE target = ? AND wanted = ? AND id IN (SELECT value FROM json_each(?))",
        (target, RowKind.OWN, _encoded(job_ids)),
    )
    return tuple(job_id for (job_id,) in rows)


def staged_since(db: Database, target: int, start_ms: int) -> int:
    statement = "SELECT count(*) FROM staged WHERE target = ? AND created_ms >= ?"
    return fetch_number(db, statement, (target, start_ms))


def unlisted_statuses(db: Database, target: int, before_ms: int) -> int:
    statement = f"""
        SELECT count(*) FROM (
            SELECT 1 FROM staged
            WHERE target = :target AND wanted = 1 AND status IN {IN_FLIGHT_STATUSES}
            GROUP BY status HAVING max(found_by & :in_flight) = 0 AND min(created_ms) < :before
        ) AS unlisted
    """  # noqa: S608 - constants only
    given = {"target": target, "before": before_ms, "in_flight": FoundBy.IN_FLIGHT}
    return fetch_number(db, statement, given)


def rows_since(db: Database, target: int, cuts: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Count along the index of creation times, and no further than it matters."""
    finished = """
        SELECT count(*) FROM (
            SELECT 1 FROM jobs INDEXED BY jobs_by_creation
            WHERE target = :target AND in_flight = 0 AND created_ms >= :cut LIMIT :most
        ) AS newer
    """
    in_flight = """
        SELECT count(*) FROM jobs INDEXED BY jobs_in_flight
        WHERE target = :target AND in_flight = 1 AND created_ms >= :cut
    """
    given = {"target": target, "most": most}
    return [
        (cut_ms, sum(fetch_number(db, one, given | {"cut": cut_ms}) for one in (finished, in_flight)))
        for cut_ms in cuts
    ]


def _encoded(values: Sequence[object]) -> str:
    return msgspec.json.encode(values).decode()
