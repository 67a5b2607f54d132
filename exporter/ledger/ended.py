"""
The single runs that a poll saw end: the failed ones are kept for a while, all are counted by the hour.

Both belong to the poll's transaction, and nothing is written where nothing has ended. Failed runs are kept
for 24 hours: at least the latest 500 of a target, whatever their age, and never more than its latest 10,000.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

from exporter.counting.transitions import Transition, end_of
from exporter.ledger.outbox import NewEvents
from exporter.model import Job, Run
from exporter.sync.ledger import PollResult

HOUR_MS = 3_600_000
KEPT_MS = 24 * HOUR_MS
LEAST_KEPT = 500
MOST_KEPT = 10_000
HOURS_COUNTED = 7 * 24

# A first sync that counts history may see a million runs end: memory holds so many of them at a time.
_AT_ONCE = 2_000
_KEEP_FAILED = """
    INSERT INTO failed_runs (target, job_id, number, job_type, status, msg_code, msg_error, data_id,
        resource_spec, created_ms, started_ms, ended_ms, at_ms, submitting_ms, running_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_COUNT = """
    INSERT INTO hourly_runs (target, hour, job_type, status, failed, runs) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (target, hour, job_type, status, failed) DO UPDATE SET runs = runs + excluded.runs
"""


class EndedRuns:
    """
    Takes the runs of one poll as they come, and writes them some thousands at a time.

    `write` is the one place that has every run that ended, failed or not, inside the poll's transaction.
    """

    def __init__(
        self, db: sqlite3.Connection, target: int, observation: PollResult, events: NewEvents
    ) -> None:
        self._db = db
        self._target = target
        self._events = events
        self._now_ms = observation.now_ms
        self._ahead_ms = observation.rows_ahead_ms
        self._runs: list[Run] = []

    def add(self, job: Job, change: Transition, *, failed: bool) -> None:
        """Take a run that ended and was counted."""
        self._runs.append(
            Run(
                job_id=job.id,
                number=change.known.runs,
                job_type=job.job_type,
                status=job.status,
                msg_code=job.msg_code,
                msg_error=job.msg_error,
                data_id=job.data_id,
                resource_spec=job.resource_spec,
                created_ms=job.created_ms,
                started_ms=job.started_ms,
                ended_ms=job.ended_ms,
                at_ms=min(end_of(job) - self._ahead_ms, self._now_ms),
                submitting_ms=change.waited_ms,
                running_ms=change.running_ms,
                failed=failed,
            )
        )
        if len(self._runs) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what has come since the last time."""
        if self._runs:
            self.write(self._runs)
            self._runs.clear()

    def write(self, runs: Sequence[Run]) -> None:
        count_by_hour(self._db, self._target, runs, self._now_ms)
        keep_failed(self._db, self._target, [run for run in runs if run.failed], self._now_ms)
        self._events.add(runs)


def keep_failed(db: sqlite3.Connection, target: int, runs: Sequence[Run], now_ms: int) -> None:
    """Keep failed runs, and of the older ones no more than there is to be kept."""
    if not runs:
        return
    db.executemany(
        _KEEP_FAILED,
        [
            (
                *(target, run.job_id, run.number, run.job_type, run.status, run.msg_code, run.msg_error),
                *(run.data_id, run.resource_spec, run.created_ms, run.started_ms, run.ended_ms, run.at_ms),
                *(run.submitting_ms, run.running_ms),
            )
            for run in runs
        ],
    )
    _prune_failed(db, target, now_ms)


def count_by_hour(db: sqlite3.Connection, target: int, runs: Sequence[Run], now_ms: int) -> None:
    """Add runs to the counts of the hours they ended in, as far as those are still counted."""
    first = first_hour(now_ms)
    counts = Counter((run.at_ms // HOUR_MS, run.job_type, run.status, run.failed) for run in runs)
    db.executemany(
        _COUNT, [(target, *series, number) for series, number in counts.items() if series[0] >= first]
    )


def first_hour(now_ms: int) -> int:
    """Give the first of the hours that are counted: 7 days, and the current hour."""
    return now_ms // HOUR_MS - HOURS_COUNTED


def is_another_hour(before_ms: int, now_ms: int) -> bool:
    """Tell whether something may have become too old to be kept since a poll before."""
    return before_ms // HOUR_MS != now_ms // HOUR_MS


def prune_runs(db: sqlite3.Connection, target: int, now_ms: int) -> None:
    """Forget what has become too old."""
    db.execute("DELETE FROM hourly_runs WHERE target = ? AND hour < ?", (target, first_hour(now_ms)))
    _prune_failed(db, target, now_ms)


def _prune_failed(db: sqlite3.Connection, target: int, now_ms: int) -> None:
    # Both walk the index only, and at most as far as is kept.
    nth = """
        SELECT at_ms FROM failed_runs INDEXED BY failed_runs_by_time
        WHERE target = ? ORDER BY at_ms DESC LIMIT 1 OFFSET ?
    """
    least = db.execute(nth, (target, LEAST_KEPT - 1)).fetchone()
    if least is None:
        return
    db.execute(
        "DELETE FROM failed_runs WHERE target = ? AND at_ms < ?", (target, min(least[0], now_ms - KEPT_MS))
    )
    db.execute(
        """
        DELETE FROM failed_runs WHERE rowid IN (
            SELECT rowid FROM failed_runs INDEXED BY failed_runs_by_time WHERE target = ?
            ORDER BY at_ms DESC, job_id DESC, number DESC LIMIT -1 OFFSET ?
        )
        """,
        (target, MOST_KEPT),
    )
