"""
The one thread in which an SQLite ledger is used, with its connection and its file.

It opens the ledger, after a check where the file was not closed well; does one piece of work after the other;
says what makes the ledger unusable; and closes it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from traceback import clear_frames
from typing import Any, TypeVar

import msgspec

from exporter.errors import LedgerError, StartError, one_line
from exporter.ledger.background import in_background
from exporter.ledger.connection import (
    FAILURES,
    check,
    connect,
    connect_to_read,
    look_at,
    problem_of,
    reason,
)
from exporter.ledger.database import Database
from exporter.ledger.file import FileLost, LedgerFile
from exporter.ledger.group import Committer, WaitingCommits, roll_back
from exporter.ledger.targets import find_target
from exporter.ledger.values import first_unreadable
from exporter.ledger.worker import Commit
from exporter.model import TargetKey

R = TypeVar("R")

# Failures that say nothing about the ledger's content, and that may have passed at the next poll.
_PASSING = tuple(
    f"SQLITE_{name}" for name in ("BUSY", "LOCKED", "FULL", "IOERR", "READONLY", "CANTOPEN", "NOMEM")
)


class LedgerThread:
    """
    An open ledger, or one that is being checked; implements worker.Worker.

    Shape: `path` is None for a ledger in memory. Raises: StartError where the file is locked, damaged,
    foreign, newer or out of reach; it is then left as it was.
    """

    def __init__(
        self,
        name: str,
        thread: ThreadPoolExecutor,
        connection: sqlite3.Connection | None = None,
        file: LedgerFile | None = None,
    ) -> None:
        self._name = name
        self._thread = thread
        self._opened = connection
        self._opening: asyncio.Task[None] | None = None
        self._file = file
        self._is_sound = True  # as far as is known
        self._saved = False
        self._commits = WaitingCommits()
        self._targets_work: set[asyncio.Future[Any]] = set()  # not ended yet

    @classmethod
    async def begin_to_open(cls, path: Path | None) -> LedgerThread:
        """Open a ledger, but leave one that has to be checked first to `opened`."""
        file = None if path is None else LedgerFile.lock(path)
        thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        ledger = cls("in memory" if file is None else str(file.path), thread, file=file)
        try:
            unchecked = await asyncio.get_running_loop().run_in_executor(thread, _unchecked, file)
            if unchecked is None:
                await ledger._open()
            else:
                ledger._opening = asyncio.create_task(ledger._open_checked(unchecked))
        except BaseException:
            await ledger.close()
            raise
        return ledger

    @classmethod
    async def open_to_read(cls, path: Path) -> LedgerThread:
        """Open a ledger for looking at, in use or not. Raises: StartError."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, connect_to_read, path)
        except BaseException:
            thread.shutdown()
            raise
        return cls(str(path), thread, connection)

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    @property
    def path(self) -> Path | None:
        return None if self._file is None else self._file.path

    async def opened(self) -> None:
        """See sync.ledger.Ledger.opened."""
        if self._opening is not None:
            await asyncio.shield(self._opening)

    async def _open_checked(self, path: Path) -> None:
        await in_background(partial(check, path), "check of the ledger")
        await self._open()

    async def _open(self) -> None:
        self._opened = await asyncio.get_running_loop().run_in_executor(self._thread, _connected, self._file)

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            raise LedgerError(f"ledger {self._name}: is being checked")
        return self._opened

    async def run(
        self, work: Callable[[Database], R], key: TargetKey | None = None, *, writes: bool = False
    ) -> R:
        """See worker.Worker."""
        return await asyncio.shield(self.submit(work, key, writes=writes))

    def submit(
        self, work: Callable[[Database], R], key: TargetKey | None, *, writes: bool = False
    ) -> asyncio.Future[R]:
        """See worker.Worker."""
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._thread, self._transaction, work, key, writes)
        return done if key is None else self._noted(done)

    def _noted(self, done: asyncio.Future[R]) -> asyncio.Future[R]:
        """Note some work for a target until it has ended."""
        self._targets_work.add(done)
        done.add_done_callback(self._targets_work.discard)
        return done

    async def commit(self, commit: Commit) -> Any:
        """See worker.Worker. What else waits for the disk goes along."""
        self._commits.add(commit)
        self._thread.submit(self._commit_waiting)
        return await asyncio.shield(self._noted(asyncio.wrap_future(commit.future)))

    def _commit_waiting(self) -> None:
        """Commit the next group; nothing may be left if an earlier call took more than one."""
        if group := self._commits.take():
            try:
                Committer(self._connection, self._check_file, self._explained).commit(group)
            except Exception as exc:
                for commit in group:
                    if not commit.future.done():
                        commit.future.set_exception(exc)

    def drop_waiting(self) -> None:
        """See sync.ledger.Ledger.drop_waiting."""
        for work in tuple(self._targets_work):
            work.cancel()  # no more than that it does not begin

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        if self._file is not None:
            # What was not opened keeps the mark that it has, or none.
            if self._opened is not None and self._is_sound:
                with suppress(OSError, LedgerError):
                    self._file.check(alone=True)
                    self._file.mark_closed()
            self._file.close()

    def _transaction(self, work: Callable[[Database], R], key: TargetKey | None, writes: bool) -> R:
        try:
            self._check_file()
            if not writes:
                return work(self._connection)
            self._connection.execute("BEGIN")
            result = work(self._connection)
            self._connection.execute("COMMIT")
            return result
        except Exception as exc:
            clear_frames(exc.__traceback__)
            self._roll_back()
            error = self._explained(exc, key)
            if error is exc:
                raise
            raise error from exc
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._opened is not None:
            roll_back(self._opened)

    def _explained(self, exc: Exception, key: TargetKey | None) -> Exception:
        """Say what is wrong with the ledger; a fault of this program stays as it is."""
        if isinstance(exc, LedgerError):
            return exc
        # A cursor that its traceback keeps open would hold a snapshot, and with it all that is to come.
        clear_frames(exc.__traceback__)
        problem = self._problem(exc, key)
        if problem is None:
            return exc
        self._is_sound = self._is_sound and _is_passing(exc)
        error = LedgerError(f"ledger {self._name}: {one_line(problem)}")
        error.__cause__ = exc
        return error

    def _problem(self, exc: Exception, key: TargetKey | None) -> str | None:
        """Say what is wrong with the ledger or with what it was given; None for a fault of this program."""
        if _is_passing(exc):
            return reason(exc)
        with suppress(*FAILURES):
            target = None if key is None else find_target(self._connection, key)
            damaged = first_unreadable(self._connection, target)
            if damaged is not None:
                return f"damaged: {damaged}"
        # OverflowError is for a number of more than 64 bits.
        if isinstance(exc, (*FAILURES, OverflowError, msgspec.MsgspecError)):
            return reason(exc)
        try:
            ((checked,),) = self._connection.execute("PRAGMA quick_check(1)").fetchall()
        except FAILURES as damage:
            return reason(damage)
        return None if checked == "ok" else f"damaged: {checked}"

    def _check_file(self) -> None:
        """Raises: LedgerError where a restart would not find what is recorded now."""
        if self._file is None:
            return
        try:
            self._file.check()
        except FileLost:
            self._save()
            raise
        self._saved = False
        if self._file.has_shrunk():
            problem = problem_of(self._file.path)
            if problem is not None:
                self._is_sound = False
                raise LedgerError(f"ledger {self._name}: cut short while in use: {problem}")
        self._file.note_size()

    def _save(self) -> None:
        """Write the log into the open file, once: nothing else may be left to recover from."""
        if not self._saved:
            self._saved = True
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()


def _unchecked(file: LedgerFile | None) -> Path | None:
    """Look at a ledger; give its path if it must be checked before it is written to. Raises: StartError."""
    if file is None or file.is_new():
        return None
    look_at(file.path)
    return None if file.was_closed() else file.path


def _connected(file: LedgerFile | None) -> sqlite3.Connection:
    """Raises: StartError."""
    if file is None:
        return connect(None)
    try:
        file.unmark()
        connection = connect(file.path)
    except OSError as exc:
        raise StartError(f"ledger {file.path}: {exc.strerror or exc}") from exc
    try:
        file.remember()
        file.check()
    except (OSError, LedgerError) as exc:
        connection.close()
        raise StartError(str(exc)) from exc
    return connection


def _is_passing(exc: Exception) -> bool:
    code: str = getattr(exc, "sqlite_errorname", "")
    return code.startswith(_PASSING)
