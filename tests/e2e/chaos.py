"""
Random events that befall replicas and what they depend on; after some of them everything must agree.

Time stands still in the simulators but for the steps that `Chaos` takes. So at rest there is one right value
of every series, and every replica has to come to it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.e2e.agreement import differences
from tests.e2e.cut_proxy import Proxies
from tests.e2e.events import Line, assert_all_are_there, events_in_pieces, without_repetitions
from tests.e2e.exporting import password, project
from tests.e2e.exposed import TARGET, Exposed, Figures, told
from tests.e2e.replicas import Replica
from tests.e2e.scrape_watch import Account, ScrapeWatch
from tests.e2e.simulation import OTHER_PROJECT, PROJECT, Simulation, simulations
from tests.e2e.waiting import PATIENCE_SECONDS, until
from tests.postgres import PgBouncer, PostgresDatabase

# No token ends before its time: after that a project waits up to a minute for its next login.
FAULTS = "throttle=0.01,errors=0.04,slow=0.03,broken=0.02"
# A job that was seen to end may be reopened after two simulated hours. All targets are polled in less.
MOST_SECONDS_BEFORE_REST = 3000.0
PROJECTS = (PROJECT, OTHER_PROJECT)
_STEPS = (5, 60, 300, 600)
# The exit code where the database was away when the replica began.
_COULD_NOT_START = 3
_OF_JOBS = ("octopus_job", "octopus_resource", "octopus_rows", "octopus_ledger_drift")
# Of a machine that is so busy that leases of 3 s end now and then.
_REST_SECONDS = PATIENCE_SECONDS


@dataclass
class Fleet:
    """Replicas over simulators, and the servers between them."""

    replicas: list[Replica]
    simulators: list[Simulation]
    lease_seconds: float
    database: PostgresDatabase
    bouncer: PgBouncer | None = None

    def set_faults(self, faults: str) -> None:
        for simulator in self.simulators:
            simulator.set_faults(faults)

    def accounts(self) -> list[Account]:
        """Say where the truth about each target is. They must have been published."""
        return [
            Account(
                self.simulators[int(target["project"].rpartition("-")[2])],
                target["project"],
                target["project_id"],
                target["workspace"],
                target["baseline_ms"],
            )
            for target in self.replicas[0].targets()
        ]


def open_fleet(
    running: ExitStack,
    folder: Path,
    count: int,
    proxies: Proxies,
    database: PostgresDatabase,
    bouncer: PgBouncer | None = None,
    *,
    url: str = "",
    lease_seconds: float = 3.0,
    workspaces: tuple[str, ...] = ("0", "7"),
    settings: Sequence[Mapping[str, Any]] = ({"jobs_per_day": 10_000}, {"jobs_per_day": 5_000}),
) -> Fleet:
    """
    Start simulators, and make replicas that do not run yet.

    Each reaches the database by a proxy of its own, unless it is given the URL.
    """
    own: list[dict[str, Any]] = [
        {"jobs": 100, "projects": [PROJECTS[number]], "workspaces": workspaces, "seed": number + 1, **one}
        for number, one in enumerate(settings)
    ]
    simulators = running.enter_context(simulations(folder / "simulators", *own))
    sections = [
        project(
            simulator.url,
            f"project-{number}",
            PROJECTS[number],
            workspaces=list(workspaces),
            credentials=f"user-{number}",
        )
        for number, simulator in enumerate(simulators)
    ]
    replicas = []
    for number in range(count):
        place = folder / f"replica-{number}"
        place.mkdir()
        proxy = None if url else proxies.before(bouncer.port if bouncer else database.server.port)
        ledger = (
            url if proxy is None else database.url.replace(f":{database.server.port}/", f":{proxy.port}/")
        )
        replica = Replica(place, ledger, sections, f"{lease_seconds:g}s", proxy)
        # Access keys would be refused while a clock is moved: their signature has a time.
        replica.config["credentials"] = {
            f"user-{index}": password(simulator.url) for index, simulator in enumerate(simulators)
        }
        running.callback(replica.end)
        replicas.append(replica)
    return Fleet(replicas, simulators, lease_seconds, database, bouncer)


@dataclass
class Chaos:
    """Lets events befall a fleet, in an order that depends on the seed."""

    fleet: Fleet
    watch: ScrapeWatch
    rng: Random
    happened: Counter[str] = field(default_factory=Counter)
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _passed_seconds: float = 0.0
    _server_is_away: bool = False

    def round(self, events: int) -> list[str]:
        """Let so many events happen, one soon after the other, and come to rest. Returns what happened."""
        self.fleet.set_faults(FAULTS)
        told_events, began = list[str](), time.monotonic()
        for _ in range(events):
            self._pass_time()
            name, event = self.rng.choice(self._possible())
            event()
            told_events.append(f"{name} at {time.monotonic() - began:.1f}")
            self.happened[name] += 1
            self._wait(self.rng.uniform(0.0, 1.2))
        self.come_to_rest(told_events)
        return told_events

    def come_to_rest(self, after: list[str]) -> None:
        """Bring everything back to order; wait until every replica exports what the accounts say."""
        fleet = self.fleet
        for _, action in sorted(self._later, key=lambda due: due[0]):
            action()
        self._later.clear()
        self._passed_seconds = 0.0
        fleet.set_faults("")
        fleet.database.server.settle()
        if fleet.bouncer:
            fleet.bouncer.settle()
        for replica in fleet.replicas:
            if replica.proxy:
                replica.proxy.settle()
            if replica.is_frozen:
                replica.thaw()
            if not replica.runs:
                replica.start()
        wait_for_agreement(fleet.replicas, self.watch.accounts, self.watch, after)

    def leave(self) -> None:
        """Let nothing stand still that others wait for."""
        for replica in self.fleet.replicas:
            if replica.is_frozen and replica.runs:
                replica.thaw()

    # -- what may happen ---------------------------------------------------------------------------------

    def _possible(self) -> list[tuple[str, Callable[[], None]]]:
        """Give the events that can happen now."""
        fleet = self.fleet
        alive = [replica for replica in fleet.replicas if replica.runs and not replica.is_frozen]
        events: list[tuple[str, Callable[[], None]]] = [("API refuses", self._outage)]
        for one in alive:
            events += [
                ("kill", lambda one=one: self._kill(one)),
                ("terminate", lambda one=one: self._terminate(one)),
                ("freeze", lambda one=one: self._freeze(one)),
                (
                    "clock",
                    lambda one=one: one.move_clock(self.rng.choice((-86_400, -3600, -40, 0, 40, 7200))),
                ),
            ]
            if one.proxy:
                events += [
                    ("cut before COMMIT", lambda one=one: one.proxy.cut_at_commit("before")),
                    ("cut after COMMIT", lambda one=one: one.proxy.cut_at_commit("after")),
                    ("partition", lambda one=one: self._partition(one)),
                ]
        if not self._server_is_away:
            server = fleet.database.server
            events += [
                ("backends ended", lambda: self._end_backends("random() < 0.7")),
                ("backends ended", lambda: self._end_backends("state <> 'idle'")),
                ("server restarted", server.restart),
                ("server crashed", lambda: server.restart(immediate=True)),
                ("server away", self._stop_server),
                ("server hangs", self._pause_server),
                ("server read-only", self._read_only),
            ]
        if fleet.bouncer:
            events += [("PgBouncer restarted", fleet.bouncer.restart)]
        return events

    def _kill(self, replica: Replica) -> None:
        replica.program.kill()
        self._restart_later(replica)

    def _terminate(self, replica: Replica) -> None:
        replica.terminate()
        self._restart_later(replica)

    def _restart_later(self, replica: Replica) -> None:
        life = replica.lives

        def restart() -> None:
            if replica.lives != life:
                return  # it was killed while it ended, and runs again
            if replica.is_frozen:
                replica.thaw()
            replica.program.wait()
            replica.start()

        self._at(self._up_to_two_leases(), restart)

    def _freeze(self, replica: Replica) -> None:
        replica.freeze()

        def thaw() -> None:
            if replica.is_frozen and replica.runs:
                replica.thaw()

        self._at(self.fleet.lease_seconds * self.rng.uniform(0.3, 2.0), thaw)

    def _partition(self, replica: Replica) -> None:
        assert replica.proxy
        replica.proxy.hold()
        self._at(self._up_to_two_leases(), replica.proxy.let_through)

    def _end_backends(self, which: str) -> None:
        self.fleet.database.terminate(which)

    def _stop_server(self) -> None:
        server = self.fleet.database.server
        server.stop(immediate=self.rng.random() < 0.5)
        self._server_is_busy(server.start)

    def _pause_server(self) -> None:
        self.fleet.database.server.pause()
        self._server_is_busy(self.fleet.database.server.go_on)

    def _read_only(self) -> None:
        server = self.fleet.database.server
        server.set_read_only()
        self._server_is_busy(lambda: server.set_read_only(False))

    def _server_is_busy(self, end: Callable[[], None]) -> None:
        self._server_is_away = True

        def over() -> None:
            self._server_is_away = False
            end()

        self._at(self._up_to_two_leases(), over)

    def _outage(self) -> None:
        self.fleet.set_faults("errors=1")
        self._at(self.rng.uniform(0.5, 1.5), lambda: self.fleet.set_faults(FAULTS))

    # -- time --------------------------------------------------------------------------------------------

    def _pass_time(self) -> None:
        step = self.rng.choice(_STEPS)
        if self._passed_seconds + step > MOST_SECONDS_BEFORE_REST:
            return
        self._passed_seconds += step
        for simulator in self.fleet.simulators:
            simulator.advance(step)

    def _up_to_two_leases(self) -> float:
        """Draw how long something lasts: often shorter than a lease, often longer."""
        return self.rng.choice((0.0, self.rng.uniform(0, 2 * self.fleet.lease_seconds)))

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    def _wait(self, seconds: float) -> None:
        """Let time pass, and do what is due in it."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            due = [item for item in self._later if item[0] <= now]
            self._later = [item for item in self._later if item[0] > now]
            for _, action in due:
                action()
            time.sleep(0.05)


