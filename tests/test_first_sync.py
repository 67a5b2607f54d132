"""A first sync: what it finds is listed and counts nothing, and nothing of it is kept before its commit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest

from exporter.counting.transitions import Baseline, KnownJob, transition
from exporter.errors import ApiUnavailable, LedgerError
from exporter.ledger import sql, targets
from exporter.ledger.sql import SqlLedger
from exporter.model import Job, Totals
from exporter.octopus.wire import ListQuery
from exporter.sync.ledger import FoundBy, PageOrigin, PollResult, RowKind, Staged
from exporter.sync.poll import Poll
from exporter.sync.server_traits import Filters
from tests.fake_api import COUNTING, FakeApi, a_job, a_target, poll_rules
from tests.held import release_held
from tests.ledgers import BackEnd, only_sqlite

TYPE = "FRAME_EXTRACT"
TARGET = a_target()
BEGAN_MS = 500_000


class Scene:
    """A ledger's file, an API with 23 jobs that have ended and two that run."""

    def __init__(self, back_end: BackEnd) -> None:
        self.back_end = back_end
        self.api = FakeApi()
        ended = {"started_ms": 2_000, "ended_ms": 3_000, "updated_ms": 3_000}
        self.api.put(*(a_job(job_id, "FINISHED", **ended) for job_id in range(1, 24)))
        self.api.put(*(a_job(job_id, "RUNNING", started_ms=4_000) for job_id in (24, 25)))
        self.ledger: SqlLedger

    async def open(self) -> None:
        self.ledger = await self.back_end.open()

    async def poll(self) -> Totals:
        self.api.now_ms += 10_000
        await release_held(self.ledger, TARGET)
        return await Poll(TARGET, self.api, self.ledger, poll_rules(), lambda: self.api.now_ms).run()

    def at_page(self, offset: int, change: Job | None = None, error: bool = False) -> None:
        """Let something happen, once, before a page of everything is answered."""

        def happen(query: ListQuery) -> None:
            if query.statuses or query.offset < offset:
                return
            self.api.before_page = None
            if change is not None:
                self.api.put(change)
            if error:
                raise ApiUnavailable("no")

        self.api.before_page = happen

    def rows(self, table: str = "jobs") -> int:
        return self.back_end.number(f"SELECT count(*) FROM {table}")

    def known_jobs(self) -> list[KnownJob]:
        rows = self.back_end.rows(f"SELECT {', '.join(KnownJob.__struct_fields__)} FROM jobs")
        return [KnownJob(*row) for row in rows]

    def listed(self) -> Counter[tuple[str, str]]:
        return Counter((job.job_type, job.status) for job in self.api.jobs.values())


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    scene = Scene(back_end)
    await scene.open()
    yield scene
    await scene.ledger.close()


def shown(totals: Totals) -> dict[tuple[str, str], int]:
    return {key: jobs for key, jobs in totals.jobs.items() if jobs}


def counted(totals: Totals) -> int:
    return sum(value.value for value in (*totals.created.values(), *totals.completed.values()))


async def test_history_is_listed_and_counts_nothing(scene: Scene) -> None:
    totals = await scene.poll()
    assert shown(totals) == scene.listed()
    assert counted(totals) == 0
    assert scene.rows() == 25


async def test_a_first_sync_that_fails_has_recorded_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "_ROWS_PER_HOP", 5)
    scene.at_page(15, error=True)
    with pytest.raises(ApiUnavailable):
        await scene.poll()
    assert scene.rows() == 0
    assert await scene.ledger.restore(TARGET, poll_rules().counting) is None


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_next_first_sync_begins_anew(scene: Scene, restarted: bool) -> None:
    scene.at_page(15, error=True)
    with pytest.raises(ApiUnavailable):
        await scene.poll()
    if restarted:
        await scene.ledger.close()
        await scene.open()
    for gone in (23, 22, 21):
        del scene.api.jobs[gone]
    assert shown(await scene.poll()) == scene.listed()
    assert scene.rows() == 22


