"""
Every odd server of `odd_servers`, all at the same time: a simulator each, and one exporter with all of them.

ODD_SERVERS, a regular expression, chooses servers by name, for a look at one of them.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from exporter.model import JOB_TYPES, STATUSES
from tests.e2e.agreement import counted_from, differences, lived
from tests.e2e.exporting import Exporter, password, project
from tests.e2e.exposed import Exposed, Figures, told
from tests.e2e.odd_servers import SERVERS, Odd
from tests.e2e.resting import scrape_at_rest, wait_for_rest
from tests.e2e.simulation import PROJECT, START_MS, Simulation, catch_up, simulations, start_ms

pytestmark = pytest.mark.e2e

CHOSEN = {
    name: server for name, server in SERVERS.items() if re.search(os.environ.get("ODD_SERVERS", ""), name)
}
UP = [name for name, server in CHOSEN.items() if server.down_because is None]
INJECTED = {"job_type": "FRAME_EXTRACT", "outcome": "RUN_FAILED", "msg_code": 77, "count": 6}
AUDIT_SECONDS = 5
POLL = {
    "interval": "1s",
    "audit_interval": f"{AUDIT_SECONDS}s",
    "terminal_statuses": ["SHELVED"],
    "lookback": "60d",
}
# A full sync may follow a surprise; it must not become the way a server is read.
# An hour that passes at once is a gap to the poll that is under way, and to the one after it.
MAX_FULL_SYNCS = {"first": 1, "gap": 6, "drift": 2, "scheduled": 0}
MAX_REQUESTS = 400
MAX_TEXT = 2000
MAX_VALUES = 51


@dataclass(slots=True)
class Phase:
    """
    What was exposed and what was true at one moment, by project.

    Shape: several accounts where more than one is right.
    """

    exposed: dict[str, Exposed]
    status: dict[str, dict[str, Any]]
    accounts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def error(self, name: str) -> str:
        error = self.status[name]["error"]
        return f"{error['reason']}: {error['message']}" if error else "no error"


@dataclass(slots=True)
class Lives:
    """
    The phases: after the first sync, after some hours, and with all oddities switched off.

    Shape: `status` is of the later one, `took_seconds` the time until then.
    """

    first: Phase
    later: Phase
    cured: Phase
    status: list[dict[str, Any]]
    took_seconds: float


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    folder = tmp_path_factory.mktemp("odd")
    began, settings = time.time(), [_settings(server) for server in CHOSEN.values()]
    with simulations(folder / "simulators", *settings) as served:
        simulators = dict(zip(CHOSEN, served, strict=True))
        sections = [project(one.url, name, credentials=name) for name, one in simulators.items()]
        exporter = Exporter(folder, "", projects=sections)
        exporter.change(poll=POLL)
        exporter.config["credentials"] = {name: password(one.url) for name, one in simulators.items()}
        catch_up((simulators[name] for name in CHOSEN if CHOSEN[name].start_in_seconds is not None), began)
        with exporter.running() as program:
            exporter.wait_until_listening(program)
            yield _live(exporter, simulators)


def _settings(server: Odd) -> dict[str, Any]:
    began_ms = START_MS if server.start_in_seconds is None else start_ms(server.start_in_seconds)
    given = {"quirks": server.quirks, "faults": server.faults, "jobs": server.jobs, "start_ms": began_ms}
    return {"jobs_per_day": 300, **given, **server.settings}


def _live(exporter: Exporter, simulators: dict[str, Simulation]) -> Lives:
    """Sync first, live three hours with failures to count, and be cured."""
    began = time.monotonic()
    newest_ms = {name: simulator.newest_ms() for name, simulator in simulators.items()}
    patience = {name: _patience(server) for name, server in CHOSEN.items()}
    _leave_blank_lists_behind(exporter, simulators)
    first = _phase(exporter, simulators, patience, newest_ms)
    for name, server in CHOSEN.items():
        if server.later is not None:
            simulators[name].set_quirks(**server.later)
    _let_hours_pass(exporter, simulators, patience)
    later = _phase(exporter, simulators, patience, newest_ms)
    status, took_seconds = exporter.page("api/v1/status").json["targets"], time.monotonic() - began
    for name, simulator in simulators.items():
        # Another id is another job, so that ids are all that stays as it was.
        simulator.set_quirks(id_offset=CHOSEN[name].quirks.get("id_offset", 0))
        simulator.set_faults("")
    cured = _phase(exporter, simulators, {}, newest_ms)
    return Lives(first, later, cured, status, took_seconds)


def _patience(server: Odd) -> int:
    """Return how many polls may fail before a server is given up: chance takes more of them."""
    return 30 if server.faults else 3


def _leave_blank_lists_behind(exporter: Exporter, simulators: dict[str, Simulation]) -> None:
    """Let the first poll of some servers find an empty list, by a fault."""
    blank = [name for name, server in CHOSEN.items() if "blank" in server.faults]
    for name in blank:
        exporter.scrape_until("octopus_up", 1, project=name)
        simulators[name].set_faults("")


def _let_hours_pass(exporter: Exporter, simulators: dict[str, Simulation], patience: dict[str, int]) -> None:
    """Let three hours pass, an hour at a time, with failures to count after the first one."""
    for hour in range(3):
        for name, simulator in simulators.items():
            simulator.advance(3600)
            if hour == 0:
                for order in (INJECTED, *CHOSEN[name].orders):
                    simulator.create_jobs(**order)
        wait_for_rest(exporter, successes=1, patience=patience)


def _phase(
    exporter: Exporter,
    simulators: dict[str, Simulation],
    patience: dict[str, int],
    newest_ms: dict[str, int],
) -> Phase:
    exposed = scrape_at_rest(exporter, patience=patience)
    phase = Phase(exposed.by_project(), {target["project"]: target for target in exporter.targets()})
    for name, simulator in simulators.items():
        baseline_ms = phase.status[name]["baseline_ms"] or 0
        since_ms = counted_from(baseline_ms, newest_ms[name], CHOSEN[name].quirks)
        if CHOSEN[name].both_clocks_ahead:
            since_ms = (newest_ms[name] + 1,)
        phase.accounts[name] = [simulator.account(PROJECT, "0", at_ms) for at_ms in since_ms]
    return phase


@pytest.mark.parametrize("name", CHOSEN)
def test_it_is_read_at_first(lives: Lives, name: str) -> None:
    _check(lives.first, name)


@pytest.mark.parametrize("name", CHOSEN)
def test_hours_later_it_is_counted_exactly(lives: Lives, name: str) -> None:
    server = CHOSEN[name]
    _check(lives.later, name)
    if server.down_because is None:
        failures = told(lives.later.exposed[name], project=name)["failures"]
        assert failures.get(("FRAME_EXTRACT", "RUN_FAILED", "77")) == INJECTED["count"]


@pytest.mark.parametrize("name", UP)
def test_rows_set_apart_are_counted(lives: Lives, name: str) -> None:
    unreadable = [
        phase.exposed[name].value("octopus_rows_unreadable", project=name)
        for phase in (lives.first, lives.later, lives.cured)
    ]
    server = CHOSEN[name]
    assert unreadable == [server.apart if server.later is None else 0, server.apart, 0]


@pytest.mark.parametrize("name", UP)
def test_it_costs_no_more_than_it_must(lives: Lives, name: str) -> None:
    exposed = lives.later.exposed[name]
    syncs = exposed.by("octopus_ledger_full_syncs_total", "reason", project=name)
    # A server without totals is listed whole at every poll: that is what its filters are worth.
    if CHOSEN[name].jumps:
        assert sum(syncs.values()) <= sum(exposed.successes().values()), syncs
    else:
        # Rows that were set apart are looked for again, where there are few pages: every audit interval.
        # A time that stands still for minutes becomes a gap; a first listing that takes so long begins again.
        looks = lives.took_seconds // AUDIT_SECONDS if CHOSEN[name].apart else 0
        gaps = lives.took_seconds // 60
        most = {
            **MAX_FULL_SYNCS,
            "drift": MAX_FULL_SYNCS["drift"] + looks,
            "gap": MAX_FULL_SYNCS["gap"] + gaps,
            "first": MAX_FULL_SYNCS["first"] + gaps,
        }
        assert all(syncs[reason,] <= times for reason, times in most.items()), syncs
    assert (exposed.value("octopus_poll_requests", project=name) or 0) <= MAX_REQUESTS


@pytest.mark.parametrize("name", UP)
def test_drift_is_what_the_totals_have_too_many(lives: Lives, name: str) -> None:
    drift = lives.later.exposed[name].by("octopus_ledger_drift_jobs", "status", project=name)
    assert drift
    if CHOSEN[name].has_surplus:
        assert max(drift.values()) > 0
    elif not {"total_surplus", "total_cap", "total_of_page", "total_fixed"} & set(CHOSEN[name].quirks):
        assert set(drift.values()) == {0}


@pytest.mark.parametrize("name", CHOSEN)
def test_once_the_server_is_as_documented_everything_is_exact(lives: Lives, name: str) -> None:
    server = CHOSEN[name]
    phase = lives.cured
    assert phase.exposed[name].value("octopus_up", project=name) == 1, phase.error(name)
    if server.down_because is None:
        _check(phase, name, server.recounted)
    else:
        assert told(phase.exposed[name], project=name)["listed"] == lived(phase.accounts[name][0])["listed"]


def test_neither_texts_nor_values_grow_without_bounds(lives: Lives) -> None:
    for target in lives.status:
        for failure in target["recent_failures"]:
            assert len(failure["msg_error"]) <= MAX_TEXT, target["project"]
    for label, known in (("job_type", JOB_TYPES), ("status", STATUSES)):
        for name, exposed in lives.later.exposed.items():
            seen = {sample.labels[label] for sample in exposed.having("octopus_jobs")}
            assert len(seen) <= len(known) + MAX_VALUES, (name, label)


def _check(phase: Phase, name: str, uncounted: tuple[str, ...] = ()) -> None:
    """Hold one target to its account but for some figures, or to the error it has to show."""
    server, up = CHOSEN[name], phase.exposed[name].value("octopus_up", project=name)
    if server.down_because is not None:
        assert up == 0
        assert phase.error(name).startswith("contract: ")
        assert server.down_because in phase.error(name)
        return
    assert up == 1, phase.error(name)
    said = told(phase.exposed[name], project=name)
    differing = []
    for account in phase.accounts[name]:
        true = expected(server, account)
        for figure in (*server.uncounted, *uncounted):
            said[figure] = true[figure] = {}
        differing = differences(*((_sums(said), _sums(true)) if server.lumps else (said, true)))
        if not differing:
            return
    pytest.fail("\n".join([f"{name}: {server}", *differing]), pytrace=False)


def expected(server: Odd, account: dict[str, Any]) -> dict[str, Figures]:
    """
    Give the account less what cannot be known.

    A row that was never read is not listed; one that was read before it became odd stays as it was.
    """
    true = lived(account)
    for odd in account["odd"]:
        if odd["what"] == ["hidden"] or (server.apart and server.later is None):
            true["listed"] = _less(true["listed"], (odd["job_type"], odd["status"]))
    return true


def _less(figures: Figures, key: tuple[str, ...]) -> Figures:
    left = Counter(figures) - Counter({key: 1})
    return dict(left)


def _sums(figures: dict[str, Figures]) -> dict[str, Figures]:
    """Add values up that may be lumped together as "other"."""
    return {name: {("all",): sum(by.values())} for name, by in figures.items()}
