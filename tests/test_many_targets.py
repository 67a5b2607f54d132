"""Many targets in one process: in which order they are restored and polled, and how they end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from exporter.clients import ClientFactory
from exporter.config import Config
from exporter.counting.rules import CountingRules
from exporter.exposition.publication import Publisher
from exporter.ledger.database import Database
from exporter.ledger.ended import count_events
from exporter.ledger.sqlite import SqliteLedger
from exporter.ledger.thread import LedgerThread
from exporter.masking import Secrets
from exporter.model import PollStatus, Progress, Target, TargetKey, TargetSnapshot, Totals
from exporter.octopus.client import RequestCounter
from exporter.octopus.wire import ListQuery, Page
from exporter.pollers import Pollers
from exporter.sync import poller as poller_module
from exporter.sync.poller import FirstPolls
from tests.fake_api import FakeApi, a_target


def configured(targets: int, **poll: str) -> Config:
    projects = [{"id": f"p{number}", "endpoint": "http://octopus.test"} for number in range(targets)]
    credentials = {"default": {"type": "token", "token": "any"}}
    return Config.model_validate({"projects": projects, "credentials": credentials, "poll": poll})


class Unshown:
    def on_progress(self, target: Target, progress: Progress) -> None: ...

    def on_finished(self, target: Target) -> None: ...


class Scene:
    """
    Pollers of empty APIs; implements Publisher as far as they use it.

    Shape: `seen` tells what was restored and polled, in this order; the APIs in `hanging` never answer.
    """

    def __init__(self, ledger: SqliteLedger, group: asyncio.TaskGroup) -> None:
        self.seen: list[tuple[str, str]] = []
        self._polls: dict[str, int] = {}
        self.published: dict[TargetKey, TargetSnapshot] = {}
        self.is_stopping = False
        self.hanging: set[str] = set()
        self.on_restore: Callable[[], None] = lambda: None
        self._restore = ledger.restore
        ledger.restore = self.restore  # type: ignore[method-assign]  # to see the order
        fakes: dict[str, Any] = {"clients": SimpleNamespace(client=self._client), "publisher": self}
        self.clients = cast("ClientFactory", fakes["clients"])
        self.pollers = Pollers(
            ledger,
            cast("Publisher", fakes["publisher"]),
            Secrets(lambda: 0.0),
            group,
            Unshown(),
            lambda: self.is_stopping,
        )

    async def restore(self, target: Target, rules: CountingRules) -> Totals | None:
        self.seen.append(("restored", target.project))
        self.on_restore()
        return await self._restore(target, rules)

    def _client(self, target: Target) -> Any:
        api = FakeApi(gives_time=False)

        async def list_page(target: Target, query: ListQuery, counter: RequestCounter) -> Page:
            self.seen.append(("asked", target.project))
            if target.project in self.hanging:
                await asyncio.Event().wait()
            return await api.list_page(target, query, counter)

        return SimpleNamespace(list_page=list_page)

    def publish(self, snapshot: TargetSnapshot) -> None:
        project, polls = snapshot.target.project, snapshot.poll.polls
        if polls > self._polls.get(project, 0):  # its audit publishes it once more
            self._polls[project] = polls
            self.seen.append(("polled", project))

    def last(self, key: TargetKey) -> TargetSnapshot | None:
        return self.published.get(key)

    def of(self, kind: str) -> list[str]:
        return [project for seen, project in self.seen if seen == kind]

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not look():
                await asyncio.sleep(0.01)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    ledger = await SqliteLedger.open(None)
    async with asyncio.TaskGroup() as group:
        scene = Scene(ledger, group)
        yield scene
        await scene.pollers.stop(0)
    await ledger.close()


async def test_all_targets_are_restored_before_the_first_is_polled(scene: Scene) -> None:
    config = configured(100)
    await scene.pollers.start_missing(config, scene.clients, {})
    await scene.until(lambda: len(set(scene.of("polled"))) == 100)
    assert scene.seen.index(("asked", "p0")) == 100
    assert sorted(scene.of("restored")) == sorted(target.project for target in config.targets())


async def test_a_stop_ends_the_restoring_and_nothing_is_polled(scene: Scene) -> None:
    scene.on_restore = lambda: setattr(scene, "is_stopping", True)
    await scene.pollers.start_missing(configured(1_000), scene.clients, {})
    assert 0 < len(scene.of("restored")) < 100
    assert len(scene.pollers) == 0
    assert scene.of("asked") == []


async def test_no_target_is_polled_twice_before_each_was_polled_once(scene: Scene) -> None:
    await scene.pollers.start_missing(configured(200, interval="1s"), scene.clients, {})
    await scene.until(lambda: len(set(scene.of("polled"))) == 200)
    polled = scene.of("polled")
    assert len(polled) == len(set(polled))


async def test_targets_that_hang_keep_others_waiting_for_a_moment_only(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "_SLOW_SECONDS", 0.05)
    monkeypatch.setattr(poller_module, "_FIRST_POLLS_SECONDS", 0.05)
    scene.hanging = {f"p{number}" for number in range(100)}
    await scene.pollers.start_missing(configured(120, interval="1s"), scene.clients, {})
    await scene.until(lambda: len(scene.of("polled")) >= 40)
    assert set(scene.of("asked")) == {f"p{number}" for number in range(120)}
    assert not scene.hanging & set(scene.of("polled"))


async def test_so_many_first_polls_are_under_way_at_once_for_each_endpoint() -> None:
    first_polls, end, begun = FirstPolls(), asyncio.Event(), list[str]()

    async def poll(endpoint: str) -> None:
        async with first_polls.turn(a_target(endpoint=endpoint)):
            begun.append(endpoint)
            await end.wait()

    tasks = [asyncio.create_task(poll(endpoint)) for endpoint in ("one",) * 50 + ("another",) * 5]
    over = asyncio.create_task(first_polls.over(a_target(endpoint="one"), 0))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (begun.count("one"), begun.count("another")) == (32, 5)
    assert not over.done()
    # An endpoint that hangs does not keep the targets of another one from being polled again.
    await asyncio.wait_for(first_polls.over(a_target(endpoint="another"), 0), 60)
    assert begun.count("one") == 32
    end.set()
    await asyncio.gather(*tasks, over)
    assert begun.count("one") == 50


async def test_work_that_cancelled_polls_left_behind_is_dropped() -> None:
    """Else the ledger would first do it all, which takes minutes with many targets and little CPU time."""
    ledger, entered, go_on = await LedgerThread.begin_to_open(None), threading.Event(), threading.Event()
    worked: list[int] = []

    def block(_db: Database) -> None:
        entered.set()
        go_on.wait(60)

    async def work(number: int) -> None:
        await ledger.run(lambda _db: worked.append(number), a_target(project=f"p{number}").key)

    blocked = asyncio.create_task(ledger.run(block))
    await asyncio.to_thread(entered.wait, 60)
    waiting = [asyncio.create_task(work(number)) for number in range(100)]
    events = asyncio.create_task(ledger.run(count_events))
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    ledger.drop_waiting()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    await blocked
    assert await events == 0  # what belongs to no target is done
    await ledger.close()
    assert worked == []


class AllHeld:
    """The leases of all targets are held; implements pollers.SharedTargets."""

    def may_poll(self, key: TargetKey) -> bool:
        return True

    async def polled(self, target: Target, status: PollStatus) -> None: ...


@pytest.mark.parametrize(("ago", "gaps"), [(20, 0), (50, 1)])
async def test_a_target_that_was_not_polled_when_it_was_due_is_read_completely(
    scene: Scene, ago: int, gaps: int
) -> None:
    """A job that ran once more meanwhile, and ended, shows only so; the replica before may have crashed."""
    config = configured(1, interval="30s")
    (target,) = config.targets()
    await scene.pollers.poll_once(config, scene.clients)
    last = PollStatus(up=True, polls=1, last_poll_ms=int(time.time() - ago) * 1000)
    scene.published[target.key] = TargetSnapshot(target, None, last)
    scene.pollers.share(AllHeld())
    await scene.pollers.start_missing(config, scene.clients, {})
    poller = scene.pollers._running[target.key].poller
    await scene.until(lambda: poller.status.polls == 2)
    assert poller.status.full_syncs["gap"] == gaps