def wait_for_agreement(
    replicas: Sequence[Replica],
    accounts: Sequence[Account],
    watch: ScrapeWatch | None = None,
    after: Sequence[str] = (),
) -> None:
    """
    Wait until every replica exports what the accounts say, while time stands still.

    What was lost stays below them, and what was counted twice above them, so then it fails. What the accounts
    do not tell, as buckets and the oldest jobs, all replicas export alike.
    """
    now = [(account, account.figures()) for account in accounts]
    deadline = time.monotonic() + _REST_SECONDS
    while wrong := _wrong(replicas, now):
        assert watch is None or not watch.found, (after, watch.found[:20])
        assert time.monotonic() < deadline, (after, wrong[:20])
        time.sleep(0.2)
    assert watch is None or not watch.found, (after, watch.found[:20])


def _wrong(replicas: Sequence[Replica], accounts: list[tuple[Account, dict[str, Figures]]]) -> list[str]:
    """Say where replicas differ from the accounts, and from each other."""
    texts = {}
    for replica in replicas:
        if not replica.runs and replica.program.process.returncode == _COULD_NOT_START:
            replica.start()  # as whoever looks after it would
        replica.program.must_run()
        if (answer := replica.try_page("metrics")) is None:
            return [f"{replica.name} does not answer"]
        texts[replica.name] = answer.text
    return [
        *(line for name, text in texts.items() for line in _unlike_accounts(name, text, accounts)),
        *_unlike_each_other({name: _of_jobs(text) for name, text in texts.items()}),
    ]


