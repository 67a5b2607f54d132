"""What a reading asks for: by id, or by a listing, whichever is fewer requests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from exporter.ledger.sqlite import SqliteLedger
from exporter.octopus.client import RequestCounter
from exporter.sync.change_reader import ChangeReader
from exporter.sync.count_check import CountCheck
from exporter.sync.poll import Poll
from exporter.sync.server_clock import Clocks
from exporter.sync.server_traits import Filters, ServerFindings
from tests.fake_api import FakeApi, a_job, a_target, poll_rules

START_MS = 100_000_000
PAGE = 20


class Scene:
    """A target of 400 finished jobs, all of them older than the window of changes."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.ledger = ledger
        self.api = FakeApi(now_ms=START_MS)
        self.target = a_target()
        self.put(*range(400))

    def put(self, *job_ids: int, status: str = "FINISHED") -> None:
        for job_id in job_ids:
            created_ms = START_MS - 500_000 + 1_000 * job_id
            times = {"created_ms": created_ms, "started_ms": created_ms + 1, "updated_ms": self.api.now_ms}
            ended = {"ended_ms": self.api.now_ms} if status == "FINISHED" else {}
            self.api.put(a_job(job_id, status, **times, **ended))

    async def poll(self) -> None:
        await Poll(self.target, self.api, self.ledger, poll_rules(PAGE), lambda: self.api.now_ms).run()
        self.api.now_ms += 30_000
        self.api.asked.clear()

    async def read(self, filters: Filters, reason: str | None = None) -> ChangeReader:
        state = await self.ledger.summary(self.target)
        reader = ChangeReader(
            target=self.target,
            source=self.api,
            ledger=self.ledger,
            rules=poll_rules(PAGE),
            now_ms=lambda: self.api.now_ms,
            server=ServerFindings.after(None, state.server),
            clocks=Clocks(state.newest_ms),
            counter=RequestCounter(),
            on_progress=lambda _: None,
        )
        await reader.read(state, filters, reason)
        return reader

    @property
    def ids_asked(self) -> set[int]:
        return {query.job_id for query in self.api.asked if query.job_id is not None}

    @property
    def windows_read(self) -> int:
        """How often all jobs of a time were listed from the first page on."""
        return sum(
            query.job_id is None and query.offset == 0 and query.limit > 1 and not query.statuses
            for query in self.api.asked
        )


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    ledger = await SqliteLedger.open(None)
    yield Scene(ledger)
    await ledger.close()


@pytest.mark.parametrize(
    ("missing", "ids_work", "asked", "windows"),
    [
        pytest.param(0, True, 0, 1, id="none is missing"),
        pytest.param(20, True, 20, 1, id="each of a few is asked for"),
        pytest.param(21, True, 0, 2, id="more are listed once more"),
        pytest.param(3, False, 0, 2, id="where no id can be asked for, a few are listed too"),
        pytest.param(0, False, 0, 1, id="no id can be asked for, and none has to"),
    ],
)
async def test_a_full_sync_makes_sure_that_missing_jobs_are_gone(
    scene: Scene, missing: int, ids_work: bool, asked: int, windows: int
) -> None:
    await scene.poll()
    for job_id in range(100, 100 + missing):
        del scene.api.jobs[job_id]
    await scene.read(Filters(id=ids_work), "scheduled")
    assert len(scene.ids_asked) == asked
    assert scene.windows_read == windows


async def test_one_old_job_that_ended_is_asked_for_by_id_and_not_by_twenty_pages(scene: Scene) -> None:
    scene.put(0, status="RUNNING")
    await scene.poll()
    scene.put(0)
    await scene.read(Filters())
    assert scene.ids_asked == {0}
    assert len(scene.api.asked) < 6


async def test_a_few_young_jobs_that_ended_are_listed_by_one_page(scene: Scene) -> None:
    young = range(390, 400)
    scene.put(*young, status="RUNNING")
    await scene.poll()
    scene.put(*young)
    await scene.read(Filters())
    assert scene.ids_asked == set()


@pytest.mark.parametrize("created", [0, 3])
@pytest.mark.parametrize(("deleted", "invented"), [(0, 0), (2, 0), (0, 2)])
async def test_a_count_leaves_out_the_jobs_created_since_the_poll_began(
    scene: Scene, created: int, deleted: int, invented: int
) -> None:
    await scene.poll()
    reader = await scene.read(Filters())
    began_ms = scene.api.now_ms
    for job_id in range(deleted):
        del scene.api.jobs[job_id]
    for job_id in range(1_000, 1_000 + created):
        scene.api.put(a_job(job_id, "RUNNING", created_ms=began_ms + 10, updated_ms=began_ms + 10))
    scene.api.total_of = lambda total, _rows: total + invented
    assert await CountCheck(reader).difference() == invented - deleted
