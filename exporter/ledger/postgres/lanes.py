"""
Threads that have one connection each, for all that a replica asks of the PostgreSQL ledger and writes to it.

All work of one target goes to one *lane*, in the order in which it comes. Lanes work side by side. A
transaction that writes what belongs to a target begins with a look at its lease (`Fence`); nothing of a
replica gets in whose lease has gone to another.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from exporter.errors import LedgerError
from exporter.ledger.background import in_background
from exporter.ledger.database import Database
from exporter.ledger.postgres.connection import LedgerDatabase, is_lost, reason
from exporter.ledger.postgres.database import AnotherRow, PostgresDatabase
from exporter.ledger.postgres.fence import Fence, beginning
from exporter.ledger.worker import Commit
from exporter.model import TargetKey

R = TypeVar("R")

_LANES = 4
_LONGEST_BACKOFF_SECONDS = 5.0
# At the end, work under way may take so long. Then its connection is cut, which undoes what is not committed.
_CLOSING_SECONDS = 2.0
_CANCEL_SECONDS = 1.0
_SLOW_SECONDS = 0.5
# A server that hangs while its machine goes on confirming what it gets would be waited for without an end: as
# after a failover. One statement of a first sync of millions of jobs may take minutes.
_LONGEST_READING_SECONDS = 60.0
_LONGEST_WRITING_SECONDS = 300.0
_CLOSED = "the ledger is closed"


@dataclass(slots=True, eq=False)
class _Work:
    """
    What one caller wants done with a connection, in a transaction.

    Shape: `is_durable` if the commit has to be on the disk before the caller learns of it; `after` runs then.
    """

    call: Callable[[PostgresDatabase], Any]
    key: TargetKey | None = None
    writes: bool = False
    fence: Fence | None = None
    is_durable: bool = False
    after: Callable[[Database, Any], object] = lambda _db, _result: None
    future: Future[Any] = field(default_factory=Future)


class Lane:
    """
    A thread with a connection, which it opens when it is needed, and again when it was lost.

    While that fails, work fails at once; another attempt comes later and later. The process does not wait for
    the thread when it ends. `rows` has the ids of targets, as far as they are known.
    """

    def __init__(
        self, database: LedgerDatabase, name: str, rows: dict[TargetKey | None, int] | None = None
    ) -> None:
        self._database = database
        self._rows = {} if rows is None else rows
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._db: PostgresDatabase | None = None
        self.at_work_for: TargetKey | None = None
        self._began: float | None = None
        self._longest_answer_seconds = 0.0
        self._is_cut = False
        self._is_closing = False
        self._gives_up = False
        self._backoff_seconds = 0.0
        self._closed_until = 0.0
        self._why = ""
        self._ended: Future[None] = Future()
        Thread(target=self._run, name=name, daemon=True).start()

    def put(self, work: _Work) -> None:
        """Raises: LedgerError after `close`."""
        if self._is_closing:
            raise LedgerError(_CLOSED)
        self._waiting.put(work)

    @property
    def is_slow(self) -> bool:
        """Tell whether the work under way takes long: to record a first sync may take minutes."""
        began = self._began
        return began is not None and time.monotonic() - began > _SLOW_SECONDS

    async def ask(
        self, call: Callable[[PostgresDatabase], R], *, writes: bool = False, within_seconds: float
    ) -> R:
        """
        Do some work, without a lease. A server that does not answer in time loses the connection.

        Raises: LedgerError.
        """
        work = _Work(call, writes=writes)
        self.put(work)
        try:
            async with asyncio.timeout(within_seconds):
                result: R = await asyncio.wrap_future(work.future)
        except TimeoutError as exc:
            self.cut()
            raise LedgerError(f"{self._database.name}: no answer within {within_seconds:g} s") from exc
        return result

    def cut_if_silent(self) -> None:
        """End the connection if the server has not answered for longer than any answer takes."""
        began, db = self._began, self._db
        if began is not None and db is not None:
            waits_seconds = time.monotonic() - max(began, db.asked_at)
            if waits_seconds > self._longest_answer_seconds:
                self.cut()

    def cut(self) -> None:
        """End the connection without asking the server: what waits for its answer fails."""
        self._is_cut = True
        db = self._db
        if db is not None:
            # The connection belongs to the thread. Its socket can be shut from here.
            with (
                suppress(OSError, psycopg.Error),
                socket.socket(fileno=os.dup(db.connection.fileno())) as end,
            ):
                end.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Tell the server to end the statement under way, and end the connection; that blocks for a while."""
        db = self._db
        if db is not None:
            with suppress(psycopg.Error):
                db.connection.cancel_safe(timeout=_CANCEL_SECONDS)
        self.cut()

    async def close(self) -> None:
        """Finish the work under way, as far as the server answers, and end."""
        if not self._is_closing:
            self._is_closing = True
            self._waiting.put(None)
        ended = asyncio.wrap_future(self._ended)
        await asyncio.wait([ended], timeout=_CLOSING_SECONDS)
        self._gives_up = True
        self.cut()

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            if work.future.set_running_or_notify_cancel():
                self._longest_answer_seconds = (
                    _LONGEST_READING_SECONDS if work.fence is None else _LONGEST_WRITING_SECONDS
                )
                self._is_cut, self._began, self.at_work_for = False, time.monotonic(), work.key
                self._do(work)
            del work  # and what it holds
        if self._db is not None:
            self._db.connection.close()
        self._ended.set_result(None)

    def _do(self, work: _Work) -> None:
        try:
            result = self._done(work)
        except BaseException as exc:
            error = self._database.explained(exc) if isinstance(exc, Exception) else exc
            self._rest()
            work.future.set_exception(error)
        else:
            self._rest()
            work.future.set_result(result)

    def _rest(self) -> None:
        # Before the caller goes on: `cut` must not meet the work after this one.
        self.at_work_for, self._began = None, None

    def _done(self, work: _Work) -> Any:
        db = self._connected()
        # Nothing of these transactions has happened.
        try:
            return self._transaction(db, work)
        except AnotherRow:
            return self._transaction(db, work)
        except psycopg.OperationalError:
            if self._is_cut or not is_lost(db) or db.has_answered:
                raise
            # It was lost while nobody used it.
            return self._transaction(self._connected(), work)

    def _transaction(self, db: PostgresDatabase, work: _Work) -> Any:
        statements, check = beginning(work.key, work.fence, writes=work.writes, is_durable=work.is_durable)
        db.precede(*statements, check=check, target_row=self._rows.get(work.key))
        try:
            result = work.call(db)
            if db.found_row is not None:
                self._rows[work.key] = db.found_row
            self._commit(db)
        except BaseException as exc:
            self._rows.pop(work.key, None)
            self._undo(db, exc)
            raise
        work.after(db, result)
        return result

    def _commit(self, db: PostgresDatabase) -> None:
        try:
            ended = db.commit()
        except psycopg.OperationalError as exc:
            # It may be recorded or not. The next poll compares with what it finds.
            raise LedgerError(f"{self._database.name}: no answer to COMMIT: {reason(exc)}") from exc
        if ended != "COMMIT":
            # PostgreSQL answers so to a transaction in which a statement has failed.
            raise LedgerError(f"{self._database.name}: the transaction was rolled back")

    def _undo(self, db: PostgresDatabase, exc: BaseException) -> None:
        db.precede_nothing()
        with suppress(psycopg.Error):
            db.connection.rollback()
        if isinstance(exc, errors.ReadOnlySqlTransaction):
            # The server has become a standby: look for the one that takes writes.
            db.connection.close()

    def _connected(self) -> PostgresDatabase:
        """Give a connection that was not lost, as far as is known. Raises: psycopg.Error, LedgerError."""
        if self._db is not None and not is_lost(self._db):
            return self._db
        if self._gives_up:
            raise LedgerError(_CLOSED)
        if time.monotonic() < self._closed_until:
            raise LedgerError(self._why)
        try:
            self._db = self._database.connect()
        except psycopg.Error as exc:
            self._backoff_seconds = min(max(0.1, 2 * self._backoff_seconds), _LONGEST_BACKOFF_SECONDS)
            # Replicas that lost the same server do not come back all at once.
            self._closed_until = time.monotonic() + self._backoff_seconds * random.uniform(0.5, 1.0)
            self._why = str(self._database.explained(exc))
            raise
        self._backoff_seconds = 0.0
        return self._db


