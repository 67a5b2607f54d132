"""New series at 0, in a real process: what releases them, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.simulation import Simulation
from tests.e2e.waiting import until

pytestmark = pytest.mark.e2e

FAILURES = "octopus_job_failures_total"
CODE = {"job_type": "FRAME_EXTRACT", "status": "RUN_FAILED", "msg_code": "9123"}


def fail_three_runs(simulator: Simulation) -> None:
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=3, outcome="RUN_FAILED", msg_code=9123)
    simulator.advance(3600)


def value(exporter: Exporter) -> float | None:
    """Give the value shown, without a scrape of everything."""
    return exporter.scrape_names(FAILURES).value(FAILURES, **CODE)


def held_series(exporter: Exporter) -> int:
    (target,) = exporter.targets()
    return int(target["held_series"])


def test_a_complete_scrape_releases_new_series_and_nothing_less_also_while_polls_fail(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(poll={"timeout": "2s"})
    with exporter.ready():
        at_first = held_series(exporter)
        fail_three_runs(simulator)
        until(lambda: value(exporter) is not None, "the new series")
        simulator.program.kill()
        until(lambda: exporter.scrape_names("octopus_up").value("octopus_up") == 0, "polls that fail")
        assert exporter.page("metrics", method="HEAD").status == 200
        assert value(exporter) == 0
        assert held_series(exporter) > at_first
        assert exporter.scrape().value(FAILURES, **CODE) == 0
        until(lambda: value(exporter) == 3, "the release")
        until(lambda: held_series(exporter) == 0, "the release of all")
        assert exporter.scrape().value("octopus_up") == 0


def test_the_time_begins_anew_with_a_process_and_follows_a_reload(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(metrics={"new_series_hold": "5m"}, web={"enable_lifecycle": True})
    with exporter.ready() as program:
        fail_three_runs(simulator)
        until(lambda: exporter.scrape().value(FAILURES, **CODE) is not None, "the new series")
        program.kill()
    with exporter.ready():
        assert exporter.scrape().value(FAILURES, **CODE) == 0
        polls = exporter.scrape().value("octopus_polls_total") or 0
        exporter.change(metrics={"new_series_hold": "0s"})
        exporter.write()
        assert exporter.page("-/reload", "POST").status == 200
        exposed = exporter.scrape_after_polls(1)
        assert exposed.value(FAILURES, **CODE) == 3
        assert (exposed.value("octopus_polls_total") or 0) > polls
    with exporter.ready():
        assert value(exporter) == 3
        assert held_series(exporter) == 0
