"""Many jobs in flight: totals in place of a listing, the search for what changed, and exact numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from random import Random

import pytest

from exporter.ledger.sql import SqlLedger
from exporter.model import IN_FLIGHT_STATUSES, JOB_TYPES, Job, Target, Totals
from exporter.octopus.client import RequestCounter
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.planner import swap_limit_ms
from exporter.sync.poll import Poll
from exporter.sync.server_traits import LONGEST_DISTRUST, Filters, ServerFindings, TotalsTrust
from tests.fake_api import FakeApi, a_job, a_target, poll_rules
from tests.ledgers import BackEnd, only_sqlite

START_MS = 1_000_000_000
PAGE = 4
POLL_MS = 30_000
IN_FLIGHT = 300
# A poll that lists everything in flight takes as many requests at least.
LISTING = IN_FLIGHT // PAGE


class LateApi(FakeApi):
    """
    Its totals are those of the jobs in `totals_from`, where there are any.

    The job `late_id` shows in its rows that it has ended, and is found under the status that it had before.
    """

    totals_from: dict[int, Job] | None = None
    late_id: int | None = None

    async def list_page(self, target: Target, query: ListQuery, counter: RequestCounter) -> Page:
        page = await super().list_page(target, query, counter)
        page = replace(page, jobs=tuple(map(self._as_shown, page.jobs)))
        if self.totals_from is None:
            return page
        return replace(page, total=sum(self._matches(job, query) for job in self.totals_from.values()))

    def _as_shown(self, job: Job) -> Job:
        if job.id != self.late_id:
            return job
        return a_job(
            job.id,
            "FINISHED",
            job_type=job.job_type,
            created_ms=job.created_ms,
            updated_ms=self.now_ms,
            started_ms=job.started_ms,
            ended_ms=self.now_ms,
        )


class Scene:
    """A target with 300 jobs in flight, mostly waiting, and 150 finished ones; created one a minute."""

    def __init__(self, ledger: SqlLedger) -> None:
        self.ledger = ledger
        self.api = LateApi(now_ms=START_MS)
        self.target = a_target()
        rules = poll_rules(PAGE)
        self.rules = replace(rules, schedule=replace(rules.schedule, request_ms=1))
        self.findings: ServerFindings | None = None
        self.totals: Totals
        for number in range(1, 451):
            self.create(START_MS - 60_000 * number, self.status_of(number))

    @staticmethod
    def status_of(number: int) -> str:
        if number % 3 == 0:
            return "FINISHED"
        return {1: "RUNNING", 2: "UPLOADING"}.get(number % 60, "QUEUING" if number % 4 else "LAUNCHING")

    def create(self, created_ms: int, status: str = "QUEUING") -> int:
        job_id = len(self.api.jobs) + 1
        ended = {"ended_ms": created_ms + 1_000} if status == "FINISHED" else {}
        kind = JOB_TYPES[job_id % len(JOB_TYPES)]
        self.api.put(
            a_job(job_id, status, job_type=kind, created_ms=created_ms, updated_ms=created_ms, **ended)
        )
        return job_id

    def change(self, job_id: int, status: str) -> None:
        job, now_ms = self.api.jobs[job_id], self.api.now_ms
        ended = status not in IN_FLIGHT_STATUSES
        self.api.put(
            a_job(
                job_id,
                status,
                job_type=job.job_type,
                created_ms=job.created_ms,
                updated_ms=now_ms,
                started_ms=None if status == "QUEUING" else job.started_ms or now_ms,
                ended_ms=now_ms if ended else None,
            )
        )

    def pick(self, status: str, which: Callable[[Job], bool] = lambda _: True) -> int:
        return next(job.id for job in self.api.jobs.values() if job.status == status and which(job))

    async def poll(self) -> int:
        """Poll, and give the number of requests."""
        self.api.now_ms += POLL_MS
        poll = Poll(
            self.target, self.api, self.ledger, self.rules, lambda: self.api.now_ms, before=self.findings
        )
        try:
            self.totals = await poll.run()
        finally:
            self.findings = poll.findings
        counting, now_ms = self.rules.counting, self.api.now_ms
        self.totals = await self.ledger.release(self.target, self.totals.held, counting, now_ms)
        return poll.counter.sent

    @property
    def is_true(self) -> bool:
        truth = Counter((job.job_type, job.status) for job in self.api.jobs.values())
        return {key: jobs for key, jobs in self.totals.jobs.items() if jobs} == truth

    def completed(self) -> float:
        return sum(value.value for value in self.totals.completed.values())


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    ledger = await back_end.open(in_memory=True)
    scene = Scene(ledger)
    assert await scene.poll() > LISTING
    scene.api.now_ms += 1_000
    yield scene
    await ledger.close()


async def test_a_quiet_poll_asks_for_totals_and_lists_everything_within_five_minutes(scene: Scene) -> None:
    costs = [await scene.poll() for _ in range(25)]
    assert {cost > LISTING for cost in costs} == {False, True}
    quiet = [cost for cost in costs if cost < LISTING]
    assert max(quiet) <= 15
    listed = [number for number, cost in enumerate(costs, start=1) if cost > LISTING]
    assert all(later - earlier <= 9 for earlier, later in zip([0, *listed], listed, strict=False))
    assert scene.is_true


@pytest.mark.parametrize("status", ["RUNNING", "LAUNCHING", "FINISHED", "RUN_FAILED", "gone"])
async def test_one_job_that_left_a_large_status_is_found(scene: Scene, status: str) -> None:
    job_id = scene.pick("QUEUING", lambda job: job.created_ms < START_MS - 9_000_000)
    if status == "gone":
        del scene.api.jobs[job_id]
    else:
        scene.change(job_id, status)
    assert await scene.poll() < LISTING
    assert scene.is_true


async def test_a_run_that_ended_is_counted_with_its_own_times(scene: Scene) -> None:
    job_id = scene.pick("QUEUING")
    scene.change(job_id, "RUNNING")
    scene.api.now_ms += 5_000
    scene.change(job_id, "FINISHED")
    assert await scene.poll() < LISTING
    assert scene.completed() == 1
    assert sum(value.sum_ms for value in scene.totals.running.values()) == 5_000


async def test_a_finished_job_that_is_reopened_is_found(scene: Scene) -> None:
    for status in ("QUEUING", "RUNNING"):
        job_id = scene.pick("FINISHED", lambda job: job.created_ms < START_MS - 12_000_000)
        scene.change(job_id, status)
        assert await scene.poll() < LISTING
        assert scene.is_true


async def test_jobs_that_pass_through_a_status_that_stays_full_are_found(scene: Scene) -> None:
    """Four jobs stop running, four others begin to, and four new ones come: each total stays as it was."""
    for _ in range(4):
        scene.change(scene.pick("RUNNING"), "FINISHED")
        scene.change(scene.pick("QUEUING"), "RUNNING")
        scene.create(scene.api.now_ms + 1_000)
    assert await scene.poll() < LISTING
    assert scene.is_true
    assert scene.completed() == 4


async def test_a_swap_is_seen_within_the_limit(scene: Scene) -> None:
    limit_ms = swap_limit_ms(IN_FLIGHT, scene.rules.schedule, PAGE)
    assert limit_ms == 300_000
    await scene.poll()
    one, other = scene.pick("QUEUING"), scene.pick("LAUNCHING")
    scene.change(one, "LAUNCHING")
    scene.change(other, "QUEUING")
    began_ms = scene.api.now_ms
    while not scene.is_true:
        await scene.poll()
        assert scene.api.now_ms - began_ms <= limit_ms


async def test_many_changes_are_listed_and_not_searched(scene: Scene) -> None:
    random = Random(1)
    waiting = [job.id for job in scene.api.jobs.values() if job.status == "QUEUING"]
    for job_id in random.sample(waiting, 40):
        scene.change(job_id, "STOPPED")
    assert LISTING < await scene.poll() < 3 * LISTING + 40
    assert scene.is_true
    assert scene.completed() == 40


async def test_a_job_that_changes_between_two_totals_is_no_reason_to_list_everything(scene: Scene) -> None:
    job_id = scene.pick("QUEUING")

    def change(query: ListQuery) -> None:
        if query.statuses == ("LAUNCHING",):  # before QUEUING, which has more jobs
            scene.api.before_page = None
            scene.change(job_id, "RUNNING")

    scene.api.before_page = change
    assert await scene.poll() < LISTING
    assert scene.is_true


async def test_a_job_that_ends_between_the_search_and_the_listing_shows_no_broken_filter(
    scene: Scene,
) -> None:
    for job in list(scene.api.jobs.values()):
        if job.status == "UPLOADING":
            scene.change(job.id, "RUNNING")
    await scene.poll()
    waiting = [job.id for job in scene.api.jobs.values() if job.status == "QUEUING"]
    found: list[int] = []

    def change(query: ListQuery) -> None:
        """The first job that is asked for is the only one that uploads, until everything is listed."""
        if query.job_id is not None and not found:
            found.append(query.job_id)
            scene.change(query.job_id, "UPLOADING")
        elif len(query.statuses) == len(IN_FLIGHT_STATUSES):
            scene.api.before_page = None
            scene.change(found[0], "FINISHED")

    for job_id in waiting[-60::3]:
        scene.change(job_id, "STOPPED")
    scene.api.before_page = change
    assert LISTING < await scene.poll() < 3 * LISTING
    assert scene.is_true
    assert (await scene.ledger.summary(scene.target)).filters == Filters()


@pytest.mark.parametrize("status", ["QUEUING", "UPLOADING"])
async def test_a_job_that_shows_its_next_status_first_in_its_row_is_no_broken_filter(
    scene: Scene, status: str
) -> None:
    """A server may look for a status in an index that is later than its rows."""
    for _ in range(4):
        scene.change(scene.pick("UPLOADING"), "RUNNING")
    await scene.poll()
    scene.api.late_id = max(
        (job for job in scene.api.jobs.values() if job.status == status), key=lambda job: job.created_ms
    ).id
    assert await scene.poll() < LISTING
    assert (await scene.ledger.summary(scene.target)).filters == Filters()


@pytest.mark.parametrize(
    "total_of",
    [
        pytest.param(lambda total, _rows: min(total, 100), id="capped"),
        pytest.param(lambda total, _rows: total + 2, id="too high"),
        pytest.param(lambda total, rows: rows if rows == 1 else total, id="that of the page"),
    ],
)
@only_sqlite
async def test_totals_that_lie_do_not_hide_a_change(
    scene: Scene, total_of: Callable[[int, int], int]
) -> None:
    scene.api.total_of = total_of
    for number in range(4):
        scene.change(scene.pick("QUEUING"), "FINISHED")
        try:
            await scene.poll()
        except Exception:  # a total that begins to lie fails a poll, until two polls have seen the same
            assert number < 2
            continue
        assert scene.is_true, number
    assert scene.completed() == 4


async def test_totals_that_are_late_show_the_change_when_they_have_come(scene: Scene) -> None:
    before = dict(scene.api.jobs)
    scene.change(scene.pick("QUEUING"), "FINISHED")
    scene.change(scene.pick("QUEUING"), "RUNNING")
    scene.api.totals_from = before
    await scene.poll()
    scene.api.totals_from = None
    assert await scene.poll() < LISTING
    assert scene.is_true
    assert scene.completed() == 1


async def test_after_a_search_that_failed_some_polls_do_without() -> None:
    trust = TotalsTrust()
    assert trust.take()
    trust.failed()
    assert [trust.take() for _ in range(3)] == [False, True, True]
    trust.failed()
    assert [trust.take() for _ in range(5)] == [False, False, False, True, True]
    for _ in range(10):
        trust.failed()
    assert [trust.take() for _ in range(LONGEST_DISTRUST)].count(False) == LONGEST_DISTRUST - 1
    trust.succeeded()
    trust.failed()
    assert [trust.take() for _ in range(2)] == [False, True]


NEXT = {"QUEUING": "LAUNCHING", "LAUNCHING": "RUNNING", "RUNNING": "UPLOADING", "UPLOADING": "FINISHED"}


@pytest.mark.parametrize(
    ("back_end", "seed"), [*(("sqlite", seed) for seed in range(6)), ("postgresql", 0)], indirect=["back_end"]
)
async def test_whatever_happens_the_numbers_are_true_but_for_swaps(scene: Scene, seed: int) -> None:
    """Jobs move on, fail, are deleted, reopened and created; requests see them do so."""
    random = Random(seed)
    many = random.choice((1, 3, 10))
    ended = 0

    def happen() -> None:
        nonlocal ended
        what = random.random()
        if what < 0.2:
            scene.create(scene.api.now_ms + random.randrange(1_000))
            return
        job = random.choice(list(scene.api.jobs.values()))
        if what < 0.25:
            if job.status in IN_FLIGHT_STATUSES:
                scene.api.jobs.pop(job.id)
        elif job.status in NEXT:
            status = "RUN_FAILED" if what < 0.4 else NEXT[job.status]
            ended += status not in NEXT
            scene.change(job.id, status)
        elif what < 0.5:
            scene.change(job.id, random.choice(("QUEUING", "RUNNING")))

    moving = random.random() < 0.5
    scene.api.before_page = lambda _: happen() if moving and random.random() < 0.02 else None
    true = 0
    for _ in range(12):
        for _ in range(random.randrange(many + 1)):
            happen()
        await scene.poll()
        true += scene.is_true
    assert moving or true >= 6
    # At rest, all is true once everything has been listed.
    scene.api.before_page = None
    costs = [await scene.poll() for _ in range(10)]
    assert max(costs) > LISTING
    assert scene.is_true
