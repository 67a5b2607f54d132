"""How many requests are under way at once: pace x latency, and less for a server in trouble."""

from __future__ import annotations

import asyncio

import pytest

from exporter.octopus.concurrency import MOST_AT_ONCE, Concurrency


def after(seconds: float, pace: float, answers: int = 200, by: Concurrency | None = None) -> Concurrency:
    concurrency = by or Concurrency()
    for _ in range(answers):
        concurrency.answered(seconds, pace)
    return concurrency


@pytest.mark.parametrize(
    ("seconds", "pace", "limit"),
    [
        (0.05, 10, 2),
        (0.2, 10, 4),
        (0.05, 200, 14),
        (0.2, 200, MOST_AT_ONCE),
        (30, 10, MOST_AT_ONCE),
        (0.001, 0.1, 2),
    ],
)
def test_it_follows_pace_and_latency(seconds: float, pace: float, limit: int) -> None:
    assert after(seconds, pace).limit == limit


def test_it_grows_by_one_with_each_answer() -> None:
    concurrency = Concurrency()
    assert [after(0.2, 200, 1, concurrency).limit for _ in range(14)] == [*range(5, 17), 16, 16]


def test_a_pace_that_was_lowered_lowers_it() -> None:
    assert after(0.2, 10, by=after(0.2, 200)).limit == 4


def test_a_server_that_gets_slower_under_load_is_not_sent_more() -> None:
    concurrency = after(0.05, 100)
    assert concurrency.limit == 8
    # Pace x latency is now 100.
    assert after(1, 100, by=concurrency).limit == 4


def test_targets_that_share_the_pace_do_not_make_the_queue_longer() -> None:
    concurrency = after(1, 10)
    assert concurrency.limit == 14
    for _ in range(20):
        concurrency.answered(1, 10, waited_seconds=0.5)
    assert concurrency.limit == 14
    for _ in range(20):
        concurrency.answered(1, 10, waited_seconds=2)
    assert concurrency.limit == 4


def test_a_listing_whose_pages_are_slow_from_the_first_on_is_no_slow_server() -> None:
    concurrency = after(0.05, 100)
    concurrency.begin_listing()
    assert after(0.15, 100, by=concurrency).limit == MOST_AT_ONCE


def test_a_few_late_answers_are_not_taken_for_load() -> None:
    concurrency = Concurrency()
    for _ in range(50):
        after(0.05, 100, 9, concurrency)
        after(0.2, 100, 1, concurrency)
    assert 8 <= concurrency.limit <= 12


def test_a_failure_halves_it_and_it_grows_slowly_after_that() -> None:
    concurrency = after(0.2, 200)
    concurrency.failed()
    assert concurrency.limit == 8
    assert after(0.2, 200, 7, concurrency).limit == 8
    assert after(0.2, 200, 1, concurrency).limit == 9
    assert after(0.2, 200, 9, concurrency).limit == 10


async def test_requests_that_fail_together_halve_it_once() -> None:
    concurrency, all_sent = Concurrency(), asyncio.Barrier(4)

    async def request() -> None:
        async with concurrency.place():
            await all_sent.wait()
            concurrency.failed()

    await asyncio.gather(*(request() for _ in range(4)))
    assert concurrency.limit == 2
    for expected in (1, 1):
        concurrency.failed()
        assert concurrency.limit == expected


def test_a_number_stays() -> None:
    concurrency = Concurrency(7)
    after(0.2, 1000, by=concurrency)
    concurrency.failed()
    assert concurrency.limit == 7


async def test_as_many_are_under_way_as_it_allows_at_that_moment() -> None:
    concurrency, under_way, seen = Concurrency(), 0, list[int]()

    async def request() -> None:
        nonlocal under_way
        async with concurrency.place():
            under_way += 1
            seen.append(under_way)
            for _ in range(20):
                await asyncio.sleep(0)
            under_way -= 1

    async def most_of(requests: int) -> int:
        seen.clear()
        await asyncio.gather(*(request() for _ in range(requests)))
        return max(seen)

    assert await most_of(50) == 4
    after(0.2, 200, by=concurrency)
    await most_of(50)  # a place that is given back brings the new ones
    assert await most_of(50) == 16
    concurrency.failed()
    await most_of(50)
    assert await most_of(50) == 8


async def test_a_place_is_given_back_by_a_request_that_is_cancelled() -> None:
    concurrency = Concurrency(1)

    async def hang() -> None:
        async with concurrency.place():
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(hang()) for _ in range(2)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(5), concurrency.place():
        pass
