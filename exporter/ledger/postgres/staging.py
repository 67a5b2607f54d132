"""The rows that polls have read so far, in the unlogged table `staged`, and the marks in `staging`."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.errors import LedgerError
from exporter.ledger.database import Database
from exporter.ledger.staging import STAGE, StagedBatch

# A poll stages under the lease with which it began. Rows of another poll may be there if the lease has gone
# and come back since; none are there if the server has emptied its unlogged tables.
_MARK = """
    INSERT INTO staging SELECT target, fence FROM leases WHERE target = :target
    ON CONFLICT (target) DO UPDATE SET fence = excluded.fence
"""
_IS_MARKED = """
    SELECT 1 FROM staging JOIN leases ON leases.target = staging.target AND leases.fence = staging.fence
    WHERE staging.target = :target
"""
_CLEAR = "DELETE FROM staged WHERE target = :target"


class UnloggedTable:
    """Implements ledger.staging.StagingTable."""

    is_transactional = True

    def begin(self, db: Database, target: int) -> None:
        db.execute(_CLEAR, {"target": target})
        db.execute(_MARK, {"target": target})

    def write(self, db: Database, batch: StagedBatch) -> None:
        row = ", ".join(("?", "?", "?", *batch.flags, *"?" * len(batch.columns)))
        statement = STAGE.format(columns=", ".join(batch.all_columns), rows=f"({row})")
        for rows in _without_copies(batch.rows, batch.flags.count("?")):
            db.executemany(statement, [(*batch.page, *row) for row in rows])

    def clear(self, db: Database, target: int) -> None:
        """
        Delete what is staged of a target, in the transaction that records it.

        Raises: LedgerError where that was not all that its poll had staged.
        """
        if db.execute(_IS_MARKED, {"target": target}).fetchone() is None:
            raise LedgerError("what this poll has read is lost: the database or the lease was away meanwhile")
        db.execute(_CLEAR, {"target": target})


def _without_copies(rows: list[tuple[object, ...]], at: int) -> Iterator[list[tuple[object, ...]]]:
    """Give rows in lists without two of one job, whose id is at a place; copies in the order they came."""
    while rows:
        first: list[tuple[object, ...]] = []
        copies: list[tuple[object, ...]] = []
        last: object = None
        for row in rows:
            (copies if row[at] == last else first).append(row)
            last = row[at]
        yield first
        rows = copies
