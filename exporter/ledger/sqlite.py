"""
The ledger in one SQLite file: its thread, its file and what makes the file unusable.

One connection lives in one thread of its own; the event loop hands it work and waits. What is recorded is
written with WAL and synchronous=FULL: it outlives kill -9 and a power cut alike. What is yet to be recorded
does not wait for the disk, and goes to the thread some pages at a time, before whatever is asked next.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from exporter.errors import LedgerError, StartError
from exporter.ledger import history, labels, set_apart, staging
from exporter.ledger.pages import Pages
from exporter.ledger.protocol import (
    Audit,
    CountingRules,
    Known,
    Missing,
    Observation,
    Origin,
    Staged,
    Summary,
    Wanted,
)
from exporter.ledger.record import keep_learnt, record, record_audit
from exporter.ledger.schema import APPLICATION_ID, MIGRATIONS, STAGING, VERSION
from exporter.ledger.totals import (
    finished_between,
    listed_lately,
    listed_since,
    oldest_created,
    read_summary,
    restore,
    target_id,
)
from exporter.model import Job, Target, TargetKey, Totals
from exporter.sync.filters import Filters
from exporter.sync.traits import ServerTraits

R = TypeVar("R")

_BUSY_SECONDS = 2.0
# Each time the thread is handed work it has to win the interpreter from the event loop, and it writes a page
# of the file once for all that is new there.
_ROWS_WAITING = 2000


class SqliteLedger:
    """
    The embedded ledger; implements protocol.Ledger.

    Raises: StartError from `open` where the file is locked, damaged, foreign, newer or out of reach; it is
    then left as it was.
    """

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor, lock: int | None) -> None:
        self._connection = connection
        self._thread = thread
        self._lock = lock
        self._pages: dict[TargetKey, Pages] = {}
        self._rows: dict[TargetKey, int] = {}  # of the table `targets`, for the thread alone

    @classmethod
    async def open(cls, path: Path | None) -> SqliteLedger:
        """Open the ledger at `path`, making or migrating it; None keeps it in memory."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        lock: int | None = None
        try:
            lock = None if path is None else _lock(path)
            connection = await asyncio.get_running_loop().run_in_executor(thread, _connect, path)
        except BaseException:
            thread.shutdown()
            if lock is not None:
                os.close(lock)
            raise
        return cls(connection, thread, lock)

    @classmethod
    async def open_to_read(cls, path: Path) -> SqliteLedger:
        """Open a ledger for looking at, in use or not. Raises: StartError."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, _connect_to_read, path)
        except BaseException:
            thread.shutdown()
            raise
        return cls(connection, thread, None)

    async def restore(self, target: Target, rules: CountingRules) -> Totals | None:
        return await self._run(lambda db: restore(db, target, rules))

    async def summary(self, target: Target) -> Summary:
        return await self._on(target, read_summary)

    async def begin(self, target: Target) -> None:
        self._pages.pop(target.key, None)
        await self._on(target, staging.clear)
        # Piece by piece: others have work for this thread too.
        while not await self._on(target, history.clear_some):
            pass

    async def stage(
        self,
        target: Target,
        jobs: Sequence[Job],
        wanted: Sequence[Wanted],
        origin: Origin,
        rules: CountingRules,
    ) -> None:
        pages = self._pages.setdefault(target.key, Pages(rules))
        pages.add(jobs, wanted, origin)
        if pages.rows >= _ROWS_WAITING:
            await self._on(target, _nothing)

    async def staged(
        self,
        target: Target,
        first_pass: int,
        pass_no: int,
        *,
        before_ms: int | None = None,
        with_history: bool = False,
    ) -> Staged:
        count = history.count_with_history if with_history else staging.count
        return await self._on(target, lambda db, row: count(db, row, first_pass, pass_no, before_ms))

    async def gone(self, target: Target, statuses: Sequence[str], start_ms: int) -> int:
        return await self._on(target, lambda db, row: staging.gone(db, row, statuses, start_ms))

    async def readable(self, target: Target, job_ids: Sequence[int]) -> tuple[int, ...]:
        return await self._on(target, lambda db, row: staging.readable(db, row, job_ids))

    async def set_apart_by_status(self, target: Target) -> dict[str, int]:
        return await self._on(target, set_apart.by_status)

    async def vanished(self, target: Target, undocumented_from_ms: int) -> tuple[Known, ...]:
        return await self._on(target, lambda db, row: staging.vanished(db, row, undocumented_from_ms))

    async def missing(self, target: Target, horizon_ms: int | None, most: int) -> Missing:
        return await self._on(target, lambda db, row: staging.missing(db, row, horizon_ms, most))

    async def listed_since(self, target: Target, horizon_ms: int | None) -> int:
        return await self._on(target, lambda db, row: listed_since(db, row, horizon_ms))

    async def listed_lately(self, target: Target, since_ms: int) -> int:
        return await self._on(target, lambda db, row: listed_lately(db, row, since_ms))

    async def finished_between(
        self, target: Target, start_ms: int, end_ms: int, most: int
    ) -> tuple[int, ...]:
        return await self._on(target, lambda db, row: finished_between(db, row, start_ms, end_ms, most))

    async def oldest_created(self, target: Target) -> int:
        return await self._on(target, oldest_created)

    async def rows_since(self, target: Target, cuts: Sequence[int], most: int) -> list[tuple[int, int]]:
        return await self._on(target, lambda db, row: staging.rows_since(db, row, cuts, most))

    async def staged_since(self, target: Target, start_ms: int) -> int:
        return await self._on(target, lambda db, row: staging.staged_since(db, row, start_ms))

    async def unlisted_statuses(self, target: Target, before_ms: int) -> int:
        return await self._on(target, lambda db, row: staging.unlisted_statuses(db, row, before_ms))

    async def learnt(self, target: Target, server: ServerTraits, filters: Filters) -> None:
        await self._on(target, lambda db, row: keep_learnt(db, row, server, filters))

    async def audited(self, target: Target, audit: Audit, rules: CountingRules) -> Totals:
        return await self._run(lambda db: _durably(db, lambda: record_audit(db, target, audit, rules)))

    async def record(self, observation: Observation, rules: CountingRules) -> Totals:
        return await self._on(
            observation.target, lambda db, _: _durably(db, lambda: record(db, observation, rules))
        )

    async def close(self) -> None:
        await self._run(lambda db: db.close())
        self._thread.shutdown()
        if self._lock is not None:
            os.close(self._lock)

    async def _on(self, target: Target, work: Callable[[sqlite3.Connection, int], R]) -> R:
        """Do some work on a target's row, on top of the pages that wait to be staged."""
        pages = self._pages.pop(target.key, None)

        def staged_first(db: sqlite3.Connection) -> R:
            if target.key not in self._rows:
                self._rows[target.key] = target_id(db, target)
            row = self._rows[target.key]
            if pages is not None:
                _stage(db, row, target.job_types, pages)
            return work(db, row)

        return await self._run(staged_first)

    async def _run(self, work: Callable[[sqlite3.Connection], R]) -> R:
        under_way = asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)
        # A cancelled caller must not take its rows back: a first sync that broke off goes on from them.
        return await asyncio.shield(under_way)

    def _transaction(self, work: Callable[[sqlite3.Connection], R]) -> R:
        try:
            return work(self._connection)
        except (sqlite3.Error, OverflowError) as exc:  # the latter for a number of more than 64 bits
            raise LedgerError(f"the ledger cannot be used: {exc}") from exc
        finally:
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.rollback()


