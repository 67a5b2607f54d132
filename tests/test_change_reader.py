"""What a reading asks for: by id, or by a listing, whichever is fewer requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from exporter.errors import AnswerTooLarge, ApiUnavailable, ContractError
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import IN_FLIGHT_STATUSES, TERMINAL_STATUSES, Progress, Target
from exporter.octopus.client import RequestCounter
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.change_reader import ChangeReader
from exporter.sync.count_check import CountCheck
from exporter.sync.ledger import PollResult
from exporter.sync.poll import Poll
from exporter.sync.server_clock import Clocks
from exporter.sync.server_traits import FilterFailed, Filters, ServerFindings
from tests.fake_api import FakeApi, a_job, a_target, poll_rules, put_changed_now

START_MS = 100_000_000
PAGE = 20


class Scene:
    """A target of 400 finished jobs, all of them older than the window of changes."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.ledger = ledger
        self.api = FakeApi(now_ms=START_MS)
        self.target = a_target()
        self.rules = poll_rules(PAGE)
        self.progress: list[tuple[int, int | None]] = []
        self.result: PollResult
        self.put(*range(400))

    def put(self, *job_ids: int, status: str = "FINISHED") -> None:
        put_changed_now(self.api, job_ids, status, START_MS - 500_000)

    async def poll(self) -> None:
        await Poll(self.target, self.api, self.ledger, self.rules, lambda: self.api.now_ms).run()
        self.api.now_ms += 30_000
        self.api.asked.clear()

    async def reader(self) -> ChangeReader:
        state = await self.ledger.summary(self.target)
        return ChangeReader(
            target=self.target,
            source=self.api,
            ledger=self.ledger,
            rules=self.rules,
            now_ms=lambda: self.api.now_ms,
            server=ServerFindings.after(None, state.server),
            clocks=Clocks(state.newest_ms),
            counter=RequestCounter(),
            on_progress=self.saw,
        )

    async def read(
        self, filters: Filters | None = None, reason: str | None = None, by: ChangeReader | None = None
    ) -> ChangeReader:
        reader = by or await self.reader()
        self.api.asked.clear()
        state = await self.ledger.summary(self.target)
        self.result = await reader.read(state, filters or Filters(), reason)
        return reader

    def saw(self, progress: Progress) -> None:
        self.progress.append((progress.rows, progress.total))

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
    assert all(query.limit > 1 for query in scene.api.asked if query.job_id is None)


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


# -- pages and filters that are refused ------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["most_asked", "most_sent"])
async def test_a_smaller_page_is_asked_for_where_one_is_refused_or_too_large(
    scene: Scene, limit: str
) -> None:
    setattr(scene.api, limit, 15)
    reader = await scene.read()
    assert reader.server.traits.page_size == 10


async def test_an_answer_that_is_too_large_at_every_size_is_no_fault_of_a_filter(scene: Scene) -> None:
    scene.put(*range(390, 400), status="RUNNING")
    scene.api.most_sent = 5
    with pytest.raises(AnswerTooLarge):
        await scene.read()


async def test_a_filter_that_is_refused_at_every_size_leaves_the_page_size(scene: Scene) -> None:
    scene.api.arrays = "refuses"
    reader = await scene.reader()
    with pytest.raises(FilterFailed, match="statuses"):
        await scene.read(by=reader)
    assert reader.server.traits.page_size is None


async def test_another_error_is_not_asked_about_again(scene: Scene) -> None:
    scene.api.error = ContractError("gone", status=410)
    with pytest.raises(ContractError, match="gone"):
        await scene.read()
    assert len(scene.api.asked) == 1


async def test_the_answers_tell_which_clock_the_rows_go_by(scene: Scene) -> None:
    scene.api.now_ms += 60_000
    scene.api.skew_ms = -30_000  # still later than every row
    await scene.read()
    assert 29_000 < scene.api.now_ms - scene.result.clock_ms <= 30_000  # it is given to the second


# -- several job types in one filter ---------------------------------------------------------------------

TYPES = ("FRAME_EXTRACT", "SCENARIO_TO_SIM")


async def two_types(scene: Scene) -> list[ListQuery]:
    """Read all jobs of two types, and give the requests for totals."""
    scene.api.put(a_job(1_000, job_type=TYPES[1], created_ms=START_MS - 1, updated_ms=START_MS - 1))
    await scene.read()
    return [query for query in scene.api.asked if query.limit == 1]


