"""What a real Prometheus has of an exporter whose API is down, and of one that is configured anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, access_key, project
from tests.e2e.processes import free_port
from tests.e2e.prometheus import Prometheus, prometheus

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

GAUGES = (
    "octopus_jobs",
    "octopus_jobs_oldest_created_timestamp_seconds",
    "octopus_resource_jobs",
    "octopus_ledger_drift_jobs",
)
COUNTERS = (
    "octopus_jobs_created_total",
    "octopus_jobs_completed_total",
    "octopus_job_failures_total",
    "octopus_job_submitting_duration_seconds_count",
    "octopus_job_running_duration_seconds_bucket",
    "octopus_job_core_seconds_total",
    "octopus_job_memory_gibibyte_seconds_total",
)


def sums(server: Prometheus) -> dict[str, float]:
    return {name: server.wait_for_value(f"sum({name})") for name in COUNTERS}


def test_an_api_that_is_down_takes_the_gauges_from_instant_queries_and_leaves_the_counters(
    tmp_path: Path, simulate: Simulate
) -> None:
    port = free_port()
    simulator = simulate(port=port)
    exporter = Exporter(tmp_path, simulator.url)
    # The one that takes its place knows no token, and another is got after a minute only.
    exporter.config["credentials"] = {"default": access_key()}
    exporter.change(metrics={"max_age": "5s"}, poll={"timeout": "2s"})
    with exporter.ready(), prometheus(tmp_path / "prometheus", exporter.port) as server:
        simulator.create_jobs(job_type="FRAME_EXTRACT", count=5, outcome="RUN_FAILED", msg_code=3001)
        simulator.advance(1800)
        exporter.scrape_after_polls(2)
        server.wait_for('sum(octopus_job_failures_total{msg_code="3001"}) >= bool 5', 1)
        for gauge in ("octopus_jobs", "octopus_resource_jobs"):
            server.wait_for(f"sum({gauge}) > bool 0", 1)
        before, ready = sums(server), exporter.page("-/ready").status

        simulator.program.kill()
        server.wait_for("octopus_up", 0)
        for gauge in GAUGES:
            server.wait_for(f"absent({gauge})", 1)
        # It is gone because the exporter says no more, not because Prometheus has lost the exporter.
        server.wait_for("up", 1)
        assert sums(server) == before
        server.wait_for_value("sum(octopus_poll_last_success_timestamp_seconds < time() - 5)")
        assert exporter.page("-/ready").status == ready == 200

        simulator = simulate(port=port)
        simulator.advance(3600)
        server.wait_for("octopus_up", 1)
        server.wait_for("sum(octopus_jobs) > bool 0", 1)
        for counter in COUNTERS:
            assert server.query(f"sum(resets({counter}[5m]))") == 0


def test_a_reload_resets_no_counter_and_a_refused_one_changes_nothing(
    tmp_path: Path, simulate: Simulate
) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    exporter.change(web={"enable_lifecycle": True})
    with exporter.ready(), prometheus(tmp_path / "prometheus", exporter.port) as server:
        simulator.advance(1800)
        exporter.scrape_after_polls(2)
        server.wait_for("sum(octopus_jobs_completed_total) > bool 0", 1)
        assert server.query("count(octopus_jobs_completed_created)") is None

        exporter.config["projects"] = [project(simulator.url), project(simulator.url, name="second")]
        exporter.change(metrics={"created_series": True})
        exporter.write()
        assert exporter.page("-/reload", "POST").status == 200
        server.wait_for('sum(octopus_up{project="second"})', 1)
        server.wait_for('count(octopus_jobs_completed_created{project="second"})', 30)
        for counter in (*COUNTERS, "octopus_polls_total"):
            assert server.query(f'sum(resets({counter}{{project="perception"}}[5m]))') == 0
        # The second began later than the first, and each before its first scrape.
        born = 'octopus_jobs_completed_created{job_type="FRAME_EXTRACT",status="FINISHED",project="%s"}'
        first, second = (server.wait_for_value(born % name) for name in ("perception", "second"))
        assert first < second
        seen = server.samples((born % "second") + "[5m]")
        assert second <= seen[0][0]

        exporter.change(metrics={"max_age": "soon"})
        exporter.write()
        assert exporter.page("-/reload", "POST").status == 422
        server.wait_for("octopus_exporter_config_last_reload_successful", 0)
        server.wait_for("sum(octopus_up)", 2)