async def test_what_a_broken_off_forgetting_left_of_a_target_is_cleared_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "_ROWS_AT_ONCE", 2)
    await scene.poll()
    looks = iter([True, True])  # one piece and a bit: its counts are gone, its jobs are not
    assert not await scene.ledger.forget(TARGET.key, lambda: next(looks, False))
    assert scene.rows() == 23
    for gone in (23, 22, 21):
        del scene.api.jobs[gone]
    assert shown(await scene.poll()) == scene.listed()
    assert scene.rows() == 22


async def test_what_is_committed_is_not_cleared_away(scene: Scene) -> None:
    await scene.poll()
    await scene.ledger.begin(TARGET)
    assert scene.rows() == 25


@only_sqlite
async def test_beginning_a_poll_does_not_walk_what_is_committed(scene: Scene) -> None:
    """That would cost every poll what is stored, in the one thread that all targets share."""
    scene.api.put(*(a_job(job_id, "FINISHED", ended_ms=3_000) for job_id in range(100, 2_000)))
    await scene.poll()
    await scene.ledger.close()
    db = sqlite3.connect(scene.back_end.file)
    steps = iter(range(1_000))
    db.set_progress_handler(lambda: next(steps, None) is None, 1)  # gives up at the thousandth
    assert targets.forget_some_unrecorded(db, 1)
    db.close()
    await scene.open()


async def test_a_job_that_runs_again_while_history_is_read_counts_its_new_run(scene: Scene) -> None:
    scene.api.key = lambda job: (job.updated_ms, job.id)  # so that it is read twice, as it was and as it is
    again = a_job(1, "RUNNING", started_ms=1_005_000, updated_ms=1_005_000)
    scene.at_page(10, change=again)
    first = await scene.poll()
    ended = {"status": "RUN_FAILED", "ended_ms": 1_015_000, "updated_ms": 1_015_000}
    scene.api.put(msgspec.structs.replace(again, **ended))
    second = await scene.poll()
    assert (first.jobs[TYPE, "RUNNING"], counted(first)) == (3, 0)
    assert shown(second) == scene.listed()
    assert (second.completed[TYPE, "RUN_FAILED"].value, counted(second)) == (1, 1)


async def test_a_finished_job_that_is_updated_while_history_is_read_counts_nothing(scene: Scene) -> None:
    """Without an end time its last update stands for its end, and that is after the baseline now."""
    scene.api.key = lambda job: (job.updated_ms, job.id)  # so that it is read twice, as it was and as it is
    scene.api.put(a_job(1, "RUN_FAILED", started_ms=2_000, updated_ms=3_000))

    def update(query: ListQuery) -> None:
        if not query.statuses and query.offset >= 10:
            scene.api.before_page = None
            scene.api.now_ms += 2_000
            scene.api.put(a_job(1, "RUN_FAILED", started_ms=2_000, updated_ms=scene.api.now_ms - 500))

    scene.api.before_page = update
    assert (counted(await scene.poll()), counted(await scene.poll())) == (0, 0)
    assert scene.api.before_page is None


async def test_a_batch_that_fails_is_told_though_the_caller_after_it_is_cancelled(scene: Scene) -> None:
    batch = [a_job(job_id, "FINISHED", ended_ms=3_000) for job_id in range(10_000)]
    too_large = msgspec.structs.replace(batch[0], id=2**63)
    await scene.ledger.begin(TARGET)

    async def stage(jobs: list[Job]) -> None:
        origin = PageOrigin(FoundBy.WINDOW, 1)
        await scene.ledger.stage(TARGET, jobs, [RowKind.OWN] * len(jobs), origin, COUNTING)

    await stage([*batch, too_large])
    after = asyncio.create_task(stage(batch))
    await asyncio.sleep(0)
    after.cancel()
    await asyncio.gather(after, return_exceptions=True)
    await scene.ledger.summary(TARGET)
    with pytest.raises(LedgerError, match=r"too large|out of range"):
        await scene.ledger.staged(TARGET, 1, 1)
    await scene.ledger.begin(TARGET)
    assert await scene.ledger.staged(TARGET, 1, 1) == Staged(0, 0, 0)