def _unlike_accounts(name: str, text: str, accounts: list[tuple[Account, dict[str, Figures]]]) -> list[str]:
    by_project = Exposed.of_text(text, ("octopus_job", "octopus_resource", "octopus_up")).by_project()
    lines = []
    for account, true in accounts:
        exposed = by_project.get(account.project, Exposed(()))
        where = dict(zip(TARGET, (account.project, account.workspace), strict=True))
        found = differences(told(exposed, **where), true)
        if exposed.value("octopus_up", **where) != 1:
            found.append("up is not 1")
        lines += [f"{name}: {account.project}/{account.workspace} {line}" for line in found]
    return lines


def _of_jobs(text: str) -> set[str]:
    """Keep what is exported of jobs, but for the numbers that grow with the age of a job."""
    return {
        line
        for line in text.splitlines()
        if line.startswith(_OF_JOBS) and not line.startswith("octopus_jobs_older_than")
    }


def _unlike_each_other(exported: Mapping[str, set[str]]) -> list[str]:
    common = set.intersection(*exported.values())
    return [f"{name} alone: {line}" for name, lines in exported.items() for line in sorted(lines - common)]


def assert_events_agree(fleet: Fleet, kills: int) -> None:
    """Every run that was counted is an event of at least one replica; the same event is the same line."""
    first = fleet.replicas[0]
    ended = sum(value for account in fleet.accounts() for value in account.figures()["ended"].values())

    def read() -> list[Line]:
        lines: list[Line] = []
        for file in sorted(first.folder.parent.glob("replica-*/events.log")):
            whole, _, _ = file.read_bytes().rpartition(b"\n")
            lines += events_in_pieces(whole.decode(), kills)
        return without_repetitions(lines)

    until(lambda: len(read()) >= ended, f"{ended} events")
    for number, simulator in enumerate(fleet.simulators):
        mine = [line for line in read() if line["project"] == f"project-{number}"]
        assert_all_are_there(mine, first, simulator, f"project-{number}")
