"""Commits that wait are written together: one that fails is undone alone, and no caller learns too early."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import LedgerError
from exporter.ledger import thread
from exporter.ledger.connection import connect
from exporter.ledger.database import Database
from exporter.ledger.group import Committer, WaitingCommits
from exporter.ledger.sqlite import SqliteLedger
from exporter.ledger.worker import Commit
from exporter.model import Target, Totals
from exporter.sync.ledger import FoundBy, PageOrigin, PollResult, RowKind
from exporter.sync.server_traits import Filters
from tests.fake_api import COUNTING, a_job, a_target

NOW_MS = 1_000_000
KEY = a_target().key
FAILED = ("FRAME_EXTRACT", "RUN_FAILED")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as db:
        db.execute("CREATE TABLE notes (text UNIQUE)")
        yield db


def note(text: str) -> Callable[[Database], str]:
    def write(db: Database) -> str:
        db.execute("INSERT INTO notes VALUES (?)", (text,))
        return text

    return write


def notes(db: sqlite3.Connection) -> list[str]:
    return [text for (text,) in db.execute("SELECT text FROM notes ORDER BY 1")]


def commit(db: sqlite3.Connection, *commits: Commit, check: Callable[[], None] = lambda: None) -> list[Any]:
    """Commit as a group; give what each caller gets: a result, or the text of an error."""
    waiting = WaitingCommits()
    for one in commits:
        waiting.add(one)
    committer = Committer(db, check, lambda exc, _key: exc)
    while group := waiting.take():
        committer.commit(group)
    return [str(one.future.exception() or one.future.result()) for one in commits]


def test_one_that_fails_is_undone_alone(db: sqlite3.Connection) -> None:
    def half(db: Database) -> None:
        note("half")(db)
        raise ValueError("no")

    told = commit(db, Commit(KEY, note("a")), Commit(KEY, half), Commit(KEY, note("b")))
    assert (told, notes(db)) == (["a", "no", "b"], ["a", "b"])
    assert not db.in_transaction


def test_one_that_cannot_be_prepared_fails_alone(db: sqlite3.Connection) -> None:
    def fail(db: Database) -> None:
        note("half")(db)
        raise ValueError("no")

    told = commit(db, Commit(KEY, note("a"), prepare=fail), Commit(KEY, note("b")))
    assert (told, notes(db)) == (["no", "b"], ["b"])


def test_a_failed_commit_fails_all_and_leaves_nothing(db: sqlite3.Connection, tmp_path: Path) -> None:
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("CREATE TABLE pages (note TEXT REFERENCES notes (text) DEFERRABLE INITIALLY DEFERRED)")

    def dangling(db: Database) -> None:
        db.execute("INSERT INTO pages VALUES ('nothing')")  # shows at the commit

    told = commit(db, Commit(KEY, note("a")), Commit(KEY, dangling))
    assert (told, notes(db)) == (["FOREIGN KEY constraint failed"] * 2, [])
    assert commit(db, Commit(KEY, note("a"))) == ["a"]


def test_a_lock_of_another_program_fails_all(db: sqlite3.Connection, tmp_path: Path) -> None:
    db.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = commit(db, Commit(KEY, note("a")), Commit(KEY, note("b")))
    assert (told, notes(db)) == (["database is locked"] * 2, [])


def test_a_transaction_that_sqlite_undoes_as_a_whole_fails_all(db: sqlite3.Connection) -> None:
    def full(db: Database) -> None:
        db.execute("ROLLBACK")
        raise ValueError("the disk is full")

    told = commit(db, Commit(KEY, note("a")), Commit(KEY, full), Commit(KEY, note("b")))
    assert (told, notes(db)) == (["the disk is full"] * 3, [])


def test_half_a_poll_that_cannot_be_undone_alone_is_not_committed(db: sqlite3.Connection) -> None:
    def half(_db: Database) -> None:
        note("half")(db)
        db.set_authorizer(lambda *of: sqlite3.SQLITE_DENY if of[1] == "ROLLBACK" else sqlite3.SQLITE_OK)
        raise ValueError("no")

    told = commit(db, Commit(KEY, note("a")), Commit(KEY, half), Commit(KEY, note("b")))
    db.set_authorizer(None)
    assert len(set(told)) == 1  # an error
    db.rollback()
    assert notes(db) == []


def test_a_file_that_was_lost_meanwhile_fails_all(db: sqlite3.Connection) -> None:
    looks = iter([None, None, "lost"])

    def check() -> None:
        if problem := next(looks):
            raise LedgerError(problem)

    assert commit(db, Commit(KEY, note("a")), Commit(KEY, note("b")), check=check) == ["lost"] * 2


def test_callers_learn_of_success_only_after_the_commit(db: sqlite3.Connection) -> None:
    commits = [Commit(KEY, note(text)) for text in "abc"]
    told: list[tuple[str, int]] = []
    db.set_trace_callback(lambda sql: told.append((sql.split()[0], sum(c.future.done() for c in commits))))
    assert commit(db, *commits) == ["a", "b", "c"]
    db.set_trace_callback(None)
    assert [done for statement, done in told if statement == "COMMIT"] == [0]
    assert max(done for _, done in told[: [statement for statement, _ in told].index("COMMIT") + 1]) == 0


def test_a_caller_who_has_given_up_is_left_out(db: sqlite3.Connection) -> None:
    given_up: Future[Any] = Future()
    given_up.cancel()
    waiting = WaitingCommits()
    waiting.add(Commit(KEY, note("a"), future=given_up))
    waiting.add(Commit(KEY, note("b")))
    Committer(db, lambda: None, lambda exc, _key: exc).commit(waiting.take())
    assert notes(db) == ["b"]


def test_a_large_commit_goes_alone_so_that_none_waits_for_it() -> None:
    waiting = WaitingCommits()
    for rows in (1, 1, 100_000, 1):
        waiting.add(Commit(KEY, note(""), rows=rows))
    sizes = []
    while group := waiting.take():
        sizes.append([one.rows for one in group])
    assert sizes == [[1, 1], [100_000], [1]]


class Ledgered:
    """
    A ledger with some targets, each with a job that runs.

    Shape: `statements` are those of its connection; those after `hold` wait until `go_on`.
    """

    def __init__(self) -> None:
        self.targets = [a_target(workspace=str(number)) for number in range(5)]
        self.statements: list[str] = []
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self.ledger: SqliteLedger

    def traced(self, path: Path | None) -> sqlite3.Connection:
        db = connect(path)
        db.set_trace_callback(self._trace)
        return db

    def _trace(self, statement: str) -> None:
        self.statements.append(statement)
        self._may_go_on.wait()

    async def stage(self, target: Target, status: str, at_ms: int) -> None:
        ended_ms = None if status == "RUNNING" else at_ms
        job = a_job(1, status, started_ms=1_500, ended_ms=ended_ms, updated_ms=at_ms)
        await self.ledger.begin(target)
        await self.ledger.stage(target, [job], [RowKind.OWN], PageOrigin(FoundBy.WINDOW, 1), COUNTING)

    async def record_together(
        self, status: str, now_ms: int, at_ms: int | None = None
    ) -> list[Totals | BaseException]:
        """Record a poll of each target, all of which wait for the same moment."""
        for target in self.targets:
            await self.stage(target, status, at_ms or now_ms)
        self._may_go_on.clear()
        held = asyncio.create_task(self.ledger.count_events())
        polls = [
            PollResult(target, now_ms, now_ms, 0, now_ms, None, full=True, filters=Filters())
            for target in self.targets
        ]
        records = [asyncio.create_task(self.ledger.record(poll, COUNTING)) for poll in polls]
        for _ in range(3):
            await asyncio.sleep(0)
        self.statements.clear()
        self._may_go_on.set()
        await held
        return await asyncio.gather(*records, return_exceptions=True)

    def commits(self) -> int:
        """Count the transactions that waited for the disk."""
        return self.statements.count("PRAGMA synchronous = FULL")


@pytest.fixture
async def several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ledgered]:
    several = Ledgered()
    monkeypatch.setattr(thread, "connect", several.traced)
    several.ledger = await SqliteLedger.open(tmp_path / "ledger.db")
    yield several
    await several.ledger.close()


async def test_the_polls_of_all_targets_that_wait_are_committed_once(several: Ledgered) -> None:
    await several.record_together("RUNNING", NOW_MS)
    totals = await several.record_together("RUN_FAILED", NOW_MS + 10_000)
    assert several.commits() == 1
    assert [one.jobs[FAILED] for one in totals if isinstance(one, Totals)] == [1] * 5


async def test_a_damaged_value_of_one_target_fails_its_poll_alone(several: Ledgered, tmp_path: Path) -> None:
    await several.record_together("RUNNING", NOW_MS)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as db:
        db.execute("UPDATE targets SET filters = '{' WHERE workspace = '2'")
    told = await several.record_together("RUN_FAILED", NOW_MS + 10_000)
    assert several.commits() == 1
    assert [isinstance(one, LedgerError) for one in told] == [False, False, True, False, False]
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as db:
        rows = db.execute("SELECT target, status FROM jobs WHERE status = 'RUNNING'").fetchall()
        assert len(rows) == 1
        db.execute("UPDATE targets SET filters = '{}' WHERE workspace = '2'")
    await several.record_together("RUN_FAILED", NOW_MS + 20_000, at_ms=NOW_MS + 10_000)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as db:
        counted = "SELECT target, value FROM counters WHERE family = 'completed' ORDER BY 1"
        assert [value for _, value in db.execute(counted)] == [1] * 5
