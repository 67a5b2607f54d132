"""
The history that a first sync brings: the finished jobs that count nothing, all but a few of its rows.

They are written once, into `jobs`, while the listing is still being read. Until the target is first committed
they are nobody's: nothing lists, counts or compares them, and a sync that begins anew clears them away. The
commit makes them durable and lists them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from itertools import chain, compress
from operator import attrgetter, itemgetter

from exporter.counting.transitions import are_history
from exporter.ledger.labels import LabelSet
from exporter.ledger.staging import batches, count, placeholders
from exporter.model import Job
from exporter.sync.ledger import PageOrigin, RowKind, Staged

_KEEP = """
    INSERT INTO jobs (target, id, job_type, status, created_ms, updated_ms, started_ms, ended_ms,
        counted_start_ms, listed, in_flight)
    VALUES {rows}
    ON CONFLICT (target, id) DO UPDATE SET
        job_type = excluded.job_type, status = excluded.status, created_ms = excluded.created_ms,
        updated_ms = excluded.updated_ms, started_ms = excluded.started_ms, ended_ms = excluded.ended_ms,
        counted_start_ms = excluded.counted_start_ms
    WHERE excluded.updated_ms >= updated_ms
"""
_columns = attrgetter(
    "id", "job_type", "status", "created_ms", "updated_ms", "started_ms", "ended_ms", "started_ms"
)
_CLEARED_AT_ONCE = 20_000


def keep(
    db: sqlite3.Connection,
    target: int,
    labels: LabelSet | None,
    jobs: Sequence[Job],
    wanted: Sequence[RowKind],
    origin: PageOrigin,
) -> tuple[list[Job], list[RowKind]]:
    """
    Write what is history of a page, and give what is not, which is to be staged.

    Shape: no `labels` where each job type and status of the page is its own label, which is nearly always so.
    """
    horizon_ms, before_ms = origin.horizon_ms, origin.history_before_ms or 0
    kept = [
        history and want is RowKind.OWN and job.created_ms >= horizon_ms
        for job, want, history in zip(jobs, wanted, are_history(jobs, before_ms), strict=True)
    ]
    row = f"(?1, {', '.join('?' * 8)}, 1, 0)"
    # In the order of the key, which spares SQLite a search for most rows.
    ended = map(_columns, compress(jobs, kept))
    if labels is not None:
        ended = map(_labelled, ended, map(labels.of, compress(jobs, kept)))
    for some in batches(sorted(ended, key=itemgetter(0))):
        db.execute(_KEEP.format(rows=placeholders(row, len(some))), [target, *chain.from_iterable(some)])
    if all(kept):
        return [], []
    rest = [not history for history in kept]
    return list(compress(jobs, rest)), list(compress(wanted, rest))


def _labelled(row: tuple[object, ...], labels: tuple[str, str]) -> tuple[object, ...]:
    return (row[0], *labels, *row[3:])


def clear_some(db: sqlite3.Connection, target: int) -> bool:
    """Take some of the rows of a target without a commit away; tell whether that was the last of them."""
    (commits,) = db.execute("SELECT commits FROM targets WHERE id = ?", (target,)).fetchone()
    if commits:
        return True
    cleared = db.execute(
        """
        DELETE FROM jobs
        WHERE target = :target AND id IN (SELECT id FROM jobs WHERE target = :target LIMIT :some)
        """,
        {"target": target, "some": _CLEARED_AT_ONCE},
    ).rowcount
    return cleared < _CLEARED_AT_ONCE


def count_with_history(
    db: sqlite3.Connection, target: int, first_pass: int, pass_no: int, before_ms: int | None = None
) -> Staged:
    """
    Count a listing whose first pass kept its history; see protocol.Ledger.staged.

    A row may stand in both places, where it changed while it was listed.
    """
    staged, before_ms = count(db, target, first_pass, pass_no, before_ms), before_ms or 2**63 - 1
    (kept,) = db.execute(
        "SELECT count(*) FROM jobs WHERE target = ? AND created_ms < ?", (target, before_ms)
    ).fetchone()
    in_both = """
        SELECT total(last_pass = :pass), total(last_pass >= :first), total(last_pass = :pass AND NOT repeated)
        FROM staged CROSS JOIN jobs ON jobs.target = staged.target AND jobs.id = staged.id
        WHERE staged.target = :target AND jobs.created_ms < :before
    """
    given = {"target": target, "first": first_pass, "pass": pass_no, "before": before_ms}
    both = db.execute(in_both, given).fetchone()
    in_pass, in_all, again = map(int, both)
    if pass_no == first_pass:
        return Staged(staged.in_pass + kept - in_pass, staged.in_all + kept - in_all, staged.repeated)
    repeated = staged.repeated + (again if pass_no == first_pass + 1 else 0)
    return Staged(staged.in_pass, staged.in_all + kept - in_all, repeated)


def read(db: sqlite3.Connection, target: int) -> Counter[tuple[str, str]]:
    """Count what is kept of a target without a commit, by job type and status."""
    rows = db.execute("SELECT job_type, status, count(*) FROM jobs WHERE target = ? GROUP BY 1, 2", (target,))
    return Counter({(kind, status): number for kind, status, number in rows})
