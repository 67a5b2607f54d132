"""What a commit writes to the stored jobs, and to the tables that count them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from exporter.counting.increments import Increments
from exporter.counting.transitions import KnownJob
from exporter.ledger.database import Database
from exporter.ledger.questions import FINISHED_JOBS
from exporter.ledger.totals import newest_creation
from exporter.model import Job

_CHUNK = 2000
# How long finished jobs older than the lookback are kept: as long as the lookback, within these limits.
_LEAST_KEPT_MS, _MOST_KEPT_MS = 3_600_000, 86_400_000
# At most so many of them are forgotten in one commit: their rows may be anywhere in the file.
_MOST_FORGOTTEN = 5_000

# The columns of `jobs`, in the order of what a commit writes: the key, transitions.KnownJob, the details,
# when the job left flight as far as is known, by the clock of the rows, and whether it is kept outside
# the lookback.
_DETAILS = ("data_id", "resource_spec", "resource_label")
_JOBS = ("target", "id", *KnownJob.__struct_fields__, *_DETAILS, "left_ms", "outside")
_HISTORY = "target = :target AND history = 1 AND created_ms >= :horizon"
_COUNT_HISTORY = f"SELECT job_type, status, count(*) FROM staged WHERE {_HISTORY} GROUP BY 1, 2"  # noqa: S608
_AS_HISTORY = {
    "counted_start_ms": "started_ms",
    "listed": "1",
    "in_flight": "0",
    "runs": "1",
    **dict.fromkeys(("rerun", "start_counted", "end_counted"), "0"),
}
_HISTORY_COLUMNS = ("target", "id", *KnownJob.__struct_fields__)
_KEEP_HISTORY = f"""
    INSERT INTO jobs ({", ".join(_HISTORY_COLUMNS)})
    SELECT {", ".join(_AS_HISTORY.get(name, name) for name in _HISTORY_COLUMNS)} FROM staged WHERE {_HISTORY}
"""  # noqa: S608 - constants only
# The finished jobs that have left the lookback since the last commit: the older ones are `outside` already.
_LEAVING = """
    known.target = :target AND known.in_flight = 0
    AND known.created_ms >= :before AND known.created_ms < :horizon
"""
_KEEP_OUTSIDE = f"""
    UPDATE {FINISHED_JOBS} SET outside = 1 WHERE {_LEAVING} AND known.left_ms >= :kept
"""  # noqa: S608 - constants only
_FORGET = (
    f"DELETE FROM {FINISHED_JOBS} WHERE {_LEAVING} AND coalesce(known.left_ms, 0) < :kept",  # noqa: S608
    """
    DELETE FROM jobs WHERE target = :target AND id IN (
        SELECT id FROM jobs INDEXED BY jobs_outside
        WHERE target = :target AND outside = 1 AND left_ms < :kept AND created_ms < :horizon
        ORDER BY left_ms LIMIT :most
    )
    """,
)
_NOTE_FORGOTTEN = """
    UPDATE targets SET forgotten_before_ms = CASE
        WHEN coalesce(forgotten_before_ms, 0) < :forgotten THEN :forgotten
        ELSE coalesce(forgotten_before_ms, 0) END
    WHERE id = :target
"""
_UNLISTED = ", ".join(
    (
        "listed = -in_flight",
        "left_ms = CASE WHEN in_flight = 1 THEN :now ELSE left_ms END",
        "outside = CASE WHEN in_flight = 1 AND created_ms < :outside THEN 1 ELSE outside END",
        "in_flight = 0",
        *(f"{name} = NULL" for name in _DETAILS),
    )
)
_KEEP = f"""
    INSERT INTO jobs ({", ".join(_JOBS)}) VALUES ({", ".join("?" * len(_JOBS))})
    ON CONFLICT (target, id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _JOBS[2:])}
"""  # noqa: S608 - constants only
_ADD_TO_LISTING = """
    INSERT INTO listing (target, job_type, status, in_flight, jobs) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (target, job_type, status, in_flight) DO UPDATE SET jobs = listing.jobs + excluded.jobs
"""
_ADD_TO_RESOURCE_JOBS = """
    INSERT INTO resource_jobs (target, job_type, resource_spec, status, jobs) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (target, job_type, resource_spec, status)
        DO UPDATE SET jobs = resource_jobs.jobs + excluded.jobs
