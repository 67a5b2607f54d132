"""The count check: the difference of two counts, and the search for finished jobs that were deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Target
from exporter.octopus.tolerant import SetApartRow
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.change_reader import ChangeReader
from exporter.sync.count_check import CountCheck, TimeSpan
from exporter.sync.planner import ListFilter
from exporter.sync.server_clock import Clocks
from exporter.sync.server_traits import Filters, ServerFindings, ServerTraits
from exporter.sync.unreadable import UnreadableRows
from tests.fake_api import a_job, a_target

BEGAN_MS = 1_000_000
DAY_MS = 86_400_000


@dataclass
class FakeReader:
    """
    What a count check asks, of the API and of the ledger, as one object.

    Shape: `listed` are the finished jobs of the ledger with their creation times, of which the API does not
    list those `deleted`; `recent` are the creation times of jobs that only the API has; `extra` is what the
    API adds to every total. `totals` and `ids` are what was asked of the API, `spans` of the ledger;
    `before_total` runs before each total, which is None for the times in `untold`.
    """

    listed: dict[int, int] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    recent: list[int] = field(default_factory=list)
    extra: int = 0
    statusless: int = 0
    untold: set[int | None] = field(default_factory=set)
    before_total: Callable[[int | None], None] = lambda _start_ms: None
    horizon_ms: int | None = None
    began_ms: int = BEGAN_MS
    target: Target = field(default_factory=a_target)
    filters: Filters = field(default_factory=Filters)
    server: ServerFindings = field(default_factory=lambda: ServerFindings.after(None, ServerTraits()))
    unreadable: UnreadableRows = field(default_factory=UnreadableRows)
    clocks: Clocks = field(default_factory=Clocks)
    totals: list[int | None] = field(default_factory=list)
    ids: list[ListQuery] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.check = CountCheck(cast("ChangeReader", self))

    @property
    def ledger(self) -> FakeReader:
        return self

    def now_ms(self) -> int:
        return self.began_ms

    def expect(self, difference: int) -> None:
        """Let this be the difference that the last full sync has left."""
        self.server.traits = replace(self.server.traits, difference=difference)

    async def total(self, filters: Sequence[ListFilter]) -> int | None:
        (one,) = filters
        start_ms = one.start_time_ms
        self.before_total(start_ms)
        self.totals.append(start_ms)
        if start_ms in self.untold:
            return None
        there = [at_ms for job_id, at_ms in self.listed.items() if job_id not in self.deleted]
        return self.extra + sum(at_ms >= (start_ms or 0) for at_ms in there + self.recent)

    async def fetch(self, query: ListQuery) -> Page:
        self.ids.append(query)
        assert query.job_id is not None
        jobs = () if query.job_id in self.deleted else (a_job(query.job_id, "FINISHED"),)
        return Page(jobs=jobs, total=len(jobs), server_time_ms=None)

    async def listed_since(self, _target: Target, horizon_ms: int | None) -> int:
        return await self.listed_lately(_target, horizon_ms or 0)

    async def listed_lately(self, _target: Target, since_ms: int) -> int:
        return sum(at_ms >= since_ms for at_ms in self.listed.values())

    async def set_apart_by_status(self, _target: Target) -> dict[str, int]:
        return {"": self.statusless} if self.statusless else {}

    async def oldest_created(self, _target: Target) -> int:
        return min(self.listed.values(), default=0)

    async def finished_between(
        self, _target: Target, start_ms: int, end_ms: int, most: int
    ) -> tuple[int, ...]:
        self.spans.append((start_ms, end_ms))
        return tuple(job_id for job_id, at_ms in self.listed.items() if start_ms <= at_ms < end_ms)[:most]


def jobs_at(*seconds: int) -> dict[int, int]:
    """Give a finished job for each of these times."""
    return {number: 1_000 * second for number, second in enumerate(seconds)}


# -- the spans of the search ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "middle_ms"),
    [
        pytest.param(0, 4_000, 2_000, id="half way"),
        pytest.param(10_000, 20_000, 15_000, id="half way from a later start"),
        pytest.param(10_000, 13_000, 11_000, id="cut to a whole second"),
        pytest.param(10_000, 12_000, 11_000, id="two seconds make two spans of one"),
    ],
)
def test_a_span_is_split_at_a_whole_second(start_ms: int, end_ms: int, middle_ms: int) -> None:
    assert TimeSpan(start_ms, end_ms, 1).middle_ms == middle_ms


@pytest.mark.parametrize(
    ("late", "halves"),
    [
        pytest.param(-1, None, id="more jobs than are listed"),
        pytest.param(0, [TimeSpan(0, 2_000, 3)], id="all in the first half"),
        pytest.param(1, [TimeSpan(0, 2_000, 2), TimeSpan(2_000, 4_000, 1)], id="in both halves"),
        pytest.param(3, [TimeSpan(2_000, 4_000, 3)], id="all in the second half"),
        pytest.param(4, None, id="more than are missing"),
    ],
)
def test_only_the_halves_in_which_jobs_are_missing_are_searched(
    late: int, halves: list[TimeSpan] | None
) -> None:
    assert TimeSpan(0, 4_000, 3).halves(late) == halves


# -- the difference --------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [0, 2])
async def test_a_quiet_target_costs_one_request(expected: int) -> None:
    reader = FakeReader(jobs_at(1, 2, 3), extra=expected)
    reader.expect(expected)
    assert await reader.check.difference() == expected
    assert reader.totals == [None]


@pytest.mark.parametrize(
    ("deleted", "statusless", "difference"),
    [
        pytest.param({0}, 0, 1, id="a job that the API lists no more"),
        pytest.param({0}, 1, 2, id="a row that may be this job"),
        pytest.param({0, 1}, 2, 2, id="two such rows"),
        pytest.param({0, 1}, 1, 0, id="fewer such rows than jobs are missing"),
    ],
)
async def test_rows_without_a_status_may_be_the_jobs_that_are_missing(
    deleted: set[int], statusless: int, difference: int
) -> None:
    reader = FakeReader(jobs_at(1, 2, 3), deleted, extra=2, statusless=statusless)
    reader.expect(2)
    assert await reader.check.difference() == difference


async def test_rows_without_a_status_do_not_explain_jobs_that_the_ledger_lacks() -> None:
    reader = FakeReader(jobs_at(1, 2, 3), extra=1, statusless=1)
    assert await reader.check.difference() == 1


@pytest.mark.parametrize("untold", [BEGAN_MS, None])
async def test_a_total_that_is_not_given_leaves_the_difference_as_it_was(untold: int | None) -> None:
    reader = FakeReader(jobs_at(1, 2, 3), deleted={0}, extra=2)
    reader.expect(2)
    reader.before_total = lambda _: reader.untold.update({untold} if reader.totals else set())
    assert await reader.check.difference() == 2
    assert not reader.server.total_is_low


async def test_an_api_without_a_total_is_noted() -> None:
    reader = FakeReader(jobs_at(1), untold={None})
    assert await reader.check.difference() == 0
    assert reader.server.total_is_low


async def test_what_the_api_counts_for_a_time_a_day_ahead_is_no_recent_job() -> None:
    reader = FakeReader(jobs_at(1, 2), extra=1)
    assert await reader.check.difference() == 1
    assert reader.totals == [None, BEGAN_MS, None, BEGAN_MS + DAY_MS]


# -- the search for deleted jobs -------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 20))
async def test_every_deleted_job_is_found(seed: int, jobs: int, deleted: int) -> None:
    """Jobs of different seconds, since of those of one second only a few are asked for."""
    deleted = min(deleted, jobs)
    listed = {number: 1_000 * (1 + (seed * 7 + number * 61) % 997) for number in range(jobs)}
    gone = {(seed + number * 13) % jobs for number in range(deleted)}
    reader = FakeReader(listed, gone)
    found = await reader.check.find_deleted(len(gone), 1_000)
    assert found is not None
    assert sorted(found) == sorted(gone)


@pytest.mark.parametrize(
    ("seconds", "ids_asked", "totals"),
    [
        pytest.param((100, 200, 300), 3, 0, id="three for one missing job are asked for by id"),
        pytest.param((100, 110, 120, 700), 3, 1, id="more are split"),
        pytest.param((100,) * 9, 4, 9, id="those of one second cannot be split"),
    ],
)
async def test_a_search_costs_no_more_than_it_must(
    seconds: tuple[int, ...], ids_asked: int, totals: int
) -> None:
    for requests in (ids_asked + totals, ids_asked + totals - 1):
        reader = FakeReader(jobs_at(*seconds), {0})
        found = await reader.check.find_deleted(1, requests)
        assert found == ((0,) if requests == ids_asked + totals else None)
        if found:
            assert (len(reader.ids), len(reader.totals)) == (ids_asked, totals)
            assert {(query.limit, query.offset) for query in reader.ids} == {(1, 0)}


async def test_six_jobs_of_which_two_are_missing_are_asked_for_by_id() -> None:
    reader = FakeReader(jobs_at(*range(100, 106)), {0, 5})
    assert await reader.check.find_deleted(2, 6) == (0, 5)
    assert reader.totals == []


async def test_a_search_ends_where_its_requests_are_used_up() -> None:
    reader = FakeReader(jobs_at(*range(100, 200)), {0})
    assert await reader.check.find_deleted(1, 2) is None
    assert (len(reader.totals), len(reader.ids)) == (3, 0)


@pytest.mark.parametrize(
    ("horizon_ms", "began_ms", "span"),
    [
        pytest.param(None, 1_000_000, (100_000, 1_001_000), id="from the oldest job"),
        pytest.param(250_500, 1_000_000, (250_000, 1_001_000), id="from the start of the lookback"),
        pytest.param(None, 1_000_998, (100_000, 1_001_000), id="to the end of the second it began in"),
        pytest.param(None, 1_000_999, (100_000, 1_001_000), id="to the end of that second's last moment"),
    ],
)
async def test_jobs_are_searched_from_the_lookback_to_the_poll_by_whole_seconds(
    horizon_ms: int | None, began_ms: int, span: tuple[int, int]
) -> None:
    reader = FakeReader({0: 100_400, 1: 1_000_000}, {1}, horizon_ms=horizon_ms, began_ms=began_ms)
    assert await reader.check.find_deleted(1, 100) == (1,)
    assert reader.spans == [span]


@pytest.mark.parametrize("missing", [0, 21])
async def test_only_a_few_missing_jobs_are_searched(missing: int) -> None:
    reader = FakeReader(jobs_at(*range(1, 50)), set(range(missing)))
    assert await reader.check.find_deleted(missing, 1_000) is None
    assert reader.spans == []


async def test_twenty_missing_jobs_are_still_searched() -> None:
    reader = FakeReader(jobs_at(*range(1, 50)), set(range(20)))
    assert len(await reader.check.find_deleted(20, 1_000) or ()) == 20


async def test_no_job_is_searched_where_none_can_be_asked_for_by_id() -> None:
    reader = FakeReader(jobs_at(1, 2), {0}, filters=Filters(id=False))
    assert await reader.check.find_deleted(1, 100) is None
    assert reader.spans == []


async def test_no_job_is_searched_while_a_row_without_an_id_may_be_it() -> None:
    reader = FakeReader(jobs_at(1, 2), {0})
    reader.unreadable.add(
        [SetApartRow(0, None, "FINISHED", 1_000, "id: expected a number", digest="#0")], 0, 0
    )
    assert await reader.check.find_deleted(1, 100) is None
    assert reader.spans == []


async def test_a_total_that_contradicts_the_answers_by_id_names_no_job() -> None:
    reader = FakeReader(jobs_at(1, 2, 3), extra=-1)
    assert await reader.check.find_deleted(1, 100) is None


async def test_a_total_that_is_not_given_ends_the_search() -> None:
    reader = FakeReader(jobs_at(*range(100, 110)), {0})
    reader.before_total = reader.untold.add
    assert await reader.check.find_deleted(1, 100) is None
    assert len(reader.totals) == 1


async def test_halves_that_contradict_the_whole_end_the_search() -> None:
    """Two jobs are missing in the later half of one: another was deleted meanwhile."""
    reader = FakeReader(jobs_at(*range(100, 110), *range(900, 910)), {18, 19})
    assert await reader.check.find_deleted(1, 100) is None
    assert (len(reader.totals), len(reader.ids)) == (1, 0)


# -- while jobs are created ------------------------------------------------------------------------------


def a_busy_reader() -> FakeReader:
    """A target that loses a finished job, and gets two new ones after the poll has begun."""
    return FakeReader(jobs_at(*range(100, 104), *range(900, 904)), {6}, recent=[BEGAN_MS + 10, BEGAN_MS + 11])


async def test_a_quiet_target_is_not_asked_for_its_recent_jobs() -> None:
    reader = FakeReader(jobs_at(*range(100, 104), *range(900, 904)), {6})
    await reader.check.difference()
    reader.totals.clear()
    assert await reader.check.find_deleted(1, 100) == (6,)
    assert BEGAN_MS not in reader.totals


async def test_a_search_alone_takes_the_target_for_quiet() -> None:
    reader = FakeReader(jobs_at(*range(100, 104), *range(900, 904)), {6})
    assert await reader.check.find_deleted(1, 100) == (6,)
    assert BEGAN_MS not in reader.totals


async def test_jobs_created_since_the_poll_began_do_not_hide_a_deleted_one() -> None:
    reader = a_busy_reader()
    assert await reader.check.difference() == -1
    reader.totals.clear()
    assert await reader.check.find_deleted(1, 100) == (6,)
    assert reader.totals.count(BEGAN_MS) == len(reader.totals) // 2


@pytest.mark.parametrize(("created", "found"), [(1, (6,)), (2, (6,)), (3, None)])
async def test_a_count_is_repeated_where_a_job_is_created_between_its_two_requests(
    created: int, found: tuple[int, ...] | None
) -> None:
    reader = a_busy_reader()
    await reader.check.difference()
    left = created

    def create(start_ms: int | None) -> None:
        nonlocal left
        if start_ms == BEGAN_MS and left:
            left -= 1
            reader.recent.append(BEGAN_MS + 20)

    reader.before_total = create
    assert await reader.check.find_deleted(1, 100) == found


@pytest.mark.parametrize("untold", ["the half", "the recent jobs"])
async def test_a_total_that_is_not_given_ends_the_search_of_a_busy_target(untold: str) -> None:
    reader = a_busy_reader()
    await reader.check.difference()

    def withhold(start_ms: int | None) -> None:
        if (start_ms == BEGAN_MS) == (untold == "the recent jobs"):
            reader.untold.add(start_ms)

    reader.before_total = withhold
    assert await reader.check.find_deleted(1, 100) is None
