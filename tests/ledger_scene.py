"""A ledger, a fake API and targets to poll."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from exporter.ledger.sql import SqlLedger
from exporter.model import Run, Target, Totals
from exporter.runs import RunFilter
from exporter.sync.change_reader import PollRules
from exporter.sync.poll import Poll
from tests.fake_api import FakeApi, a_job, a_target, poll_rules
from tests.held import release_held
from tests.ledgers import BackEnd, SqliteFile

EVERY_RUN = RunFilter()
FAILED = ("FRAME_EXTRACT", "RUN_FAILED")


class Scene:
    """
    Shape: the ledger of `place`, the file of one or a back end, may be opened and closed repeatedly;
    `full_sync` is the one of the last poll.
    """

    def __init__(self, place: Path | BackEnd) -> None:
        self.back_end = SqliteFile(place) if isinstance(place, Path) else place
        self.api = FakeApi()
        self.full_sync: str | None = None
        self.ledger: SqlLedger

    async def open(self) -> None:
        self.ledger = await self.back_end.open()

    async def poll(
        self, target: Target | None = None, rules: PollRules | None = None, ours_ms: int = 0
    ) -> Totals:
        """Poll after ten seconds; our clock is ahead of the server's by `ours_ms`."""
        self.api.now_ms += 10_000
        target, rules = target or a_target(), rules or poll_rules()
        await release_held(self.ledger, target, rules.counting, self.api.now_ms)
        poll = Poll(target, self.api, self.ledger, rules, lambda: self.api.now_ms + ours_ms)
        totals = await poll.run()
        self.full_sync = poll.full_sync
        return totals

    async def restored(self, target: Target | None = None) -> Totals | None:
        return await self.ledger.restore(target or a_target(), poll_rules().counting)

    async def failed_runs(self, which: RunFilter = EVERY_RUN, target: Target | None = None) -> list[Run]:
        """Return the failed runs in the ledger, the newest first."""
        keys = [(target or a_target()).key]
        async with self.ledger.reading() as reader:
            selected = await reader.select_failed(keys, which, 100_000)
            return [failed.run for failed in await reader.failed(keys, selected.keys)]

    def run_job(self, job_id: int, status: str = "RUN_FAILED", **fields: object) -> None:
        """Create a job that ran for 30 s and ends now."""
        now = self.api.now_ms = self.api.now_ms + 60_000
        times = {"created_ms": now - 35_000, "started_ms": now - 30_000, "ended_ms": now, "updated_ms": now}
        self.api.put(a_job(job_id, status, **(times | fields)))

    @property
    def file(self) -> Path:
        assert isinstance(self.back_end, SqliteFile)
        return self.back_end.file

    @contextmanager
    def sql(self) -> Iterator[sqlite3.Connection]:
        """Open a second connection to the same file, as another program would."""
        with closing(sqlite3.connect(self.file, isolation_level=None)) as db:
            yield db

    def rows(self, table: str) -> int:
        return self.back_end.number(f"SELECT count(*) FROM {table}")