"""


class JobWriter:
    """
    All that one commit writes to `jobs`. It keeps `listing`, which counts the listed jobs, in balance, and
    `resource_jobs`, which counts those in flight.

    What was put waits in memory for `flush`. Shape: `horizon_ms` is the start of the lookback, 0 for none.
    Units: `now_ms` by the clock of the rows, as `left_ms`.
    """

    def __init__(self, db: Database, target: int, now_ms: int, horizon_ms: int) -> None:
        self._db = db
        self._target = target
        self._now_ms = now_ms
        self._horizon_ms = horizon_ms
        self._rows: list[tuple[object, ...]] = []
        self._added: Counter[tuple[str, str, bool]] = Counter()  # by job type, status, in flight
        self._in_flight: Counter[tuple[str, str, str]] = Counter()  # by job type, resource label, status

    def leave_scope(self, job_types: tuple[str, ...]) -> None:
        """Drop the jobs of types that are not polled any more; what they do meanwhile is not known."""
        if not job_types:
            return
        db, target = self._db, self._target
        listed = db.execute("SELECT DISTINCT job_type FROM listing WHERE target = ?", (target,)).fetchall()
        for kind in {kind for (kind,) in listed} - set(job_types):
            for table in ("jobs", "listing", "resource_jobs", "failed_runs", "hourly_runs"):
                db.execute(f"DELETE FROM {table} WHERE target = ? AND job_type = ?", (target, kind))  # noqa: S608 - constants only

    def keep_history(self) -> None:
        """
        Keep what a first sync has staged as history: nearly all of its rows.

        No job of the target is known. So each is what transition() makes of a job that ended before the
        baseline: its own row, and nothing to count. Two statements spare a million calls.
        """
        given = {"target": self._target, "horizon": self._horizon_ms}
        for kind, status, jobs in self._db.execute(_COUNT_HISTORY, given):
            self._added[kind, status, False] += jobs
        self._db.execute(_KEEP_HISTORY, given)

    def put(
        self, job: Job, known: KnownJob | None, label: str | None, now: KnownJob, increments: Increments
    ) -> None:
        """Write what is known of a job from now on; `label` as _changed gives it."""
        if known is not None and known.listed:
            self._added[known.job_type, known.status, bool(known.in_flight)] -= 1
        if known is not None and label is not None:
            self._in_flight[known.job_type, label, known.status] -= 1
        # A finished job that was created before the lookback is kept, but it is not listed.
        outside = not now.in_flight and now.created_ms < self._horizon_ms
        if outside:
            now = msgspec.structs.replace(now, listed=False)
        else:
            self._added[now.job_type, now.status, now.in_flight] += 1
        # What a job works on is kept while it is in flight: finished jobs are many.
        details: tuple[str | None, ...] = (None,) * len(_DETAILS)
        if now.in_flight:
            label = increments.in_flight(job)
            self._in_flight[now.job_type, label, now.status] += 1
            details = job.data_id, job.resource_spec, label
        left_ms = None if now.in_flight else self._now_ms
        self._rows.append((self._target, job.id, *msgspec.structs.astuple(now), *details, left_ms, outside))
        if len(self._rows) >= _CHUNK:
            self.flush()

    def unlist(self, table: str, which: str, given: Mapping[str, object]) -> None:
        """Mark listed jobs as not listed any more."""
        given = {**given, "target": self._target, "now": self._now_ms, "outside": self._horizon_ms}
        if self._take_out(table, which, given):
            self._db.execute(f"UPDATE {table} SET {_UNLISTED} WHERE {which}", given)  # noqa: S608 - constants only
            self.flush()

    def forget(self, before_ms: int) -> None:
        """
        Forget the finished jobs that were created before the lookback, which began at `before_ms` until now.

        A job that was in flight until a moment ago is not forgotten yet. A late answer may show it in flight
        once more, or a listing may have lacked it. If it were forgotten, its run would count again.
        """
        horizon_ms = self._horizon_ms
        # A clock that is wrong for once must not make us forget jobs that are yet to come.
        forgotten_ms = min(horizon_ms, newest_creation(self._db, self._target) + 1)
        kept_ms = min(max(self._now_ms - horizon_ms, _LEAST_KEPT_MS), _MOST_KEPT_MS)
        given = {"target": self._target, "horizon": horizon_ms, "before": before_ms}
        self.unlist(FINISHED_JOBS, f"{_LEAVING} AND known.listed = 1", given)
        for statement in (_KEEP_OUTSIDE, *_FORGET):
            self._db.execute(statement, {**given, "kept": self._now_ms - kept_ms, "most": _MOST_FORGOTTEN})
        self._db.execute(_NOTE_FORGOTTEN, {"target": self._target, "forgotten": forgotten_ms})

    def _take_out(self, table: str, which: str, given: Mapping[str, object]) -> bool:
        """Take jobs that are listed out of `listing`; tell whether there are any."""
        leaving = f"""
            SELECT job_type, status, in_flight, resource_label, count(*) FROM {table}
            WHERE {which} GROUP BY job_type, status, in_flight, resource_label
        """  # noqa: S608 - constants only
        rows = self._db.execute(leaving, given).fetchall()
        for kind, status, in_flight, label, jobs in rows:
            self._added[kind, status, bool(in_flight)] -= jobs
            if label is not None:
                self._in_flight[kind, label, status] -= jobs
        return bool(rows)

    def flush(self) -> None:
        self._db.executemany(_KEEP, self._rows)
        self._rows.clear()
        added = [(self._target, *place, jobs) for place, jobs in self._added.items()]
        self._db.executemany(_ADD_TO_LISTING, added)
        self._added.clear()
        in_flight = [(self._target, *place, jobs) for place, jobs in self._in_flight.items() if jobs]
        self._db.executemany(_ADD_TO_RESOURCE_JOBS, in_flight)
        self._in_flight.clear()
