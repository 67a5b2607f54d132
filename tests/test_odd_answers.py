"""Answers that are odd: no target goes blind over them, and no number is silently wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from exporter.errors import ApiUnavailable, ContractError
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import Progress, Target, Totals, is_terminal
from exporter.octopus.client import RequestCounter
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.poll import Poll
from exporter.sync.server_traits import ServerFindings
from tests.fake_api import FakeApi, a_job, a_target, poll_rules
from tests.held import release_held

START_MS = 100_000_000
PAGE = 100


@dataclass
class Scene:
    """A target that is polled as the poller does it: what a poll found out goes on to the next."""

    ledger: SqliteLedger
    api: FakeApi = field(default_factory=lambda: FakeApi(now_ms=START_MS))
    target: Target = field(default_factory=a_target)
    findings: ServerFindings | None = None
    totals: Totals | None = None
    last: Poll | None = None
    full_syncs: list[str] = field(default_factory=list)
    seen: list[tuple[int, int | None]] = field(default_factory=list)

    def put(self, *job_ids: int, status: str = "FINISHED", **fields: object) -> None:
        for job_id in job_ids:
            created_ms = START_MS - 1_000_000 + job_id
            ended = {"ended_ms": created_ms + 9} if is_terminal(status) else {}
            times = {"created_ms": created_ms, "started_ms": created_ms + 5, "updated_ms": self.api.now_ms}
            self.api.put(a_job(job_id, status, **(times | ended | fields)))

    def finish(self, job_id: int, status: str = "FINISHED") -> None:
        self.put(job_id, status=status, ended_ms=self.api.now_ms)

    async def poll(self, poll: Poll | None = None) -> bool:
        self.api.now_ms += 30_000
        self.api.asked.clear()
        await release_held(self.ledger, self.target)
        self.last = poll = poll or Poll(
            self.target,
            self.api,
            self.ledger,
            poll_rules(PAGE),
            lambda: self.api.now_ms,
            before=self.findings,
            on_progress=self.saw,
        )
        try:
            self.totals = await poll.run()
        except (ContractError, ApiUnavailable):
            return False
        finally:
            self.findings = poll.findings
        self.full_syncs += [poll.full_sync] if poll.full_sync else []
        self.totals = await poll.audit() or self.totals
        return True

    def saw(self, progress: Progress) -> None:
        self.seen.append((progress.rows, progress.total))

    @property
    def is_true(self) -> bool:
        """Tell whether what is published is what the API lists, but for the rows that cannot be read."""
        assert self.totals is not None
        listed: dict[str, int] = {}
        for job in self.api.jobs.values():
            if job.id not in self.api.odd | self.api.nameless:
                listed[job.status] = listed.get(job.status, 0) + 1
        return listed == {s: n for s in {s for _, s in self.totals.jobs} if (n := self.totals.in_status(s))}

    def completed(self, status: str = "FINISHED") -> int:
        assert self.totals is not None
        return sum(value.value for (_, s), value in self.totals.completed.items() if s == status)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    ledger = await SqliteLedger.open(None)
    yield Scene(ledger)
    await ledger.close()


# -- rows that cannot be read ------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [101, 700])
@pytest.mark.parametrize("nameless", [False, True])
async def test_a_row_that_cannot_be_read_is_set_apart_and_the_others_count(
    scene: Scene, jobs: int, nameless: bool
) -> None:
    scene.put(*range(jobs))
    odd = frozenset({7})
    scene.api.odd, scene.api.nameless = (frozenset(), odd) if nameless else (odd, frozenset())
    for _ in range(3):
        assert await scene.poll()
        assert scene.is_true
        assert scene.totals is not None
        assert scene.totals.rows_unreadable == 1
        assert [row.job_id for row in scene.totals.set_apart] == [None if nameless else 7]
        assert not any(scene.totals.drift.values())
    assert scene.full_syncs == ["first"]


@pytest.mark.parametrize("jobs", [101, 700])
async def test_a_known_job_whose_row_cannot_be_read_stays_as_it_was(scene: Scene, jobs: int) -> None:
    scene.put(*range(jobs))
    scene.put(7, status="RUNNING")
    assert await scene.poll()
    scene.finish(7)
    scene.api.odd = frozenset({7})
    for _ in range(3):
        assert await scene.poll()
        assert scene.totals is not None
        assert scene.totals.in_status("RUNNING") == 1
        assert scene.completed() == 0
        assert scene.totals.rows_unreadable == 1
    scene.api.odd = frozenset()
    assert await scene.poll()
    assert scene.is_true
    assert scene.completed() == 1
    assert scene.totals is not None
    assert scene.totals.rows_unreadable == 0


@pytest.mark.parametrize("jobs", [101, 700])
async def test_no_missing_job_is_gone_while_a_row_without_an_id_is_listed(scene: Scene, jobs: int) -> None:
    scene.put(*range(jobs))
    scene.put(7, status="RUNNING")
    assert await scene.poll()
    scene.api.nameless = frozenset({7})
    for _ in range(3):
        assert await scene.poll()
        assert scene.totals is not None
        assert scene.totals.in_status("RUNNING") == 1
    scene.api.nameless = frozenset()
    scene.finish(7)
    assert await scene.poll()
    assert (scene.completed(), scene.is_true) == (1, True)


@pytest.mark.parametrize(
    ("rows", "odd", "succeeds"), [(30, 2, True), (30, 5, True), (30, 6, False), (120, 6, True)]
)
async def test_a_poll_fails_where_too_many_rows_cannot_be_read(
    scene: Scene, rows: int, odd: int, succeeds: bool
) -> None:
    scene.put(*range(rows))
    scene.api.odd = frozenset(range(odd))
    assert await scene.poll() is succeeds


async def test_many_rows_without_an_id_are_told_apart_by_their_place(scene: Scene) -> None:
    scene.put(*range(700))
    scene.api.nameless = frozenset(range(0, 700, 25))
    for _ in range(2):
        assert await scene.poll()
        assert scene.is_true
        assert scene.totals is not None
        assert scene.totals.rows_unreadable == 28


# -- totals that are wrong ---------------------------------------------------------------------------------

TOO_LOW = {
    "capped": lambda total, _rows: min(total, 400),
    "of the page": lambda _total, rows: rows,
}


@pytest.mark.parametrize("kind", TOO_LOW)
async def test_a_total_that_is_too_low_is_given_up_and_every_job_is_shown(scene: Scene, kind: str) -> None:
    scene.put(*range(700))
    scene.api.total_of = TOO_LOW[kind]
    for _ in range(2):
        assert await scene.poll()
        assert scene.is_true
    assert scene.last is not None
    assert not scene.last.filters.totals
    scene.put(*range(700, 730))
    del scene.api.jobs[3]
    assert await scene.poll()
    assert scene.is_true


async def test_a_total_of_the_page_with_a_clamped_limit_hides_nothing(scene: Scene) -> None:
    scene.put(*range(120))
    scene.api.clamp, scene.api.total_of = 50, TOO_LOW["of the page"]
    for _ in range(3):
        assert await scene.poll()
        assert scene.is_true


async def test_a_busy_server_does_not_lose_its_totals(scene: Scene) -> None:
    scene.put(*range(700))
    ids = iter(range(1_000, 10_000))

    def arrive(query: ListQuery) -> None:
        for _ in range(2):
            now = scene.api.now_ms
            scene.api.put(a_job(next(ids), "RUNNING", created_ms=now, started_ms=now, updated_ms=now))

    scene.api.before_page = arrive
    for key in (lambda job: job.id, lambda job: -job.id):
        scene.api.key = key
        for _ in range(4):
            assert await scene.poll()
    assert scene.last is not None
    assert scene.last.filters.totals
    assert scene.findings is not None
    assert scene.findings.surplus == {}


@pytest.mark.parametrize("jobs", [101, 700])
async def test_a_total_that_is_too_high_by_one_for_ever_is_believed_at_the_second_poll(
    scene: Scene, jobs: int
) -> None:
    scene.put(*range(jobs))
    scene.put(7, status="RUNNING")
    scene.api.total_of = lambda total, _rows: total + 1 if total > 50 else total
    assert not await scene.poll()
    assert await scene.poll()
    assert scene.is_true
    full_syncs = len(scene.full_syncs)
    for step in range(50):
        if step == 3:
            scene.finish(7)
        if step == 5:
            scene.put(1_000, status="QUEUING", created_ms=scene.api.now_ms)
        assert await scene.poll()
        assert scene.is_true
    assert scene.totals is not None
    assert scene.totals.drift["FINISHED"] == 1
    assert len(scene.full_syncs) - full_syncs <= 1


@pytest.mark.parametrize("everywhere", [True, False])
async def test_a_total_that_is_too_high_hides_no_deletion(scene: Scene, everywhere: bool) -> None:
    """One job is deleted and another one comes: the total stays as it was."""
    for job_id in range(700):
        scene.put(job_id, created_ms=START_MS - 50_000_000 + 7_321 * job_id)
    scene.api.total_of = lambda total, _rows: total + 1 if everywhere or total > 50 else total
    for _ in range(60):
        await scene.poll()
    assert scene.is_true
    for step in range(3):
        del scene.api.jobs[100 + step]
        now = scene.api.now_ms
        scene.put(1_000 + step, status="STOPPED", created_ms=now, started_ms=now, ended_ms=now + 1)
        assert await scene.poll()
        assert scene.is_true


@pytest.mark.parametrize("jobs", [30, 700])
async def test_a_row_without_an_id_makes_no_drift_where_its_job_is_kept(scene: Scene, jobs: int) -> None:
    scene.put(*range(jobs))
    scene.put(7, status="RUNNING")
    assert await scene.poll()
    scene.api.nameless = frozenset({7})
    full_syncs = len(scene.full_syncs)
    for _ in range(50):
        assert await scene.poll()
        assert scene.totals is not None
        assert not any(scene.totals.drift.values())
    assert len(scene.full_syncs) - full_syncs <= 3


async def test_a_row_that_can_be_read_again_is_found_before_the_next_full_sync_is_due(scene: Scene) -> None:
    scene.put(*range(700))
    scene.api.nameless = frozenset({7})
    assert await scene.poll()
    scene.api.nameless = frozenset()
    for _ in range(25):  # an audit interval has 20 polls
        assert await scene.poll()
    assert scene.is_true
    assert scene.totals is not None
    assert scene.totals.rows_unreadable == 0


# -- pages that are refused, too large, or broken ------------------------------------------------------------


@pytest.mark.parametrize(("most", "page"), [(60, 50), (30, 25), (10, 10)])
@pytest.mark.parametrize("limit", ["most_asked", "most_sent"])
async def test_a_smaller_page_is_asked_for_where_one_is_refused_or_too_large(
    scene: Scene, most: int, page: int, limit: str
) -> None:
    scene.put(*range(700))
    setattr(scene.api, limit, most)
    assert await scene.poll()
    assert scene.is_true
    assert scene.last is not None
    assert scene.last.filters.works("statuses")
    assert (await scene.ledger.summary(scene.target)).server.page_size == page
    assert await scene.poll()
    assert max(query.limit for query in scene.api.asked) == page


async def test_a_filter_is_blamed_where_no_page_is_small_enough(scene: Scene) -> None:
    scene.put(*range(700))
    scene.api.arrays = "refuses"
    assert await scene.poll()
    assert scene.is_true
    assert (await scene.ledger.summary(scene.target)).server.page_size is None
    assert scene.last is not None
    assert scene.last.filters.statuses == "single"


async def test_a_first_sync_that_breaks_off_goes_on_where_it_stood(scene: Scene) -> None:
    scene.put(*range(5_000))
    pages = 0

    def break_off(query: ListQuery) -> None:
        nonlocal pages
        pages += query.limit > 1
        if pages % 20 == 0:
            raise ApiUnavailable("away")

    scene.api.before_page = break_off
    polls, baseline_ms = 1, scene.api.now_ms + 30_000
    succeeded = await scene.poll()
    while not succeeded:
        assert polls < 10
        assert scene.last is not None
        # Failed while the first sync was under way: its run counts.
        scene.put(9_000 + polls, status="RUN_FAILED", created_ms=scene.api.now_ms, ended_ms=scene.api.now_ms)
        succeeded = await scene.poll(scene.last if scene.last.can_resume else None)
        polls += 1
    scene.api.before_page = None
    assert await scene.poll()
    assert scene.is_true
    assert scene.completed() == 0
    assert scene.completed("RUN_FAILED") == polls - 1
    assert scene.totals is not None
    assert scene.totals.baseline_ms == baseline_ms


# -- progress and syncs --------------------------------------------------------------------------------------


async def test_progress_counts_rows_once(scene: Scene) -> None:
    scene.put(*range(700))
    assert await scene.poll()
    assert scene.seen[-1] == (700, 700)
    assert all(total is not None and rows <= total for rows, total in scene.seen)


async def test_a_job_deleted_during_a_full_sync_is_gone_with_the_next_poll(scene: Scene) -> None:
    scene.put(*range(700))

    def delete(query: ListQuery) -> None:
        if query.offset > 300:
            scene.api.jobs.pop(650, None)  # on the first page, newest first

    scene.api.before_page = delete
    assert await scene.poll()
    assert await scene.poll()
    assert scene.is_true


async def test_a_full_sync_that_fails_is_none(scene: Scene) -> None:
    scene.put(*range(700))
    assert await scene.poll()
    del scene.api.jobs[3]

    def fail(query: ListQuery) -> None:
        if query.offset > 300:
            raise ApiUnavailable("away")

    scene.api.before_page = fail
    assert await scene.poll()
    assert scene.full_syncs == ["first"]
    scene.api.before_page = None
    assert await scene.poll()
    assert scene.full_syncs == ["first", "drift"]
    assert scene.is_true


@pytest.mark.parametrize("deleted", [(4_321,), (0, 1, 5_999), (17, 18, 19, 20, 3_000)])
@pytest.mark.parametrize("busy", [False, True])
async def test_finished_jobs_that_were_deleted_are_found_without_a_full_sync(
    scene: Scene, deleted: tuple[int, ...], busy: bool
) -> None:
    for job_id in range(6_000):
        scene.put(job_id, created_ms=START_MS - 50_000_000 + 7_321 * job_id)
    assert await scene.poll()
    for job_id in deleted:
        del scene.api.jobs[job_id]
    ids = iter(range(10_000, 20_000))

    def arrive(query: ListQuery) -> None:
        if busy and len(scene.api.asked) % 7 == 0:
            now = scene.api.now_ms
            scene.api.put(a_job(next(ids), "RUNNING", created_ms=now, started_ms=now, updated_ms=now))

    scene.api.before_page = arrive
    assert await scene.poll()
    requests = len(scene.api.asked)
    scene.api.before_page = None
    assert await scene.poll()
    assert scene.is_true
    assert scene.full_syncs == ["first"]
    if len(deleted) == 1 and not busy:
        assert requests < 40  # everything takes 64


async def test_a_server_that_finds_no_job_by_its_id_does_not_make_jobs_look_deleted(scene: Scene) -> None:
    for job_id in range(6_000):
        scene.put(job_id, created_ms=START_MS - 50_000_000 + 7_321 * job_id)
    assert await scene.poll()
    del scene.api.jobs[4_321]
    list_page = scene.api.list_page

    async def find_none(target: Target, query: ListQuery, counter: RequestCounter) -> Page:
        page = await list_page(target, query, counter)
        return page if query.job_id is None else Page((), total=0)

    scene.api.list_page = find_none  # type: ignore[method-assign]  # of this one server
    assert await scene.poll()
    assert scene.is_true


async def test_a_filter_that_fails_in_the_audit_is_given_up(scene: Scene) -> None:
    scene.put(*range(700))

    def refuse(query: ListQuery) -> None:
        if query.limit == 1 and query.statuses:
            raise ContractError("bad parameter", status=400)

    scene.api.before_page = refuse
    assert await scene.poll()
    assert (await scene.ledger.summary(scene.target)).filters.statuses == "comma"
