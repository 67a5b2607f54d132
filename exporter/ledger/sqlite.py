"""
The ledger in one SQLite file, or in memory.

A commit is written with WAL and synchronous=FULL. Staged rows are in a temporary table.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from exporter.ledger.database import Database
from exporter.ledger.runs import SqliteRunReader, reading_file
from exporter.ledger.sql import SqlLedger
from exporter.ledger.staging import TemporaryTable
from exporter.ledger.targets import find_target
from exporter.ledger.thread import LedgerThread
from exporter.model import Target


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
        try:
            await ledger.opened()
        except BaseException:
            await ledger.close()
            raise
        return ledger

    @classmethod
    async def begin_to_open(cls, path: Path | None) -> SqliteLedger:
        """Open a ledger, but leave one that has to be checked first to `opened`."""
        return cls(await LedgerThread.begin_to_open(path))

    @classmethod
    async def open_to_read(cls, path: Path) -> SqliteLedger:
        """Open a ledger for looking at, in use or not."""
        return cls(await LedgerThread.open_to_read(path), reads_only=True)

    def reading(self) -> AbstractAsyncContextManager[SqliteRunReader]:
        if self._thread.path is None:
            return nullcontext(SqliteRunReader(self._thread.run))
        return reading_file(self._thread.path)

    def _row(self, db: Database, target: Target) -> int:
        # A reader must not write, and there is nothing to read of a target without a row.
        found = find_target(db, target.key) if self._reads_only else None
        return found or super()._row(db, target)
