"""Reads from the ledger how a target is counted live; an exporter may be writing to it meanwhile."""

from __future__ import annotations

from exporter.backfill.plan import LiveCounting
from exporter.counting.transitions import Baselines, latest
from exporter.ledger.database import Database
from exporter.ledger.labels import read_labels
from exporter.ledger.series import known_codes, known_specs
from exporter.ledger.targets import fetch_number, find_target, read_target
from exporter.model import TargetKey

# `runs` of a job in flight does not contain the run under way.
_RAN_AGAIN = """
    SELECT id FROM jobs
    WHERE target = ? AND created_ms < ? AND runs > 0 AND (in_flight = 1 OR runs > 1)
"""

# A start or an end that has not happened yet will be counted live.
_IN_FLIGHT = "(in_flight = 1 OR listed = -1)"
_COUNTED = f"""
    SELECT id, start_counted = 1 OR (counted_start_ms IS NULL AND {_IN_FLIGHT}),
        end_counted = 1 OR {_IN_FLIGHT}
    FROM jobs
    WHERE target = :target AND (start_counted = 1 OR end_counted = 1 OR {_IN_FLIGHT})
        AND (created_ms < :baseline OR started_ms < :baseline OR ended_ms < :baseline)
"""  # noqa: S608 - constants only
_HISTORY_WITHOUT_END = f"""
    SELECT id, counted_start_ms FROM jobs
    WHERE target = ? AND created_ms < ? AND ended_ms IS NULL AND end_counted = 0
        AND NOT {_IN_FLIGHT}
"""  # noqa: S608 - constants only


def read_live_counting(db: Database, key: TargetKey) -> LiveCounting | None:
    """Read this; None for a target that was never polled completely. Raises: as the database does."""
    target = find_target(db, key)
    if target is None:
        return None
    row = read_target(db, target)
    if row.commits == 0:
        return None
    labels, _ = read_labels(db, target)
    baseline_ms = latest(row.baselines) or 0
    counted = db.execute(_COUNTED, {"target": target, "baseline": baseline_ms}).fetchall()
    tells = fetch_number(db, "SELECT tells_counted FROM targets WHERE id = ?", (target,))
    return LiveCounting(
        baselines=Baselines(row.baselines, None),
        rows_ahead_ms=fetch_number(db, "SELECT rows_ahead_ms FROM targets WHERE id = ?", (target,)),
        job_types=labels.job_types,
        statuses=labels.statuses,
        msg_codes=frozenset(known_codes(db, target)),
        resource_specs=frozenset(known_specs(db, target)),
        ran_again=frozenset(job_id for (job_id,) in db.execute(_RAN_AGAIN, (target, baseline_ms))),
        counted_starts=frozenset(job_id for job_id, start, _ in counted if start),
        counted_ends=frozenset(job_id for job_id, _, end in counted if end),
        history_ends=frozenset(map(tuple, db.execute(_HISTORY_WITHOUT_END, (target, baseline_ms)))),
        # The ledger has no forgotten jobs, and older versions did not record what was counted.
        tells_from_ms=max(row.forgotten_before_ms or 0, 0 if tells else baseline_ms),
        filters=row.filters,
        server=row.server,
    )
