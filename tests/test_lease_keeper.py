"""What a replica does about its leases, in virtual time: it stops early, and gives back what others want."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exporter.errors import LedgerError
from exporter.leases import LeaseKeeper, replica_name
from exporter.model import TargetKey
from exporter.sync.shared_ledger import Heartbeat, HeldLeases, Lease
from tests.lease_server import LeaseServer, now
from tests.virtual_time import run_at_once

LEASE = 15.0
TEN = tuple(TargetKey("perception", "p" * 32, str(number), "system-jobs") for number in range(10))


class Replica:
    """A keeper with its way to the server, which can be slow or cut, and what it was told to poll."""

    def __init__(self, server: LeaseServer, name: str, targets: Collection[TargetKey] = TEN) -> None:
        self.server, self.name = server, name
        self.delays: Callable[[], float] = lambda: 0.0
        self.is_cut = self.loses_answers = False
        self.finishing_seconds = 0.5
        self.polled: set[TargetKey] = set()
        self.writable: set[TargetKey] = set()  # as the ledger sees it
        self.told: list[tuple[str, int]] = []
        self.beats: list[float] = []
        self.let_go_of: list[frozenset[TargetKey]] = []
        self.keeper = LeaseKeeper(self, name, LEASE, self, clock=now)  # type: ignore[arg-type]
        self.keeper.configure(targets)

    # what the keeper asks of the ledger

    async def _reach(self) -> None:
        await asyncio.sleep(self.delays())
        if self.is_cut:
            raise LedgerError("no connection")

    async def heartbeat(self, beat: Heartbeat) -> HeldLeases:
        self.beats.append(now())
        await self._reach()
        found = self.server.beat(beat)
        await asyncio.sleep(self.delays())
        if self.loses_answers:
            raise LedgerError("the connection was lost")
        self.writable = set(found.held)
        return found

    async def give_back(self, leases: Collection[Lease]) -> None:
        await self._reach()
        self.let_go([lease.target for lease in leases])
        self.server.give_back(self.name, leases)

    def let_go(self, targets: Collection[TargetKey]) -> None:
        self.let_go_of.append(frozenset(targets))
        self.writable -= set(targets)

    # what the keeper tells

    def gained(self, targets: Collection[TargetKey]) -> None:
        self.told.append(("gained", len(targets)))
        self.server.polled_twice |= self.server.polled & set(targets)
        self.server.polled |= set(targets)
        self.polled |= set(targets)

    def lost(self, targets: Collection[TargetKey]) -> None:
        self.told.append(("lost", len(targets)))
        self._end(targets)

    async def finish(self, targets: Collection[TargetKey]) -> None:
        await asyncio.sleep(self.finishing_seconds)
        self.told.append(("finished", len(targets)))
        self._end(targets)

    def _end(self, targets: Collection[TargetKey]) -> None:
        self.server.polled -= self.polled & set(targets)
        self.polled -= set(targets)

    def die(self) -> None:
        self._end(TEN)

    async def look(self) -> None:
        while True:
            await asyncio.sleep(1)
            if not self.is_cut:
                self.keeper.seen(self.server.look())

    async def stop(self) -> None:
        await self.keeper.stop_taking()
        await asyncio.sleep(1)
        self.die()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Replica]:
        tasks = [asyncio.create_task(self.keeper.run()), asyncio.create_task(self.look())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


def test_names_of_processes_differ() -> None:
    assert replica_name() != replica_name()


def test_a_replica_alone_renews_three_times_a_lease() -> None:
    async def story() -> None:
        async with Replica(LeaseServer(), "one").running() as one:
            await asyncio.sleep(31)
            assert (one.told, len(one.beats)) == ([("gained", 10)], 7)
            assert one.keeper.held == one.polled == set(TEN)

    run_at_once(story())


def test_it_stops_two_seconds_before_the_lease_ends_when_the_ledger_is_away() -> None:
    async def story() -> None:
        async with Replica(LeaseServer(), "one").running() as one:
            await asyncio.sleep(6)  # renewed at 5
            one.is_cut = True
            await asyncio.sleep(11.9)
            assert one.polled == set(TEN)
            await asyncio.sleep(0.2)
            assert (one.polled, one.keeper.held) == (set(), frozenset())
            assert one.let_go_of == [frozenset(TEN)]
            one.is_cut = False
            await asyncio.sleep(1)
            assert one.told == [("gained", 10), ("lost", 10), ("gained", 10)]

    run_at_once(story())


def test_it_stops_in_time_when_the_ledger_hangs() -> None:
    async def story() -> None:
        async with Replica(LeaseServer(), "one").running() as one:
            await asyncio.sleep(1)
            one.delays = lambda: 1000.0
            await asyncio.sleep(11.9)
            assert one.polled == set(TEN)
            await asyncio.sleep(0.2)
            assert one.polled == set()

    run_at_once(story())


def test_an_answer_that_comes_when_the_leases_have_ended_is_not_used() -> None:
    """The process stood still in between: the loop's time did not pass, the clock did."""

    async def story() -> None:
        one = Replica(LeaseServer(), "one")
        stood_still = 0.0
        one.keeper._clock = lambda: now() + stood_still

        def stand_still() -> float:
            nonlocal stood_still
            stood_still = 14.0
            return 0.0

        one.delays = stand_still
        async with one.running():
            await asyncio.sleep(0.5)
            assert (one.told, one.let_go_of) == ([], [frozenset(TEN)])
            await asyncio.sleep(1)
            assert one.told == [("gained", 10)]

    run_at_once(story())


