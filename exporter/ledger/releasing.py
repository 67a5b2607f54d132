"""The release of new series, as the SQLite ledger records it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

import msgspec

from exporter.counting.rules import CountingRules
from exporter.ledger.series import empty_changed_histograms, release_rows
from exporter.ledger.totals import read_target, read_totals, target_id
from exporter.model import SeriesKey, Target, Totals


def record_release(
    db: sqlite3.Connection, target: Target, keys: Collection[SeriesKey], rules: CountingRules, now_ms: int
) -> Totals:
    """Let these series show their values; see protocol.Ledger.release."""
    row_id = target_id(db, target)
    db.execute("BEGIN IMMEDIATE")
    # Histograms of other bounds are shown empty before a poll makes them so. Those are the ones released.
    empty_changed_histograms(db, row_id, rules, now_ms)
    release_rows(db, row_id, keys)
    row = read_target(db, row_id)
    released = msgspec.json.encode(row.released.under(rules).adding(keys)).decode()
    db.execute("UPDATE targets SET released = ?, revision = revision + 1 WHERE id = ?", (released, row_id))
    totals = read_totals(db, read_target(db, row_id), target, rules)
    db.execute("COMMIT")
    return totals
