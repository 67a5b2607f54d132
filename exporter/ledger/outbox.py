"""The events that wait in the ledger, in the order in which their runs were counted; see exporter.events."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from exporter.counting.rules import EventRules
from exporter.events.outbox import Event, OutboxNews, PendingEvent
from exporter.model import Run, TargetKey

_encode = msgspec.json.Encoder().encode
_run = msgspec.json.Decoder(Run).decode


class NewEvents:
    """
    The events of one poll's transaction.

    Shape: `rules` is None where no events are wanted; those up to the id `taken` are being written, and are
    not dropped; `news` is what the transaction has done so far.
    """

    def __init__(
        self, db: sqlite3.Connection, target: int, now_ms: int, rules: EventRules | None, taken: int
    ) -> None:
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
        (waiting,) = self._db.execute(
            "SELECT count(*) FROM events WHERE target = ?", (self._target,)
        ).fetchone()
        if waiting <= most:
            return 0
        dropping = """
            DELETE FROM events WHERE id IN (
                SELECT id FROM events INDEXED BY events_by_target
                WHERE target = ? AND id > ? ORDER BY id LIMIT ?
            )
        """
        return self._db.execute(dropping, (self._target, self._taken, waiting - most)).rowcount


def oldest(db: sqlite3.Connection, most: int) -> tuple[PendingEvent, ...]:
    """Give the events that have waited the longest."""
    rows = db.execute(
        """
        SELECT events.id, project, project_id, workspace, path, counted_ms, CAST(run AS BLOB)
        FROM events JOIN targets ON targets.id = events.target
        ORDER BY events.id LIMIT ?
        """,
        (most,),
    )
    return tuple(PendingEvent(row[0], _event(TargetKey(*row[1:5]), row[5], row[6])) for row in rows)


def _event(target: TargetKey, counted_ms: int, run: bytes) -> Event | None:
    try:
        return Event(target, counted_ms, _run(run))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def delete(db: sqlite3.Connection, last: int) -> None:
    """Delete the events up to this id."""
    db.execute("DELETE FROM events WHERE id <= ?", (last,))


def count(db: sqlite3.Connection) -> int:
    (waiting,) = db.execute("SELECT count(*) FROM events").fetchone()
    return int(waiting)
