"""Targets gained, lost, given back and configured anew in any order, while pollers start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.clients import ClientFactory
from exporter.config import Config
from exporter.errors import LedgerError
from exporter.masking import Secrets
from exporter.model import PollStatus, Target, TargetKey
from exporter.pollers import Pollers
from exporter.replica import Replica, Surroundings
from exporter.sync.poller import FirstPolls
from exporter.sync.shared_ledger import Heartbeat, HeldLeases, Lease, SharedLedger, SharedTarget
from tests.lease_server import LeaseServer, now
from tests.virtual_time import run_at_once


def config(*workspaces: int, interval: int = 30) -> Config:
    project = {"id": "0876", "name": "perception", "endpoint": "https://octopus.example"}
    return Config.model_validate(
        {
            "projects": [{**project, "workspaces": [str(number) for number in workspaces]}],
            "credentials": {"default": {"type": "token", "token": "t"}},
            "poll": {"interval": f"{interval}s"},
            "ledger": {"url": "postgresql://db/octopus", "lease": "15s"},
        }
    )


CONFIGS = (config(1, 2, 3, 4), config(3, 4, 5), config(1, 2, 3, 4, interval=60), config(1))


class Poller:
    """In place of a TargetPoller: takes time to be restored, to poll, and to end."""

    def __init__(self, stage: Stage, target: Target) -> None:
        self.target = target
        self.status = PollStatus()
        self._stage = stage

    async def restore(self) -> None:
        await asyncio.sleep(self._stage.restoring_seconds or 3 * self._stage.slowness)

    def retire(self) -> None:
        """Nothing is published here."""

    async def run(self, stop: asyncio.Event, _first_polls: FirstPolls) -> None:
        key = self.target.key
        if key in self._stage.polling or not self._stage.replica.may_poll(key):
            self._stage.polled_wrongly.add(key)
        self._stage.polling.add(key)
        try:
            await stop.wait()
            await asyncio.sleep(self._stage.slowness)
        finally:
            self._stage.polling.discard(key)


class StagedPollers(Pollers):
    stage: Stage

    def _poller(self, *given: Any, **_: Any) -> Any:
        return Poller(self.stage, given[3])


class Stage:
    """
    One replica with its keeper, its pollers and reloads as in runtime.Runtime; another one is there at times.

    Implements the part of SharedLedger that is used.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.server = LeaseServer()
        self.slowness = self.restoring_seconds = 0.0
        self.is_cut = False
        self.polling: set[TargetKey] = set()
        self.polled_wrongly: set[TargetKey] = set()
        self.config = CONFIGS[0]
        self.reloading = asyncio.Lock()
        self.is_stopping = False
        none = SimpleNamespace
        publisher = none(last=lambda _: None, publish=_nothing, withdraw=_nothing, refresh=_nothing)
        self.pollers = StagedPollers(
            cast("Any", self), cast("Any", publisher), Secrets(), group, cast("Any", None), self._stops
        )
        self.pollers.stage = self
        around = Surroundings(
            delivery=cast("Any", none(look_again=_nothing)),
            publisher=cast("Any", publisher),
            pollers=self.pollers,
            releaser=cast("Any", none(drop=_nothing)),
            instruments=cast("Any", none(leases_lost=_nothing)),
        )
        self.replica = Replica(
            cast("SharedLedger", self), self.config, Secrets(), around, self._start, _nothing
        )
        self.replica.keeper._clock = now
        self.running = group.create_task(self._run())

    def _stops(self) -> bool:
        return self.is_stopping

    async def _run(self) -> None:
        await self.reload(self.config)
        await self.replica.run()

    async def _start(self) -> None:
        async with self.reloading:
            await self.pollers.start_missing(self.config, cast("ClientFactory", None), {})

    async def reload(self, config: Config) -> None:
        async with self.reloading:
            if not self.is_stopping:
                statuses = await self.pollers.stop_replaced(self.config, config)
                self.config = config
                self.replica.configure(config)
                await self.pollers.start_missing(config, cast("ClientFactory", None), statuses)

    async def stop(self) -> None:
        self.is_stopping = True
        await self.replica.stop_taking()
        async with self.reloading:
            await self.pollers.stop(3.0)
        self.running.cancel()
        await asyncio.wait([self.running])
        await self.replica.leave()

    # what the keeper and the followers ask of the ledger

    def _reach(self) -> None:
        if self.is_cut:
            raise LedgerError("no connection")

    async def heartbeat(self, beat: Heartbeat) -> HeldLeases:
        await asyncio.sleep(self.slowness)
        self._reach()
        return self.server.beat(beat)

    async def give_back(self, leases: Collection[Lease]) -> None:
        await asyncio.sleep(self.slowness)
        self._reach()
        self.server.give_back(self.replica.name, leases)

    def let_go(self, targets: Collection[TargetKey]) -> None:
        """Nothing is written here."""

    async def look(self) -> Sequence[SharedTarget]:
        await asyncio.sleep(self.slowness)
        self._reach()
        return self.server.look()

    async def takeovers(self, _most: int) -> Sequence[Any]:
        return []

    # what happens

    def join(self) -> None:
        """Another replica wants its share, and takes what is free."""
        keys = tuple(target.key for target in self.config.targets())
        self.server.beat(Heartbeat("other", keys, 15.0))

    def steal(self) -> None:
        """Another replica has taken targets, because this one was silent."""
        self.server.until["other"] = now() + 15
        for key in sorted(self.server.leases, key=lambda key: key.workspace)[::2]:
            self.server.leases[key] = "other", self.server.leases[key][1] + 1

    def change(self, what: str, group: asyncio.TaskGroup) -> None:
        if what in ("join", "steal"):
            getattr(self, what)()
        elif what.startswith("config"):
            group.create_task(self.reload(CONFIGS[int(what[-1])]))
        elif what in ("cut", "back"):
            self.is_cut = what == "cut"
        else:
            self.slowness = float(what)


