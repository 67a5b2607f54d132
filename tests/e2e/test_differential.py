"""
Servers drawn by chance, and an exporter that is killed, stopped, reloaded and frozen: the numbers stay exact.

All servers live at the same time, one exporter has a project for each. After every round, at rest, all it
exports equals the simulators' accounts. A failure prints the seed and what was drawn. For longer runs by
hand:

    DIFFERENTIAL_SEED=7 DIFFERENTIAL_SERVERS=40 DIFFERENTIAL_ROUNDS=20 pytest tests/e2e/test_differential.py

DIFFERENTIAL_ONLY=server-3,server-9 keeps these of the servers drawn; DIFFERENTIAL_WITHOUT=total_fixed,shift
takes these quirks away from them; DIFFERENTIAL_CALM=1 leaves the exporter alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGHUP, SIGSTOP, SIGTERM
from typing import Any

import pytest

from tests.e2e.agreement import counted_from, differences, lived
from tests.e2e.drawn_servers import Drawn, draw
from tests.e2e.exporting import Exporter, password, project
from tests.e2e.exposed import Figures, told
from tests.e2e.processes import Program
from tests.e2e.resting import scrape_at_rest
from tests.e2e.simulation import PROJECT, Simulation, catch_up, simulations
from tests.e2e.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.e2e

SEED = int(os.environ.get("DIFFERENTIAL_SEED", "20260309"))
SERVERS = int(os.environ.get("DIFFERENTIAL_SERVERS", "20"))
ROUNDS = int(os.environ.get("DIFFERENTIAL_ROUNDS", "3"))
ONLY = tuple(filter(None, os.environ.get("DIFFERENTIAL_ONLY", "").split(",")))
WITHOUT = tuple(filter(None, os.environ.get("DIFFERENTIAL_WITHOUT", "").split(",")))
CALM = os.environ.get("DIFFERENTIAL_CALM", "") == "1"
# With the settings above unset, no new round begins that late: the whole stays within two minutes.
LAST_ROUND_SECONDS = 70.0 if ROUNDS == 3 else float("inf")
FULL_SYNC_SECONDS = 20.0
ACTIONS = ("none", "kill", "terminate", "reload", "freeze", "outage")

Servers = dict[str, tuple[Drawn, Simulation]]


class Life:
    """The exporter's process, which may end and begin again, and what it looks at."""

    def __init__(self, exporter: Exporter, servers: Servers, rng: Random) -> None:
        self.exporter = exporter
        self.servers = servers
        # Of the first sync: the simulators' time stands still until they are told otherwise.
        self.newest_ms = {name: simulator.newest_ms() for name, (_, simulator) in servers.items()}
        self._rng = rng
        self._running = exporter.running()
        self._program: Program = self._running.__enter__()

    def restart(self) -> None:
        """Begin again, after whatever end."""
        self.end()
        self._running = self.exporter.running()
        self._program = self._running.__enter__()

    def end(self) -> None:
        self._running.__exit__(None, None, None)

    def befall(self, action: str) -> None:
        """Let something happen to the exporter or the API, at some moment of a poll."""
        time.sleep(self._rng.uniform(0.2, 1.5))
        self._program.must_run()
        if action == "kill":
            self._program.kill()
            self.restart()
        elif action == "terminate":
            # While it starts, before there is a handler, it ends as any program would.
            assert self._program.stop()[0] in (0, -SIGTERM)
            self.restart()
        elif action == "reload" and self.exporter.try_page("-/healthy"):
            self._program.tell(SIGHUP)
        elif action == "freeze":
            self._program.tell(SIGSTOP)
            time.sleep(self._rng.uniform(0.5, 1.5))
            self._program.tell(SIGCONT)
        elif action == "outage":
            self.set_faults("errors=1")
            time.sleep(self._rng.uniform(0.5, 1.5))
            self.set_faults(None)

    def set_faults(self, faults: str | None) -> None:
        """Set the faults of all servers, None for each one's own."""
        for drawn, simulator in self.servers.values():
            simulator.set_faults(drawn.faults if faults is None else faults)

    def come_to_rest(self) -> None:
        """Leave nothing that goes wrong by chance, moves rows or lags; what always holds goes on."""
        for drawn, simulator in self.servers.values():
            simulator.set_faults("")
            lagging = {name: value for name, value in drawn.lively.items() if "lag" in name}
            simulator.set_quirks(**drawn.quirks, **lagging)
        until(
            lambda: all(simulator.is_settled() for _, simulator in self.servers.values()),
            "nothing that lags any more",
        )
        for drawn, simulator in self.servers.values():
            simulator.set_quirks(**drawn.quirks)
        self.exporter.wait_until_listening(self._program)

    def stir(self) -> None:
        """Let everything move that only moves while time passes."""
        for drawn, simulator in self.servers.values():
            simulator.set_faults(drawn.faults)
            simulator.set_quirks(**drawn.quirks | drawn.lively)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with _living(tmp_path, Random(SEED)) as one:
        yield one


