"""
Single runs, read from PostgreSQL beside whatever is being recorded: for the status page, the API and `jobs`.

Nothing here holds a connection that polls need. Each question is a transaction that only reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TypeVar

from exporter.config import LedgerSettings
from exporter.ledger.background import in_background
from exporter.ledger.database import Database
from exporter.ledger.known_runs import (
    AT_ONCE,
    COLUMNS,
    NEWEST_FIRST,
    SELECT_KEPT,
    SELECT_LISTED,
    KnownRuns,
    KnownRunsQuery,
    of_job,
    read_runs,
    rows_of,
    values_of,
)
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.database import PostgresDatabase
from exporter.ledger.postgres.fence import READING
from exporter.ledger.postgres.lanes import Lane
from exporter.model import TargetKey
from exporter.runs import KnownRun, RunFilter

R = TypeVar("R")

# So many questions are answered at a time; the others wait.
_READERS = 2
_LONGEST_ANSWER_SECONDS = 30.0
_OF_TARGETS = "target IN (SELECT value FROM json_each(:targets))"


class RunReaders:
    """Answers the questions of ledger.runs (runs.Ask). Raises: LedgerError."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._lanes = [Lane(database, f"ledger reader {number}") for number in range(1, _READERS + 1)]
        # The one used last comes first: the others open no connection before they are needed.
        self._free: asyncio.LifoQueue[Lane] = asyncio.LifoQueue()
        for lane in self._lanes:
            self._free.put_nowait(lane)

    async def __call__(self, question: Callable[[Database], R], /) -> R:
        """Answer a question. If the caller is cancelled, the server is told to stop."""
        lane = await self._free.get()
        try:
            return await lane.ask(question, within_seconds=_LONGEST_ANSWER_SECONDS)
        except asyncio.CancelledError:
            await in_background(lane.stop, "end of a question")
            raise
        finally:
            self._free.put_nowait(lane)

    async def close(self) -> None:
        await asyncio.gather(*(lane.close() for lane in self._lanes))


@contextmanager
def opened_for_runs(settings: LedgerSettings) -> Iterator[KnownRunsQuery]:
    """See ledger.opening.opened_for_runs."""
    with _opened(settings) as db:
        yield partial(known_runs_beside, db)


@contextmanager
def opened_to_look(settings: LedgerSettings) -> Iterator[Database]:
    """See ledger.opening.opened_to_look."""
    with _opened(settings) as db:
        db.execute(READING)
        yield db


@contextmanager
def _opened(settings: LedgerSettings) -> Iterator[PostgresDatabase]:
    database = LedgerDatabase(settings, reads_only=True)
    db = database.open()
    with closing(db.connection):
        try:
            yield db
        except Exception as exc:
            raise database.explained(exc) from exc


def known_runs_beside(
    db: PostgresDatabase,
    targets: Sequence[TargetKey],
    which: RunFilter,
    *,
    failed_only: bool = False,
    most: int | None = None,
) -> KnownRuns:
    """
    Find runs as known_runs.known_runs does, in one transaction, which ends with the connection.

    The server keeps the answer: it comes piece by piece.
    """
    db.execute(READING)
    rows = rows_of(db, targets, which)
    listed = SELECT_LISTED.format(of_targets=_OF_TARGETS, of_job=of_job(which), kept="failed_runs")
    given = {**values_of(which, failed_only=failed_only), "targets": f"[{','.join(map(str, rows))}]"}
    limit = "" if most is None else f"LIMIT {most + 1}"
    db.execute(
        f"""
        DECLARE runs SCROLL CURSOR FOR SELECT target, {COLUMNS} FROM (
            {SELECT_KEPT.format(of_targets=_OF_TARGETS)} UNION ALL {listed}
        ) AS found ORDER BY {NEWEST_FIRST} {limit}
        """,  # noqa: S608 - constants and numbers only
        given,
    )
    if most is None:
        return KnownRuns(_fetched(db, rows, None), more=False)
    more = db.execute(f"MOVE FORWARD {most + 1} IN runs").rowcount > most
    db.execute("MOVE ABSOLUTE 0 IN runs")
    return KnownRuns(_fetched(db, rows, most), more)


def _fetched(
    db: PostgresDatabase, targets: dict[int, TargetKey], most: int | None
) -> Iterator[tuple[TargetKey, KnownRun]]:
    """Give what the cursor has, `most` of it at most."""
    left = most
    while left is None or left > 0:
        some = db.execute(f"FETCH {AT_ONCE if left is None else min(left, AT_ONCE)} FROM runs").fetchall()
        if not some:
            return
        yield from read_runs(some, targets)
        left = None if left is None else left - len(some)
