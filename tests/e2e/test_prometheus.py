"""A real Prometheus in front of the exporter: what a query says is what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter
from tests.e2e.prometheus import SCRAPE_SECONDS, Prometheus, check_metrics, prometheus
from tests.e2e.simulation import PROJECT, Simulation

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

FAILED = 'octopus_jobs_completed_total{job_type="FRAME_EXTRACT",status="RUN_FAILED"}'
ENDED = "sum(octopus_jobs_completed_total)"
COUNTERS = (
    "octopus_jobs_created_total",
    "octopus_jobs_completed_total",
    "octopus_job_failures_total",
    "octopus_job_submitting_duration_seconds_count",
    "octopus_job_submitting_duration_seconds_sum",
    "octopus_job_running_duration_seconds_count",
    "octopus_job_running_duration_seconds_sum",
)
SPIKE = 40


def test_increase_agrees_with_the_simulator_and_nothing_else_rises(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate(jobs_per_day=0)
    exporter = Exporter(tmp_path, simulator.url)
    with prometheus(tmp_path / "prometheus", exporter.port) as server:
        with exporter.ready() as program:
            scraped(server, exporter, 3)
            # A first start, with a history of 300 jobs: no counter has ever been anything but 0.
            server.wait_for("sum(octopus_jobs)", 300)
            for counter in COUNTERS:
                assert server.query(f"max(max_over_time({counter}[5m]))") == 0

            spike(simulator)
            wanted = ended(simulator, exporter)
            assert wanted["FRAME_EXTRACT"]["RUN_FAILED"] >= SPIKE
            everything = sum(sum(by_status.values()) for by_status in wanted.values())
            server.wait_for(ENDED, everything)
            server.wait_for(FAILED, wanted["FRAME_EXTRACT"]["RUN_FAILED"])
            assert_increase(server, FAILED, wanted["FRAME_EXTRACT"]["RUN_FAILED"])
            assert program.stop()[0] == 0
        with exporter.ready():
            scraped(server, exporter, 3)
            # A restart: every counter goes on from where it was.
            for counter in COUNTERS:
                assert server.query(f"sum(resets({counter}[5m]))") == 0
            server.wait_for(ENDED, everything)
            assert_increase(server, FAILED, wanted["FRAME_EXTRACT"]["RUN_FAILED"])


def scraped(server: Prometheus, exporter: Exporter, times: int) -> None:
    """Wait until Prometheus has scraped the exporter's present process a few times, after two polls of it."""
    exporter.scrape_after_polls(2)
    begun = exporter.scrape().value("process_start_time_seconds")
    seen = f"count_over_time(process_start_time_seconds[5m]) and process_start_time_seconds == {begun}"
    before = server.query(seen) or 0
    server.wait_for(f"({seen}) >= bool {before + times}", 1)


def spike(simulator: Simulation) -> None:
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=SPIKE, outcome="RUN_FAILED", msg_code=3001)
    simulator.advance(3600)


def ended(simulator: Simulation, exporter: Exporter) -> dict[str, dict[str, int]]:
    """Give what the simulator says has ended since the exporter's baseline, by type and status."""
    (target,) = exporter.targets()
    account: dict[str, dict[str, int]] = simulator.account(PROJECT, "0", target["baseline_ms"])["ended"]
    return account


def assert_increase(server: Prometheus, counter: str, wanted: int) -> None:
    """
    Hold increase() to the count, as closely as it can be.

    The counter's own samples differ by exactly that much. increase() takes the same difference and stretches
    it from the samples' span to the window's: not towards the window's beginning, where a counter that starts
    at 0 cannot have been less, but towards its end, by the time since the last sample, or by half a scrape
    interval if that is longer than 1.1 of them.
    """
    samples = server.samples(f"{counter}[5m]")
    values = [value for _, value in samples]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[-1] - values[0] == wanted
    increase = server.query(f"sum(increase({counter}[5m]))")
    assert increase is not None
    span_seconds = samples[-1][0] - samples[0][0]
    average_seconds = max(span_seconds / (len(samples) - 1), SCRAPE_SECONDS)
    assert wanted - 1e-6 <= increase <= wanted * (1 + 1.1 * average_seconds / span_seconds)


def test_promtool_finds_nothing_to_say(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.ready():
        simulator.advance(3600)
        exporter.scrape_after_polls(2)
        checked = check_metrics(exporter.page("metrics", Accept="text/plain").body)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
