"""How old the jobs in flight are: the oldest of each type and status, and how many are over each age."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from typing import TypedDict

from exporter.model import AGE_BOUNDS_MS, WAITING_STATUSES

_SOUND = ((str, str, int, int), (str, str, int, type(None)))
_OLDEST = """
    SELECT job_type, status, min(created_ms), min(started_ms) FROM jobs INDEXED BY jobs_in_flight
    WHERE target = ? AND in_flight = 1 GROUP BY job_type, status
"""
_BEFORE = """
    SELECT {since} FROM jobs INDEXED BY jobs_in_flight
    WHERE target = ? AND in_flight = 1 AND job_type = ? AND status = ? AND {since} < ? ORDER BY {since}
"""
_CREATED_BEFORE, _STARTED_BEFORE = (_BEFORE.format(since=name) for name in ("created_ms", "started_ms"))
_LEAST_MS = min(AGE_BOUNDS_MS.values())


class Ages(TypedDict):
    """What model.Totals says of the ages of jobs."""

    oldest_created_ms: dict[tuple[str, str], int]
    oldest_started_ms: dict[tuple[str, str], int]
    older_than: dict[tuple[str, str, str], int]


def read_ages(db: sqlite3.Connection, target: int, types: tuple[str, ...], now_ms: int) -> Ages:
    """
    Give the ages of a target's jobs in flight, of these types.

    Units: `now_ms` by our own clock, as the ages that are made of the oldest timestamps.
    Raises: sqlite3.DatabaseError for a damaged index.
    """
    found = db.execute(_OLDEST, (target,)).fetchall()
    # They come from the index, which no check of the tables looks into.
    if any(tuple(map(type, row)) not in _SOUND for row in found):
        raise sqlite3.DatabaseError("damaged: index jobs_in_flight holds a value of a wrong type")
    shown = [row for row in found if row[0] in types]
    ages: Ages = {"oldest_created_ms": {}, "oldest_started_ms": {}, "older_than": {}}
    for kind, status, created_ms, started_ms in shown:
        ages["oldest_created_ms"][kind, status] = created_ms
        if started_ms is not None:
            ages["oldest_started_ms"][kind, status] = started_ms
        since_ms = created_ms if status in WAITING_STATUSES else started_ms
        # The rows are read only where the oldest job has reached the first bound: usually nowhere.
        if since_ms is not None and since_ms < now_ms - _LEAST_MS:
            query = _CREATED_BEFORE if status in WAITING_STATUSES else _STARTED_BEFORE
            rows = db.execute(query, (target, kind, status, now_ms - _LEAST_MS)).fetchall()
            since = [row[0] for row in rows]
            for age, bound_ms in AGE_BOUNDS_MS.items():
                jobs = bisect_left(since, now_ms - bound_ms)
                if not jobs:
                    break
                ages["older_than"][kind, status, age] = jobs
    return ages