async def test_several_job_types_are_compared_with_each_by_itself(scene: Scene) -> None:
    scene.target = a_target(job_types=TYPES)
    assert [query.job_types for query in await two_types(scene)] == [TYPES, TYPES[:1], TYPES[1:]]


async def test_one_job_type_is_not_compared(scene: Scene) -> None:
    scene.target = a_target(job_types=TYPES[:1])
    assert await two_types(scene) == []


async def test_job_types_that_are_listed_each_by_itself_are_not_compared(scene: Scene) -> None:
    scene.target = a_target(job_types=TYPES)
    await scene.read(Filters(job_types="single"))
    assert all(query.limit > 1 for query in scene.api.asked)


async def test_a_job_created_between_the_two_totals_does_not_fail_the_job_types(scene: Scene) -> None:
    scene.target = a_target(job_types=TYPES)

    def arrive(query: ListQuery) -> None:
        if query.job_types == TYPES[:1]:
            scene.put(2_000)

    scene.api.before_page = arrive
    assert len(await two_types(scene)) == 6


@pytest.mark.parametrize("gives_total", [True, False])
async def test_an_array_of_job_types_that_cannot_be_shown_to_work_fails(
    scene: Scene, gives_total: bool
) -> None:
    scene.target = a_target(job_types=TYPES)
    if gives_total:

        def more_for_an_array(total: int, _rows: int) -> int:
            query = scene.api.asked[-1]
            return total + (query.limit == 1 and len(query.job_types) > 1)

        scene.api.total_of = more_for_an_array
    else:
        scene.api.gives_total = False
    with pytest.raises(FilterFailed, match="job_types"):
        await two_types(scene)
    assert sum(query.limit == 1 for query in scene.api.asked) == 6


# -- statuses --------------------------------------------------------------------------------------------


async def test_an_array_of_statuses_that_lists_only_one_of_them_fails(scene: Scene) -> None:
    scene.put(390, status="RUNNING")
    scene.api.arrays = "first"
    with pytest.raises(FilterFailed, match="statuses"):
        await scene.read()
    assert sum(query.statuses == IN_FLIGHT_STATUSES for query in scene.api.asked) == 2


async def test_a_job_found_by_its_id_shows_that_an_array_lists_only_one_status(scene: Scene) -> None:
    scene.put(0, status="RUNNING")
    await scene.poll()
    scene.api.arrays = "first"
    with pytest.raises(FilterFailed, match="statuses"):
        await scene.read()
    assert scene.ids_asked == {0}


async def test_a_job_that_is_reopened_while_it_is_read_does_not_fail_the_statuses(scene: Scene) -> None:
    await scene.poll()

    def reopen(query: ListQuery) -> None:
        if not query.statuses:
            scene.api.put(a_job(1_000, "RUNNING", created_ms=START_MS + 20_000, updated_ms=scene.api.now_ms))

    scene.api.before_page = reopen
    await scene.read()
    assert sum(query.statuses == IN_FLIGHT_STATUSES for query in scene.api.asked) == 2


async def test_without_a_filter_by_status_only_all_jobs_are_listed(scene: Scene) -> None:
    scene.put(390, status="RUNNING")
    await scene.read(Filters(statuses="none"))
    assert all(not query.statuses for query in scene.api.asked)


async def test_jobs_in_an_undocumented_status_are_listed_within_the_lookback(scene: Scene) -> None:
    scene.rules = poll_rules(PAGE, 300_000)
    scene.put(390, status="ARCHIVED")
    await scene.poll()
    await scene.read()
    listed = [query for query in scene.api.asked if query.statuses == ("ARCHIVED",)]
    assert [query.start_time_ms for query in listed] == [scene.api.now_ms - 300_000]
    assert scene.result.undocumented_from_ms == scene.api.now_ms - 300_000
    await scene.read(reason="scheduled")
    assert scene.result.undocumented_from_ms == 0


@pytest.mark.parametrize(("lookback_ms", "expected"), [(300_000, START_MS - 300_000), (2 * START_MS, 0)])
async def test_a_lookback_begins_that_long_ago(scene: Scene, lookback_ms: int, expected: int) -> None:
    scene.rules = poll_rules(PAGE, lookback_ms)
    assert (await scene.read()).horizon_ms == expected


