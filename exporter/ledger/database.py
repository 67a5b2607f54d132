"""
What the SQL of the ledger runs on: SQLite's connection as it is, or PostgreSQL's behind ledger.postgres.

Statements that take a `Database` are SQL that both understand. Flags are integers in both, so a condition
says `= 1`. In `ON CONFLICT … DO UPDATE` every column is named with its table. These spellings are SQLite's,
and are translated for PostgreSQL:

- the parameters `?` and `:name`;
- `IN (SELECT value FROM json_each(:name))`: one of the numbers or texts of a JSON list;
- `INDEXED BY name`: PostgreSQL has statistics, and takes the index that suits;
- `a IS NOT b` between two values: they differ, where NULL is a value like others.

No function here begins or ends a transaction: that is the matter of who calls it (ledger.worker).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

Given = Sequence[object] | Mapping[str, object]


class Damaged(Exception):
    """A value in the ledger cannot be what was written there."""


class Cursor(Protocol):
    """The rows that a statement has found; `rowcount` is how many it has changed."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchmany(self, size: int, /) -> list[Any]: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    def execute(self, statement: str, given: Given = ..., /) -> Cursor: ...

    def executemany(self, statement: str, rows: Iterable[Sequence[object]], /) -> Cursor:
        """
        Execute a statement for every row.

        An `INSERT … ON CONFLICT` becomes one statement in PostgreSQL, so no two rows may have the same key.
        """
