"""
Readers of single runs, beside whatever is being recorded.

A ledger in a file is read through a connection of its own, which may only read, in threads: WAL lets it read
while the ledger's thread writes. A ledger in memory has one connection and no other: SQLite's shared cache
would lock whole tables, so that a reader could make a poll fail. Its questions go to the ledger's thread.
Each question is short, since long answers are read piece by piece, and no snapshot is held between pieces,
however slow a client is.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from exporter.errors import LedgerError
from exporter.ledger import runs
from exporter.ledger.connection import FAILURES, connect_to_look, reason
from exporter.model import Run, TargetKey
from exporter.runs import FailedRun, FailureGroups, HourlyFailures, Position, RunFilter, Selection

R = TypeVar("R")

Ask = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]


class SqliteRunReader:
    """Implements runs.RunReader. `ask` answers a question with the ledger's connection, in a thread."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def select_failed(
        self, targets: Sequence[TargetKey], which: RunFilter, most: int, after: Position | None = None
    ) -> Selection:
        selection: Selection = await self._ask(lambda db: runs.select_failed(db, targets, which, most, after))
        return selection

    async def failed(self, targets: Sequence[TargetKey], keys: Sequence[int]) -> tuple[FailedRun, ...]:
        found: tuple[FailedRun, ...] = await self._ask(lambda db: runs.failed(db, targets, keys))
        return found

    async def failure_groups(
        self, targets: Sequence[TargetKey], which: RunFilter, most: int, most_ids: int = 500
    ) -> FailureGroups:
        groups: FailureGroups = await self._ask(
            lambda db: runs.failure_groups(db, targets, which, most, most_ids)
        )
        return groups

    async def last_hour(
        self, targets: Sequence[TargetKey], which: RunFilter, now_ms: int
    ) -> tuple[HourlyFailures, ...]:
        hours: tuple[HourlyFailures, ...] = await self._ask(
            lambda db: runs.last_hour(db, targets, which, now_ms)
        )
        return hours

    async def recent_failures(
        self, targets: Sequence[TargetKey], most: int
    ) -> Mapping[TargetKey, tuple[Run, ...]]:
        recent: Mapping[TargetKey, tuple[Run, ...]] = await self._ask(
            lambda db: runs.recent_failures(db, targets, most)
        )
        return recent


@asynccontextmanager
async def reading_file(path: Path) -> AsyncIterator[SqliteRunReader]:
    """Give a reader of the ledger in a file. Raises: LedgerError."""
    db = await _in_thread(path, partial(_opened, path))
    try:
        yield SqliteRunReader(partial(_asked, path, db))
    finally:
        await asyncio.shield(asyncio.to_thread(db.close))


def _opened(path: Path) -> sqlite3.Connection:
    db = connect_to_look(path)
    db.text_factory = runs.tolerant_text
    return db


async def _asked(path: Path, db: sqlite3.Connection, question: Callable[[sqlite3.Connection], R]) -> R:
    return await _in_thread(path, partial(question, db), db)


async def _in_thread(path: Path, work: Callable[[], R], db: sqlite3.Connection | None = None) -> R:
    """Do some work in a thread; who is cancelled meanwhile stops the work and waits for its end."""
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