async def test_a_lookback_goes_on_while_everything_is_read(scene: Scene) -> None:
    scene.rules = poll_rules(PAGE, 300_000)
    await scene.poll()

    def pass_time(_query: ListQuery) -> None:
        scene.api.now_ms += 1_000

    scene.api.before_page = pass_time
    await scene.read(reason="scheduled")
    assert scene.result.horizon_ms == scene.api.now_ms - 300_000


async def test_a_window_that_left_out_what_is_in_flight_is_read_whole_the_next_time(scene: Scene) -> None:
    await scene.poll()
    scene.api.now_ms += 1_000_000
    for job_id in range(1_000, 1_000 + 3 * PAGE):
        now = scene.api.now_ms
        scene.api.put(a_job(job_id, "RUNNING", created_ms=now - job_id, started_ms=now, updated_ms=now))
    reader = await scene.read()
    since = [query.start_time_ms for query in scene.api.asked if query.statuses == TERMINAL_STATUSES]
    assert since == [START_MS - 5_000]
    # What is recorded moves the watermark, and the window may not begin later for that.
    await scene.ledger.record(scene.result, scene.rules.counting)
    await scene.read(by=reader)
    assert {query.start_time_ms for query in scene.api.asked if not query.statuses} == set(since)


# -- jobs that are asked for by id -----------------------------------------------------------------------


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("reason", [None, "scheduled"])
async def test_a_job_found_by_its_id_has_not_vanished(
    scene: Scene, readable: bool, reason: str | None
) -> None:
    scene.rules = poll_rules(PAGE, 300_000)
    scene.put(0, status="RUNNING")
    await scene.poll()
    scene.put(0)
    scene.api.odd = frozenset() if readable else frozenset({0})
    await scene.read(reason=reason)
    assert scene.ids_asked == {0}
    assert await scene.ledger.vanished(scene.target, 0) == ()
    assert len(scene.result.set_apart) == (not readable)


async def test_a_request_by_id_that_fails_waits_for_the_others(scene: Scene) -> None:
    """An answer that came after the failure would stage its rows into the next reading."""
    scene.put(0, 1, status="RUNNING")
    await scene.poll()
    scene.put(0, 1)
    answered = []

    class OneFails(FakeApi):
        async def list_page(self, target: Target, query: ListQuery, counter: RequestCounter) -> Page:
            if query.job_id == 0:
                raise ApiUnavailable("away")
            if query.job_id == 1:
                for _ in range(9):
                    await asyncio.sleep(0)
                answered.append(query.job_id)
            return await super().list_page(target, query, counter)

    scene.api = OneFails(jobs=scene.api.jobs, now_ms=scene.api.now_ms)
    with pytest.raises(ApiUnavailable):
        await scene.read()
    assert answered == [1]


async def test_a_full_sync_lists_vanished_jobs_where_it_cannot_ask_by_id(scene: Scene) -> None:
    scene.rules = poll_rules(PAGE, 300_000)
    scene.put(0, 10, status="RUNNING")
    await scene.poll()
    scene.put(0, 10)
    await scene.read(Filters(id=False), "scheduled")
    assert scene.ids_asked == set()
    assert await scene.ledger.vanished(scene.target, 0) == ()


# -- rows that cannot be read, progress, interruptions ---------------------------------------------------


async def test_a_row_that_another_answer_shows_readable_is_not_set_apart(scene: Scene) -> None:
    scene.put(390, status="RUNNING")

    def mend(query: ListQuery) -> None:
        scene.api.odd = frozenset({390} if query.statuses else ())

    scene.api.before_page = mend
    await scene.read()
    assert scene.result.set_apart == ()


@pytest.mark.parametrize(("odd", "fails"), [(20, False), (21, True)])
async def test_a_reading_fails_where_more_than_a_twentieth_of_the_rows_cannot_be_read(
    scene: Scene, odd: int, fails: bool
) -> None:
    scene.api.odd = frozenset(range(odd))
    if not fails:
        await scene.read()
        return
    with pytest.raises(ContractError, match="21 of 400 rows cannot be read"):
        await scene.read()


@pytest.mark.parametrize("total", [400, 30, None])
async def test_progress_is_how_far_a_full_sync_has_come(scene: Scene, total: int | None) -> None:
    scene.put(390, status="RUNNING")
    scene.api.gives_total = total is not None
    scene.api.total_of = lambda found, _rows: min(found, total or 0)
    await scene.read()
    rows = [rows for rows, _ in scene.progress]
    assert rows == sorted(rows)
    assert rows[0] == 20
    assert rows[-1] == 400
    assert [of for _, of in scene.progress] == [
        None if total is None else max(total, so_far) for so_far in rows
    ]


