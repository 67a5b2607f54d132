"""
Commits that wait go to the disk together: a slow disk takes longer than all else that they do.

Each of them has a savepoint, and one that fails is undone alone. No caller learns of success before all of
them are on the disk.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from traceback import clear_frames

from exporter.ledger.worker import Commit
from exporter.model import TargetKey

# So many commits at once: the first of them waits for the last.
_MOST = 50
# A commit of more rows than these would let the others wait for it, so it goes alone.
_FEW_ROWS = 5_000


class WaitingCommits:
    """The commits that wait, in the order in which they came. Any thread may use it."""

    def __init__(self) -> None:
        self._waiting: deque[Commit] = deque()

    def add(self, commit: Commit) -> None:
        self._waiting.append(commit)

    def take(self) -> list[Commit]:
        """Take the next ones, as many as may go together; those whose callers have given up are left out."""
        group: list[Commit] = []
        while self._waiting and len(group) < _MOST:
            is_large = self._waiting[0].rows > _FEW_ROWS
            if is_large and group:
                break
            commit = self._waiting.popleft()
            if commit.future.set_running_or_notify_cancel():
                group.append(commit)
                if is_large:
                    break
        return group


@dataclass(frozen=True, slots=True)
class Committer:
    """
    Commits groups, and tells each caller how it ended.

    Shape: `check_file` raises where a restart would not find what is recorded; `explained` makes of a failure
    what its caller gets.
    """

    db: sqlite3.Connection
    check_file: Callable[[], None]
    explained: Callable[[Exception, TargetKey], Exception]

    def commit(self, group: Sequence[Commit]) -> None:
        ready = [commit for commit in group if self._succeeds(commit, self._prepare)]
        if not ready:
            return
        try:
            committed = self._transaction(ready)
        except Exception as exc:
            roll_back(self.db)
            for commit in ready:
                if not commit.future.done():
                    commit.future.set_exception(self.explained(exc, commit.key))
            return
        for commit in committed:
            if self._succeeds(commit, lambda it: it.after(self.db, it.result)):
                commit.future.set_result(commit.result)

    def _succeeds(self, commit: Commit, step: Callable[[Commit], object]) -> bool:
        try:
            step(commit)
        except Exception as exc:
            commit.future.set_exception(self.explained(exc, commit.key))
            return False
        return True

    def _prepare(self, commit: Commit) -> None:
        try:
            self.check_file()
            if commit.prepare is not None:
                self.db.execute("BEGIN")
                commit.prepare(self.db)
                self.db.execute("COMMIT")
        finally:
            roll_back(self.db)

    def _transaction(self, ready: Sequence[Commit]) -> list[Commit]:
        """Give those that are on the disk. Raises: whatever fails all of them."""
        db = self.db
        db.execute("PRAGMA synchronous = FULL")
        try:
            db.execute("BEGIN IMMEDIATE")
            done = [commit for commit in ready if self._works(commit)]
            db.execute("COMMIT")
        finally:
            roll_back(db)
            db.execute("PRAGMA synchronous = NORMAL")
        self.check_file()
        return done

    def _works(self, commit: Commit) -> bool:
        """Do one's work, or undo it alone. Raises: whatever makes that impossible."""
        db = self.db
        db.execute("SAVEPOINT of_one")
        try:
            commit.result = commit.work(db)
        except Exception as exc:
            # A cursor that its traceback keeps open would stand in the way.
            clear_frames(exc.__traceback__)
            if not db.in_transaction:
                # A full disk, for one, makes SQLite undo the whole transaction and not one savepoint.
                raise
            db.execute("ROLLBACK TO of_one")
            db.execute("RELEASE of_one")
            commit.future.set_exception(self.explained(exc, commit.key))
            return False
        db.execute("RELEASE of_one")
        return True


def roll_back(db: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        if db.in_transaction:
            db.rollback()
