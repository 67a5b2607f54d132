from __future__ import annotations

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from exporter.errors import ApiError, ApiUnavailable, RateLimit, RateLimited
from exporter.octopus.limiter import (
    LONGEST_PAUSE_SECONDS,
    RECOVERY_SECONDS,
    REPORTED_LIMIT_SECONDS,
    EndpointLimiter,
)
from tests.octopus_fakes import Clock


async def go(limiter: EndpointLimiter, *answers: ApiError | None) -> None:
    """Send a request that gets this answer; a good one by default."""
    async with limiter.turn():
        for answer in filter(None, answers):
            raise answer


async def test_requests_are_spaced_by_the_rate_without_a_burst() -> None:
    limiter = EndpointLimiter(500)
    started = time.monotonic()
    for _ in range(11):
        await go(limiter)
    # The event loop's clock may round a wait down by its resolution.
    assert time.monotonic() - started >= 0.019


async def test_those_who_wait_while_the_event_loop_is_busy_go_soon_after_it() -> None:
    limiter, gone = EndpointLimiter(500), list[int]()

    async def one(number: int) -> None:
        await go(limiter)
        gone.append(number)

    waiting = [asyncio.create_task(one(number)) for number in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(0.1)  # the event loop is busy
    for _ in range(40):
        await asyncio.sleep(0)
    assert 5 <= len(gone) <= 10
    await asyncio.gather(*waiting)


async def test_a_rate_below_one_lets_the_first_through_and_holds_the_second() -> None:
    limiter = EndpointLimiter(0.01)
    await go(limiter)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(go(limiter), 0.05)


async def test_first_come_first_served() -> None:
    limiter, order = EndpointLimiter(500), list[int]()

    async def one(number: int) -> None:
        await go(limiter)
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(one(number))
    assert order == list(range(20))


async def test_one_who_gives_up_does_not_hold_the_others() -> None:
    limiter = EndpointLimiter(50)
    await go(limiter)
    first, second = (asyncio.ensure_future(go(limiter)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 60)


async def test_everyone_rests_as_long_as_the_endpoint_asks() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    limiter.on_throttled(7, None)
    limiter.on_throttled(3, None)
    await asyncio.gather(go(limiter), go(limiter))
    assert clock.slept == [7]


async def test_a_throttling_that_says_nothing_costs_a_second() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    limiter.on_throttled(None, None)
    await go(limiter)
    assert clock.slept == [1]


async def test_a_rest_that_is_lengthened_meanwhile_is_taken_whole() -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        if len(clock.slept) < 4:
            limiter.on_throttled(5, None)

    limiter = EndpointLimiter(10_000, clock=clock, sleep=sleep)
    limiter.on_throttled(2, None)
    await go(limiter)
    assert clock.slept == [2, 5, 5, 5]


async def test_one_who_queued_already_rests_too() -> None:
    clock = Clock()
    limiter = EndpointLimiter(20, clock=clock, sleep=clock.sleep)
    await go(limiter)
    queued = asyncio.create_task(go(limiter))
    await asyncio.sleep(0)
    limiter.on_throttled(3, None)
    await queued
    assert clock.slept == [3]


async def test_a_long_rest_fails_at_once_instead_of_hanging() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    limiter.on_throttled(200, None)
    clock.now += 60
    with pytest.raises(RateLimited, match="140 s of it left") as caught:
        await go(limiter)
    assert caught.value.retry_after_seconds == 140
    assert clock.slept == []


YEAR_9999 = RateLimited("throttled", retry_after_seconds=2.5e11)


async def test_an_absurd_rest_ends_after_five_minutes_with_one_probe() -> None:
    clock = Clock()
    limiter = EndpointLimiter(
        10_000, endpoint="https://octopus.test", clock=clock, wall_clock=clock, sleep=clock.sleep
    )
    with capture_logs() as logs:
        with pytest.raises(RateLimited):
            await go(limiter, YEAR_9999)
        assert limiter.pause_seconds == LONGEST_PAUSE_SECONDS == 300
        with pytest.raises(RateLimited, match="300 s of it left"):
            await go(limiter)
        clock.now += 300
        assert limiter.pause_seconds == 0
        # Of ten that come together one is sent; throttled again, it spares the others.
        answers = await asyncio.gather(*(go(limiter, YEAR_9999) for _ in range(10)), return_exceptions=True)
        assert [str(answer) for answer in answers] == [
            "throttled status=429",
            *["not sent: the endpoint asked for a rest, 300 s of it left"] * 9,
        ]
        clock.now += 300
        await asyncio.gather(*(go(limiter) for _ in range(10)))
    assert limiter.pause_seconds is None
    assert [entry for entry in logs if entry["log_level"] != "debug"] == [
        {
            "event": "the endpoint asked for a rest: its polls fail until it is over",
            "log_level": "warning",
            "endpoint": "https://octopus.test",
            "rest_seconds": 300,
            "asked_seconds": 250_000_000_000,
        },
        {
            "event": "the endpoint's rest is over",
            "log_level": "info",
            "endpoint": "https://octopus.test",
            "state": "ends",
            "times": 2,
            "since": "2023-11-14T22:13:20Z",
        },
    ]


async def test_the_others_wait_for_the_probe() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    limiter.on_throttled(300, None)
    clock.now += 300
    sent, answered = asyncio.Event(), asyncio.Event()

    async def probe() -> None:
        async with limiter.turn():
            sent.set()
            await answered.wait()

    first, second = asyncio.create_task(probe()), asyncio.create_task(go(limiter))
    await sent.wait()
    await asyncio.sleep(0.02)
    assert not second.done()
    answered.set()
    await asyncio.gather(first, second)


async def test_a_probe_that_is_given_up_leaves_it_to_the_next() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    limiter.on_throttled(300, None)
    clock.now += 300
    with pytest.raises(asyncio.CancelledError):
        async with limiter.turn():
            raise asyncio.CancelledError
    assert limiter.pause_seconds == 0
    with pytest.raises(ApiUnavailable):
        await go(limiter, ApiUnavailable("no connection"))
    assert limiter.pause_seconds is None


async def test_an_answer_from_before_the_rest_does_not_end_it() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10_000, clock=clock, sleep=clock.sleep)
    async with limiter.turn():
        limiter.on_throttled(300, None)
    assert limiter.pause_seconds == 300


async def test_a_short_rest_is_not_told() -> None:
    limiter = EndpointLimiter(10, clock=Clock())
    with capture_logs() as logs:
        limiter.on_throttled(60, None)
    assert (limiter.pause_seconds, logs) == (None, [])


async def test_a_limit_of_almost_nothing_still_lets_a_request_through_each_minute() -> None:
    limiter = EndpointLimiter(10, clock=Clock())
    limiter.on_throttled(1, RateLimit(1, 999_999_999 * 86_400.0))
    assert limiter.requests_per_second == pytest.approx(1 / 60)


async def test_a_throttling_halves_the_rate_and_time_brings_it_back() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10, clock=clock, sleep=clock.sleep)
    limiter.on_throttled(1, None)
    assert limiter.requests_per_second == 5
    clock.now += RECOVERY_SECONDS / 4
    await go(limiter)
    assert limiter.requests_per_second == 7.5
    clock.now += RECOVERY_SECONDS
    await go(limiter)
    assert limiter.requests_per_second == 10


