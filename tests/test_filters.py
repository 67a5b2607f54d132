"""A server whose filters are not what they seem is found out before a wrong count is published."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
from msgspec import structs

from exporter.errors import ApiTimeout, ContractError
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import Totals, is_terminal
from exporter.octopus.wire import ListQuery
from exporter.sync.poll import Poll
from exporter.sync.server_traits import FILTERS, RETRY_AFTER_MS, FilterName, Filters
from tests.fake_api import FakeApi, a_job, a_target, poll_rules
from tests.held import release_held

PAGE = 5
LOOKBACK_MS = 1_000_000
START_MS = 100_000_000


class Scene:
    """A target with more jobs than are read whole at every poll, some of them in flight since long ago."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self.ledger = ledger
        self.api = FakeApi(now_ms=START_MS)
        self.target = a_target()
        self.last: Poll | None = None
        for job_id in range(1, 41):
            self.finish(job_id)
        for job_id, status in enumerate(
            ("QUEUING", "LAUNCHING", "RUNNING", "RUNNING", "UPLOADING"), start=50
        ):
            self.put(job_id, status, age_ms=600_000)
        self.put(60, "RUNNING", age_ms=10 * LOOKBACK_MS)
        self.put(61, "QUEUING", age_ms=10 * LOOKBACK_MS)

    def put(self, job_id: int, status: str, age_ms: int = 0, job_type: str = "FRAME_EXTRACT") -> None:
        created = self.api.now_ms - age_ms
        times = {"created_ms": created, "updated_ms": self.api.now_ms, "started_ms": created + 1}
        self.api.put(a_job(job_id, status, job_type=job_type, **times))

    def finish(self, job_id: int) -> None:
        created = START_MS - LOOKBACK_MS // 2 + job_id
        if job_id in self.api.jobs:
            created = self.api.jobs[job_id].created_ms
        now = self.api.now_ms
        self.api.put(
            a_job(
                job_id, "FINISHED", created_ms=created, updated_ms=now, started_ms=created + 1, ended_ms=now
            )
        )

    async def poll(self) -> Totals:
        self.api.now_ms += 30_000
        self.api.asked.clear()
        rules = poll_rules(PAGE, LOOKBACK_MS)
        before = None if self.last is None else self.last.findings
        await release_held(self.ledger, self.target)
        self.last = Poll(self.target, self.api, self.ledger, rules, lambda: self.api.now_ms, before=before)
        return await self.last.run()

    @property
    def filters(self) -> Filters:
        assert self.last is not None
        return self.last.filters

    def agrees(self, totals: Totals) -> bool:
        """Tell whether what is published is what the server has."""
        horizon_ms = self.api.now_ms - LOOKBACK_MS
        types = self.target.job_types
        listed: dict[tuple[str, str], int] = {}
        for job in self.api.jobs.values():
            in_window = not is_terminal(job.status) or job.created_ms >= horizon_ms
            if in_window and (not types or job.job_type in types):
                key = (job.job_type, job.status)
                listed[key] = listed.get(key, 0) + 1
        return {key: jobs for key, jobs in totals.jobs.items() if jobs} == listed


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    ledger = await SqliteLedger.open(None)
    yield Scene(ledger)
    await ledger.close()


async def live(scene: Scene) -> None:
    """Poll over some life: arrivals, endings, an ending outside the lookback, a deletion in flight."""
    assert scene.agrees(await scene.poll())
    scene.put(70, "QUEUING")
    scene.finish(50)
    scene.finish(60)
    assert scene.agrees(await scene.poll())
    scene.put(70, "RUNNING", age_ms=30_000)
    del scene.api.jobs[61]
    scene.put(71, "UPLOADING")
    assert scene.agrees(await scene.poll())
    totals = await scene.poll()
    assert scene.agrees(totals)
    assert totals.completed["FRAME_EXTRACT", "FINISHED"].value == 2


async def test_a_server_that_keeps_its_word_is_asked_for_changes_only(scene: Scene) -> None:
    await live(scene)
    assert scene.filters == Filters()
    assert (
        len(scene.api.asked) <= 5
    )  # two pages in flight, one or two of what is new, and the job that is gone


