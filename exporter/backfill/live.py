"""What the ledger knows of the live counting of a target, read while an exporter may be writing to it."""

from __future__ import annotations

from exporter.backfill.plan import LiveCounting
from exporter.counting.transitions import Baselines, latest
from exporter.ledger.database import Database
from exporter.ledger.labels import read_labels
from exporter.ledger.series import known_codes, known_specs
from exporter.ledger.targets import fetch_number, find_target, read_target
from exporter.model import TargetKey

# Of a job in flight, `runs` are those before the one under way.
_RAN_AGAIN = """
    SELECT id FROM jobs
    WHERE target = ? AND created_ms < ? AND runs > 0 AND (in_flight = 1 OR runs > 1)
"""


def read_live_counting(db: Database, key: TargetKey) -> LiveCounting | None:
    """Read it; None for a target that was never polled completely. Raises: as the database does."""
    target = find_target(db, key)
    if target is None:
        return None
    row = read_target(db, target)
    if row.commits == 0:
        return None
    labels, _ = read_labels(db, target)
    return LiveCounting(
        baselines=Baselines(row.baselines, None),
        rows_ahead_ms=fetch_number(db, "SELECT rows_ahead_ms FROM targets WHERE id = ?", (target,)),
        job_types=labels.job_types,
        statuses=labels.statuses,
        msg_codes=frozenset(known_codes(db, target)),
        resource_specs=frozenset(known_specs(db, target)),
        ran_again=frozenset(
            job_id for (job_id,) in db.execute(_RAN_AGAIN, (target, latest(row.baselines) or 0))
        ),
        filters=row.filters,
        server=row.server,
    )
