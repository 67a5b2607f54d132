from __future__ import annotations

import asyncio
import time

import pytest

from exporter.errors import RateLimit, RateLimited
from exporter.octopus.limiter import (
    LONGEST_REST_SECONDS,
    NAMED_LIMIT_SECONDS,
    RECOVERY_SECONDS,
    EndpointLimiter,
)
from tests.octopus_fakes import Clock


async def test_requests_are_spaced_by_the_rate_without_a_burst() -> None:
    limiter = EndpointLimiter(100)
    started = time.monotonic()
    for _ in range(11):
        await limiter.wait()
    # The event loop's clock may round a wait down by its resolution.
    assert time.monotonic() - started >= 0.099


async def test_a_rate_below_one_lets_the_first_through_and_holds_the_second() -> None:
    limiter = EndpointLimiter(0.01)
    await limiter.wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(limiter.wait(), 0.05)


async def test_first_come_first_served() -> None:
    limiter, order = EndpointLimiter(500), list[int]()

    async def one(number: int) -> None:
        await limiter.wait()
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(one(number))
    assert order == list(range(20))


async def test_one_who_gives_up_does_not_hold_the_others() -> None:
    limiter = EndpointLimiter(50)
    await limiter.wait()
    first, second = (asyncio.ensure_future(limiter.wait()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 5)


async def test_everyone_rests_as_long_as_the_endpoint_asks() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    limiter.penalise(7, None)
    limiter.penalise(3, None)
    await asyncio.gather(limiter.wait(), limiter.wait())
    assert clock.slept == [7]


async def test_a_throttling_that_says_nothing_costs_a_second() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    limiter.penalise(None, None)
    await limiter.wait()
    assert clock.slept == [1]


async def test_a_rest_that_is_lengthened_meanwhile_is_taken_whole() -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        if len(clock.slept) < 4:
            limiter.penalise(5, None)

    limiter = EndpointLimiter(10_000, clock=clock, sleep=sleep)
    limiter.penalise(2, None)
    await limiter.wait()
    assert clock.slept == [2, 5, 5, 5]


async def test_one_who_queued_already_rests_too() -> None:
    clock = Clock()
    limiter = EndpointLimiter(20, clock=clock, sleep=clock.sleep)
    await limiter.wait()
    queued = asyncio.create_task(limiter.wait())
    await asyncio.sleep(0)
    limiter.penalise(3, None)
    await queued
    assert clock.slept == [3]


async def test_a_long_rest_fails_at_once_instead_of_hanging() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    limiter.penalise(600, None)
    clock.now += 60
    with pytest.raises(RateLimited, match="540 s of it left") as caught:
        await limiter.wait()
    assert caught.value.retry_after_seconds == 540
    assert clock.slept == []


async def test_no_endpoint_can_silence_us_for_ever() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    limiter.penalise(1e9, None)
    clock.now += LONGEST_REST_SECONDS
    await limiter.wait()


async def test_a_throttling_halves_the_rate_and_time_brings_it_back() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10, clock=clock, sleep=clock.sleep)
    limiter.penalise(1, None)
    assert limiter.requests_per_second == 5
    clock.now += RECOVERY_SECONDS / 4
    await limiter.wait()
    assert limiter.requests_per_second == 7.5
    clock.now += RECOVERY_SECONDS
    await limiter.wait()
    assert limiter.requests_per_second == 10


async def test_requests_throttled_together_slow_down_once() -> None:
    limiter = EndpointLimiter(10, clock=Clock())
    for _ in range(4):
        limiter.penalise(1, None)
    assert limiter.requests_per_second == 5


async def test_the_rate_never_comes_to_nothing() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10, clock=clock)
    for _ in range(20):
        limiter.penalise(1, None)
        clock.now += 2
    assert limiter.requests_per_second == 0.5


async def test_a_limit_the_endpoint_names_is_kept_for_an_hour() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10, clock=clock, sleep=clock.sleep)
    limiter.penalise(1, RateLimit(90, 60))
    assert limiter.requests_per_second == 1.5
    clock.now += NAMED_LIMIT_SECONDS - 1
    await limiter.wait()
    assert limiter.requests_per_second == 1.5
    clock.now += NAMED_LIMIT_SECONDS
    await limiter.wait()
    assert limiter.requests_per_second == 10


async def test_a_limit_above_the_rate_changes_nothing() -> None:
    limiter = EndpointLimiter(10, clock=Clock())
    limiter.penalise(1, RateLimit(1200, 60))
    assert limiter.requests_per_second == 5
