"""Two exporters on one PostgreSQL ledger: both export every target, each polls its part."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.events import Line, assert_all_are_there, events_in_pieces, without_repetitions
from tests.e2e.exporting import Exporter, project
from tests.e2e.ledgers import HOUR
from tests.e2e.processes import run
from tests.e2e.simulation import Simulation
from tests.e2e.waiting import until
from tests.postgres import PostgresDatabase

pytestmark = pytest.mark.e2e

WORKSPACES = ["0", "2", "4", "3"]
LEASE_SECONDS = 4.0
HELD = "octopus_exporter_lease_held"


def replica(
    folder: Path, api: str, database: PostgresDatabase, workspaces: Sequence[str] = WORKSPACES
) -> Exporter:
    exporter = Exporter(folder, api, projects=[project(api, workspaces=list(workspaces))])
    exporter.config["ledger"] = {"url": database.url, "lease": f"{LEASE_SECONDS:g}s"}
    exporter.change(events={"to": str(folder / "events.jsonl")})
    return exporter


def events(*exporters: Exporter) -> list[Line]:
    """Read the events that all of them have written."""
    files = [exporter.folder / "events.jsonl" for exporter in exporters]
    return events_in_pieces("".join(file.read_text() for file in files if file.exists()), cuts=1)


def wait_for_events(simulator: Simulation, reader: Exporter, *writers: Exporter) -> None:
    """Wait until each run that ended has its event, whoever wrote it."""
    ended = reader.scrape().total("octopus_jobs_completed_total")
    until(lambda: len(without_repetitions(events(*writers))) == ended, f"{ended} events")
    assert_all_are_there(without_repetitions(events(*writers)), reader, simulator)


@contextmanager
def scraped(*exporters: Exporter) -> Iterator[None]:
    """Scrape all again and again, as Prometheus does: new series wait for a scrape of their holder."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(0.2):
            for exporter in exporters:
                exporter.try_page("metrics")

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def held(exporter: Exporter) -> set[str]:
    """Name the workspaces that an exporter polls."""
    exposed = exporter.scrape_names(HELD)
    return {name for name in WORKSPACES if exposed.value(HELD, workspace=name) == 1}


def wait_until_held(exporter: Exporter, targets: int, within_seconds: float) -> None:
    began = time.monotonic()
    until(lambda: len(held(exporter)) == targets, f"{targets} targets are polled here")
    assert time.monotonic() - began <= within_seconds


def test_replicas_share_the_targets_and_take_over_from_each_other(
    tmp_path: Path, simulate: Simulate, database: PostgresDatabase
) -> None:
    simulator = simulate(workspaces=tuple(WORKSPACES))
    one, two, third = (replica(tmp_path / name, simulator.url, database) for name in ("one", "two", "three"))
    with ExitStack() as running, scraped(one, two, third):
        first = running.enter_context(one.ready())
        wait_until_held(one, 4, within_seconds=10)
        second = running.enter_context(two.ready())
        # The one that joins gets its share, without a gap.
        wait_until_held(two, 2, within_seconds=30)
        until(lambda: held(one) == set(WORKSPACES) - held(two), "each target is polled by one")
        simulator.advance(HOUR)
        for exporter in (one, two):
            assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
        wait_for_events(simulator, one, one, two)
        assert len(events(one, two)) == len(without_repetitions(events(one, two)))

        first.process.send_signal(SIGKILL)
        wait_until_held(two, 4, within_seconds=LEASE_SECONDS + 8)
        simulator.advance(HOUR)
        assert_agreement(two, two.scrape_after_polls(2), simulator)

        running.enter_context(third.ready())
        wait_until_held(third, 2, within_seconds=30)
        simulator.advance(HOUR)
        for exporter in (two, third):
            assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
        second.process.send_signal(SIGTERM)
        wait_until_held(third, 4, within_seconds=5)
        assert second.wait() == 0
        simulator.advance(HOUR)
        assert_agreement(third, third.scrape_after_polls(2), simulator)
        wait_for_events(simulator, third, one, two, third)


def test_without_the_database_polls_fail_gauges_go_and_no_count_is_lost(
    tmp_path: Path, simulate: Simulate, database: PostgresDatabase
) -> None:
    simulator = simulate(workspaces=("0", "2"))
    one, two = (
        replica(tmp_path / name, simulator.url, database, workspaces=["0", "2"]) for name in ("one", "two")
    )
    with ExitStack() as running, scraped(one, two):
        programs = [running.enter_context(exporter.ready()) for exporter in (one, two)]
        wait_until_held(two, 1, within_seconds=30)
        before = one.scrape_after_polls(1).total("octopus_jobs_completed_total")
        database.server.stop(immediate=True)
        for exporter in (one, two):
            exporter.scrape_when(
                lambda exposed: exposed.total("octopus_up") == 0 and exposed.total(HELD) == 0,
                "targets whose polls fail, and that nobody holds",
                "octopus_up",
                HELD,
            )
            exporter.scrape_until_failed("ledger", times=2)
            # Four leases later the gauges go, and the counters stay.
            shown = exporter.scrape_when(
                lambda exposed: not list(exposed.having("octopus_jobs")), "no gauges of jobs", "octopus_jobs"
            )
            assert shown.total("octopus_jobs_completed_total") >= before
            assert exporter.page("api/v1/status").json["replicas"]["away_since_ms"] is not None
            assert exporter.page("-/healthy").status == 200
        database.server.start()
        for program in programs:
            program.wait_for_line("shared ledger is read again")
        until(lambda: len(held(one) | held(two)) == 2, "each target is polled again")
        simulator.advance(HOUR)
        for exporter in (one, two):
            assert_agreement(exporter, exporter.scrape_after_polls(2), simulator)
            polls = {target["workspace"]: target["polls"] for target in exporter.targets()}
            assert all(count > 1 for count in polls.values())


def test_a_shard_of_replicas_is_refused(tmp_path: Path) -> None:
    exporter = Exporter(tmp_path / "one", "http://127.0.0.1:1")
    exporter.config["ledger"] = {"url": "postgresql://127.0.0.1:1/octopus"}
    done = run(("run", "--config", exporter.write(), "--shard", "1/2"), exporter.folder)
    told = "--shard: replicas on a PostgreSQL ledger divide the targets themselves, start them without"
    assert (done.returncode, done.stderr) == (2, f"octopus-exporter: {told}\n")