async def staged(scene: Scene, jobs: list[Job], origin: PageOrigin, *kinds: RowKind) -> Staged:
    wanted = kinds or [RowKind.OWN] * len(jobs)
    await scene.ledger.stage(TARGET, jobs, wanted, origin, COUNTING)
    return await scene.ledger.staged(TARGET, 1, origin.pass_no)


async def record(scene: Scene, horizon_ms: int | None = None) -> Totals:
    poll = PollResult(TARGET, BEGAN_MS, BEGAN_MS, 0, BEGAN_MS, horizon_ms, full=True, filters=Filters())
    return await scene.ledger.record(poll, COUNTING)


async def test_of_two_copies_the_one_updated_later_is_kept(scene: Scene) -> None:
    old = a_job(1, "FINISHED", started_ms=2_000, ended_ms=3_000, updated_ms=3_000)
    new = msgspec.structs.replace(old, status="STOPPED", ended_ms=4_000, updated_ms=4_000)
    await scene.ledger.begin(TARGET)
    for jobs in ([new], [old], [old, new, old]):
        await staged(scene, jobs, PageOrigin(FoundBy.WINDOW, 1))
    await record(scene)
    assert scene.back_end.rows("SELECT id, status, ended_ms FROM jobs") == [(1, "STOPPED", 4_000)]


async def test_rows_are_counted_once_in_whatever_pass_they_come(scene: Scene) -> None:
    ended = [a_job(job_id, "FINISHED", ended_ms=3_000) for job_id in range(1, 11)]
    running = [a_job(job_id, "RUNNING") for job_id in (10, 11, 12)]  # 10 runs again
    await scene.ledger.begin(TARGET)
    first, second, third = (PageOrigin(FoundBy.WINDOW, number) for number in (1, 2, 3))
    counts = [
        await staged(scene, [*ended, *running], first),
        await staged(scene, [*ended, *running], second),
        await staged(scene, ended[:4], third),
    ]
    assert counts == [Staged(12, 12, 0), Staged(12, 12, 12), Staged(4, 12, 4)]


async def test_what_is_older_than_the_lookback_or_not_wanted_is_not_kept(scene: Scene) -> None:
    jobs = [a_job(job_id, "FINISHED", ended_ms=3_000) for job_id in (1, 2, 3)]
    await scene.ledger.begin(TARGET)
    kinds = RowKind.OWN, RowKind.FOREIGN, RowKind.OWN
    assert await staged(scene, jobs, PageOrigin(FoundBy.WINDOW, 1), *kinds) == Staged(3, 3, 0)
    totals = await record(scene, horizon_ms=1_002)
    assert (shown(totals), scene.rows()) == ({(TYPE, "FINISHED"): 1}, 1)


@pytest.mark.parametrize("ended_ms", [None, BEGAN_MS - 1, BEGAN_MS, BEGAN_MS + 61_000])
@pytest.mark.parametrize("updated_ms", [BEGAN_MS - 1, BEGAN_MS])
@pytest.mark.parametrize("status", ["RUNNING", "FINISHED", "ARCHIVED"])
async def test_what_counts_is_what_the_transition_says_of_each_row(
    scene: Scene, status: str, ended_ms: int | None, updated_ms: int
) -> None:
    job = a_job(1, status, created_ms=1_000, ended_ms=ended_ms, updated_ms=updated_ms)
    await scene.ledger.begin(TARGET)
    await staged(scene, [job], PageOrigin(FoundBy.WINDOW, 1))
    await record(scene)
    latest_ms = BEGAN_MS + 60_000  # what is later was stamped by a wrong clock
    change = transition(None, job, Baseline(BEGAN_MS, latest_ms=latest_ms, is_first_sync=True))
    assert change is not None
    assert scene.known_jobs() == [change.known]
    assert scene.rows("counters") == change.ended + change.created