def _nothing(*_given: object) -> None:
    """What is not looked at here."""


HAPPENINGS = ("join", "steal", "cut", "back", "0", "0.4", "2.5", *(f"config {i}" for i in range(4)))
EVENTS = st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.floats(0, 8)), max_size=20)


async def _story(events: Sequence[tuple[str, float]]) -> Mapping[str, object]:
    async with asyncio.TaskGroup() as group:
        stage = Stage(group)
        for what, pause in events:
            stage.change(what, group)
            await asyncio.sleep(pause)
        stage.change("0", group)
        stage.change("back", group)
        await asyncio.sleep(60)  # the other replica has died by then
        configured = {target.key for target in stage.config.targets()}
        seen: dict[str, object] = {
            "polls what is configured": stage.polling == configured == stage.replica.keeper.held,
            "polled by two pollers, or without a lease": stage.polled_wrongly,
        }
        await stage.stop()
        holders = {holder for holder, _ in stage.server.leases.values()}
        # What is not configured any more may still be the other's.
        seen["still there at the end"] = stage.polling | (holders - {"", "other"})
    return seen


@settings(max_examples=60)
@given(events=EVENTS)
def test_what_is_held_is_polled_by_one_poller_whatever_the_order(events: list[tuple[str, float]]) -> None:
    assert run_at_once(_story(events)) == {
        "polls what is configured": True,
        "polled by two pollers, or without a lease": set(),
        "still there at the end": set(),
    }


@settings(max_examples=40)
@given(events=EVENTS)
def test_a_stop_in_the_midst_of_it_leaves_no_poller_and_is_quick(events: list[tuple[str, float]]) -> None:
    async def story() -> tuple[set[TargetKey], bool]:
        async with asyncio.TaskGroup() as group:
            stage = Stage(group)
            for what, pause in events:
                stage.change(what, group)
                await asyncio.sleep(pause)
            began = now()
            await stage.stop()
            return stage.polling, now() - began < 15

    assert run_at_once(story()) == (set(), True)


def test_a_stop_does_not_wait_for_targets_that_cannot_be_restored() -> None:
    """As while the database stands still, when it has just given the leases."""

    async def story() -> float:
        async with asyncio.TaskGroup() as group:
            stage = Stage(group)
            stage.restoring_seconds = 1000.0
            await asyncio.sleep(3)
            assert stage.reloading.locked()
            began = now()
            await stage.stop()
            return now() - began

    assert run_at_once(story()) < 5
