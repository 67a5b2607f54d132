"""
Ledgers of both back ends, for tests of what they have in common.

A test that takes `back_end` runs once with SQLite and once with PostgreSQL.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
import pytest

from exporter.config import LedgerSettings
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.fence import Fence
from exporter.ledger.postgres.ledger import PostgresLedger
from exporter.ledger.postgres.schema import LEDGER_TABLES
from exporter.ledger.sql import SqlLedger
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import Target, TargetKey
from exporter.sync.ledger import TargetState
from tests.postgres import PostgresDatabase

BACK_ENDS = ("sqlite", "postgresql")
# For what only SQLite does: damaged bytes, older schemas, what its planner makes of a statement.
only_sqlite = pytest.mark.parametrize("back_end", ["sqlite"], indirect=True)
WITH_POOLER = (*BACK_ENDS, "pgbouncer")

_TARGET = """
    INSERT INTO targets (project, project_id, workspace, path) VALUES (%s, %s, %s, %s)
    ON CONFLICT (project, project_id, workspace, path) DO UPDATE SET path = excluded.path RETURNING id
"""
_LEASE = """
    INSERT INTO leases (target, holder, fence) VALUES (%s, %s, 1)
    ON CONFLICT (target) DO UPDATE SET holder = excluded.holder, fence = leases.fence + 1 RETURNING fence
"""
_numbers = itertools.count(1)


class SoleReplica(PostgresLedger):
    """
    The PostgreSQL ledger of a replica that takes each target when it first uses it.

    Shape: it gives the events of all targets, unless `gives_only_held`.
    """

    gives_only_held = False

    def __init__(self, url: str) -> None:
        super().__init__(LedgerDatabase(LedgerSettings(url=url)))  # type: ignore[arg-type]  # it is parsed
        self._url = url
        self._replica = f"replica {next(_numbers)}"

    @classmethod
    async def at(cls, url: str) -> SoleReplica:
        return await cls(url).opened_or_closed()

    def take(self, key: TargetKey) -> Fence:
        with psycopg.connect(self._url, prepare_threshold=None) as db:
            names = key.project, key.project_id, key.workspace, key.path
            (row,) = db.execute(_TARGET, names).fetchone() or ()
            (fence,) = db.execute(_LEASE, (row, self._replica)).fetchone() or ()
        self._fences[key] = Fence(key, self._replica, fence, 15.0)
        return self._fences[key]

    def _fence_of(self, key: TargetKey) -> Fence:
        return self._fences.get(key) or self.take(key)

    def _events_of(self) -> str | None:
        return super()._events_of() if self.gives_only_held else None

    async def forget(self, key: TargetKey, is_unused: Callable[[], bool]) -> bool:
        forgotten = await SqlLedger.forget(self, key, is_unused)
        self._fences.pop(key, None)
        return forgotten

    async def summary(self, target: Target) -> TargetState:
        self._fence_of(target.key)
        return await super().summary(target)


class BackEnd(Protocol):
    """Where a test keeps its ledger. Each `open` is another process that uses the same ledger."""

    async def open(self, *, in_memory: bool = False) -> SqlLedger:
        """Open it; `in_memory` for tests that open it once, which is faster with SQLite."""

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Ask or change something beside the ledger, as another program would."""

    def number(self, query: str) -> int: ...

    @property
    def url(self) -> str:
        """Give it as `ledger.url`."""


class _Rows:
    def rows(self, query: str) -> list[tuple[object, ...]]:
        raise NotImplementedError

    def number(self, query: str) -> int:
        ((number,),) = self.rows(query)
        return int(str(number))


class SqliteFile(_Rows):
    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def url(self) -> str:
        return f"sqlite:///{self.file}"

    async def open(self, *, in_memory: bool = False) -> SqlLedger:
        return await SqliteLedger.open(None if in_memory else self.file)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.file, isolation_level=None)) as db:
            return db.execute(query).fetchall()


class SharedDatabase(_Rows):
    """Shape: `url` is that of the server or of a pooler before it."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self, *, in_memory: bool = False) -> SqlLedger:
        return await SoleReplica.at(self.url)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, prepare_threshold=None, autocommit=True) as db:
            cursor = db.execute(query)  # type: ignore[arg-type]  # constants of the tests
            return cursor.fetchall() if cursor.description else []


@contextmanager
def back_end_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BackEnd]:
    """Give an empty ledger of the kind that the fixture's parameter names."""
    if request.param in ("sqlite", "memory"):
        yield SqliteFile(tmp_path / "ledger.db")
        return
    database: PostgresDatabase = request.getfixturevalue("_ledger_of_session")
    url = database.url
    if request.param == "pgbouncer":
        url = request.getfixturevalue("bouncer").url(database.name)
    yield SharedDatabase(url)
    empty(database)


def empty(database: PostgresDatabase) -> None:
    """Empty the tables of a ledger; that is faster than another database."""
    tables = ", ".join(table for table in LEDGER_TABLES if table != "schema_version")
    with psycopg.connect(database.url, autocommit=True) as db:
        if db.execute("SELECT to_regclass('targets')").fetchone() != (None,):
            db.execute(f"TRUNCATE {tables} RESTART IDENTITY")  # type: ignore[arg-type]
