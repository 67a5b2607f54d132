"""Two exporters on one PostgreSQL ledger: both export every target, each polls its part."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from tests.e2e.agreement import assert_agreement
from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, project
from tests.e2e.ledgers import HOUR
from tests.e2e.waiting import until
from tests.postgres import PostgresDatabase

pytestmark = pytest.mark.e2e

WORKSPACES = ["0", "2", "4", "3"]
LEASE_SECONDS = 3.0
HELD = "octopus_exporter_lease_held"


def replica(folder: Path, api: str, database: PostgresDatabase) -> Exporter:
    exporter = Exporter(folder, api, projects=[project(api, workspaces=WORKSPACES)])
    exporter.config["ledger"] = {"url": database.url, "lease": f"{LEASE_SECONDS:g}s"}
    return exporter


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

        first.process.send_signal(SIGKILL)
        wait_until_held(two, 4, within_seconds=LEASE_SECONDS + 5)
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
