"""When a poller polls: the first polls of many targets, the intervals, and when gauges expire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from exporter.errors import ApiUnavailable
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import Target
from exporter.sync import poller as poller_module
from exporter.sync.poller import FirstPolls
from tests.fake_api import a_target
from tests.poller_stage import Stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    ledger = await SqliteLedger.open(None)
    yield Stage(ledger)
    await ledger.close()


async def let_others_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


# -- the first polls -------------------------------------------------------------------------------------


async def ends(first_polls: FirstPolls, within_seconds: float, **target: str) -> bool:
    """Tell whether the first polls are over for a target, or are waited for no longer."""
    over = asyncio.create_task(first_polls.over(a_target(**target), within_seconds))
    await let_others_run()
    is_over = over.done()
    over.cancel()
    return is_over


async def test_nobody_waits_where_there_is_no_first_poll() -> None:
    assert await ends(FirstPolls(), 60)


async def test_the_first_polls_are_over_when_the_last_one_has_ended() -> None:
    first_polls = FirstPolls()
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        await first.enter_async_context(first_polls.turn(a_target(project="one")))
        await second.enter_async_context(first_polls.turn(a_target(project="two")))
        assert not await ends(first_polls, 60)
        assert await ends(first_polls, 0)  # all have begun
        await first.aclose()
        assert not await ends(first_polls, 60)
        await second.aclose()
        assert await ends(first_polls, 60)


async def test_no_more_than_32_first_polls_are_under_way() -> None:
    first_polls, end, begun = FirstPolls(), asyncio.Event(), 0

    async def poll() -> None:
        nonlocal begun
        async with first_polls.turn(a_target()):
            begun += 1
            await end.wait()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(40):
            tasks.create_task(poll())
        await let_others_run()
        assert begun == 32
        assert not await ends(first_polls, 0)
        assert await ends(first_polls, 0, endpoint="http://another.test")
        end.set()
        await let_others_run()
        assert begun == 40
    assert await ends(first_polls, 60)


# -- the intervals ---------------------------------------------------------------------------------------


@dataclass
class Clock:
    """
    Takes the place of waiting: time goes on by as much, and `waits` keeps the seconds.

    Shape: a poller is stopped at its `last_wait`-th wait.
    """

    stage: Stage
    last_wait: int
    waits: list[float] = field(default_factory=list)

    async def is_set_within(self, event: asyncio.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.stage.now += seconds
        return event.is_set() or len(self.waits) == self.last_wait


class NoFirstPolls(FirstPolls):
    """The first polls of other targets, which are over at once; keeps how long they may be waited for."""

    within_seconds = 0.0

    async def over(self, target: Target, within_seconds: float) -> None:
        self.within_seconds = within_seconds


async def run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, interval: float, waits: int
) -> tuple[list[float], float]:
    """Run a poller until its last wait; give the waits, and how long other first polls were waited for."""
    clock, first_polls = Clock(stage, waits), NoFirstPolls()
    monkeypatch.setattr(poller_module, "_is_set_within", clock.is_set_within)
    monkeypatch.setattr(poller_module.random, "random", lambda: 0.5)
    poller = stage.poller(interval, timer=lambda: stage.now)
    await poller.run(asyncio.Event(), first_polls)
    return clock.waits, first_polls.within_seconds


async def test_polls_keep_to_their_interval_after_a_random_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await run(stage, monkeypatch, 10, 3) == ([5, 10, 10], 10)
    assert (stage.last.poll.polls, stage.last.poll.skipped) == (3, 0)


async def test_the_first_polls_of_others_are_waited_for_half_a_minute_at_most(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await run(stage, monkeypatch, 3_600, 1) == ([1_800], 30)
    assert stage.last.poll.polls == 1


def slow_polls(stage: Stage, seconds: list[float]) -> Callable[[object], None]:
    """Let each poll take so many seconds."""
    polls = 0

    def pass_time(_snapshot: object) -> None:
        nonlocal polls
        if polls < stage.last.poll.polls <= len(seconds):
            polls = stage.last.poll.polls
            stage.now += seconds[polls - 1]

    return pass_time


async def test_polls_that_are_skipped_are_counted_published_and_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.on_publish = slow_polls(stage, [0, 15, 25, 0])
    with capture_logs() as lines:
        waits, _ = await run(stage, monkeypatch, 10, 4)
    assert waits == [5, 5, 5, 10]
    assert [shown.poll.skipped for shown in stage.shown[-3:]] == [1, 3, 3]
    told = [line for line in lines if line["log_level"] == "warning" or line.get("state") == "ends"]
    assert [(line["event"], line.get("polls_skipped")) for line in told] == [
        ("poll took longer than its interval", 1),
        ("polls keep to their interval again", None),
    ]


async def test_a_poller_that_is_stopped_before_its_first_poll_asks_for_nothing(stage: Stage) -> None:
    stop = asyncio.Event()
    stop.set()
    await stage.poller().run(stop, FirstPolls())
    assert (stage.shown, stage.api.asked) == ([], [])


# -- when gauges expire ----------------------------------------------------------------------------------


@dataclass
class Alarms:
    """Takes the place of the event loop's timers: the seconds of those that are still to ring."""

    seconds: list[float] = field(default_factory=list)

    def call_later(self, seconds: float, _callback: Callable[[], None]) -> Alarm:
        self.seconds.append(seconds)
        return Alarm(self, seconds)


@dataclass
class Alarm:
    alarms: Alarms
    seconds: float

    def cancel(self) -> None:
        self.alarms.seconds.remove(self.seconds)


@pytest.fixture
async def alarms(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Alarms:
    alarms = Alarms()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", alarms.call_later)
    return alarms


@pytest.mark.parametrize(
    ("age", "left"),
    [
        pytest.param(60, [240], id="expire later"),
        pytest.param(299.5, [0.5], id="expire within the second"),
        pytest.param(300, [], id="have expired"),
    ],
)
async def test_gauges_of_a_failing_target_are_published_again_when_they_expire(
    stage: Stage, alarms: Alarms, age: float, left: list[float]
) -> None:
    poller = stage.poller(max_age=300)
    await poller.poll()
    assert alarms.seconds == []
    stage.now += 30
    stage.api.error = ApiUnavailable("down")
    await poller.poll()
    stage.now += age - 30
    await poller.poll()
    assert (alarms.seconds, stage.last.stale) == (left, not left)


async def test_gauges_that_never_were_do_not_expire(stage: Stage, alarms: Alarms) -> None:
    stage.api.error = ApiUnavailable("down")
    await stage.poller().poll()
    assert (alarms.seconds, stage.last.stale) == ([], False)


async def test_a_poller_that_has_ended_publishes_nothing_more(stage: Stage, alarms: Alarms) -> None:
    poller, stop = stage.poller(), asyncio.Event()
    await poller.poll()
    stage.api.error = ApiUnavailable("down")
    stage.on_publish = lambda _snapshot: stop.set()
    await poller.run(stop, FirstPolls())
    assert not stage.last.poll.up
    assert alarms.seconds == []
