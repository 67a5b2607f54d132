"""The rows that polls have read so far, in the unlogged table `staged`, and the marks in `staging`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import psycopg

from exporter.errors import LedgerError
from exporter.ledger.database import Database
from exporter.ledger.postgres.database import array
from exporter.ledger.staging import PAGE_COLUMNS, STAGE, StagedBatch

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
_TEXTS = frozenset(("job_type", "status", "msg_code", "msg_error", "data_id", "resource_spec"))
_MANY_ROWS = 10_000
_CLEAR = "DELETE FROM staged WHERE target = :target"


class UnloggedTable:
    """Implements ledger.staging.StagingTable."""

    is_transactional = True

    def begin(self, db: Database, target: int) -> None:
        db.execute(_CLEAR, {"target": target})
        db.execute(_MARK, {"target": target})

    def write(self, db: Database, batch: StagedBatch) -> None:
        """Stage rows with a statement that has a list for each column: thousands of rows cost no parsing."""
        statement = _statement(batch.all_columns, batch.flags)
        for rows in _without_copies(batch.rows, batch.flags.count("?")):
            db.execute(statement, (*batch.page, *map(array, zip(*rows, strict=True))))

    def recorded(self, db: Database, target: int) -> None:
        """
        Delete what is staged of a target.

        Raises: LedgerError where that was not all that its poll had staged.
        """
        if db.execute(_IS_MARKED, {"target": target}).fetchone() is None:
            raise LedgerError("what this poll has read is lost: the database or the lease was away meanwhile")
        db.execute(_CLEAR, {"target": target})

    def tidy(self, db: Database, target: int, rows: int) -> None:
        # Deleted rows stay until a vacuum, and each question of the next polls walks over them. The server
        # comes by once a minute. It only warns a user who does not own the table.
        if rows >= _MANY_ROWS:
            with suppress(psycopg.Error):
                db.execute("VACUUM (SKIP_LOCKED) staged")


@cache
def _statement(columns: tuple[str, ...], flags: tuple[str, ...]) -> str:
    # The columns of the page are the same for all rows; a flag may be; the rest is given for each row.
    row_columns = columns[len(PAGE_COLUMNS) :]
    values = (*flags, *"?" * (len(row_columns) - len(flags)))
    given = [name for name, value in zip(row_columns, values, strict=True) if value == "?"]
    selected = [
        *(f"?::{_type(name)}" for name in PAGE_COLUMNS),
        *(name if value == "?" else value for name, value in zip(row_columns, values, strict=True)),
    ]
    lists = ", ".join(f"?::{_type(name)}[]" for name in given)
    rows = f"SELECT {', '.join(selected)} FROM unnest({lists}) AS given ({', '.join(given)})"  # noqa: S608 - constants only
    return STAGE.format(columns=", ".join(columns), rows=rows)


def _type(column: str) -> str:
    return "text" if column in _TEXTS else "bigint"


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
