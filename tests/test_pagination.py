"""A listing is read whole, whatever the server does to its pages."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ApiUnavailable, ContractError
from exporter.model import Target
from exporter.octopus.client import RequestCounter
from exporter.octopus.concurrency import Concurrency
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.ledger import FoundBy, Staged
from exporter.sync.pagination import ListingPass, PageSpan, Paginator, is_complete, overlap
from exporter.sync.planner import ListFilter, ListRequest
from exporter.sync.server_traits import RowRange, ServerFindings, ServerTraits
from tests.fake_api import FakeApi, a_job, a_target


@dataclass
class Kept:
    """
    Implements pagination.PageSink over a FakeApi, keeping the creation times of every pass by id.

    Shape: `known` are jobs of the ledger that may be gone.
    """

    api: FakeApi
    server: ServerFindings = field(default_factory=ServerFindings)
    known: frozenset[int] = frozenset()
    counter: RequestCounter = field(default_factory=RequestCounter)
    passes: dict[int, dict[int, int]] = field(default_factory=dict)

    def now_ms(self) -> int:
        return self.api.now_ms

    def row_time_ms(self, at_ms: int) -> int:
        return at_ms

    async def fetch(self, query: ListQuery) -> Page:
        return await self.api.list_page(a_target(), query, self.counter)

    async def stage(self, page: Page, found_by: FoundBy, offset: int, pass_no: int) -> None:
        rows = self.passes.setdefault(pass_no, {})
        rows |= {job.id: job.created_ms for job in page.jobs}
        rows |= {row.job_id: row.created_ms or 0 for row in page.set_apart if row.job_id is not None}

    async def staged(self, first_pass: int, pass_no: int, before_ms: int | None = None) -> Staged:
        def ids(number: int) -> set[int]:
            rows = self.passes.get(number, {}).items()
            return {job_id for job_id, created_ms in rows if before_ms is None or created_ms < before_ms}

        newest, last = ids(pass_no), ids(pass_no - 1)
        every = set().union(*(ids(number) for number in self.passes if number >= first_pass))
        return Staged(len(newest), len(every), len(newest & last))

    async def gone(self, list_filter: ListFilter) -> int:
        return len(self.known - self.every)

    @property
    def surplus(self) -> RowRange | None:
        return self.server.surplus.get(False)

    @property
    def last(self) -> set[int]:
        return set(self.passes[max(self.passes)])

    @property
    def every(self) -> set[int]:
        return set().union(*self.passes.values())


def an_api(rows: int, **fields: object) -> FakeApi:
    api = FakeApi(**fields)  # type: ignore[arg-type]  # spelled by the tests
    api.put(*(a_job(job_id) for job_id in range(1, rows + 1)))
    return api


WINDOW = ListRequest(ListFilter(), FoundBy.WINDOW, is_whole=True)


async def read(
    api: FakeApi,
    page_size: int = 20,
    concurrency: int = 3,
    *,
    checks_lengths: bool = False,
    traits: ServerTraits | None = None,
    before: RowRange | None = None,
    known: frozenset[int] = frozenset(),
) -> Kept:
    """Read a whole listing; `before` is the surplus that the poll before saw."""
    seen = {} if before is None else {False: before}
    server = ServerFindings(traits or ServerTraits(), surplus_before=seen)
    kept = Kept(api, server, known)
    at_once = Concurrency(concurrency)
    await Paginator(kept, server, page_size, at_once, checks_lengths=checks_lengths).read(WINDOW)
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


@pytest.mark.parametrize(
    ("rows", "requests"),
    [
        pytest.param(200, 11, id="each page but the first repeats one row of the page before"),
        pytest.param(39, 3, id="a full last page is followed by one request"),
    ],
)
async def test_a_list_at_rest_is_read_once_at_the_cost_of_its_pages(rows: int, requests: int) -> None:
    kept = await read(an_api(rows), page_size=20)
    assert kept.counter.sent == requests
    assert len(kept.passes) == 1


async def test_pages_join_by_a_row_that_cannot_be_read() -> None:
    at_the_joints = frozenset(range(10, 200, 19))
    kept = await read(an_api(200, odd=at_the_joints), page_size=20)
    assert kept.counter.sent == 11
    assert kept.every == set(range(1, 201))


async def test_a_page_that_is_shorter_than_before_is_followed_where_the_total_says_more() -> None:
    kept = await read(an_api(30, clamp=10), traits=ServerTraits(longest_page=20))
    assert kept.every == set(range(1, 31))


@pytest.mark.parametrize(
    ("traits", "checks_lengths", "requests"),
    [
        (ServerTraits(longest_page=19), False, 1),
        (ServerTraits(longest_page=19), True, 2),
        (ServerTraits(longest_page=18), False, 2),
        (ServerTraits(longest_page=30, page_limit=19), False, 2),
        (ServerTraits(longest_page=30, page_limit=20), False, 1),
    ],
    ids=["one page", "lengths are checked", "the longest page so far", "the server's limit", "shorter"],
)
async def test_a_page_that_may_be_the_last_is_followed_where_it_may_not_be(
    traits: ServerTraits, checks_lengths: bool, requests: int
) -> None:
    kept = await read(an_api(19), traits=traits, checks_lengths=checks_lengths)
    assert kept.counter.sent == requests


class Totalling(FakeApi):
    """Gives another total than the true one."""

    def total(self, rows: int, page: Page) -> int | None:
        raise NotImplementedError

    async def list_page(self, target: Target, query: ListQuery, counter: RequestCounter) -> Page:
        page = await super().list_page(target, query, counter)
        return dataclasses.replace(page, total=self.total(page.total or 0, page))


class OfThePage(Totalling):
    def total(self, rows: int, page: Page) -> int | None:
        return page.rows


class Capped(Totalling):
    def total(self, rows: int, page: Page) -> int | None:
        return min(rows, 40)


class TooHigh(Totalling):
    def total(self, rows: int, page: Page) -> int | None:
        return rows + 1


@given(
    kind=st.sampled_from((OfThePage, Capped)),
    rows=st.integers(0, 120),
    page_size=st.integers(1, 40),
    clamp=st.integers(1, 40),
)
async def test_the_pages_decide_where_a_list_ends_and_not_its_total(
    kind: type[Totalling], rows: int, page_size: int, clamp: int
) -> None:
    api = kind(clamp=clamp)
    api.put(*(a_job(job_id) for job_id in range(1, rows + 1)))
    kept = await read(api, page_size)
    assert kept.every == set(api.jobs)
    again = await read(api, page_size, traits=kept.server.traits)
    assert again.every == set(api.jobs)
    if rows > 40:
        assert kept.server.total_is_low


@given(rows=st.integers(1, 120), page_size=st.integers(2, 40), clamp=st.integers(2, 40))
async def test_a_total_that_counts_a_row_too_many_is_believed_at_the_second_poll(
    rows: int, page_size: int, clamp: int
) -> None:
    api = TooHigh(clamp=clamp)
    api.put(*(a_job(job_id) for job_id in range(1, rows + 1)))
    first = Kept(api)
    with pytest.raises(ContractError, match="two readings agree"):
        await Paginator(first, first.server, page_size, Concurrency(3)).read(WINDOW)
    assert first.surplus == RowRange(1, 1)
    second = await read(api, page_size, before=first.surplus)
    assert second.every == set(api.jobs)
    third = await read(api, page_size, traits=ServerTraits(surplus_window=1))
    assert third.every == set(api.jobs)
    assert len(third.passes) == 1


async def test_a_job_created_as_the_reading_began_may_be_counted_or_not() -> None:
    api = TooHigh()
    api.put(*(a_job(job_id) for job_id in range(1, 31)), a_job(31, created_ms=api.now_ms - 500))
    kept = Kept(api)
    with pytest.raises(ContractError, match="two readings agree"):
        await Paginator(kept, kept.server, 20, Concurrency(3)).read(WINDOW)
    assert kept.surplus == RowRange(1, 2)


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize(("kind", "surplus"), [(TooHigh, 1), (FakeApi, 0)])
async def test_a_known_surplus_shrinks_where_a_whole_listing_lacks_fewer_rows(
    kind: type[FakeApi], surplus: int, is_whole: bool
) -> None:
    api = kind()
    api.put(*(a_job(job_id) for job_id in range(1, 31)))
    kept = Kept(api, ServerFindings(ServerTraits(surplus_window=2)))
    request = dataclasses.replace(WINDOW, is_whole=is_whole)
    await Paginator(kept, kept.server, 20, Concurrency(3)).read(request)
    assert kept.server.traits.surplus_window == (surplus if is_whole else 2)


async def test_a_list_without_a_total_is_noted() -> None:
    assert (await read(an_api(30, gives_total=False))).server.total_is_low


async def test_a_total_that_lacks_only_the_newest_job_is_late_and_not_too_low() -> None:
    api = an_api(30, total_of=lambda total, _rows: total - 1)
    api.put(a_job(31, created_ms=api.now_ms))
    kept = await read(api)
    assert kept.every == set(api.jobs)
    assert not kept.server.total_is_low


async def test_another_surplus_than_the_one_seen_before_is_not_believed() -> None:
    api = TooHigh()
    api.put(*(a_job(job_id) for job_id in range(1, 31)))
    with pytest.raises(ContractError, match="two readings agree"):
        await read(api, before=RowRange(2, 2))


async def test_a_total_that_still_counts_jobs_just_gone_is_no_surplus() -> None:
    api = TooHigh()
    api.put(*(a_job(job_id) for job_id in range(1, 31)))
    kept = await read(api, known=frozenset({99}))
    assert kept.surplus is None


async def test_rows_that_come_while_a_healthy_list_is_read_do_not_speak_against_its_total() -> None:
    api = an_api(100)
    api.key = lambda job: job.created_ms
    ids = iter(range(1_000, 2_000))

    def arrive(query: ListQuery) -> None:
        api.put(a_job(next(ids), created_ms=api.now_ms))

    api.before_page = arrive
    kept = await read(api)
    assert not kept.server.total_is_low
    assert kept.surplus is None


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


@pytest.mark.parametrize("gives_total", [True, False])
async def test_a_server_that_ignores_the_offset_is_found_out(gives_total: bool) -> None:
    class Deaf(FakeApi):
        async def list_page(self, target: object, query: ListQuery, counter: RequestCounter) -> Page:
            return await super().list_page(a_target(), dataclasses.replace(query, offset=0), counter)

    api = Deaf(gives_total=gives_total)
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
    # Not at any later poll either, where jobs are known that would seem to be deleted.
    with pytest.raises(ContractError, match="total says 5"):
        await read(Broken(), known=frozenset({1}), before=RowRange(5, 5))


async def test_a_total_over_no_rows_at_all_is_believed_where_no_job_is_known() -> None:
    class Hidden(FakeApi):
        async def list_page(self, target: object, query: ListQuery, counter: RequestCounter) -> Page:
            return Page((), total=5)

    kept = await read(Hidden(), before=RowRange(5, 5))
    assert kept.every == set()


async def test_a_list_that_ends_before_its_total_is_not_believed() -> None:
    class Broken(FakeApi):
        async def list_page(self, target: object, query: ListQuery, counter: RequestCounter) -> Page:
            page = await super().list_page(a_target(), query, counter)
            return Page(page.jobs if query.offset == 0 else (), page.total)

    api = Broken()
    api.put(*(a_job(job_id) for job_id in range(1, 61)))
    with pytest.raises(ContractError, match=r"^payload.list: 5 readings brought 20 rows .* says 60$"):
        await read(api)


async def test_the_rows_of_one_listing_do_not_complete_another_one() -> None:
    api = an_api(5)
    kept = Kept(api)
    reader = Paginator(kept, kept.server, 20, Concurrency(3))
    await reader.read(WINDOW)
    api.clamp = 0
    with pytest.raises(ContractError, match="total says 5"):
        await reader.read(WINDOW)


async def test_a_listing_that_broke_off_and_missed_a_row_is_read_again_from_its_beginning() -> None:
    api = an_api(100)
    api.key = lambda job: -job.updated_ms
    kept = Kept(api)
    reader = Paginator(kept, kept.server, 20, Concurrency(1))

    def fail(query: ListQuery) -> None:
        if query.offset > 50:
            raise ApiUnavailable("away")

    api.before_page = fail
    with pytest.raises(ApiUnavailable):
        await reader.read(WINDOW)
    api.before_page = None
    api.put(a_job(5, updated_ms=10_000))  # from the pages to come to the first one
    await reader.read(WINDOW)
    assert kept.every == set(api.jobs)


async def test_a_listing_that_broke_off_goes_on_where_it_stood() -> None:
    api = an_api(500)
    kept = Kept(api)
    reader = Paginator(kept, kept.server, 20, Concurrency(3))

    def fail(query: ListQuery) -> None:
        if query.offset > 250 and not kept.server.total_is_low:
            raise ApiUnavailable("away")

    api.before_page = fail
    with pytest.raises(ApiUnavailable):
        await reader.read(WINDOW)
    api.before_page, asked = None, len(api.asked)
    await reader.read(WINDOW)
    assert kept.every == set(api.jobs)
    assert len(kept.passes) == 1
    assert min(query.offset for query in api.asked[asked:]) > 200


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


async def test_requests_under_way_are_abandoned_when_one_fails() -> None:
    class Slow(FakeApi):
        async def list_page(self, target: Target, query: ListQuery, counter: RequestCounter) -> Page:
            page = await super().list_page(target, query, counter)
            for _ in range(20 * (query.offset > 19)):
                await asyncio.sleep(0)
            return page

    def fail(query: ListQuery) -> None:
        if query.offset == 19:
            raise ApiUnavailable("away")

    api = Slow()
    api.put(*(a_job(job_id) for job_id in range(1, 201)))
    api.before_page = fail
    kept = Kept(api)
    with pytest.raises(ApiUnavailable):
        await Paginator(kept, kept.server, 20, Concurrency(3)).read(WINDOW)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(kept.every) == 20


# -- rows that move between two pages ------------------------------------------------------------------------


async def test_rows_skipped_by_a_deletion_in_front_are_read_in_between() -> None:
    """The last page is one row, and shows none of the first: the page between them shows rows of both."""
    api = an_api(21)

    def delete(query: ListQuery) -> None:
        if query.offset == 19:
            api.jobs.pop(21, None)

    api.before_page = delete
    kept = await read(api, concurrency=1)
    assert kept.every == set(range(1, 22))
    assert (kept.counter.sent, len(kept.passes)) == (3, 1)


async def test_more_rows_skipped_than_a_page_has_are_found_by_reading_again() -> None:
    api = an_api(100)

    def delete(query: ListQuery) -> None:
        if query.offset == 19:
            for job_id in range(71, 101):
                api.jobs.pop(job_id, None)

    api.before_page = delete
    kept = await read(api, concurrency=1)
    assert set(api.jobs) <= kept.every
    assert len(kept.passes) == 2


@pytest.mark.parametrize(
    ("short_at", "length", "requests"), [(0, 1, 10), (19, 5, 8)], ids=["the first page", "a later page"]
)
async def test_what_a_page_lacks_that_is_shorter_than_the_others_is_read_in_between(
    short_at: int, length: int, requests: int
) -> None:
    api = an_api(100)

    def shorten(query: ListQuery) -> None:
        api.clamp = length if query.offset == short_at and len(api.asked) < 3 else 20

    api.before_page = shorten
    kept = await read(api, concurrency=1)
    assert kept.every == set(api.jobs)
    assert (kept.counter.sent, len(kept.passes)) == (requests, 1)


def show_others_once(api: FakeApi) -> None:
    """Let the page at offset 19 show rows from the end of the list instead, so that no page leads to it."""

    def turn(query: ListQuery) -> None:
        turned = query.offset == 19 and sum(asked.offset == 19 for asked in api.asked) == 1
        api.key = (lambda job: job.id) if turned else (lambda job: -job.id)

    api.before_page = turn


async def test_a_page_that_no_other_leads_to_is_not_believed_at_once() -> None:
    api = an_api(200, gives_total=False)
    show_others_once(api)
    kept = await read(api, concurrency=1)
    assert len(kept.passes) == 2


async def test_a_pass_with_a_gap_does_not_confirm_a_surplus() -> None:
    api = TooHigh()
    api.put(*(a_job(job_id) for job_id in range(1, 201)))
    show_others_once(api)
    kept = await read(api, concurrency=1, before=RowRange(1, 1))
    assert len(kept.passes) == 3


async def test_pages_that_never_join_fail_the_poll() -> None:
    class Unrelated(FakeApi):
        """Shows other rows at each request."""

        async def list_page(self, target: Target, query: ListQuery, counter: RequestCounter) -> Page:
            self.asked.append(query)
            first = 20 * len(self.asked)
            return Page(
                tuple(a_job(job_id) for job_id in range(first, first + 20 * (query.offset < 60))), None
            )

    with pytest.raises(ContractError, match="no complete listing"):
        await read(Unrelated())


async def test_a_busy_list_whose_total_is_always_too_low_is_complete_where_its_pages_join() -> None:
    api = an_api(100, total_of=lambda total, _rows: total - 7)
    ids = iter(range(1_000, 2_000))

    def arrive(query: ListQuery) -> None:
        if query.offset == 0:
            api.put(a_job(next(ids), created_ms=1))

    api.before_page = arrive
    kept = await read(api)
    assert kept.every == set(api.jobs)
    assert len(kept.passes) == 5


async def test_a_page_of_rows_moved_on_by_new_ones_does_not_end_a_pass() -> None:
    api = an_api(100, clamp=20)
    ids = iter(range(1_000, 2_000))
    moved_at = {19, 57}

    def arrive(query: ListQuery) -> None:
        api.clamp = 20
        if query.offset in moved_at:
            moved_at.remove(query.offset)
            api.clamp = 5
            api.put(*(a_job(next(ids)) for _ in range(10)))

    api.before_page = arrive
    kept = await read(api, concurrency=1)
    assert set(range(1, 101)) <= kept.every
    assert len(kept.passes) == 1


async def test_a_server_that_shows_its_first_page_for_ever_is_given_up_early() -> None:
    class Deaf(FakeApi):
        async def list_page(self, target: Target, query: ListQuery, counter: RequestCounter) -> Page:
            return await super().list_page(target, dataclasses.replace(query, offset=0), counter)

    api = Deaf(clamp=10)
    api.put(*(a_job(job_id) for job_id in range(1, 201)))
    kept = Kept(api)
    with pytest.raises(ContractError, match="190 more than the rows that came"):
        await Paginator(kept, kept.server, 20, Concurrency(1)).read(WINDOW)
    assert kept.counter.sent == 2 * 3  # readings, each of the first page and of two that repeat it


async def test_rows_created_meanwhile_do_not_tell_how_many_rows_a_page_can_have() -> None:
    api = an_api(10)
    api.key = lambda job: job.created_ms
    api.odd = frozenset({1_001})

    def arrive(query: ListQuery) -> None:
        if query.offset:
            api.put(*(a_job(job_id, created_ms=api.now_ms) for job_id in (1_000, 1_001)))

    api.before_page = arrive
    kept = await read(api)
    assert kept.every == set(api.jobs)
    assert kept.server.traits.page_limit is None


@pytest.mark.parametrize(("rows", "expected"), [(0, 0), (1, 0), (2, 1), (20, 1), (100, 5), (200, 10)])
def test_pages_overlap_by_a_twentieth(rows: int, expected: int) -> None:
    assert overlap(rows) == expected


def a_pass(totals: tuple[int | None, int | None], *, joined: bool = True) -> ListingPass:
    """Give a pass that was read from its first page to its last one, with the totals of both."""
    first = PageSpan(0, 5, {}, totals[0])
    return ListingPass(WINDOW, 0, first, first, covered=5, extra_pages=0, last_total=totals[1], joined=joined)


@pytest.mark.parametrize(
    ("this", "staged", "before", "surplus", "complete"),
    [
        pytest.param(a_pass((10, 10)), (10, 10, 0), None, 0, True, id="as many rows as the total says"),
        pytest.param(a_pass((10, 10)), (9, 9, 0), None, 0, False, id="a row fewer"),
        pytest.param(a_pass((10, 10)), (11, 11, 0), None, 0, False, id="a row more"),
        pytest.param(a_pass((10, 12)), (10, 10, 0), None, 0, True, id="the total grew: as the first one"),
        pytest.param(a_pass((12, 10)), (12, 12, 0), None, 0, True, id="it shrank: as the larger one"),
        pytest.param(a_pass((10, 12)), (13, 13, 0), None, 0, False, id="more than either"),
        pytest.param(a_pass((10, 10)), (9, 10, 8), (9, 9, 0), 0, True, id="two passes together agree"),
        pytest.param(a_pass((10, 10)), (9, 11, 7), (9, 9, 0), 0, False, id="together they are too many"),
        pytest.param(a_pass((10, 11)), (9, 11, 7), (9, 9, 0), 0, False, id="together, but the total moved"),
        pytest.param(a_pass((10, 10), joined=False), (10, 10, 0), None, 0, True, id="gaps, all rows came"),
        pytest.param(a_pass((10, 11), joined=False), (11, 11, 0), None, 0, False, id="gaps, it moved"),
        pytest.param(a_pass((None, 10)), (3, 3, 0), None, 0, True, id="no total at first: the pages join"),
        pytest.param(a_pass((10, None)), (3, 3, 0), None, 0, True, id="no total at last: the pages join"),
        pytest.param(a_pass((None, None), joined=False), (3, 3, 0), None, 0, False, id="no total, gaps"),
        pytest.param(a_pass((9, 9)), (11, 11, 11), (11, 11, 0), 0, True, id="the same rows again"),
        pytest.param(a_pass((9, 9)), (11, 12, 10), (11, 11, 0), 0, False, id="as many rows, but others"),
        pytest.param(a_pass((9, 9)), (11, 12, 11), (12, 12, 0), 0, False, id="a row fewer than before"),
        pytest.param(a_pass((10, 10)), (8, 8, 0), None, 2, True, id="fewer by the known surplus"),
        pytest.param(a_pass((10, 10)), (7, 7, 0), None, 2, False, id="fewer than the surplus explains"),
        pytest.param(a_pass((10, 10)), (7, 8, 6), (7, 7, 0), 2, True, id="together, by the surplus"),
        pytest.param(a_pass((10, 12)), (8, 8, 0), None, 2, True, id="moving, by the surplus"),
    ],
)
def test_a_pass_is_believed_where_its_rows_agree_with_its_total(
    this: ListingPass,
    staged: tuple[int, int, int],
    before: tuple[int, int, int] | None,
    surplus: int,
    complete: bool,
) -> None:
    """Of each pass: its rows, those of all passes, and those that were in the pass before."""
    passes = Staged(*staged), None if before is None else Staged(*before)
    assert is_complete(this, *passes, surplus) is complete


def test_a_pass_that_contradicts_itself_is_never_believed() -> None:
    this = a_pass((10, 10))
    assert is_complete(this, Staged(10, 10, 0), None)
    this.contradicted = True
    assert not is_complete(this, Staged(10, 10, 0), None)


async def test_a_gap_that_is_too_wide_to_close_is_not_believed() -> None:
    """The pages after the first are short, and a total that was late hides that rows are missing."""
    api = an_api(41)

    def shorten(query: ListQuery) -> None:
        first_pass = sum(asked.offset == 0 for asked in api.asked) == 1
        api.clamp = 3 if first_pass and query.offset > 0 else 20

    api.before_page = shorten
    api.total_of = lambda total, _rows: total - 4 * (len(api.asked) == 1)
    kept = await read(api, concurrency=1)
    assert kept.every == set(api.jobs)
