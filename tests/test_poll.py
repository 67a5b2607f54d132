"""One poll: what it records, when it reads again, and what its audit finds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from exporter.counting.rules import CountingRules
from exporter.errors import ApiTimeout
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import STATUSES, Totals
from exporter.octopus.wire import ListQuery
from exporter.sync.ledger import PollResult, TargetState
from exporter.sync.poll import Poll
from tests.fake_api import FakeApi, a_job, a_target, poll_rules, put_changed_now

START_MS = 100_000_000
HOUR_MS = 3_600_000
PAGE = 20
# A poll that asks for more than this never ends.
MOST_REQUESTS = 300


class RecordingLedger(SqliteLedger):
    """A ledger that keeps what was recorded since the last poll began."""

    recorded: list[PollResult]

    async def record(self, observation: PollResult, rules: CountingRules) -> Totals:
        self.recorded.append(observation)
        return await super().record(observation, rules)


class Scene:
    """
    A target of 400 finished jobs, more than are read whole at every poll.

    Shape: `before_request` runs before each answer; `uncounted` gives by how many jobs the answer's total is
    to exceed the rows.
    """

    def __init__(self, ledger: RecordingLedger) -> None:
        self.ledger = ledger
        self.api = FakeApi(now_ms=START_MS, before_page=self._before_page)
        self.target = a_target()
        self.before_request: Callable[[ListQuery], object] = lambda _query: None
        self.uncounted: Callable[[ListQuery], int] = lambda _query: 0
        self.last: Poll | None = None
        self.put(*range(400))

    def _before_page(self, query: ListQuery) -> None:
        assert len(self.api.asked) < MOST_REQUESTS
        self.before_request(query)
        uncounted = self.uncounted(query)
        self.api.total_of = lambda total, _rows: total + uncounted

    def put(self, *job_ids: int, status: str = "FINISHED") -> None:
        put_changed_now(self.api, job_ids, status, START_MS - 500_000)

    def next_poll(self, **given: Any) -> Poll:
        """Give the poll that follows the last one 30 seconds later; `given` are more fields of it."""
        self.api.now_ms += 30_000
        before = None if self.last is None else self.last.findings
        rules = poll_rules(PAGE)
        self.last = Poll(
            *(self.target, self.api, self.ledger, rules, lambda: self.api.now_ms),
            before=before,
            **given,
        )
        self.forget()
        return self.last

    async def poll(self, **given: Any) -> Poll:
        poll = self.next_poll(**given)
        await poll.run()
        return poll

    async def audit(self, poll: Poll) -> Totals | None:
        self.forget()
        return await poll.audit()

    def forget(self) -> None:
        self.api.asked.clear()
        self.ledger.recorded = []

    async def state(self) -> TargetState:
        return await self.ledger.summary(self.target)

    @property
    def totals_asked(self) -> list[ListQuery]:
        return [query for query in self.api.asked if query.limit == 1 and query.job_id is None]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    ledger = await RecordingLedger.open(None)
    assert isinstance(ledger, RecordingLedger)
    ledger.recorded = []
    yield Scene(ledger)
    await ledger.close()


def is_count(query: ListQuery) -> bool:
    """Tell whether only the total of all jobs is asked for."""
    return query.limit == 1 and query.job_id is None and not query.statuses


def is_audit(query: ListQuery, status: str) -> bool:
    return query.limit == 1 and query.statuses == (status,)


def jobs_of(totals: Totals) -> int:
    return sum(totals.jobs.values())


# -- what is read ----------------------------------------------------------------------------------------


async def test_everything_is_read_at_first_and_only_changes_after_that(scene: Scene) -> None:
    first = await scene.poll()
    assert (first.full_sync, jobs_of(first.totals), first.unlisted_jobs) == ("first", 400, 0)
    second = await scene.poll()
    assert (second.full_sync, jobs_of(second.totals), second.unlisted_jobs) == (None, 400, 0)
    assert second.counter.sent == len(scene.api.asked) <= 3
    assert len(scene.ledger.recorded) == 1


async def test_everything_is_read_after_a_poll_that_was_missed(scene: Scene) -> None:
    await scene.poll()
    assert (await scene.poll(catching_up=True)).full_sync == "gap"


async def test_a_filter_that_fails_is_sent_otherwise_and_told_once(scene: Scene) -> None:
    scene.api.arrays = "first"
    scene.put(401, status="LAUNCHING")
    with capture_logs() as lines:
        first = await scene.poll()
        second = await scene.poll()
    assert first.filters.statuses == second.filters.statuses == "single"
    assert (await scene.state()).filters.statuses == "single"
    assert first.totals.in_status("LAUNCHING") == 1
    assert [(line["event"], line["filter"], line["was"], line["now"]) for line in lines] == [
        ("filter is not honoured", "statuses", "array", "single")
    ]


async def test_pages_that_become_smaller_are_told_once(scene: Scene) -> None:
    scene.api.most_asked = 15
    with capture_logs() as lines:
        await scene.poll()
        await scene.poll()
    assert [(line["event"], line["page_size"]) for line in lines] == [
        ("the server takes smaller pages only", 10)
    ]


async def test_totals_are_given_up_after_two_polls_without_them(scene: Scene) -> None:
    scene.api.gives_total = False
    assert (await scene.poll()).filters.totals
    assert not (await scene.poll()).filters.totals


async def test_a_restarted_exporter_knows_from_the_newest_job_that_its_clock_is_behind(scene: Scene) -> None:
    scene.api.skew_ms = 600_000
    now_ms = START_MS + scene.api.skew_ms
    scene.api.put(a_job(500, "FINISHED", created_ms=now_ms - 60_000, updated_ms=now_ms, ended_ms=now_ms))
    await scene.poll()
    scene.last = None
    await scene.poll()
    assert scene.ledger.recorded[0].clock_ms == scene.api.now_ms + scene.api.skew_ms


async def test_many_jobs_in_flight_are_listed_at_first_and_shown_by_totals_after_that(scene: Scene) -> None:
    first = await scene.poll()
    assert first.swap_limit_seconds is None
    times = {"created_ms": START_MS - 600_000, "started_ms": START_MS - 600_000}
    scene.api.put(*(a_job(number, "RUNNING", **times) for number in range(400, 2_000)))
    assert (await scene.poll()).swap_limit_seconds == 300
    third = await scene.poll()
    assert (third.swap_limit_seconds, third.totals.in_status("RUNNING")) == (300, 1_600)
    assert len(scene.api.asked) < 20  # a listing would take 80


# -- an interrupted first sync ---------------------------------------------------------------------------


async def interrupted(scene: Scene) -> Poll:
    """Let the first sync fail on its way."""
    poll = scene.next_poll()

    def fail(query: ListQuery) -> None:
        if query.offset > 200:
            raise ApiTimeout("no answer")

    scene.before_request = fail
    with pytest.raises(ApiTimeout):
        await poll.run()
    scene.before_request = lambda _query: None
    scene.forget()
    return poll


async def test_an_interrupted_first_sync_continues_where_it_was(scene: Scene) -> None:
    poll = await interrupted(scene)
    assert jobs_of(await poll.run()) == 400
    assert poll.full_sync == "first"
    assert not any(query.statuses for query in scene.api.asked)  # what is in flight was listed before
    assert poll.counter.sent == len(scene.api.asked)


@pytest.mark.parametrize(("later_ms", "resumed"), [(HOUR_MS - 1, True), (HOUR_MS, False)])
async def test_a_first_sync_is_resumed_within_the_hour(scene: Scene, later_ms: int, resumed: bool) -> None:
    poll = await interrupted(scene)
    scene.api.now_ms += later_ms
    assert poll.can_resume == resumed


async def test_only_a_first_sync_is_resumed(scene: Scene) -> None:
    assert not scene.next_poll().can_resume
    await scene.poll()
    poll = scene.next_poll(catching_up=True)
    scene.api.error = ApiTimeout("no answer")
    with pytest.raises(ApiTimeout):
        await poll.run()
    assert not poll.can_resume


# -- the count -------------------------------------------------------------------------------------------


async def test_a_deleted_job_is_found_without_a_full_sync(scene: Scene) -> None:
    await scene.poll()
    del scene.api.jobs[7]
    poll = await scene.poll()
    assert (poll.full_sync, jobs_of(poll.totals)) == (None, 399)
    assert [result.deleted for result in scene.ledger.recorded] == [(), (), (), (7,)]
    assert [result.same_poll for result in scene.ledger.recorded] == [False, True, True, True]


async def test_a_job_that_is_deleted_between_the_reading_and_the_count_is_seen(scene: Scene) -> None:
    scene.put(300, status="RUNNING")
    await scene.poll()
    scene.before_request = lambda query: is_count(query) and scene.api.jobs.pop(300, None)
    poll = await scene.poll()
    assert (poll.full_sync, poll.totals.in_status("RUNNING")) == (None, 0)
    assert len(scene.ledger.recorded) == 2


async def test_everything_is_read_once_where_nothing_explains_the_difference(scene: Scene) -> None:
    await scene.poll()
    scene.uncounted = lambda query: 2 * is_count(query)
    poll = await scene.poll()
    assert (poll.full_sync, poll.unlisted_jobs) == ("drift", 2)
    assert len(scene.ledger.recorded) == 4
    scene.last = None
    again = await scene.poll()
    assert (again.full_sync, again.unlisted_jobs, len(scene.ledger.recorded)) == (None, 2, 1)


async def test_the_first_sync_notes_how_many_jobs_the_api_does_not_list(scene: Scene) -> None:
    scene.uncounted = lambda query: 2 * is_count(query)
    poll = await scene.poll()
    assert (poll.unlisted_jobs, (await scene.state()).server.difference) == (2, 2)
    assert (await scene.poll()).full_sync is None
    assert len(scene.ledger.recorded) == 1


async def test_a_job_deleted_during_the_first_sync_is_left_to_the_next_poll(scene: Scene) -> None:
    scene.before_request = lambda query: is_count(query) and scene.api.jobs.pop(7, None)
    poll = await scene.poll()
    assert ((await scene.state()).server.difference, jobs_of(poll.totals)) == (0, 400)
    assert jobs_of((await scene.poll()).totals) == 399


async def test_a_small_target_is_read_whole_and_not_counted(scene: Scene) -> None:
    scene.api.jobs = dict(list(scene.api.jobs.items())[: 2 * PAGE])
    for full_sync in ("first", None):
        assert (await scene.poll()).full_sync == full_sync
        assert scene.totals_asked == []


async def test_a_filter_that_fails_while_a_deleted_job_is_searched_is_recorded(scene: Scene) -> None:
    await scene.poll()
    del scene.api.jobs[7]
    scene.api.ignored = frozenset({"id"})
    poll = await scene.poll()
    assert (poll.filters.id, poll.count_error) == (False, None)
    assert not (await scene.state()).filters.id
    assert jobs_of((await scene.poll()).totals) == 399


async def test_an_api_that_does_not_answer_the_count_fails_no_poll(scene: Scene) -> None:
    def fail(query: ListQuery) -> None:
        if is_count(query):
            raise ApiTimeout("no answer")

    await scene.poll()
    scene.before_request = fail
    poll = await scene.poll()
    assert (jobs_of(poll.totals), type(poll.count_error)) == (400, ApiTimeout)


# -- the audit -------------------------------------------------------------------------------------------


async def audited(scene: Scene) -> Totals:
    """Poll and audit, and give what the audit publishes."""
    totals = await scene.audit(await scene.poll())
    assert totals is not None
    return totals


def drift(totals: Totals) -> dict[str, int]:
    return {status: jobs for status, jobs in totals.drift.items() if jobs}


async def test_an_audit_asks_for_each_status_once_where_nothing_differs(scene: Scene) -> None:
    totals = await audited(scene)
    assert (drift(totals), totals.last_audit_ms) == ({}, scene.api.now_ms)
    assert [query.statuses for query in scene.api.asked] == [(status,) for status in STATUSES]
    assert scene.ledger.recorded == []


async def test_an_audit_that_is_not_due_asks_for_nothing(scene: Scene) -> None:
    await audited(scene)
    assert await scene.audit(await scene.poll()) is None
    assert scene.api.asked == []


@pytest.mark.parametrize(("later_ms", "catching_up"), [(600_000, False), (0, True)])
async def test_an_audit_is_due_at_its_interval_and_after_a_full_sync(
    scene: Scene, later_ms: int, catching_up: bool
) -> None:
    await audited(scene)
    scene.api.now_ms += later_ms
    poll = await scene.poll(catching_up=catching_up)
    assert (poll.full_sync is None) == (not catching_up)
    totals = await scene.audit(poll)
    assert totals is not None
    assert totals.last_audit_ms == scene.api.now_ms


async def test_no_audit_is_made_where_the_totals_cannot_be_trusted(scene: Scene) -> None:
    scene.api.gives_total = False
    assert (await audited(scene)).last_audit_ms is None
    assert await scene.audit(await scene.poll()) is None


async def test_jobs_that_change_before_their_status_is_asked_for_are_read_again(scene: Scene) -> None:
    scene.put(300, status="QUEUING")

    def start(query: ListQuery) -> None:
        if is_audit(query, "RUNNING"):
            scene.put(300, status="RUNNING")

    scene.before_request = start
    totals = await audited(scene)
    assert (drift(totals), totals.last_audit_ms) == ({}, scene.api.now_ms)
    assert (totals.in_status("QUEUING"), totals.in_status("RUNNING")) == (0, 1)


async def test_a_status_that_differs_is_compared_three_times(scene: Scene) -> None:
    scene.uncounted = lambda query: is_audit(query, "FINISHED")
    totals = await audited(scene)
    assert drift(totals) == {"FINISHED": 1}
    assert len([query for query in scene.api.asked if is_audit(query, "FINISHED")]) == 3
    # The poll was published before its audit; what the second look recorded was not yet.
    assert [result.same_poll for result in scene.ledger.recorded] == [False, True]


async def test_rows_that_cannot_be_read_are_no_drift(scene: Scene) -> None:
    scene.api.odd = frozenset({3})
    totals = await audited(scene)
    assert (drift(totals), totals.in_status("FINISHED"), totals.rows_unreadable) == ({}, 399, 1)


async def test_a_filter_that_fails_in_an_audit_is_downgraded_for_the_next_poll(scene: Scene) -> None:
    poll = await scene.poll()
    scene.api.ignored = frozenset({"statuses"})
    with capture_logs() as lines:
        totals = await scene.audit(poll)
    assert totals is not None
    assert totals.last_audit_ms is None
    assert poll.filters.statuses == (await scene.state()).filters.statuses == "comma"
    assert [(line["event"], line["filter"]) for line in lines] == [("filter is not honoured", "statuses")]