async def test_the_progress_of_an_empty_list_is_0_of_0(scene: Scene) -> None:
    scene.api.jobs.clear()
    await scene.read()
    assert set(scene.progress) == {(0, 0)}


async def test_a_poll_that_asks_for_changes_has_no_progress(scene: Scene) -> None:
    await scene.poll()
    await scene.read()
    assert scene.progress == []


async def test_an_interrupted_first_sync_goes_on_and_no_other_reading_does(scene: Scene) -> None:
    def fail(query: ListQuery) -> None:
        if query.offset > 200:
            raise ApiUnavailable("away")

    reader = await scene.reader()
    scene.api.before_page = fail
    with pytest.raises(ApiUnavailable):
        await scene.read(by=reader)
    assert reader.can_resume
    scene.api.before_page = None
    scene.api.asked.clear()
    await reader.resume()
    assert min(query.offset for query in scene.api.asked) > 150
    assert await scene.ledger.staged_since(scene.target, 0) == 400
    await scene.poll()
    for reason in (None, "scheduled"):
        assert not (await scene.read(reason=reason)).can_resume


async def test_a_first_sync_that_did_not_come_to_the_window_does_not_go_on(scene: Scene) -> None:
    reader = await scene.read()
    scene.api.error = ApiUnavailable("away")
    with pytest.raises(ApiUnavailable):
        await scene.read(by=reader)
    assert not reader.can_resume


async def test_each_reading_begins_with_nothing_staged(scene: Scene) -> None:
    reader = await scene.read()
    del scene.api.jobs[7]
    await scene.read(by=reader)
    assert await scene.ledger.staged_since(scene.target, 0) == 399


async def test_a_full_sync_does_not_believe_that_a_short_first_page_is_the_only_one(scene: Scene) -> None:
    await scene.poll()
    scene.api.clamp, scene.api.total_of = 15, lambda _total, rows: rows
    await scene.read(reason="scheduled")
    assert await scene.ledger.staged_since(scene.target, 0) == 400


@pytest.mark.parametrize(("reason", "of_window"), [(None, 2), ("scheduled", 0)])
async def test_only_a_whole_listing_shows_that_a_surplus_has_shrunk(
    scene: Scene, reason: str | None, of_window: int
) -> None:
    await scene.poll()
    reader = await scene.reader()
    reader.server.traits = replace(reader.server.traits, surplus_in_flight=2, surplus_window=2)
    await scene.read(reason=reason, by=reader)
    traits = reader.server.traits
    assert (traits.surplus_in_flight, traits.surplus_window) == (0, of_window)


async def test_jobs_older_than_the_window_do_not_explain_a_total_that_is_too_high(scene: Scene) -> None:
    scene.rules = poll_rules(PAGE, 1_000_000)
    await scene.poll()
    scene.put(510, 511)
    scene.api.total_of = lambda total, _rows: total + 2 * (not scene.api.asked[-1].statuses)
    with pytest.raises(ContractError, match="2 more than the rows that came"):
        await scene.read()


async def old_and_undocumented(scene: Scene, known: int, listed: int) -> None:
    """Read everything while known jobs in an undocumented status are too old; `listed` more are not known."""
    scene.rules = poll_rules(PAGE, 300_000)
    scene.put(*range(400 - known, 400), status="ARCHIVED")
    await scene.poll()
    scene.api.now_ms += 400_000
    for job_id in range(1_000, 1_000 + listed):
        scene.api.put(a_job(job_id, "ARCHIVED", created_ms=1_000, updated_ms=1_000))
    await scene.read(reason="scheduled")
    assert await scene.ledger.vanished(scene.target, 0) == ()


async def test_many_old_jobs_in_an_undocumented_status_are_listed_and_not_asked_for(scene: Scene) -> None:
    await old_and_undocumented(scene, known=21, listed=0)
    assert scene.ids_asked == set()


@pytest.mark.parametrize(
    ("known", "listed"),
    [pytest.param(20, 0, id="few"), pytest.param(30, 28 * PAGE + 10, id="their listing takes as many pages")],
)
async def test_they_are_asked_for_where_that_costs_no_more(scene: Scene, known: int, listed: int) -> None:
    await old_and_undocumented(scene, known, listed)
    assert scene.ids_asked == set(range(400 - known, 400))
