"""The timer that releases new series, and what it does where a release fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from exporter.errors import LedgerError
from exporter.exposition.compression import Body
from exporter.exposition.hold import RETRY_SECONDS, Held
from exporter.exposition.render import Exposition
from exporter.model import SeriesKey, TargetKey
from exporter.series_release import SeriesReleaser
from tests.fake_api import a_target

TARGET, OTHER = a_target().key, a_target(workspace="7").key
KEYS = frozenset({SeriesKey("failures", "FRAME_EXTRACT", "RUN_FAILED", "1")})
ONE: Held = {TARGET: KEYS}
BOTH: Held = {TARGET: KEYS, OTHER: KEYS}


def bodies(held: Held) -> Exposition:
    return Exposition(Body(()), Body(()), held)


class Stage:
    """A clock that tests set, and a ledger that may fail; `released` has what it took, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.others: set[TargetKey] = set()
        self.releaser = SeriesReleaser(
            90,
            is_ours=lambda key: key not in self.others,
            timer=lambda: self.now,
            clock=lambda: self.now,
        )
        self.released: list[tuple[TargetKey, frozenset[SeriesKey]]] = []
        self.tried = 0
        self.errors: dict[TargetKey, Exception] = {}
        self.reloading = asyncio.Lock()

    async def release(self, target: TargetKey, keys: frozenset[SeriesKey]) -> None:
        self.tried += 1
        if target in self.errors:
            raise self.errors[target]
        self.released.append((target, keys))

    async def at(self, now: float) -> None:
        """Let it be so late, and let what is due then happen."""
        self.now = now
        self.releaser.hold_for(90)  # wakes it
        for _ in range(20):
            await asyncio.sleep(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.releaser.run(self.release, self.reloading))
        yield
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_what_was_served_is_released_when_its_time_is_over(stage: Stage) -> None:
    async with stage.running():
        stage.releaser.shown(bodies(ONE))
        stage.releaser.served(bodies(ONE))
        await stage.at(89)
        assert stage.released == []
        await stage.at(90)
        await stage.at(1000)
        assert stage.released == [(TARGET, KEYS)]


async def test_the_timer_needs_nobody_to_wake_it() -> None:
    released = asyncio.Event()

    async def release(_target: TargetKey, _keys: frozenset[SeriesKey]) -> None:
        released.set()

    releaser = SeriesReleaser(0.05)
    task = asyncio.create_task(releaser.run(release, asyncio.Lock()))
    releaser.shown(bodies(ONE))
    releaser.served(bodies(ONE))
    async with asyncio.timeout(60):
        await released.wait()
    task.cancel()


async def test_a_shorter_hold_releases_at_once(stage: Stage) -> None:
    async with stage.running():
        stage.releaser.shown(bodies(ONE))
        stage.releaser.served(bodies(ONE))
        await stage.at(20)
        stage.releaser.hold_for(15)
        for _ in range(20):
            await asyncio.sleep(0)
        assert stage.released == [(TARGET, KEYS)]


async def test_a_ledger_that_fails_is_asked_again_and_logged_at_both_ends(stage: Stage) -> None:
    stage.errors[TARGET] = LedgerError("ledger x: locked")
    with capture_logs() as logged:
        async with stage.running():
            stage.releaser.shown(bodies(BOTH))
            stage.releaser.served(bodies(BOTH))
            for tries in range(40):
                await stage.at(90 + RETRY_SECONDS * tries)
            assert stage.released == [(OTHER, KEYS)]
            assert stage.tried == 41
            stage.errors.clear()
            await stage.at(1000)
            assert stage.released == [(OTHER, KEYS), (TARGET, KEYS)]
    told = [(line["log_level"], line["event"]) for line in logged if line["log_level"] != "debug"]
    assert told == [
        ("error", "new series not released"),
        ("info", "new series are released again"),
    ]


async def test_a_target_that_is_withdrawn_while_its_release_fails_ends_the_failure(stage: Stage) -> None:
    stage.errors[TARGET] = LedgerError("ledger x: locked")
    with capture_logs() as logged:
        async with stage.running():
            stage.releaser.shown(bodies(ONE))
            await stage.at(300)
            stage.releaser.shown(bodies({}))
            await stage.at(301)
    assert [line["event"] for line in logged] == ["new series not released", "new series are released again"]


async def test_a_fault_of_ours_is_logged_once_and_ends_nothing(stage: Stage) -> None:
    stage.errors[TARGET] = ZeroDivisionError("in the midst of it")
    with capture_logs() as logged:
        async with stage.running():
            stage.releaser.shown(bodies(BOTH))
            for tries in range(5):
                await stage.at(300 + RETRY_SECONDS * tries)
            assert stage.released == [(OTHER, KEYS)]
    assert len([line for line in logged if "exc_info" in line]) == 1


async def test_targets_do_not_wait_for_each_other_and_a_reload_comes_in_between(stage: Stage) -> None:
    targets = [a_target(workspace=str(number)).key for number in range(100)]
    waiting, go_on = [0], asyncio.Event()

    async def release(target: TargetKey, keys: frozenset[SeriesKey]) -> None:
        assert stage.reloading.locked()
        waiting[0] += 1
        await go_on.wait()
        stage.released.append((target, keys))

    task = asyncio.create_task(stage.releaser.run(release, stage.reloading))
    stage.releaser.shown(bodies(dict.fromkeys(targets, KEYS)))
    await stage.at(300)
    assert 1 < waiting[0] < len(targets)
    some = waiting[0]
    reload = asyncio.create_task(stage.reloading.acquire())
    await asyncio.sleep(0)
    go_on.set()
    await reload
    assert len(stage.released) == some
    stage.reloading.release()
    await stage.at(301)
    assert {target for target, _ in stage.released} == set(targets)
    assert len(stage.released) == len(targets)
    task.cancel()


async def test_the_replica_that_polls_a_target_releases_its_series() -> None:
    stage = Stage()
    stage.others = {OTHER}
    async with stage.running():
        stage.releaser.shown(bodies(BOTH))
        stage.releaser.served(bodies(BOTH))
        await stage.at(100)
        assert stage.released == [(TARGET, KEYS)]


async def test_a_replica_that_takes_over_begins_the_hold_again() -> None:
    stage = Stage()
    async with stage.running():
        stage.releaser.shown(bodies(ONE))
        stage.releaser.served(bodies(ONE))
        # The target goes to another replica and comes back, before anything else is shown.
        await stage.at(80)
        stage.releaser.drop([TARGET])
        stage.releaser.shown(bodies(ONE))
        await stage.at(100)
        assert stage.released == []
        stage.releaser.served(bodies(ONE))
        await stage.at(189)
        assert stage.released == []
        await stage.at(190)
        assert stage.released == [(TARGET, KEYS)]
