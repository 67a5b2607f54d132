"""
The ledger in one SQLite file, or in memory.

A commit is written with WAL and synchronous=FULL. Staged rows are in a temporary table.

A ledger in a file is read in threads, through a connection that may only read: WAL lets it read while the
ledger's thread writes. A ledger in memory has one connection and no other (SQLite's shared cache would lock
whole tables, and a reader could make a poll fail), so its questions go to the ledger's thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from exporter.errors import LedgerError
from exporter.ledger.connection import FAILURES, connect_to_look, reason
from exporter.ledger.database import Database
from exporter.ledger.runs import SqlRunReader
from exporter.ledger.sql import SqlLedger
from exporter.ledger.staging import TemporaryTable
from exporter.ledger.targets import find_target
from exporter.ledger.thread import LedgerThread
from exporter.model import Target

R = TypeVar("R")


class SqliteLedger(SqlLedger):
    """
    The embedded ledger; implements sync.ledger.Ledger.

    Raises: StartError from `open` where the file is locked, damaged, foreign, newer or out of reach; it is
    then left as it was.
    """

    def __init__(self, thread: LedgerThread, *, reads_only: bool = False) -> None:
        # As bytes: of a damaged text SQLite would say no more than that it cannot be read.
        super().__init__(thread, TemporaryTable(), run_text="CAST(run AS BLOB)")
        self._thread = thread
        self._reads_only = reads_only

    @classmethod
    async def open(cls, path: Path | None) -> SqliteLedger:
        """Open the ledger at `path`, making or migrating it; None keeps it in memory."""
        ledger = await cls.begin_to_open(path)
        return await ledger.opened_or_closed()

    @classmethod
    async def begin_to_open(cls, path: Path | None) -> SqliteLedger:
        """Open a ledger, but leave one that has to be checked first to `opened`."""
        return cls(await LedgerThread.begin_to_open(path))

    @classmethod
    async def open_to_read(cls, path: Path) -> SqliteLedger:
        """Open a ledger for looking at, in use or not."""
        return cls(await LedgerThread.open_to_read(path), reads_only=True)

    def reading(self) -> AbstractAsyncContextManager[SqlRunReader]:
        if self._thread.path is None:
            return nullcontext(SqlRunReader(self._thread.run))
        return _reading_file(self._thread.path)

    def _row(self, db: Database, target: Target) -> int:
        # A reader must not write, and there is nothing to read of a target without a row.
        found = find_target(db, target.key) if self._reads_only else None
        return found or super()._row(db, target)


@asynccontextmanager
async def _reading_file(path: Path) -> AsyncIterator[SqlRunReader]:
    """Give a reader of the ledger in a file. Raises: LedgerError."""
    db = await _in_thread(path, partial(connect_to_look, path))

    async def ask(question: Callable[[Database], R], /) -> R:
        return await _in_thread(path, partial(question, db), db)

    try:
        yield SqlRunReader(ask)
    finally:
        await asyncio.shield(asyncio.to_thread(db.close))


async def _in_thread(path: Path, work: Callable[[], R], db: sqlite3.Connection | None = None) -> R:
    """Work in a thread. If the caller is cancelled, interrupt the work and wait until it has stopped."""
    under_way = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(under_way)
    except asyncio.CancelledError:
        if db is not None:
            db.interrupt()
        with suppress(Exception):
            found = await under_way
            if isinstance(found, sqlite3.Connection):
                found.close()
        raise
    except FAILURES as exc:
        raise LedgerError(f"ledger {path}: {reason(exc)}") from exc