def test_leases_that_ended_just_before_they_were_renewed_can_be_written() -> None:
    """The process stood still: its heartbeat is answered before it notices that the leases had ended."""

    async def story() -> None:
        one = Replica(LeaseServer(), "one")
        stood_still = 0.0
        one.keeper._clock = lambda: now() + stood_still
        running = asyncio.create_task(one.keeper.run())
        await asyncio.sleep(4.9)
        stood_still = 13.0
        await asyncio.sleep(0.2)
        assert one.told == [("gained", 10), ("lost", 10), ("gained", 10)]
        assert one.polled == one.writable == set(TEN)
        running.cancel()

    run_at_once(story())


def test_a_heartbeat_whose_answer_is_lost_is_sent_again() -> None:
    async def story() -> None:
        async with Replica(LeaseServer(), "one").running() as one:
            one.loses_answers = True
            await asyncio.sleep(0.5)
            assert not one.polled
            one.loses_answers = False
            await asyncio.sleep(1)
            assert one.polled == set(TEN)

    run_at_once(story())


def test_a_joiner_gets_its_share_within_seconds() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with Replica(server, "one").running() as one:
            await asyncio.sleep(7)
            async with Replica(server, "two").running() as two:
                await asyncio.sleep(6)
                assert one.told == [("gained", 10), ("finished", 5)]
                assert two.told == [("gained", 5)]
                assert one.polled == one.keeper.held
                await asyncio.sleep(100)
                assert len(one.told) + len(two.told) == 3

    run_at_once(story())


def test_the_targets_of_a_dead_replica_are_taken_when_its_lease_has_ended() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with Replica(server, "one").running() as one:
            async with Replica(server, "two").running() as two:
                await asyncio.sleep(20.5)
                assert len(one.polled) == len(two.polled) == 5
            await asyncio.sleep(two.beats[-1] + LEASE - 0.1 - now())
            assert len(one.polled) == 5
            await asyncio.sleep(1.2)
            assert len(one.polled) == 10

    run_at_once(story())


def test_what_a_stopping_replica_gives_back_is_taken_within_a_second() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with Replica(server, "one").running() as one:
            two = Replica(server, "two")
            async with two.running():
                await asyncio.sleep(20)
                await two.stop()
                assert len(one.polled) == 5
            await two.keeper.leave()
            await asyncio.sleep(1.1)
            assert len(one.polled) == 10
            assert ("lost", 5) not in two.told

    run_at_once(story())


def test_leaving_takes_two_seconds_at_most() -> None:
    async def story() -> None:
        one = Replica(LeaseServer(), "one")
        async with one.running():
            await asyncio.sleep(1)
        one.delays = lambda: 1000.0
        began = now()
        with capture_logs() as logs:
            await one.keeper.leave()
        assert now() - began == 2.0
        assert [line["event"] for line in logs] == ["leases not given back: others wait until they end"]

    run_at_once(story())


