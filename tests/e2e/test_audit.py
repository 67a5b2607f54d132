"""The ledger held against the API's own totals, by hand and by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Simulate
from tests.e2e.exporting import Exporter, run_once
from tests.e2e.processes import run

pytestmark = pytest.mark.e2e


def test_audit_agrees_with_an_exporter_that_is_running(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    with exporter.ready():
        exporter.scrape_after_polls(1)
        done = run(("audit", "--config", exporter.file), tmp_path, COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, "")
    assert "FINISHED" in done.stdout
    assert "perception" in done.stdout


def test_audit_finds_what_the_ledger_has_not_seen(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    exporter = Exporter(tmp_path, simulator.url)
    run_once(exporter)
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=3, outcome="QUEUING")
    done = run(("audit", "--config", exporter.file), tmp_path, COLUMNS="200")
    assert done.returncode == 1
    assert "+3" in next(line for line in done.stdout.splitlines() if "QUEUING" in line)


def test_audit_needs_a_ledger(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    done = run(("audit", "--config", exporter.write()), tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_audit_is_shown_after_the_first_poll(tmp_path: Path, simulate: Simulate) -> None:
    exporter = Exporter(tmp_path, simulate().url)
    with exporter.ready():
        exposed = exporter.scrape_when(
            lambda seen: seen.value("octopus_audit_last_timestamp_seconds") is not None,
            "an audit",
            "octopus_audit",
        )
    assert exposed.total("octopus_ledger_drift_jobs") == 0
    assert exposed.value("octopus_ledger_full_syncs_total", reason="first") == 1