async def test_requests_throttled_together_slow_down_once() -> None:
    limiter = EndpointLimiter(10, clock=Clock())
    for _ in range(4):
        limiter.on_throttled(1, None)
    assert limiter.requests_per_second == 5


async def test_the_rate_never_comes_to_nothing() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10, clock=clock)
    for _ in range(20):
        limiter.on_throttled(1, None)
        clock.now += 2
    assert limiter.requests_per_second == 0.5


async def test_a_limit_the_endpoint_names_is_kept_for_an_hour() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10, clock=clock, sleep=clock.sleep)
    limiter.on_throttled(1, RateLimit(90, 60))
    assert limiter.requests_per_second == 1.5
    clock.now += REPORTED_LIMIT_SECONDS - 1
    await go(limiter)
    assert limiter.requests_per_second == 1.5
    clock.now += REPORTED_LIMIT_SECONDS
    await go(limiter)
    assert limiter.requests_per_second == 10


async def test_a_limit_above_the_rate_changes_nothing() -> None:
    limiter = EndpointLimiter(10, clock=Clock())
    limiter.on_throttled(1, RateLimit(1200, 60))
    assert limiter.requests_per_second == 5


async def test_a_replica_uses_its_share_of_the_rate() -> None:
    limiter = EndpointLimiter(10, clock=Clock())
    limiter.set_share(0.25)
    assert limiter.requests_per_second == 2.5
    limiter.set_share(1)
    assert limiter.requests_per_second == 10


async def test_a_lowered_rate_stays_lowered_with_another_share() -> None:
    clock = Clock()
    limiter = EndpointLimiter(10, clock=clock, sleep=clock.sleep)
    limiter.on_throttled(1, None)
    limiter.set_share(0.5)
    assert limiter.requests_per_second == 2.5
    limiter.set_share(1)
    assert limiter.requests_per_second == 5
    limiter.set_share(0.5)
    clock.now += RECOVERY_SECONDS
    await go(limiter)
    assert limiter.requests_per_second == 5


async def test_a_limit_the_endpoint_names_is_for_all_replicas() -> None:
    limiter = EndpointLimiter(10, clock=Clock())
    limiter.set_share(0.5)
    limiter.on_throttled(1, RateLimit(120, 60))
    assert limiter.requests_per_second == 1
    limiter.set_share(1)
    assert limiter.requests_per_second == 2


async def test_the_same_share_again_lets_no_request_through_early() -> None:
    limiter = EndpointLimiter(0.02)
    limiter.set_share(0.5)
    await go(limiter)
    limiter.set_share(0.5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(go(limiter), 0.05)
