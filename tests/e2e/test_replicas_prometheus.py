"""A real Prometheus that scrapes two replicas while one of them dies: no query and no alert notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter.rules import Settings, generate, load_settings
from tests.e2e.chaos import Fleet, open_fleet, wait_for_agreement
from tests.e2e.cut_proxy import proxies
from tests.e2e.prometheus import SCRAPE_SECONDS, Prometheus, prometheus
from tests.e2e.replicas import Replica, wait_until_all_are_held
from tests.e2e.scrape_watch import Account
from tests.e2e.simulation import Simulation
from tests.e2e.test_alerting import hurried
from tests.e2e.waiting import until
from tests.postgres import PostgresDatabase

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

LABELS = ("project", "workspace", "job_type", "status")
ENDED = "octopus_jobs_completed_total"
COUNTERS = (
    ENDED,
    "octopus_jobs_created_total",
    "octopus_job_failures_total",
    "octopus_job_submitting_duration_seconds_count",
    "octopus_job_submitting_duration_seconds_sum",
    "octopus_job_running_duration_seconds_count",
    "octopus_job_running_duration_seconds_sum",
)
FIRING = 'count by (alertname, instance) (max_over_time(ALERTS{alertstate="firing"}[1h]))'
# Only for projects of which they know what is usual do the rules look at the number of failures.
KNOWN = "count(project:octopus_job_runs:is_known)"
# The simulator's clock is behind ours by this, and goes on by it in the end: no job is from the future.
_LATE_SECONDS = 20
_PAUSE_SECONDS = 0.5


@dataclass
class Stream:
    """Creates jobs all the time: most finish, some fail."""

    simulator: Simulation
    workspaces: tuple[str, ...]

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs")

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE_SECONDS):
            for workspace in self.workspaces:
                where = {"job_type": "FRAME_EXTRACT", "workspace": workspace}
                self.simulator.create_jobs(**where, count=5, outcome="FINISHED")
                self.simulator.create_jobs(**where, outcome="RUN_FAILED", msg_code=1001)


def test_a_failover_shows_in_no_query_and_in_no_alert(tmp_path: Path, database: PostgresDatabase) -> None:
    with two_replicas(tmp_path, database) as fleet:
        first, second = fleet.replicas
        accounts, simulator = fleet.accounts(), fleet.simulators[0]
        ports = [replica.port for replica in fleet.replicas]
        rules = generate(settings())
        with prometheus(tmp_path / "prometheus", *ports, rules=rules) as server:
            server.wait_for(f"sum(count_over_time({ENDED}[5m]) > bool 2) == bool count({ENDED})", 1)
            assert server.query(f"max(max_over_time({ENDED}[5m]))") == 0
            stream = Stream(simulator, ("0", "7"))
            stream.start()
            try:
                server.wait_for(KNOWN, 1)
                for leaving, staying in ((first, second), (second, first)):
                    assert leaving.held()
                    if leaving is first:
                        leaving.program.kill()
                    else:
                        assert leaving.program.stop()[0] == 0
                    until(lambda one=staying: len(one.held()) == len(accounts), "the other has everything")
                    time.sleep(3)
                    leaving.start()
                    leaving.wait_until_it_is_ready()
                    wait_until_all_are_held(fleet.replicas, len(accounts))
                    time.sleep(2)
            finally:
                stream.end()
            # All these runs end within seconds.
            simulator.advance(_LATE_SECONDS)
            simulator.set_speed(0)
            wait_for_agreement(fleet.replicas, accounts)
            scraped_after(server, ports)
            check_increases(server, accounts, ports)
            check_alerts(server, fleet.replicas)


@contextmanager
def two_replicas(folder: Path, database: PostgresDatabase) -> Iterator[Fleet]:
    """Run two replicas over a simulator of our time."""
    with ExitStack() as running:
        ways = running.enter_context(proxies())
        settings = [
            {
                "jobs": 0,
                "jobs_per_day": 0,
                "speed": 1.0,
                "start_ms": int((time.time() - _LATE_SECONDS) * 1000),
            }
        ]
        fleet = open_fleet(running, folder, 2, ways, database, settings=settings)
        for replica in fleet.replicas:
            replica.start()
        for replica in fleet.replicas:
            replica.wait_until_it_is_ready()
        wait_until_all_are_held(fleet.replicas, 2)
        yield fleet


def settings() -> Settings:
    """
    Give the settings of a hurried world, to which a failover is long.

    What jobs do in it, within seconds, is no reason for an alert; nor is a scrape that a busy machine missed.
    """
    hurry, usual = hurried(), load_settings()
    of_jobs = ("stuck", "backlog", "clear", "resource", "error_code", "stalled")
    calm = {name: getattr(usual, name) for name in of_jobs}
    # A crash is a replacement within the lease of 3 s and some seconds more.
    exporter = hurry.exporter.model_copy(update={"down": 10.0, "target_unheld": 10.0})
    return hurry.model_copy(update={**calm, "exporter": exporter})


def scraped_after(server: Prometheus, ports: list[int]) -> None:
    """Wait until every replica has been scraped some more times."""
    now = time.time()
    for port in ports:
        up = f'up{{instance="127.0.0.1:{port}"}}'
        server.wait_for(f"count_over_time(({up} == 1 and timestamp({up}) > {now})[1m:1s]) >= bool 3", 1)


def check_increases(server: Prometheus, accounts: list[Account], ports: list[int]) -> None:
    """
    Hold every counter of every instance to the account, sample by sample, and the usual query as a whole.

    increase() stretches the difference of its samples to the window, by at most 1.1 scrape intervals.
    """
    for counter in COUNTERS:
        for labels, samples in server.samples_by(f"{counter}[1h]", "instance", *LABELS).items():
            values = [value for _, value in samples]
            assert values[0] == 0, (counter, labels, values)
            assert values == sorted(values), (counter, labels, values)
    wanted = {
        (account.project, account.workspace, *key): value
        for account in accounts
        for key, value in account.figures()["ended"].items()
    }
    assert sum(wanted.values()) > 300
    for port in ports:
        found = server.by(f'{ENDED}{{instance="127.0.0.1:{port}"}} > 0', *LABELS)
        assert found == wanted
    by = ", ".join(LABELS)
    increases = server.by(f"max by ({by}) (increase({ENDED}[1h])) > 0", *LABELS)
    assert increases.keys() == wanted.keys()
    (samples,) = server.samples_by(f'up{{instance="127.0.0.1:{ports[0]}"}}[1h]', "instance").values()
    span_seconds = samples[-1][0] - samples[0][0]
    most = 1 + 2.2 * max(span_seconds / len(samples), SCRAPE_SECONDS) / span_seconds
    for key, value in wanted.items():
        assert value - 1e-6 <= increases[key] <= value * most


def check_alerts(server: Prometheus, replicas: list[Replica]) -> None:
    """Only the instance that was dead is told of, and the watchdog, which always fires."""
    fired = set(server.by(FIRING, "alertname", "instance"))
    instances = {f"127.0.0.1:{replica.port}" for replica in replicas}
    dead = {("OctopusExporterInstanceDown", instance) for instance in instances}
    assert fired - dead == {("OctopusWatchdog", "")}