def _durably(db: sqlite3.Connection, work: Callable[[], R]) -> R:
    """Do what has to be on the disk when it is done."""
    db.execute("PRAGMA synchronous = FULL")
    try:
        return work()
    finally:
        if db.in_transaction:
            db.rollback()
        db.execute("PRAGMA synchronous = NORMAL")


def _stage(db: sqlite3.Connection, target: int, job_types: Sequence[str], pages: Pages) -> None:
    db.execute("BEGIN")
    before = labels.read(db, target)
    known = labels.Labels(before, job_types, pages.rules)
    for origin, jobs, wanted in pages.by_origin():
        plain = known.learn(jobs, wanted)
        if origin.history_before_ms is None:
            staging.stage(db, target, known, jobs, wanted, origin)
        else:
            rest = history.keep(db, target, None if plain else known, jobs, wanted, origin)
            staging.stage(db, target, known, *rest, origin)
    if known.kept != before:
        labels.write(db, target, known.kept)
    db.execute("COMMIT")


def _nothing(_db: sqlite3.Connection, _target: int) -> None:
    """Pages are staged before any work; here there is no other."""


def _lock(path: Path) -> int:
    """Hold the file for this process. SQLite's own locks are of another kind and not in the way."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as exc:
        raise StartError(f"ledger {path}: {exc.strerror or exc}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise StartError(f"ledger {path}: in use by another process") from exc
    return descriptor


def _connect(path: Path | None) -> sqlite3.Connection:
    try:
        if path is not None:
            _inspect(path)
        connection = sqlite3.connect(path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as exc:
        raise StartError(f"ledger {path or 'in memory'}: {_reason(exc)}") from exc
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    try:
        db = _read_only(path)
        try:
            _identify(db, path)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as exc:
        raise StartError(f"ledger {path}: {_reason(exc)}") from exc
    return db


def _read_only(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)


def _identify(db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise StartError(f"ledger {path}: not a ledger of octopus-exporter")
    if version > VERSION:
        raise StartError(
            f"ledger {path}: written by a newer version (schema {version}; this one knows {VERSION})"
        )


def _inspect(path: Path) -> None:
    """Look at the file before anything may write to it."""
    if path.stat().st_size == 0:
        return
    with closing(_read_only(path)) as db:
        _identify(db, path)
        problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise StartError(f"ledger {path}: damaged: {' '.join(problem.split())}")


def _reason(exc: sqlite3.Error) -> str:
    code = getattr(exc, "sqlite_errorname", "")
    if code == "SQLITE_NOTADB":
        return "not an SQLite database"
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "locked by another process"
    if code.startswith("SQLITE_CORRUPT"):
        return f"damaged: {exc}"
    return str(exc)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    # A first sync writes each page of the file about once: it goes there in few, long strides.
    db.execute("PRAGMA wal_autocheckpoint = 4000")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("BEGIN EXCLUSIVE")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for migration in MIGRATIONS[version:]:
        for statement in migration:
            db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")
    db.execute(STAGING)
