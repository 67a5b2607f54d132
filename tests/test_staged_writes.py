"""What polls write to the disk: hardly anything where nothing changes, however many rows they stage."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from exporter.ledger import staging
from exporter.ledger.connection import connect
from exporter.sync.ledger import FoundBy, PageOrigin, PollResult, RowKind
from exporter.sync.server_traits import Filters
from tests.fake_api import COUNTING, a_job, a_target
from tests.ledger_scene import Scene

TARGET = a_target()
NOW_MS = 1_000_000
PAGE = 200


class Polls(Scene):
    """Polls that list the same jobs in flight, page by page."""

    async def list(self, jobs: int, *, step: int = PAGE, times: int = 1) -> None:
        running = [
            a_job(job_id, "RUNNING", started_ms=2_000, data_id=f"DPK{job_id:09d}", resource_spec="1Core_4GiB")
            for job_id in range(jobs, 0, -1)
        ]
        await self.ledger.summary(TARGET)
        await self.ledger.begin(TARGET)
        for number in range(times):
            origin = PageOrigin(FoundBy.IN_FLIGHT, number + 1)
            for at in range(0, jobs, step):
                page = running[at : at + PAGE]
                await self.ledger.stage(TARGET, page, [RowKind.OWN] * len(page), origin, COUNTING)
            await self.ledger.staged(TARGET, 1, number + 1)
        poll = PollResult(TARGET, NOW_MS, NOW_MS, 0, NOW_MS, None, full=True, filters=Filters())
        await self.ledger.record(poll, COUNTING)


def written() -> tuple[int, int]:
    """Give the bytes that this process has written to files, and in how many calls."""
    lines = Path("/proc/self/io").read_text().splitlines()
    figures = {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}
    return figures["wchar"], figures["syscw"]


@pytest.mark.parametrize(
    ("jobs", "step", "times"),
    [(390, 200, 1), (600, 150, 1), (600, 200, 3), (10_000, 200, 2)],
    ids=["two pages", "overlapping pages", "three passes", "many jobs, twice"],
)
async def test_a_quiet_poll_writes_one_page_of_the_ledger(
    tmp_path: Path, jobs: int, step: int, times: int
) -> None:
    polls = Polls(tmp_path / "ledger.db")
    await polls.open()
    for _ in range(3):
        await polls.list(jobs, step=step, times=times)
    before = written()
    await polls.list(jobs, step=step, times=times)
    size, calls = (after - first for after, first in zip(written(), before, strict=True))
    await polls.ledger.close()
    assert size <= 5 * 1024
    assert calls <= 3


async def test_many_rows_are_written_once_and_not_again_when_they_are_cleared(tmp_path: Path) -> None:
    """They are more than the cache of the temporary database holds."""
    polls = Polls(tmp_path / "ledger.db")
    await polls.open()
    await polls.list(40_000)
    before, _ = written()
    await polls.list(40_000)
    size = written()[0] - before
    await polls.ledger.close()
    assert size <= 40_000 * 130


def test_rows_of_one_target_among_others_are_cleared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the journal of the temporary database, which is in memory, would have them all at once."""
    monkeypatch.setattr(staging, "_CLEARED_AT_ONCE", 10)
    with closing(connect(None)) as db:
        rows = [(1, job_id) for job_id in range(20)] + [(2, 1), (3, 1)]
        db.executemany("INSERT INTO staged (target, id) VALUES (?, ?)", rows)
        statements = list[str]()
        db.set_trace_callback(statements.append)
        staging.TemporaryTable().clear(db, 1)
        db.set_trace_callback(None)
        assert db.execute("SELECT target FROM staged").fetchall() == [(2,), (3,)]
    assert sum("DELETE" in statement for statement in statements) == 3