@contextmanager
def _living(folder: Path, rng: Random) -> Iterator[Life]:
    drawn = [draw(rng, number).without(*WITHOUT) for number in range(1, SERVERS + 1)]
    drawn = [one for one in drawn if not ONLY or one.name in ONLY]
    began, settings = time.time(), [one.started() | {"faults": one.faults} for one in drawn]
    with simulations(folder / "simulators", *settings) as served:
        servers = {one.name: (one, simulator) for one, simulator in zip(drawn, served, strict=True)}
        sections = [project(s.url, name, credentials=name) for name, (_, s) in servers.items()]
        exporter = Exporter(folder, "", projects=sections)
        full_sync = f"{FULL_SYNC_SECONDS:g}s"
        exporter.change(
            poll={
                "page_size": rng.choice((20, 50, 200)),
                "full_sync_interval": full_sync,
                "audit_interval": "5s",
                "requests_per_second": 200,
            }
        )
        exporter.config["credentials"] = {name: password(s.url) for name, (_, s) in servers.items()}
        catch_up((s for one, s in servers.values() if one.start_in_seconds is not None), began)
        one_life = Life(exporter, servers, rng)
        try:
            yield one_life
        finally:
            one_life.end()


def test_everything_exported_equals_the_accounts(life: Life) -> None:
    rng, began = Random(SEED), time.monotonic()
    if not CALM:
        life.befall("kill")
    found: dict[str, list[str]] = {}
    for number in range(ROUNDS + 1):
        if number:
            life.stir()
            _let_time_pass(life, rng)
        life.come_to_rest()
        for name, lines in _differences(life).items():
            found.setdefault(name, [f"after round {number}:", *lines])
        if time.monotonic() - began > LAST_ROUND_SECONDS:
            break
    if found:
        pytest.fail(_told(found, life.servers), pytrace=False)


def _let_time_pass(life: Life, rng: Random) -> None:
    """Let up to an hour pass, in steps, with something that goes wrong after each of them."""
    for _ in range(rng.randint(2, 3)):
        for drawn, simulator in life.servers.values():
            simulator.advance(min(rng.choice((5, 60, 600, 1200)), drawn.longest_step_seconds))
        life.befall("none" if CALM else rng.choice(ACTIONS))


def _differences(life: Life) -> dict[str, list[str]]:
    """
    Compare every target with its account, after two polls that began at rest; give lines by server.

    A patient server is looked at again until a full sync has passed, however long that takes.
    """
    scrape_at_rest(life.exporter)
    found = _compared(life)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(life.servers[name][0].patient for name in found) and time.monotonic() < deadline:
        time.sleep(0.5)
        found = {name: lines for name, lines in _compared(life).items() if name in found}
    return found


def _compared(life: Life) -> dict[str, list[str]]:
    by_project = life.exporter.scrape().by_project()
    found: dict[str, list[str]] = {}
    for target in life.exporter.targets():
        name = target["project"]
        exposed = by_project[name]
        if exposed.value("octopus_up", project=name) != 1:
            error = target["error"] or {"reason": "", "message": "not polled"}
            found[name] = [f"up is not 1: {error['reason']}: {error['message']}"]
            continue
        drawn, simulator = life.servers[name]
        said, lines = told(exposed, project=name), list[list[str]]()
        for since_ms in counted_from(target["baseline_ms"], life.newest_ms[name], drawn.quirks):
            account = simulator.account(PROJECT, "0", since_ms)
            lines.append(differences(said, _listed_only(account)))
        if all(lines):
            found[name] = lines[0]
    return found


def _listed_only(account: dict[str, Any]) -> dict[str, Figures]:
    """Give the account without the rows that the server lists nowhere."""
    true = lived(account)
    for row in account["odd"]:
        if row["what"] == ["hidden"]:
            key = (row["job_type"], row["status"])
            true["listed"] = {**true["listed"], key: true["listed"][key] - 1}
    return {name: {key: value for key, value in by.items() if value} for name, by in true.items()}


def _told(found: dict[str, list[str]], servers: Servers) -> str:
    lines: list[str] = [
        f"DIFFERENTIAL_SEED={SEED} DIFFERENTIAL_SERVERS={SERVERS} DIFFERENTIAL_ROUNDS={ROUNDS}"
    ]
    for name, told_lines in found.items():
        lines += [f"{name}: {servers[name][0]}", *(f"    {line}" for line in _first(told_lines))]
    return "\n".join(lines)


def _first(lines: Sequence[str], most: int = 12) -> list[str]:
    more = [f"… and {len(lines) - most} more"] if len(lines) > most else []
    return [*lines[:most], *more]