@pytest.mark.parametrize(
    ("quirk", "expected"),
    [
        ({"ignored": frozenset({"statuses"})}, {"statuses": "none"}),
        ({"ignored": frozenset({"start_time"})}, {"start_time": False}),
        ({"ignored": frozenset({"id"})}, {"id": False}),
        ({"ignored": frozenset({"id", "start_time", "statuses"})}, {"statuses": "none"}),
        ({"arrays": "comma"}, {"statuses": "comma"}),
        ({"arrays": "first"}, {"statuses": "single"}),
        ({"arrays": "refuses"}, {"statuses": "single"}),
    ],
    ids=[
        *("no statuses", "no start_time", "no id", "nothing at all"),
        *("comma-separated", "the first value", "one value"),
    ],
)
@pytest.mark.parametrize("gives_total", [True, False])
async def test_a_quirk_is_found_out_and_lived_with(
    scene: Scene, quirk: dict[str, object], expected: dict[str, object], gives_total: bool
) -> None:
    scene.api.gives_total = gives_total
    for name, value in quirk.items():
        setattr(scene.api, name, value)
    await live(scene)
    assert {name: getattr(scene.filters, name) for name in expected} == expected


@pytest.mark.parametrize("arrays", ["comma", "first", "refuses"])
@pytest.mark.parametrize("gives_total", [True, False])
async def test_several_job_types_are_all_listed(scene: Scene, arrays: str, gives_total: bool) -> None:
    scene.api.arrays, scene.api.gives_total = arrays, gives_total
    scene.target = a_target(job_types=("SCENARIO_TO_SIM", "FRAME_EXTRACT"))
    for job_id in range(100, 120):
        scene.put(job_id, "RUNNING", job_type="SCENARIO_TO_SIM")
        scene.put(job_id + 100, "RUNNING", job_type="PACKAGE_IMPORT")
    await live(scene)


async def test_job_types_that_are_ignored_are_sorted_out_here(scene: Scene) -> None:
    scene.api.ignored = frozenset({"job_types"})
    scene.target = a_target(job_types=("SCENARIO_TO_SIM",))
    scene.put(100, "RUNNING", job_type="SCENARIO_TO_SIM")
    assert scene.agrees(await scene.poll())
    assert scene.agrees(await scene.poll())


@pytest.mark.parametrize(("name", "status"), [("id", 400), ("id", 404), ("start_time", 400)])
async def test_a_filter_that_is_refused_is_lived_without(scene: Scene, name: FilterName, status: int) -> None:
    """Else one deleted job would fail every poll from then on."""

    def refuse(query: ListQuery) -> None:
        if (query.job_id if name == "id" else query.start_time_ms) is not None:
            raise ContractError("no", status=status)

    scene.api.before_page = refuse
    await live(scene)
    assert {known for known in FILTERS if not scene.filters.works(known)} == {name}


@pytest.mark.parametrize("name", ["job_types", "start_time"])
async def test_a_filter_that_nearly_everything_matches_anyway_is_found_out_too(
    scene: Scene, name: FilterName
) -> None:
    """The totals of such a server do not agree with the ledger: every poll would look for what is missing."""
    scene.api.ignored = frozenset({name})
    scene.api.key = lambda job: job.id * 7 % 101
    scene.target = a_target(job_types=("FRAME_EXTRACT",))
    if name == "job_types":
        scene.put(100, "RUNNING", job_type="SCENARIO_TO_SIM")
    else:
        scene.api.put(a_job(100, "FINISHED", created_ms=START_MS - 2 * LOOKBACK_MS))
    await scene.poll()
    assert not scene.filters.works(name)
    assert scene.agrees(await scene.poll())
    assert scene.last is not None
    assert scene.last.full_sync == "filters"


async def test_what_was_found_out_is_remembered_and_tried_again_after_a_day(scene: Scene) -> None:
    scene.api.arrays = "first"
    await scene.poll()
    await scene.poll()
    assert {query.statuses for query in scene.api.asked if query.statuses} == {
        ("QUEUING",),
        ("LAUNCHING",),
        ("RUNNING",),
        ("UPLOADING",),
    }
    scene.api.arrays = "array"
    scene.api.now_ms += RETRY_AFTER_MS
    await scene.poll()
    assert scene.filters == Filters()


async def test_publishing_tells_which_filters_work(scene: Scene) -> None:
    scene.api.ignored = frozenset({"id"})
    await live(scene)
    totals = await scene.poll()
    assert {name for name, works in totals.filters.items() if not works} == {"id"}


async def test_a_deleted_job_is_seen_by_the_very_next_poll(scene: Scene) -> None:
    await scene.poll()
    del scene.api.jobs[7]
    totals = await scene.poll()
    assert scene.agrees(totals)
    assert scene.last is not None
    assert scene.last.full_sync == "drift"


def burst(scene: Scene, *statuses: str) -> None:
    """Let more jobs come than two pages hold."""
    for job_id, status in enumerate(statuses * (3 * PAGE), start=100):
        scene.put(job_id, status)


