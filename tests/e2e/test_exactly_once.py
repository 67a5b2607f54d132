"""The promise the exporter is for: every run is counted once, whatever ends the process or ails the API."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.e2e.agreement import assert_agreement, assert_failures_kept
from tests.e2e.conftest import Simulate
from tests.e2e.events import (
    Line,
    assert_all_are_there,
    assert_in_order,
    events_in_pieces,
    without_repetitions,
)
from tests.e2e.exporting import Exporter, project
from tests.e2e.exposed import told
from tests.e2e.processes import Program
from tests.e2e.simulation import OTHER_PROJECT, PROJECT, Simulation
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

KILLS = 50
KILLS_BEFORE_TIME_RUNS = 4
SPEED = 240.0
# No token ends before its time: after that a project waits up to a minute for its next login.
FAULTS = "throttle=0.01,errors=0.04,slow=0.03,broken=0.02"

# The end of a run is there to be seen for two simulated hours: only then may its job be reopened, or (after a
# day) be deleted. Long before an exporter that is killed again and again could miss that, time waits for it.
LONGEST_ABSENCE_SECONDS = 3600 / SPEED


@dataclass(slots=True)
class Watch:
    """Looks after the exporter's absences; time begins to run with the first call."""

    exporter: Exporter
    simulator: Simulation
    seen_ms: int = 0

    def spare(self, program: Program) -> None:
        """Let time stand still until the next complete poll, where too much has passed since the last one."""
        if time.time() - self._last_success_ms(program) / 1000 < LONGEST_ABSENCE_SECONDS:
            return
        self.simulator.set_speed(0)
        stopped_ms = time.time() * 1000
        until(lambda: self._last_success_ms(program) > stopped_ms, "a poll of every target that succeeds")
        self.simulator.set_speed(SPEED)

    def _last_success_ms(self, program: Program) -> int:
        """Give when the target that succeeded the longest ago did, as far as is known."""
        program.must_run()
        answer = self.exporter.try_page("api/v1/status")
        if answer is not None:
            self.seen_ms = min(
                (target["last_success_ms"] or 0 for target in answer.json["targets"]), default=0
            )
        return self.seen_ms


def test_every_run_is_counted_once_and_has_its_event_over_fifty_kills(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate(
        jobs=400,
        jobs_per_day=20_000,
        projects=[PROJECT, OTHER_PROJECT],
        workspaces=["0", "7"],
        faults=FAULTS,
    )
    workspaces = ["0", "7"]
    projects = [
        project(simulator.url, "perception", PROJECT, workspaces=workspaces),
        project(simulator.url, "planning", OTHER_PROJECT, workspaces=workspaces),
    ]
    exporter = Exporter(tmp_path, simulator.url, projects=projects)
    exporter.change(events={"to": "events.log"})
    watch, rng = Watch(exporter, simulator), Random(20_260_302)
    for kill in range(KILLS):
        with exporter.running() as program:
            # Some lives end before the first poll, most in the midst of one, some between two.
            time.sleep(rng.uniform(0, 2.5))
            if kill >= KILLS_BEFORE_TIME_RUNS:
                watch.spare(program)
            program.must_run()
            program.kill()
    simulator.set_speed(0)
    simulator.set_faults("")
    with exporter.ready():
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator)
        assert_failures_kept(exporter, simulator)
        assert_events_agree(exporter, simulator)
    assert sum(told(exposed, project="planning", workspace="7")["ended"].values()) > 200


def test_every_run_is_counted_once_where_jobs_come_in_batches_and_are_retried(
    tmp_path: Path, simulate: Simulate
) -> None:
    """Three days with a job type that is new, an outage, and users who submit what failed again."""
    simulator = simulate(jobs=1000, jobs_per_day=2000, profile="bursty", reopening=False)
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.ready():
        for half_day in range(6):
            if half_day == 3:
                simulator.begin_incident(job_type="FRAME_EXTRACT", seconds=4 * 3600)
            simulator.advance(12 * 3600)
            exporter.scrape_after_polls(1)
        exposed = exporter.scrape_after_polls(2)
        assert_agreement(exporter, exposed, simulator)
    assert told(exposed)["created"]["REPLAY_SIMULATION",] > 20


def assert_events_agree(exporter: Exporter, simulator: Simulation) -> None:
    """Every run that was counted is an event, some of them written again after a kill."""
    ended, file = exporter.scrape().total("octopus_jobs_completed_total"), exporter.folder / "events.log"

    def read() -> list[Line]:
        whole, _, _ = file.read_bytes().rpartition(b"\n")  # the last line is being written perhaps
        return events_in_pieces(whole.decode(), KILLS)

    until(lambda: len(without_repetitions(read())) >= ended, f"{ended} events")
    once = without_repetitions(read())
    assert_all_are_there(once, exporter, simulator)
    assert_in_order(once)
