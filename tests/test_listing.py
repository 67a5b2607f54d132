"""A listing is read whole, whatever the server does to its pages."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ContractError
from exporter.ledger.protocol import Staged
from exporter.model import Job
from exporter.octopus.client import RequestCounter
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.listing import Reader, overlap
from exporter.sync.planner import Listing
from tests.fake_api import FakeApi, a_job, a_target


@dataclass
class Kept:
    """Implements listing.Rows over a FakeApi, keeping the ids of every pass."""

    api: FakeApi
    counter: RequestCounter = field(default_factory=RequestCounter)
    passes: dict[int, set[int]] = field(default_factory=dict)

    async def fetch(self, query: ListQuery) -> Page:
        return await self.api.list_page(a_target(), query, self.counter)

    async def stage(self, jobs: Sequence[Job], pass_no: int) -> None:
        self.passes.setdefault(pass_no, set()).update(job.id for job in jobs)

    async def staged(self, first_pass: int, pass_no: int) -> Staged:
        newest = self.passes.get(pass_no, set())
        every = set().union(*(ids for number, ids in self.passes.items() if number >= first_pass))
        return Staged(len(newest), len(every), len(newest & self.passes.get(pass_no - 1, set())))

    @property
    def last(self) -> set[int]:
        return self.passes[max(self.passes)]

    @property
    def every(self) -> set[int]:
        return set().union(*self.passes.values())


def an_api(rows: int, **fields: object) -> FakeApi:
    api = FakeApi(**fields)  # type: ignore[arg-type]  # spelled by the tests
    api.put(*(a_job(job_id) for job_id in range(1, rows + 1)))
    return api


async def read(api: FakeApi, page_size: int = 20, concurrency: int = 3) -> Kept:
    kept = Kept(api)
    await Reader(kept, page_size, concurrency).read(Listing())
    return kept


@given(
    rows=st.integers(0, 120),
    page_size=st.integers(1, 40),
    clamp=st.integers(1, 40),
    gives_total=st.booleans(),
    concurrency=st.integers(1, 5),
)
async def test_a_list_at_rest_is_read_whole(
    rows: int, page_size: int, clamp: int, gives_total: bool, concurrency: int
) -> None:
    api = an_api(rows, clamp=clamp, gives_total=gives_total)
    kept = await read(api, page_size, concurrency)
    assert kept.every == set(api.jobs)


async def test_a_list_at_rest_is_read_once_at_the_cost_of_its_pages() -> None:
    kept = await read(an_api(200), page_size=20)
    assert kept.counter.sent == 11  # each page but the first repeats one row of the page before
    assert len(kept.passes) == 1


async def test_one_page_is_one_request() -> None:
    assert (await read(an_api(20), page_size=20)).counter.sent == 1


@given(seed=st.integers(0, 2**32), gives_total=st.booleans(), newest_first=st.booleans())
async def test_rows_that_were_there_all_the_while_are_read_though_others_come_and_go(
    seed: int, gives_total: bool, newest_first: bool
) -> None:
    chance = random.Random(seed)
    api = an_api(90, gives_total=gives_total)
    if not newest_first:
        api.key = lambda job: job.created_ms
    staying = set(chance.sample(sorted(api.jobs), 60))
    next_id = iter(range(1_000, 2_000))

    def move(_query: ListQuery) -> None:
        if len(api.asked) > 25:
            return
        for job_id in chance.sample(sorted(set(api.jobs) - staying), k=chance.randint(0, 2)):
            del api.jobs[job_id]
        api.put(*(a_job(next(next_id)) for _ in range(chance.randint(0, 2))))

    api.before_page = move
    kept = await read(api)
    assert staying <= kept.every


@given(seed=st.integers(0, 2**32))
async def test_a_list_without_any_order_is_read_until_its_rows_add_up(seed: int) -> None:
    chance = random.Random(seed)
    api = an_api(50)

    def shuffle(query: ListQuery) -> None:
        if len(api.asked) < 12:
            api.key = lambda job: chance.random()
        else:
            api.key = lambda job: job.id

    api.before_page = shuffle
    assert (await read(api)).every == set(api.jobs)


async def test_a_server_that_ignores_the_offset_is_found_out() -> None:
    class Deaf(FakeApi):
        async def list_page(self, target: object, query: ListQuery, counter: RequestCounter) -> Page:
            return await super().list_page(a_target(), dataclasses.replace(query, offset=0), counter)

    api = Deaf()
    api.put(*(a_job(job_id) for job_id in range(1, 201)))
    with pytest.raises(ContractError, match="no complete listing"):
        await read(api)


async def test_rows_that_jump_to_the_front_are_found_by_reading_again() -> None:
    api = an_api(100)
    api.key = lambda job: -job.updated_ms

    def jump(query: ListQuery) -> None:
        if len(api.asked) == 3:
            api.put(a_job(5, updated_ms=10_000))

    api.before_page = jump
    kept = await read(api, concurrency=1)
    assert 5 in kept.last
    assert len(kept.passes) == 2


async def test_a_total_that_is_always_wrong_is_outvoted_by_the_rows() -> None:
    class Boasting(FakeApi):
        async def list_page(self, target: object, query: ListQuery, counter: RequestCounter) -> Page:
            page = await super().list_page(a_target(), query, counter)
            return Page(page.jobs, total=len(self.jobs) - 7, server_time_ms=page.server_time_ms)

    api = Boasting()
    api.put(*(a_job(job_id) for job_id in range(1, 31)))
    kept = await read(api)
    assert kept.every == set(api.jobs)
    assert len(kept.passes) == 2


async def test_an_empty_answer_where_the_total_says_otherwise_is_not_no_jobs() -> None:
    class Broken(FakeApi):
        async def list_page(self, target: object, query: ListQuery, counter: RequestCounter) -> Page:
            return Page((), total=5)

    with pytest.raises(ContractError, match="total says 5"):
        await read(Broken())


async def test_a_list_that_ends_before_its_total_is_not_believed() -> None:
    class Broken(FakeApi):
        async def list_page(self, target: object, query: ListQuery, counter: RequestCounter) -> Page:
            page = await super().list_page(a_target(), query, counter)
            return Page(page.jobs if query.offset == 0 else (), page.total)

    api = Broken()
    api.put(*(a_job(job_id) for job_id in range(1, 61)))
    with pytest.raises(ContractError, match="no complete listing"):
        await read(api)


async def test_requests_that_were_asked_for_ahead_end_with_a_failed_one() -> None:
    api = an_api(500)
    failure = ContractError("broken")

    def fail(query: ListQuery) -> None:
        if query.offset > 40:
            raise failure

    api.before_page = fail
    with pytest.raises(ContractError) as caught:
        await read(api, concurrency=4)
    assert caught.value is failure


@pytest.mark.parametrize(("rows", "expected"), [(0, 0), (1, 0), (2, 1), (20, 1), (100, 5), (200, 10)])
def test_pages_overlap_by_a_twentieth(rows: int, expected: int) -> None:
    assert overlap(rows) == expected