async def test_what_is_in_flight_is_not_listed_twice_after_a_burst(scene: Scene) -> None:
    await scene.poll()
    burst(scene, "QUEUING")
    scene.finish(50)
    scene.finish(90)  # it came and ended between two polls
    totals = await scene.poll()
    assert scene.agrees(totals)
    assert totals.completed["FRAME_EXTRACT", "FINISHED"].value == 2
    windows = [asked for asked in scene.api.asked if asked.start_time_ms is not None and asked.limit > 1]
    assert [is_terminal(status) for asked in windows for status in asked.statuses] == [True] * 5


async def test_a_burst_in_a_status_nobody_knows_is_seen_at_once(scene: Scene) -> None:
    await scene.poll()
    burst(scene, "QUEUING", "DEFROSTING")
    assert scene.agrees(await scene.poll())
    assert scene.last is not None
    assert scene.last.full_sync is None


async def test_jobs_that_come_while_they_are_read_call_for_no_full_sync(scene: Scene) -> None:
    await scene.poll()
    number = iter(range(1_000, 2_000))
    scene.api.before_page = lambda query: scene.put(next(number), "QUEUING")
    await scene.poll()
    assert scene.last is not None
    assert scene.last.full_sync is None
    scene.api.before_page = None
    assert scene.agrees(await scene.poll())


async def test_a_busy_project_is_not_taken_for_one_that_drifts(scene: Scene) -> None:
    """One job comes and one ends at every request, so that no total ever agrees with what was read."""
    coming = itertools.count(100)

    def live_on(_query: ListQuery) -> None:
        scene.api.now_ms += 200
        job_id = next(coming)
        scene.put(job_id, "QUEUING")
        if job_id >= 110:
            scene.finish(job_id - 10)

    await scene.poll()
    scene.api.before_page = live_on
    reasons = []
    for _ in range(20):
        await scene.poll()
        assert scene.last is not None
        reasons.append(scene.last.full_sync)
        await scene.last.audit()
    assert reasons == [None] * 20
    scene.api.before_page = None
    assert scene.agrees(await scene.poll())


async def test_a_series_born_in_a_poll_that_reads_twice_is_shown_at_zero_first(scene: Scene) -> None:
    await scene.poll()
    now = scene.api.now_ms
    scene.api.put(a_job(80, "RUN_FAILED", msg_code="9", created_ms=now, updated_ms=now))
    del scene.api.jobs[7]
    key = ("FRAME_EXTRACT", "RUN_FAILED", "9")
    first, second = await scene.poll(), await scene.poll()
    assert (first.failures[key].value, second.failures[key].value) == (0, 1)


async def test_a_total_that_is_gone_for_once_does_no_harm(scene: Scene) -> None:
    """The proof of a poll is an answer like any other: it may be the one that shows a quirk."""
    await scene.poll()

    def forget(query: ListQuery) -> None:
        scene.api.gives_total = query.limit > 1

    scene.api.before_page = forget
    assert scene.agrees(await scene.poll())
    assert scene.filters.totals
    scene.api.before_page, scene.api.gives_total = None, True
    for _ in range(2):
        assert scene.agrees(await scene.poll())
        assert scene.filters.totals


async def test_totals_that_do_not_come_at_two_polls_are_given_up(scene: Scene) -> None:
    await scene.poll()
    scene.api.gives_total = False
    assert scene.agrees(await scene.poll())
    assert scene.filters.totals
    assert scene.agrees(await scene.poll())
    assert not scene.filters.totals


async def test_a_proof_that_fails_leaves_the_poll_as_it_is(scene: Scene) -> None:
    await scene.poll()
    now = scene.api.now_ms
    scene.api.put(a_job(80, "RUN_FAILED", msg_code="9", created_ms=now, updated_ms=now))
    key = ("FRAME_EXTRACT", "RUN_FAILED", "9")

    def fail(query: ListQuery) -> None:
        if query.limit == 1:
            raise ApiTimeout("no answer")

    scene.api.before_page = fail
    first = await scene.poll()
    scene.api.before_page = None
    second = await scene.poll()
    assert (first.failures[key].value, second.failures[key].value) == (0, 1)


async def test_a_workspace_that_is_ignored_is_sorted_out_here(scene: Scene) -> None:
    scene.target = a_target(workspace="7", workspace_id="7")
    for job_id in range(200, 230):
        scene.put(job_id, "RUNNING")
        scene.api.put(structs.replace(scene.api.jobs.pop(job_id), workspace_id="8"))
    totals = await scene.poll()
    assert totals.jobs["FRAME_EXTRACT", "RUNNING"] == 3
    await scene.poll()
    assert not scene.filters.workspace
    assert scene.last is not None
    assert scene.last.full_sync == "filters"