def test_a_target_that_left_the_configuration_is_finished_and_given_back() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with Replica(server, "one").running() as one:
            await asyncio.sleep(1)
            one.keeper.configure(TEN[:4])
            await asyncio.sleep(1)
            assert one.told == [("gained", 10), ("finished", 6)]
            assert server.leases[TEN[9]] == ("", 1)

    run_at_once(story())


def test_what_could_not_be_given_back_is_given_back_later() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with Replica(server, "one").running() as one, Replica(server, "two").running() as two:
            await asyncio.sleep(0.1)
            one.finishing_seconds = 6
            await asyncio.sleep(7)
            one.is_cut = True
            await asyncio.sleep(5)
            assert not two.polled
            one.is_cut = False
            await asyncio.sleep(8)
            assert (len(one.polled), len(two.polled)) == (5, 5)
            assert ("lost", 10) not in one.told

    run_at_once(story())


def test_a_lost_ledger_is_logged_when_it_begins_changes_and_ends() -> None:
    async def story() -> None:
        async with Replica(LeaseServer(), "one").running() as one:
            await asyncio.sleep(1)
            with capture_logs() as logs:
                one.is_cut = True
                await asyncio.sleep(60)
                one.is_cut = False
                await asyncio.sleep(2)
            lines = [(line["event"], line.get("state")) for line in logs if line["log_level"] != "debug"]
            assert lines == [
                ("leases not renewed", None),
                ("leases not renewed", "changes"),
                ("leases taken", None),
                ("leases renewed again", "ends"),
            ]

    run_at_once(story())


def test_a_target_that_was_taken_by_another_is_noticed_at_the_next_look() -> None:
    async def story() -> None:
        server = LeaseServer()
        async with Replica(server, "one").running() as one:
            await asyncio.sleep(1)
            server.until["two"], server.configured["two"] = now() + 100, TEN[:1]
            server.leases[TEN[0]] = "two", 2
            await asyncio.sleep(1.1)
            assert ("lost", 1) in one.told
            assert TEN[0] not in one.polled

    run_at_once(story())


class Cluster:
    """Three replicas that anything may happen to."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.server = LeaseServer()
        self.group = group
        self.replicas: dict[str, Replica] = {}
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        for name in NAMES:
            self.start(name)

    def start(self, name: str) -> None:
        if name not in self.tasks:
            self.replicas[name] = Replica(self.server, f"{name} {now()}")
            self.tasks[name] = self.group.create_task(self._run(self.replicas[name]))

    async def _run(self, replica: Replica) -> None:
        async with replica.running():
            await asyncio.Event().wait()

    def kill(self, name: str) -> None:
        if name in self.tasks:
            self.tasks.pop(name).cancel()
            self.replicas[name].die()

    def disturb(self, name: str, what: str) -> None:
        replica = self.replicas[name]
        replica.is_cut = what == "cut"
        replica.loses_answers = what == "lose"
        replica.delays = (lambda: 4.0) if what == "hang" else (lambda: 0.0)

    def do(self, name: str, what: str) -> None:
        if what in ("kill", "start"):
            {"kill": self.kill, "start": self.start}[what](name)
        else:
            self.disturb(name, what)


NAMES = ("one", "two", "three")
EVENTS = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(("cut", "hang", "lose", "none", "kill", "start")),
    st.floats(0.1, 12),
)


@settings(max_examples=60)
@given(events=st.lists(EVENTS, max_size=20))
def test_no_two_replicas_ever_poll_one_target(events: list[tuple[str, str, float]]) -> None:
    """Whatever hangs, is cut or dies: a replica stops before its lease ends, by its own clock."""

    async def story() -> tuple[list[int], set[TargetKey]]:
        async with asyncio.TaskGroup() as group:
            cluster = Cluster(group)
            for name, what, pause in events:
                cluster.do(name, what)
                await asyncio.sleep(pause)
            for name in NAMES:
                cluster.do(name, "none")
                cluster.start(name)
            await asyncio.sleep(45)
            replicas = cluster.replicas.values()
            assert all(replica.polled == replica.writable == replica.keeper.held for replica in replicas)
            loads = sorted(len(replica.polled) for replica in replicas)
            for name in NAMES:
                cluster.kill(name)
        return loads, cluster.server.polled_twice

    assert run_at_once(story()) == ([3, 3, 4], set())
