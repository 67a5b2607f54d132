"""
The single runs that a poll saw end: the failed ones are kept for a while, all are counted by the hour, and
events wait here until they are written (exporter.events).

All of it belongs to the poll's transaction, and nothing is written where nothing has ended. Failed runs are
kept for 24 hours: at least the latest 500 of a target, whatever their age, and at most its latest 10,000.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter

import msgspec

from exporter.counting.rules import EventRules
from exporter.counting.transitions import Transition, end_of
from exporter.events.outbox import Event, OutboxNews, PendingEvent
from exporter.ledger.database import Database
from exporter.ledger.targets import fetch_number
from exporter.model import Job, Run, TargetKey
from exporter.sync.ledger import PollResult

HOUR_MS = 3_600_000
KEPT_MS = 24 * HOUR_MS
LEAST_KEPT = 500
MOST_KEPT = 10_000
HOURS_COUNTED = 7 * 24

# A first sync that counts history may see a million runs end: memory holds so many of them at a time.
_AT_ONCE = 2_000
# The columns of `failed_runs` are the fields of a run, but for the one that says that it failed.
RUN_COLUMNS = tuple(field.name for field in fields(Run) if field.name != "failed")
_KEEP_FAILED = f"""
    INSERT INTO failed_runs (target, {", ".join(RUN_COLUMNS)}) VALUES (?{", ?" * len(RUN_COLUMNS)})
"""  # noqa: S608 - constants only
_run_values = attrgetter(*RUN_COLUMNS)
_encode = msgspec.json.Encoder().encode
_decode_run = msgspec.json.Decoder(Run).decode
_COUNT = """
    INSERT INTO hourly_runs (target, hour, job_type, status, failed, runs) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (target, hour, job_type, status, failed) DO UPDATE
    SET runs = hourly_runs.runs + excluded.runs
"""


class NewEvents:
    """
    The events of one poll's transaction.

    Shape: `rules` is None where no events are wanted; those up to the id `taken` are being written, and are
    not dropped; `news` is what the transaction has done so far.
    """

    def __init__(self, db: Database, target: int, now_ms: int, rules: EventRules | None, taken: int) -> None:
        self._db = db
        self._target = target
        self._now_ms = now_ms
        self._rules = rules
        self._taken = taken
        self.news = OutboxNews()

    def add(self, runs: Sequence[Run]) -> None:
        """Add events for runs that were just counted, and drop the oldest of the target if too many wait."""
        rules = self._rules
        if rules is None:
            return
        wanted = [run for run in runs if run.failed or rules.include == "ended"]
        if not wanted:
            return
        self._db.executemany(
            "INSERT INTO events (target, counted_ms, run) VALUES (?, ?, ?)",
            [(self._target, self._now_ms, _encode(run).decode()) for run in wanted],
        )
        self.news += OutboxNews(len(wanted), self._drop_beyond(rules.max_waiting))

    def _drop_beyond(self, most: int) -> int:
        waiting = fetch_number(self._db, "SELECT count(*) FROM events WHERE target = ?", (self._target,))
        if waiting <= most:
            return 0
        dropping = """
            DELETE FROM events WHERE id IN (
                SELECT id FROM events INDEXED BY events_by_target
                WHERE target = ? AND id > ? ORDER BY id LIMIT ?
            )
        """
        return self._db.execute(dropping, (self._target, self._taken, waiting - most)).rowcount


class EndedRuns:
    """
    Takes the runs of one poll as they come, and writes them some thousands at a time.

    `write` is the one place that has every run that ended, failed or not, inside the poll's transaction.
    """

    def __init__(self, db: Database, target: int, observation: PollResult, events: NewEvents) -> None:
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


def keep_failed(db: Database, target: int, runs: Sequence[Run], now_ms: int) -> None:
    """Write failed runs, and delete older ones beyond the limits."""
    if runs:
        db.executemany(_KEEP_FAILED, [(target, *_run_values(run)) for run in runs])
        _prune_failed(db, target, now_ms)


def count_by_hour(db: Database, target: int, runs: Sequence[Run], now_ms: int) -> None:
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


def prune_runs(db: Database, target: int, now_ms: int) -> None:
    """Forget what has become too old."""
    db.execute("DELETE FROM hourly_runs WHERE target = ? AND hour < ?", (target, first_hour(now_ms)))
    _prune_failed(db, target, now_ms)


def _prune_failed(db: Database, target: int, now_ms: int) -> None:
    # Both walk the index only, and at most as far as is kept.
    nth = """
        SELECT at_ms, job_id, number FROM failed_runs INDEXED BY failed_runs_by_time
        WHERE target = ? ORDER BY at_ms DESC, job_id DESC, number DESC LIMIT 1 OFFSET ?
    """
    least = db.execute(nth, (target, LEAST_KEPT - 1)).fetchone()
    if least is None:
        return
    db.execute(
        "DELETE FROM failed_runs WHERE target = ? AND at_ms < ?", (target, min(least[0], now_ms - KEPT_MS))
    )
    last = db.execute(nth, (target, MOST_KEPT - 1)).fetchone()
    if last is not None:
        # The first half is what the index can use.
        db.execute(
            """
            DELETE FROM failed_runs
            WHERE target = ? AND at_ms <= ? AND (at_ms, job_id, number) < (?, ?, ?)
            """,
            (target, last[0], *last),
        )


# Where replicas share a ledger, each writes the events of the targets that it polls. One of them also writes
# those of targets that left the configuration: nobody polls these any more.
_OF_HOLDER = """
    WHERE events.target IN (SELECT target FROM leases WHERE holder = :holder)
        OR (
            :holder = (SELECT min(name) FROM replicas WHERE until > now())
            AND events.target NOT IN (SELECT unnest(targets) FROM replicas WHERE until > now())
        )
"""


def oldest_events(
    db: Database, most: int, *, run: str = "run", holder: str | None = None
) -> tuple[PendingEvent, ...]:
    """
    Give the events that have waited the longest.

    Shape: `run` is the SQL for the text of a run; with a `holder`, only those of the targets that it holds.
    """
    rows = db.execute(
        f"""
        SELECT events.id, project, project_id, workspace, path, counted_ms, {run}
        FROM events JOIN targets ON targets.id = events.target
        {"" if holder is None else _OF_HOLDER}
        ORDER BY events.id LIMIT :most
        """,  # noqa: S608 - constants only
        {"most": most, "holder": holder},
    )
    return tuple(PendingEvent(row[0], _event(TargetKey(*row[1:5]), row[5], row[6])) for row in rows)


def _event(target: TargetKey, counted_ms: int, run: bytes | str) -> Event | None:
    try:
        return Event(target, counted_ms, _decode_run(run))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def delete_events(db: Database, ids: Sequence[int]) -> None:
    given = {"ids": _encode(ids).decode()}
    db.execute("DELETE FROM events WHERE id IN (SELECT value FROM json_each(:ids))", given)


def count_events(db: Database, holder: str | None = None) -> int:
    """Count the events that wait; with a `holder`, only those of the targets that it holds."""
    of_holder = "" if holder is None else _OF_HOLDER
    return fetch_number(db, f"SELECT count(*) FROM events {of_holder}", {"holder": holder})  # noqa: S608
