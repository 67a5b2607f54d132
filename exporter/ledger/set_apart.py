"""The rows that a target lists and that cannot be read, in the ledger."""

from __future__ import annotations

from collections import Counter

from exporter.ledger.database import Database
from exporter.ledger.targets import fetch_number
from exporter.model import SetApart
from exporter.sync.ledger import PollResult, RowKind

# So many are named on the status page and in the log.
_SHOWN = 20
_KEEP = """
    INSERT INTO set_apart (target, key, job_id, status, created_ms, problem) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (target, key) DO UPDATE SET job_id = excluded.job_id, status = excluded.status,
        created_ms = excluded.created_ms, problem = excluded.problem
"""


def keep(db: Database, target: int, observation: PollResult) -> None:
    """
    Replace the rows set apart by those of this poll.

    A poll that asks for changes only does not see all rows. Those that it did not see stay set apart until
    the next full sync, or until they leave the lookback.
    """
    if observation.full:
        db.execute("DELETE FROM set_apart WHERE target = ?", (target,))
    else:
        db.execute(
            """
            DELETE FROM set_apart WHERE target = :target AND (
                created_ms < :horizon
                OR job_id IN (SELECT id FROM staged WHERE target = :target AND wanted = :readable)
            )
            """,
            {"target": target, "horizon": observation.horizon_ms or 0, "readable": RowKind.OWN},
        )
    last = {row.key: row for row in observation.set_apart}
    db.executemany(
        _KEEP, [(target, key, r.job_id, r.status, r.created_ms, r.problem) for key, r in last.items()]
    )


def has_nameless(db: Database, target: int) -> bool:
    """Tell whether a row without a readable id is listed: it may be the row of any job."""
    nameless = "SELECT EXISTS (SELECT 1 FROM set_apart WHERE target = ? AND job_id IS NULL)"
    return bool(fetch_number(db, nameless, (target,)))


def read(db: Database, target: int) -> tuple[int, tuple[SetApart, ...]]:
    """Give how many rows are set apart, and some of them."""
    number = fetch_number(db, "SELECT count(*) FROM set_apart WHERE target = ?", (target,))
    if not number:
        return 0, ()
    rows = db.execute(
        """
        SELECT key, job_id, status, created_ms, problem FROM set_apart
        WHERE target = ? ORDER BY created_ms DESC NULLS LAST, key LIMIT ?
        """,
        (target, _SHOWN),
    )
    return number, tuple(SetApart(*row) for row in rows)


def unlisted_since(db: Database, target: int, since_ms: int) -> int:
    """Count the rows set apart whose job the ledger does not list, of those that may be created since."""
    unlisted = """
        SELECT count(*) FROM set_apart
        WHERE target = :target AND coalesce(created_ms, :since) >= :since AND NOT EXISTS (
            SELECT 1 FROM jobs
            WHERE jobs.target = :target AND jobs.id = set_apart.job_id AND jobs.listed = 1
        )
    """
    return fetch_number(db, unlisted, {"target": target, "since": since_ms})


def by_status(db: Database, target: int) -> dict[str, int]:
    """See sync.ledger.Ledger.set_apart_by_status."""
    shown = db.execute(
        """
        SELECT CASE WHEN job_id IS NULL THEN '' ELSE status END, count(*)
        FROM set_apart WHERE target = ? GROUP BY 1
        """,
        (target,),
    ).fetchall()
    known = db.execute(
        """
        SELECT jobs.status, count(*)
        FROM set_apart CROSS JOIN jobs
        WHERE set_apart.target = ? AND jobs.target = set_apart.target AND jobs.id = set_apart.job_id
            AND jobs.listed = 1 GROUP BY jobs.status
        """,
        (target,),
    ).fetchall()
    excess = Counter(dict(shown))
    excess.subtract(dict(known))
    return {status: rows for status, rows in excess.items() if rows}