class Lanes:
    """
    Implements ledger.worker.Worker.

    Shape: `fence_of` gives the lease with which a target may be written, and raises LedgerError without one.
    """

    def __init__(
        self, database: LedgerDatabase, fence_of: Callable[[TargetKey], Fence], number: int = _LANES
    ) -> None:
        self._database = database
        self._fence_of = fence_of
        rows: dict[TargetKey | None, int] = {}
        self._lanes = [Lane(database, f"ledger {count}", rows) for count in range(1, number + 1)]
        self._lock = Lock()
        self._loads = dict.fromkeys(self._lanes, 0)
        # Of targets with work that has not ended: where it is done, and how much it is.
        self._lane_of: dict[TargetKey, Lane] = {}
        self._works: Counter[TargetKey] = Counter()
        self._targets_work: set[asyncio.Future[Any]] = set()
        self._is_open = False

    @property
    def is_open(self) -> bool:
        return self._is_open

    async def opened(self) -> None:
        """See sync.ledger.Ledger.opened."""
        if not self._is_open:
            await in_background(self._open, "opening of the ledger")
            self._is_open = True

    def _open(self) -> None:
        self._database.open().connection.close()

    async def run(
        self, work: Callable[[Database], R], key: TargetKey | None = None, *, writes: bool = False
    ) -> R:
        """See ledger.worker.Worker."""
        return await asyncio.shield(self.submit(work, key, writes=writes))

    def submit(
        self, work: Callable[[Database], R], key: TargetKey | None, *, writes: bool = False
    ) -> asyncio.Future[R]:
        return self._submit(_Work(work, key, writes))

    async def commit(self, commit: Commit) -> Any:
        """See ledger.worker.Worker."""

        def work(db: Database) -> Any:
            if commit.prepare is not None:
                commit.prepare(db)
            return commit.work(db)

        return await asyncio.shield(
            self._submit(_Work(work, commit.key, writes=True, is_durable=True, after=commit.after))
        )

    def drop_waiting(self) -> None:
        """See sync.ledger.Ledger.drop_waiting."""
        for work in tuple(self._targets_work):
            work.cancel()  # no more than that it does not begin

    def cut(self, targets: Collection[TargetKey]) -> None:
        """Let the work under way for these targets fail now: the server may never answer."""
        for lane in self._lanes:
            if lane.at_work_for in targets:
                lane.cut()

    def cut_silent(self) -> None:
        """Let the work fail that has waited for an answer for too long; the next has another connection."""
        for lane in self._lanes:
            lane.cut_if_silent()

    async def close(self) -> None:
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    def _submit(self, work: _Work) -> asyncio.Future[Any]:
        if work.writes and work.key is not None:
            # The lease as it is now: when the work's turn comes, another replica may have held it meanwhile.
            work.fence = self._fence_of(work.key)
        lane = self._assign(work.key)
        # What the future keeps must not lead back to it: its work has thousands of rows, and a circle of
        # references stays until the collector comes by.
        work.future.add_done_callback(partial(self._unassign, lane, work.key))
        lane.put(work)
        done = asyncio.wrap_future(work.future)
        if work.key is not None:
            self._targets_work.add(done)
            done.add_done_callback(self._targets_work.discard)
        done.add_done_callback(_note_failure)
        return done

    def _assign(self, key: TargetKey | None) -> Lane:
        """Choose the lane in which the target has work, else the one that will be free first."""
        with self._lock:
            used = None if key is None else self._lane_of.get(key)
            lane = used or min(self._lanes, key=lambda lane: (lane.is_slow, self._loads[lane]))
            self._loads[lane] += 1
            if key is not None:
                self._lane_of[key] = lane
                self._works[key] += 1
        return lane

    def _unassign(self, lane: Lane, key: TargetKey | None, _done: object) -> None:
        with self._lock:
            self._loads[lane] -= 1
            if key is not None:
                self._works[key] -= 1
                if not self._works[key]:
                    del self._works[key], self._lane_of[key]


def _note_failure(done: asyncio.Future[Any]) -> None:
    """Keep asyncio from logging a failure that nobody waits for any more: the poll was cancelled."""
    if not done.cancelled():
        done.exception()
